"""Runs that end at any moment, and the same command again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from lora_data.demo import make_film
from tests.bench.resume import command, content, environment, killed_and_resumed, run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs process groups")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    make_film(folder, instances=12, characters=2, seed=3, size=160)
    return folder / "instances"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_runs_go_on_to_the_same_bytes(film: Path, tmp_path: Path, workers: str):
    killed = killed_and_resumed(film, tmp_path, 3, "--workers", workers, seed=int(workers))
    assert killed >= 1


def test_ctrl_c_finishes_what_is_in_hand_and_says_how_to_go_on(film: Path, tmp_path: Path):
    run(film, tmp_path / "undisturbed")
    out = tmp_path / "out"
    with subprocess.Popen(
        command(film, out, "--workers", "1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env=environment(),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        process.stderr.readline()  # the first pass has begun
        os.killpg(process.pid, signal.SIGINT)
        said, errors = process.communicate()
    assert process.returncode == 1, errors
    assert "finishing the pictures in hand" in errors
    assert "lora-data: stopped at read + matte" in errors
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors
    assert not said
    assert not (out / "instances.parquet").exists()
    run(film, out)
    assert content(out) == content(tmp_path / "undisturbed")
    passes = json.loads((out / "run.json").read_text())["passes"]
    done = int(errors.split("exposure + cast: ")[-1].split(" of ")[0])
    assert passes[0]["cached"] >= done
