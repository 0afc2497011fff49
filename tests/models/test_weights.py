from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from lora_data.cli import main
from lora_data.errors import ConfigError, ModelError
from lora_data.models import registry
from lora_data.models.registry import MODELS, Member, Model, model_named
from lora_data.models.weights import FOLDER, NOTES, Weights, models_folder
from tests.web import Faults, served

DATA = b"weights" * 5000
DIGEST = hashlib.sha256(DATA).hexdigest()


def small(server: str, **changes: object) -> Model:
    fields = {"url": f"{server}/w.pth", "sha256": DIGEST, "file": "w.pth", **changes}
    return dataclasses.replace(model_named("realesrgan-x2plus"), **fields)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "w.pth").write_bytes(DATA)
    return tmp_path / "served"


def test_the_table_is_consistent():
    assert len({m.name for m in MODELS}) == len({m.file for m in MODELS}) == len(MODELS)
    for model in MODELS:
        assert model.sha256 is None or len(model.sha256) == 64
        assert model.url.startswith("https://") or model.url == ""
        assert model.page.startswith("https://")
        assert model.licence
        assert (model.scale > 1) == (model.task == "upscale")
    assert {task for m in MODELS for task in m.tasks} == {
        "upscale",
        "deblur",
        "face_restore",
        "face_detect",
        "face_embed",
        "image_embed",
    }
    with pytest.raises(ConfigError, match=r"no model 'esrgan'; there are: realesrgan-x2plus,"):
        model_named("esrgan")


def test_weights_are_fetched_once_and_checked(source: Path, tmp_path: Path):
    weights, faults = Weights(tmp_path / "models"), Faults()
    with served(source, faults) as url:
        model = small(url)
        with pytest.raises(ModelError, match="lora-data models pull realesrgan-x2plus fetches them"):
            weights.path(model)
        assert weights.pull(model) is False
        assert weights.pull(model) is False
    assert faults.names == ["w.pth"]
    assert weights.path(model).read_bytes() == DATA
    assert weights.verify(model) == DIGEST


def test_a_damaged_file_is_never_loaded(source: Path, tmp_path: Path):
    weights = Weights(tmp_path / "models")
    with served(source) as url:
        model = small(url)
        weights.pull(model)
        path = weights.path(model)
        path.write_bytes(DATA[:-1] + b"x")
        for use in (weights.path, weights.verify, weights.pull):
            with pytest.raises(ModelError, match=f"must have {DIGEST}: it is damaged or another file"):
                use(model)
        assert path.read_bytes() == DATA[:-1] + b"x"  # what somebody put there is not replaced
        with pytest.raises(ModelError, match=r"cannot be fetched.*expected 0+"):
            Weights(tmp_path / "other").pull(dataclasses.replace(model, sha256="0" * 64))
    assert not (tmp_path / "other" / "w.pth").exists()


def test_an_unknown_digest_is_pinned_by_the_first_download(source: Path, tmp_path: Path):
    weights = Weights(tmp_path / "models")
    with served(source) as url:
        model = small(url, sha256=None)
        assert weights.expected(model) is None
        assert weights.pull(model) is True
        assert weights.pull(model) is False
    assert weights.expected(model) == DIGEST
    (tmp_path / "models" / "w.pth").write_bytes(b"another")
    with pytest.raises(ModelError, match=f"must have {DIGEST}"):
        weights.path(model)


def test_a_restricting_licence_is_accepted_once_and_explicitly(source: Path, tmp_path: Path):
    weights = Weights(tmp_path / "models")
    with served(source) as url:
        model = small(url, commercial=False, licence="Somebody's 1.0, non-commercial")
        with pytest.raises(ModelError, match=r"Somebody's 1\.0.*--accept-licence"):
            weights.pull(model)
        weights.accept(model)
        weights.pull(model)
    assert Weights(tmp_path / "models").path(model).is_file()
    changed = dataclasses.replace(model, licence="Somebody's 2.0")
    with pytest.raises(ModelError, match=r"Somebody's 2\.0"):
        weights.path(changed)


