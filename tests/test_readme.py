"""The README's promises: each command in it runs, its configuration is valid, its picture is there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from lora_data.cli import main
from lora_data.config import load_config
from lora_data.demo import make_film
from lora_data.models import registry
from lora_data.models.weights import FOLDER
from lora_data.review.file import read_decisions
from tests.conftest import ROOT
from tests.models.stand_ins import needs_models, stand_ins
from tests.web import served

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if line.strip()]


def test_each_lora_data_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    ours = [shlex.split(c) for c in commands() if shlex.split(c)[0].rpartition("/")[2] == "lora-data"]
    ran = {"demo", "precompute", "inspect", "report", "preview", "export", "models", "review", "cache"}
    assert {c[1] for c in ours} == ran
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)  # pyright: ignore[reportUnknownLambdaType]
    for command in ours:
        if not with_weights(command):
            assert main(command[1:]) == 0, (command, capsys.readouterr().err)
    assert len(opened) == 1
    assert opened[0].startswith("http://127.0.0.1:")
    assert (tmp_path / "demo_out" / "run" / "report" / "index.html").is_file()
    # What the commands wrote is what the README's loop trains on.
    names: dict[str, Any] = {}
    exec(blocks("python")[2], names)  # noqa: S102
    assert names["made"].pixel_values.shape[1] == 3
    assert names["loader"].plan.epoch == 1
    assert all(names["batch"].captions)


def with_weights(command: list[str]) -> bool:
    """Whether a command fetches or needs weights."""
    return command[1:3] == ["models", "pull"] or "full" in command


@needs_models
def test_each_command_that_needs_weights_runs_with_stand_ins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FOLDER, str(tmp_path / "weights"))
    make_film(tmp_path / "demo_out" / "film", instances=16, characters=2, seed=3, size=160)
    ours = [shlex.split(c) for c in commands() if with_weights(shlex.split(c))]
    assert [c[1] for c in ours] == ["models", "precompute"]
    with served(tmp_path / "served") as url:
        monkeypatch.setattr(registry, "MODELS", stand_ins(tmp_path / "served", url))
        for command in ours:  # in this process: others would see the true table
            here = ["--workers", "1"] if command[1] == "precompute" else []
            assert main([*command[1:], *here]) == 0, (command, capsys.readouterr().err)
    run = json.loads((tmp_path / "out_full" / "run.json").read_text())
    assert run["skipped"] == []
    assert {m["name"] for m in run["models"]} == set(ours[0][3:-1])
    assert sum(f["of"] for f in run["faces"].values()) > 0
    assert "faces:" in capsys.readouterr().out


def test_each_make_target_is_there_and_ci_runs_the_test_command():
    makefile = (ROOT / "Makefile").read_text()
    targets = {c.split()[1] for c in commands() if c.startswith("make ")}
    assert targets >= {"demo", "test"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_every_other_command_is_one_that_ci_has_run():
    makefile = (ROOT / "Makefile").read_text()
    run_elsewhere = "".join(
        (ROOT / "tests" / name).read_text() for name in ("test_examples.py", "integrations/test_command_lines.py")
    )
    for command in commands():
        words = shlex.split(command)
        if words[0] == "make" or words[0].endswith("lora-data"):
            continue
        arguments = " ".join(words[1:])
        if words[1].startswith("examples/"):
            assert f'"{words[1].removeprefix("examples/")}"' in run_elsewhere, command
            continue
        known = ("-m venv .venv", "-e .[precompute,models,review,ray,examples,dev]", "-m pytest --numprocesses auto")
        assert any(k in arguments for k in known), command
    assert '--editable ".[precompute,models,review,ray,examples,dev]"' in makefile
    assert "-m pytest --numprocesses auto" in makefile


def test_the_configuration_is_valid(tmp_path: Path):
    found = blocks("toml")
    decisions = [b for b in found if "[[decision]]" in b]
    (cluster,) = (b for b in found if b.startswith("[ray]"))
    (tmp_path / "ray.toml").write_text(cluster)
    assert load_config(tmp_path / "ray.toml") == load_config()  # what it shows are the defaults
    small, block = (b for b in found if b not in [*decisions, cluster])
    (tmp_path / "small.toml").write_text(small)
    assert load_config(tmp_path / "small.toml").precompute.identity.decisions
    (tmp_path / "review.toml").write_text("".join(decisions))
    assert [d.do for d in read_decisions(tmp_path / "review.toml")] == ["move", "restore", "accept", "augment"]
    path = tmp_path / "readme.toml"
    path.write_text(block, encoding="utf-8")
    config = load_config(path)
    assert config.characters["character_00"].token == "luca"
    assert config.precompute == load_config().precompute  # what it shows are the defaults
    assert (config.data, config.augment) == (load_config().data, load_config().augment)
    assert config.characters["character_00"].augment.rotation == (-3, 3)
    assert config.characters["character_00"].augment.brightness == (0.9, 1.1)


def test_the_python_runs():
    first, second, _ = blocks("python")
    names: dict[str, Any] = {}
    exec(first, names)  # noqa: S102
    assert names["made"].pixel_values.shape == (2, 3, 768, 768)
    assert names["made"].crop_top_lefts.shape == (2, 2)
    exec(second, names)  # noqa: S102
    assert names["pictures"].shape == (2, 4, 512, 512)
    assert names["masks"].shape == (2, 1, 512, 512)


def test_pictures_and_paths_are_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
