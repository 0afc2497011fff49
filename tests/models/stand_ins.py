"""The table of models with stand-ins: real face networks where they are here, tiny random ones for the rest."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import zipfile
from pathlib import Path

import pytest

from lora_data.models.registry import Model, model_named
from tests.conftest import ROOT
from tests.models import networks

MODELS = ROOT.parent / "shared" / "models"
SCRFD, YUNET = MODELS / "scrfd_2.5g_bnkps.onnx", MODELS / "yunet_n_640_640.onnx"
ARCFACE, COMPACT = MODELS / "mobilefacenet.onnx", MODELS / "realesr-animevideov3.pth"
needs_models = pytest.mark.skipif(not ARCFACE.is_file(), reason="the weights in ../shared/models are not here")


def stand_ins(folder: Path, url: str) -> tuple[Model, ...]:
    """Write the files of the preset "full" to a folder that a server offers at ``url``; return their table."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {
        "codeformer": networks.restoreformer(),
        "realesrgan-x2plus": networks.esrgan(scale=2),
        "nafnet-gopro-64": networks.nafnet(),
    }
    for name, network in made.items():
        networks.save(network, folder / model_named(name).file, key="params")
    shutil.copy(YUNET, folder / model_named("yunet").file)
    pack = model_named("insightface-buffalo-l")
    sources = {"face_detect": SCRFD, "face_embed": ARCFACE}
    with zipfile.ZipFile(folder / pack.file, "w") as archive:
        for member in pack.members:
            archive.write(sources[member.task], f"buffalo_l/{member.file}")
    members = tuple(dataclasses.replace(m, sha256=digest(sources[m.task])) for m in pack.members)
    models = [dataclasses.replace(pack, members=members), *(model_named(n) for n in (*made, "yunet"))]
    return tuple(
        dataclasses.replace(m, url=f"{url}/{m.file}", sha256=digest(folder / m.file), size=None) for m in models
    )


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
