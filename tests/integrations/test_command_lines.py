"""The ready command lines in examples/: with a stand-in for accelerate; with the real scripts where they are named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.tiny_model import write_clip_tokenizer
from lora_data import load_config
from tests.conftest import ROOT
from tests.integrations.processes import environment, save_pipeline
from tests.train.pictures import write_small

EXAMPLES = ROOT / "examples"
SMALL = 'resolution = 64\nbucket_step = 64\nbatch_size = 2\nshards = "{shards}"'


def run(
    script: str, folder: Path, stand_in: str, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run an example where `accelerate` is a Python program that is given ``-m module script arguments``."""
    tool = folder / "bin" / "accelerate"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(f"#!{sys.executable}\n{stand_in}", encoding="utf-8")
    tool.chmod(0o755)
    path = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"
    command = ["sh", str(EXAMPLES / script), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(PATH=path, **variables), capture_output=True, text=True, check=False
    )


def small_config(folder: Path) -> str:
    """The example's configuration, with small pictures of its character."""
    write_small(folder / "shards", {"character_00": 5})
    text = (EXAMPLES / "luca.toml").read_text(encoding="utf-8")
    for key in ("shards", "resolution", "batch_size"):
        text = "\n".join(line for line in text.splitlines() if not line.startswith(f"{key} ="))
    path = folder / "luca.toml"
    path.write_text(text.replace("[data]", f"[data]\n{SMALL.format(shards=folder / 'shards')}", 1), encoding="utf-8")
    return str(path)


def test_the_configuration_is_valid():
    config = load_config(EXAMPLES / "luca.toml")
    assert config.characters["character_00"].token == "luca"
    assert config.data.captions.dropout == 0.05


@pytest.mark.parametrize(
    ("script", "module", "program"),
    [
        ("kohya_sdxl.sh", "lora_data_kohya", "sdxl_train_network.py"),
        ("diffusers_sdxl.sh", "lora_data_diffusers", "train_dreambooth_lora_sdxl.py"),
        ("diffusers_flux.sh", "lora_data_diffusers", "train_dreambooth_lora_flux.py"),
    ],
)
def test_a_command_line_hands_the_launcher_what_it_needs(script: str, module: str, program: str, tmp_path: Path):
    done = run(
        script, tmp_path, "import json, sys; print(json.dumps(sys.argv[1:]))", "--extra", MODEL="m", CONFIG="c.toml"
    )
    assert done.returncode == 0, done.stderr
    words = json.loads(done.stdout)
    place = words.index("-m")
    assert words[0] == "launch"
    assert words[place + 1] == module
    assert Path(words[place + 2]).name == program
    rest = words[place + 3 :]
    assert rest[rest.index("--lora_data") + 1] == "c.toml"
    assert rest[rest.index("--pretrained_model_name_or_path") + 1] == "m"
    assert rest[-1] == "--extra"


@pytest.mark.skipif("SD_SCRIPTS" not in os.environ, reason="SD_SCRIPTS names no checkout of sd-scripts")
def test_the_kohya_command_line_trains(tmp_path: Path):
    for name in ("openai_clip-vit-large-patch14", "laion_CLIP-ViT-bigG-14-laion2B-39B-b160k"):
        write_clip_tokenizer(tmp_path / "tokenizers" / name)
    harness = ROOT / "tests" / "integrations" / "kohya" / "harness.py"
    python = os.environ.get("SD_SCRIPTS_PYTHON", sys.executable)
    stand_in = (
        "import os, sys\nwords = sys.argv[sys.argv.index('-m') + 2:]\nroot, script = os.path.split(words[0])\n"
        f"os.execv({python!r}, [{python!r}, {str(harness)!r}, root, 'record.pt', 'launcher', script, *words[1:]])\n"
    )
    done = run(
        *("kohya_sdxl.sh", tmp_path, stand_in, "--tokenizer_cache_dir", "tokenizers", "--optimizer_type", "AdamW"),
        *("--mixed_precision", "no", "--max_train_epochs", "1"),
        MODEL="tiny",
        CONFIG=small_config(tmp_path),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "lora" / "luca.safetensors").is_file()


@pytest.mark.parametrize("name", ["sdxl", "flux"])
@pytest.mark.skipif("DIFFUSERS_EXAMPLES" not in os.environ, reason="DIFFUSERS_EXAMPLES names no checkout")
def test_the_diffusers_command_lines_train(tmp_path: Path, name: str):
    pipeline = save_pipeline(name, tmp_path)
    stand_in = "import os, sys\nos.execv(sys.executable, [sys.executable, *sys.argv[sys.argv.index('-m'):]])\n"
    done = run(
        *(f"diffusers_{name}.sh", tmp_path, stand_in, "--mixed_precision", "no", "--max_train_steps", "2"),
        MODEL=str(pipeline),
        CONFIG=small_config(tmp_path),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "lora" / "pytorch_lora_weights.safetensors").is_file()
