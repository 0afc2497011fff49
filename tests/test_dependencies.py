"""What ``pip install lora-data`` does to an environment that a trainer has pinned."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

KOHYA = """
accelerate==1.6.0
transformers==4.54.1
diffusers==0.32.1
ftfy==6.3.1
opencv-python==4.10.0.84
einops==0.7.0
lion-pytorch==0.2.3
schedulefree==1.4
pytorch-optimizer==3.9.0
prodigy-plus-schedule-free==1.9.2
prodigyopt==1.1.2
safetensors==0.4.5
toml==0.10.2
voluptuous==0.15.2
huggingface-hub==0.34.3
imagesize==1.4.1
rich==14.1.0
sentencepiece==0.2.1
torch==2.6.0
"""
"""sd-scripts 0.10.1, requirements.txt, and the torch that its README installs."""


def resolve(folder: Path, pins: str) -> subprocess.CompletedProcess[str]:
    (folder / "pins.txt").write_text(pins, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command = [*pip, "--report", str(folder / "report.json"), "--constraint", str(folder / "pins.txt"), str(ROOT)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_no_pin_of_kohya_moves(tmp_path: Path):
    done = resolve(tmp_path, KOHYA)
    if any(word in done.stderr for word in ("Failed to establish a new connection", "name resolution", "timed out")):
        pytest.skip("there is no package index to ask")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    found = {item["metadata"]["name"].lower(): item["metadata"]["version"] for item in report["install"]}
    pins = {name: version for name, _, version in (line.partition("==") for line in KOHYA.split())}
    assert found["torch"] == pins["torch"]
    assert {name: version for name, version in found.items() if pins.get(name, version) != version} == {}
    # The training half stays light: nothing of the offline half or of a trainer comes along.
    assert not {"opencv-python", "scikit-learn", "numba", "diffusers", "lightning", "accelerate"} & set(found)


def test_a_pin_that_does_not_fit_would_be_noticed(tmp_path: Path):
    done = resolve(tmp_path, "kornia==0.6.0\n")
    assert done.returncode != 0
