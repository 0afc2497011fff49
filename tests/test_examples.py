"""The training examples run as they are written, on small shards."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from examples.tiny_model import tiny_stable_diffusion
from tests.conftest import ROOT
from tests.train.pictures import write_small


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples") / "shards"
    write_small(folder, {"luca": 7, "zoe": 4})
    return folder


def train(script: str, shards: Path, out: Path, steps: int, *arguments: str) -> list[str]:
    """Run an example; the lines that it prints about its steps."""
    command = [sys.executable, str(ROOT / "examples" / script), "--shards", str(shards), "--resolution", "64"]
    command += ["--steps", str(steps), "--out", str(out), *arguments]
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("step")]


def losses(lines: list[str]) -> list[float]:
    return [float(number) for line in lines for number in re.findall(r"loss ([\d.]+)", line)]


def test_both_train_alike_and_the_lora_loads_back(shards: Path, tmp_path: Path):
    plain = train("train_plain.py", shards, tmp_path / "plain", 60)
    assert len(plain) == 6
    first, last = losses(plain)[:2], losses(plain)[-2:]
    assert sum(last) < sum(first)
    lightning = train("train_lightning.py", shards, tmp_path / "lightning", 60)
    assert [line.split("  ")[-1] for line in lightning] == [line.split("  ")[-1] for line in plain]
    assert losses(lightning) == pytest.approx(losses(plain), abs=0.01)
    for name in ("plain", "lightning"):
        pipeline = tiny_stable_diffusion()
        pipeline.load_lora_weights(str(tmp_path / name), adapter_name="luca")
        lora = [v for k, v in pipeline.unet.state_dict().items() if "lora_B" in k]
        assert lora
        assert all(bool(torch.any(value)) for value in lora)


@pytest.mark.parametrize(("script", "resume"), [("train_plain.py", []), ("train_lightning.py", ["last.ckpt"])])
def test_a_resumed_run_sees_what_a_whole_one_does(shards: Path, tmp_path: Path, script: str, resume: list[str]):
    whole = train(script, shards, tmp_path / "whole", 30)
    part = train(script, shards, tmp_path / "part", 10)
    rest = train(script, shards, tmp_path / "part", 30, "--resume", *[str(tmp_path / "part" / r) for r in resume])
    assert [line.split("  ")[-1] for line in part + rest] == [line.split("  ")[-1] for line in whole]
