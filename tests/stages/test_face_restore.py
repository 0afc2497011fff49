from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lora_data.errors import ConfigError
from lora_data.faces import FFHQ
from lora_data.gate import FaceChange
from lora_data.manifest import Record
from lora_data.models import loaded
from lora_data.models.network import Network
from lora_data.sample import Instance
from lora_data.stage import Resources
from lora_data.stages import face_restore as stage
from lora_data.stages.face_restore import FaceRestore
from lora_data.stages.upscale import Upscale
from tests.conftest import cutout
from tests.models import networks

POINTS = (FFHQ - 256) * 0.2 + np.array([100, 95], np.float32)
"""A face of about 100 px on a cut-out of 200."""


class Witness:
    """Says what it was told to; remembers what it was shown."""

    def __init__(self, change: FaceChange) -> None:
        self.change, self.seen = change, []

    def compare(self, before: np.ndarray, after: np.ndarray, points: np.ndarray, scale: float = 1) -> FaceChange:
        self.seen.append((before, after, points, scale))
        return self.change


class Embedder:
    def embed(self, rgb: np.ndarray, points: np.ndarray) -> np.ndarray:
        return np.array([1, 0], np.float32)


def face(size: int = 200, **fields: Any) -> Instance:
    rgb, alpha = cutout(size, seed=4)
    for x, y in POINTS[:2]:
        cv2.circle(rgb, (round(float(x)), round(float(y))), 5, (30, 20, 20), -1, cv2.LINE_AA)
    rgb = cv2.GaussianBlur(rgb, (0, 0), 1.5)
    rgb[alpha == 0] = 0
    record = Record(source="a.png", key="a", width=size, height=size, face_points=POINTS.ravel())
    return Instance(record.replace(**fields), rgb, alpha)


def sharpened(_: nn.Module, x: Tensor) -> Tensor:
    """Detail that a small face lost, as a good network gives it back."""
    soft = F.avg_pool2d(x, 13, 1, 6, count_include_pad=False)
    return x + 1.5 * (x - soft)


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Witness]:
    """Let the stage find a network and a witness."""

    def plugged(call: Any, similarity: float = 0.98, moved: float | None = 0.0) -> Witness:
        made = Network("test", nn.Identity(), call)
        witness = Witness(FaceChange(similarity, moved))
        monkeypatch.setattr(loaded, "network", lambda *_: made)
        monkeypatch.setattr(stage, "witness", lambda _: witness)
        monkeypatch.setattr(stage, "embedder", lambda _: Embedder())
        return witness

    return plugged


def restored(instance: Instance, settings: FaceRestore | None = None) -> Instance:
    (made,) = (settings or FaceRestore()).apply_many([instance], Resources(embedder="test"))
    return made


def test_a_face_is_restored_and_only_the_face(plug: Callable[..., Witness]):
    witness = plug(sharpened)
    given = face()
    made = restored(given)
    record = made.record
    assert (record.face_restore, record.face_restore_reason) == ("applied", None)
    assert record.face_restore_hue_shift is not None
    assert record.face_restore_hue_shift < 1
    assert record.face_restore_gain is not None
    assert record.face_restore_gain > 1.1
    assert record.face_embedding is not None
    assert record.face_embedding.tolist() == [1, 0]
    assert made.alpha is given.alpha
    changed = (made.rgb != given.rgb).any(2)
    corners = (np.array([[0, 0], [512, 512]]) - 256) * 0.2 + np.array([100, 95])
    (x0, y0), (x1, y1) = np.rint(corners).astype(int)
    assert changed[y0 + 20 : y1 - 20, x0 + 20 : x1 - 20].mean() > 0.05  # about the eyes
    assert not changed[given.alpha <= 250].any()
    changed[max(0, y0 - 1) : y1 + 2, max(0, x0 - 1) : x1 + 2] = False
    assert not changed.any()
    before, after, points, scale = witness.seen[0]
    assert before.shape == after.shape == (512, 512, 3)
    assert scale == 1
    assert np.allclose(points, FFHQ, atol=0.1)  # aligned by its points


def test_the_network_never_sees_hidden_colour(plug: Callable[..., Witness]):
    seen: list[Tensor] = []

    def call(_: nn.Module, x: Tensor) -> Tensor:
        seen.append(x.clone())
        return x

    plug(call)
    given = face()
    restored(given)
    restored(given.replace(rgb=np.where((given.alpha == 0)[..., None], np.array([255, 0, 255], np.uint8), given.rgb)))
    assert torch.equal(seen[0], seen[1])


def broken(_: nn.Module, x: Tensor) -> Tensor:
    return x * float("nan")