def test_weights_may_be_put_there_by_hand(tmp_path: Path):
    model = small("", url="", sha256=None)
    weights = Weights(tmp_path)
    with pytest.raises(ModelError, match=rf"by hand: put w\.pth from {model.page}"):
        weights.pull(model)
    (tmp_path / "w.pth").write_bytes(DATA)
    assert weights.path(model) == tmp_path / "w.pth"
    assert weights.expected(model) == DIGEST


def test_notes_that_cannot_be_read_are_an_error(tmp_path: Path):
    (tmp_path / NOTES).write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        Weights(tmp_path).accepted(small("", commercial=False))


def test_the_folder_is_the_given_one_or_the_environments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv(FOLDER, str(tmp_path / "env"))
    assert models_folder(tmp_path / "given") == tmp_path / "given"
    assert models_folder() == tmp_path / "env"
    monkeypatch.delenv(FOLDER)
    assert models_folder().name == "models"


def test_the_command_lists_fetches_checks_and_says_where(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = ["--models", str(tmp_path / "models")]
    with served(source) as url:
        free, bound = small(url), small(url, name="bound", file="b.pth", commercial=False, licence="NC")
        monkeypatch.setattr(registry, "MODELS", (free, bound))
        assert main(["models", "list", *folder]) == 0
        said = capsys.readouterr().out
        assert "NC (!)" in said
        assert "b.pth" in said
        assert str(tmp_path / "models") in said
        assert main(["models", "pull", "realesrgan-x2plus", *folder]) == 0
        assert "w.pth" in capsys.readouterr().out
        assert main(["models", "pull", "bound", *folder]) == 1
        assert "--accept-licence" in capsys.readouterr().err
        assert main(["models", "pull", "bound", "--accept-licence", *folder]) == 0
    capsys.readouterr()
    assert main(["models", "verify", *folder]) == 0
    assert capsys.readouterr().out == f"realesrgan-x2plus: {DIGEST}\nbound: {DIGEST}\n"
    assert main(["models", "path", "bound", *folder]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'models' / 'b.pth'}\n"
    (tmp_path / "models" / "w.pth").write_bytes(b"")
    assert main(["models", "verify", *folder]) == 1
    assert "damaged" in capsys.readouterr().err
    assert main(["models", "pull", "nobody", *folder]) == 2
    assert json.loads((tmp_path / "models" / NOTES).read_text())["licences"] == {"bound": "NC"}


def packed(folder: Path, content: bytes, name: str = "deep/inside/net.onnx") -> Model:
    """An archive in a folder, and its model."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "pack.zip", "w") as archive:
        archive.writestr(name, content)
    digest = hashlib.sha256((folder / "pack.zip").read_bytes()).hexdigest()
    member = Member("face_embed", "net.onnx", DIGEST)
    return dataclasses.replace(
        model_named("insightface-buffalo-l"), file="pack.zip", sha256=digest, commercial=True, members=(member,)
    )


def test_a_file_is_taken_out_of_its_archive_once_and_checked(tmp_path: Path):
    model, weights = packed(tmp_path, DATA), Weights(tmp_path)
    path = weights.member(model, "face_embed")
    assert path.read_bytes() == DATA
    assert path.name == "net.onnx"
    (tmp_path / "pack.zip").unlink()  # it is not needed again
    assert weights.member(model, "face_embed") == path
    path.write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"must have .*: remove it, and it is taken out of pack.zip again"):
        weights.member(model, "face_embed")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("case", ["other name", "other content", "no archive", "licence"])
def test_an_archive_that_does_not_hold_it_is_named(tmp_path: Path, case: str):
    model = packed(
        tmp_path, b"else" if case == "other content" else DATA, "x.onnx" if case == "other name" else "net.onnx"
    )
    if case == "no archive":
        (tmp_path / "pack.zip").write_bytes(DATA)
        model = dataclasses.replace(model, sha256=DIGEST)
    if case == "licence":
        model = dataclasses.replace(model, commercial=False)
    message = {
        "other name": "cannot be taken out of .*does not hold it",
        "other content": "must have",
        "no archive": "cannot be taken out of",
        "licence": "restricts its use",
    }[case]
    with pytest.raises(ModelError, match=message):
        Weights(tmp_path).member(model, "face_embed")
