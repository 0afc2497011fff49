"""The real, unmodified scripts of sd-scripts on small random models, where a checkout and its environment are named.

``SD_SCRIPTS`` is a checkout of 0.10.0 or later, ``SD_SCRIPTS_PYTHON`` the Python of an environment with its
requirements and lora_data (this one where it is not set).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from examples.tiny_model import write_clip_tokenizer
from lora_data import Config, load_config
from tests.integrations.expected import find, made_in
from tests.integrations.processes import environment
from tests.train.pictures import write_small

pytestmark = pytest.mark.skipif("SD_SCRIPTS" not in os.environ, reason="SD_SCRIPTS names no checkout of sd-scripts")
HARNESS = Path(__file__).with_name("harness.py")
TOKENIZERS = ("openai_clip-vit-large-patch14", "laion_CLIP-ViT-bigG-14-laion2B-39B-b160k")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kohya")
    write_small(folder / "shards", {"luca": 5, "zoe": 4}, caption="{token}, a, b")
    for name in TOKENIZERS:
        write_clip_tokenizer(folder / "tokenizers" / name)
    return folder


def configure(work: Path, **data: Any) -> Path:
    settings = {"shards": str(work / "shards"), "resolution": 64, "batch_size": 2, "seed": 5, **data}
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    path = work / "luca.toml"
    path.write_text(
        "\n".join(["[data]", *lines, "[characters.luca]", "repeats = 1", "[characters.zoe]", "repeats = 1"])
    )
    return path


def run(
    work: Path, way: str, script: str, config: Path, *arguments: str, start: str = "fork"
) -> tuple[dict[str, list[Any]], str]:
    record = work / "record.pt"
    record.unlink(missing_ok=True)
    own = ["--lora_data", str(config)] if way == "launcher" else []
    command = [
        *(os.environ.get("SD_SCRIPTS_PYTHON", sys.executable), str(HARNESS), os.environ["SD_SCRIPTS"], str(record)),
        *(way, script, *own, "--pretrained_model_name_or_path", "tiny", "--network_module", "networks.lora"),
        *("--tokenizer_cache_dir", str(work / "tokenizers"), "--network_dim", "4", "--output_dir", str(work / "out")),
        *("--output_name", "luca", "--learning_rate", "1e-3", "--mixed_precision", "no", "--seed", "1", *arguments),
    ]
    settings = "" if way == "launcher" else str(config)
    variables = environment(LORA_DATA_CONFIG=settings, HARNESS_START=start)
    done = subprocess.run(command, cwd=work, env=variables, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return torch.load(record, weights_only=False), said


def check(record: dict[str, list[Any]], config: Config, epochs: list[int]) -> None:
    """Every batch that was trained on is the augmented one, with its mask in the loss."""
    pictures = iter(record["encoded"])
    plans = {epoch: made_in(config, epoch) for epoch in set(epochs)}
    assert len(record["masked"]) == len(epochs)
    for epoch, batch in zip(epochs, record["masked"], strict=True):
        keys = batch["image_keys"]
        found = [find(plans[epoch], next(pictures)) for _ in keys]
        assert [f.key for f in found] == keys
        assert [f.caption for f in found] == batch["captions"]
        masks = torch.stack([f.mask for f in found])
        assert torch.allclose(batch["alpha_masks"], masks, atol=1e-4)
        assert torch.allclose(batch["loss_weights"], torch.tensor([f.weight for f in found]), atol=1e-4)
        small = F.interpolate(masks[:, None], batch["before"].shape[-2:], mode="area")
        assert torch.allclose(batch["after"], batch["before"] * small, atol=1e-4)
    assert next(pictures, None) is None


def weights_of(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(str(path), "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.mark.parametrize("script", ["train", "sdxl_train", "flux_train", "sd3_train", "lumina_train"])
def test_every_entry_that_a_trainer_reads_is_there(work: Path, script: str):
    root = Path(os.environ["SD_SCRIPTS"])
    texts = [(root / name).read_text(encoding="utf-8") for name in ("train_network.py", f"{script}_network.py")]
    texts.append((root / "library" / "custom_train_functions.py").read_text(encoding="utf-8"))
    read = {key for text in texts for key in re.findall(r"""\bbatch(?:\[|\.get\()["'](\w+)["']""", text)}
    config = configure(work)
    record, _ = run(work, "launcher", "train_network.py", config, "--max_train_steps", "1")
    given = set(record["masked"][0]["names"])
    # SDXL's script keeps a method from before the strategies that nothing calls.
    dead = {"input_ids", "input_ids2", *(f"text_encoder_{n}_list" for n in ("outputs1", "outputs2", "pool2"))}
    assert read - given - dead == {"conditioning_images"}  # those would win over our masks
    assert {"images", "loss_weights", "alpha_masks"} <= read


def test_train_network_by_the_launcher(work: Path):
    config = configure(work)
    record, _ = run(
        work, "launcher", "train_network.py", config, "--max_train_steps", "2", "--max_data_loader_n_workers", "0"
    )
    check(record, load_config(config), [0, 0])
    tensors, metadata = weights_of(work / "out" / "luca.safetensors")
    assert any(bool(t.any()) for name, t in tensors.items() if "lora_up" in name)
    assert json.loads(metadata["ss_dataset_dirs"]) == {
        "luca": {"n_repeats": 1.0, "img_count": 5},
        "zoe": {"n_repeats": 1.0, "img_count": 4},
    }
    assert (metadata["ss_batch_size_per_device"], metadata["ss_num_train_images"]) == ("2", "9")
    assert json.loads(metadata["ss_bucket_info"])["buckets"] == {"0": {"resolution": [64, 64], "count": 9}}
    assert json.loads(metadata["ss_tag_frequency"])["zoe"] == {"zoe": 4, "a": 4, "b": 4}


@pytest.mark.parametrize("to_disk", [False, True])
def test_sdxl_with_buckets_workers_and_cached_text_encoders(work: Path, to_disk: bool):
    config = configure(work, resolution=96, bucket_step=32, max_upscale=4.0)
    flags = ["--cache_text_encoder_outputs"] + ["--cache_text_encoder_outputs_to_disk"] * to_disk
    record, _ = run(
        *(work, "class", "sdxl_train_network.py", config, "--max_train_steps", "3", "--max_data_loader_n_workers", "2"),
        *("--persistent_data_loader_workers", "--vae_batch_size", "2", "--network_train_unet_only", *flags),
    )
    loaded = load_config(config)
    check(record, loaded, [0, 0, 0])
    assert len({tuple(p.shape) for p in record["encoded"]}) > 1  # buckets
    plan = made_in(loaded, 0)
    pictures = iter(record["encoded"])
    for sizes, batch in zip(record["sizes"], record["masked"], strict=True):
        expected = [find(plan, next(pictures)).sizes for _ in batch["image_keys"]]
        assert torch.stack(sizes, dim=1).tolist() == expected
    assert any(one[1] != [0, 0] for batch in plan for one in [batch[0].sizes])
    assert [len(shapes) for shapes in record["conditions"]] == [3, 3, 3]
    assert ((work / "shards" / "text_encoder_outputs").is_dir()) or not to_disk


def test_it_resumes_in_the_epoch_that_is_due(work: Path):
    config = configure(work)
    common = ["--max_data_loader_n_workers", "1", "--network_train_unet_only", "--save_state"]
    record, _ = run(work, "launcher", "train_network.py", config, "--max_train_steps", "5", *common, start="spawn")
    check(record, load_config(config), [0] * 5)
    common += ["--resume", str(work / "out" / "luca-state")]
    record, _ = run(work, "launcher", "train_network.py", config, "--max_train_steps", "15", *common)
    check(record, load_config(config), [1] * 5 + [2] * 5)  # kohya counts epochs on, and trains whole ones


def test_what_does_not_go_together_stops_before_a_model_is_loaded(work: Path):
    config = configure(work)
    with pytest.raises(AssertionError, match="--cache_latents does not go with lora_data"):
        run(work, "launcher", "train_network.py", config, "--max_train_steps", "1", "--cache_latents")
    with pytest.raises(AssertionError, match="--dataset_config does not go with lora_data"):
        run(work, "class", "sdxl_train_network.py", config, "--max_train_steps", "1", "--dataset_config", "x.toml")