def hungry(_: nn.Module, x: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("no room")


@pytest.mark.parametrize(
    ("call", "change", "reason", "value"),
    [
        (broken, {}, "network", None),
        (hungry, {}, "memory", None),
        (lambda _, x: x, {}, "no_gain", 1.0),
        (lambda _, x: x[:, [2, 0, 1]], {}, "hue", None),
        (lambda _, x: (x * 0.7).clamp(0, 1), {}, "low_frequencies", None),
        (sharpened, {"similarity": 0.5}, "identity", 0.5),
        (sharpened, {"moved": 0.2}, "landmarks", 0.2),
    ],
)
def test_what_breaks_a_limit_is_taken_back_and_said(
    plug: Callable[..., Witness], call: Any, change: dict[str, float], reason: str, value: float | None
):
    plug(call, **change)
    given = face()
    made = restored(given)
    assert (made.record.face_restore, made.record.face_restore_reason) == ("taken_back", reason)
    assert made.rgb is given.rgb
    assert made.face is None
    if value is not None:
        assert made.record.face_restore_value == pytest.approx(value, abs=0.05)
        assert made.record.face_restore_limit is not None


@pytest.mark.parametrize(
    ("fields", "settings", "reason"),
    [
        ({"face_points": None}, {}, "no_face"),
        ({}, {"min_eye_distance": 40.0}, "small_face"),
        ({"face_points": (FFHQ * 1.1).ravel()}, {}, "full_resolution"),
    ],
)
def test_what_is_not_restored_says_why(
    plug: Callable[..., Witness], fields: dict[str, Any], settings: dict[str, Any], reason: str
):
    plug(broken)
    made = restored(face(**fields), FaceRestore(**settings))
    assert (made.record.face_restore, made.record.face_restore_reason) == ("no", reason)


def test_on_an_enlarged_canvas_the_face_keeps_its_own_resolution(
    plug: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch
):
    plug(sharpened)
    first = restored(face())
    enlarging = Network("twice", nn.Identity(), lambda _, x: F.interpolate(x, scale_factor=2, mode="bicubic"), scale=2)
    monkeypatch.setattr(loaded, "network", lambda *_: enlarging)
    upscale = Upscale(limits=stage.Limits(gain=0))
    (made,) = upscale.apply_many([first], Resources())
    (without,) = upscale.apply_many([Instance(first.record, first.rgb, first.alpha)], Resources())
    assert made.rgb.shape == (400, 400, 3)
    area = (slice(130, 270), slice(140, 260))
    sharpness = [float(cv2.Laplacian(i.rgb[area], cv2.CV_32F).var()) for i in (made, without)]
    assert sharpness[0] > 1.2 * sharpness[1]
    small = cv2.resize(made.rgb, (200, 200), interpolation=cv2.INTER_AREA).astype(int)
    assert float(np.abs(small - first.rgb)[70:130, 70:130].mean()) < 3


ARCHITECTURES = {
    "gfpgan-1.4": networks.gfpgan,
    "restoreformer": networks.restoreformer,
    "codeformer": networks.codeformer,
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_goes_the_whole_way(
    name: str, plug: Callable[..., Witness], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Random weights in the official layout: aligned, restored, judged, refused, nothing touched."""
    real = loaded.network
    plug(broken)
    monkeypatch.setattr(loaded, "network", real)
    path = networks.save(ARCHITECTURES[name](), tmp_path / f"{name}.pth", key="params_ema")
    settings = FaceRestore(model=str(path), fidelity=0.9)
    settings.prepare(Resources(embedder="test"))
    given = face()
    made = restored(given, settings)
    real.cache_clear()  # a third of a gigabyte each
    assert made.rgb is given.rgb
    assert made.record.face_restore == "taken_back"
    assert made.record.face_restore_reason in ("hue", "low_frequencies", "no_gain")
    assert made.record.face_restore_value is not None


def test_a_network_that_does_something_else_is_named(tmp_path: Path):
    path = networks.save(networks.compact(), tmp_path / "x4.pth", key="params")
    with pytest.raises(ConfigError, match="enlarges 4 times, expected a network that restores"):
        FaceRestore(model=str(path)).prepare(Resources(embedder="x"))
    with pytest.raises(ValueError, match="fidelity"):
        FaceRestore(fidelity=1.1)
    with pytest.raises(ValueError, match="min_eye_distance"):
        FaceRestore(min_eye_distance=0)


def test_a_person_s_no_is_followed(plug: Callable[..., Witness]):
    def never(_: nn.Module, x: Tensor) -> Tensor:
        raise AssertionError("the network must not run")

    plug(never)
    given = face(face_restore_review="refuse")
    made = restored(given)
    assert (made.record.face_restore, made.record.face_restore_reason) == ("taken_back", "person")
    assert made.rgb is given.rgb
    assert made.face is None
