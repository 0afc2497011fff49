from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lora_data.errors import ConfigError
from lora_data.gate import FaceChange
from lora_data.manifest import Record
from lora_data.models import loaded
from lora_data.models.deblurgan import FPNInception, FPNMobileNet
from lora_data.models.network import Network
from lora_data.models.registry import model_named
from lora_data.models.weights import FOLDER
from lora_data.sample import Instance
from lora_data.stage import Resources
from lora_data.stages import deblur as stage
from lora_data.stages import enhancement
from lora_data.stages.deblur import ChooseBlurred, Deblur, MeasureMotion
from tests.conftest import cutout
from tests.models import networks


def patches(size: int = 320) -> tuple[np.ndarray, np.ndarray]:
    """A round matte full of flat patches, whose edges point everywhere."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[: 2 * size, : 2 * size].astype(np.float32)
    seeds = rng.uniform(0, 2 * size, (70, 2)).astype(np.float32)
    nearest = np.stack([(x - a) ** 2 + (y - b) ** 2 for a, b in seeds]).argmin(0)
    rgb = rng.uniform(40, 220, (70, 3)).astype(np.float32)[nearest]
    rgb = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA)
    return np.rint(rgb).astype(np.uint8), cutout(size)[1]


def smeared(length: int) -> Instance:
    """Moved to the side while the shutter was open, or not (length 0)."""
    rgb, alpha = patches()
    premultiplied = np.dstack([rgb, np.full_like(alpha, 255)]).astype(np.float32) * (alpha[..., None] / np.float32(255))
    if length:
        premultiplied = cv2.blur(premultiplied, (length, 1), borderType=cv2.BORDER_CONSTANT)
    alpha = premultiplied[..., 3]
    rgb = np.rint(premultiplied[..., :3] * 255 / np.maximum(alpha[..., None], 0.5)).clip(0, 255)
    return Instance(Record(source="a.png", key="a"), rgb.astype(np.uint8), np.rint(alpha).astype(np.uint8))


def soft(sigma: float) -> Instance:
    rgb, alpha = patches()
    blurred = cv2.GaussianBlur(rgb, (0, 0), sigma)
    return Instance(Record(source="a.png", key="a"), blurred, cv2.GaussianBlur(alpha, (0, 0), sigma))


def proposed(**fields: Any) -> Instance:
    given = smeared(15)
    return given.replace(deblur="proposed", **fields)


def plug(monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    made = Network("test", nn.Identity(), call)
    monkeypatch.setattr(loaded, "network", lambda *_: made)


def sharper(_: nn.Module, x: Tensor) -> Tensor:
    """Sharpens along the motion alone."""
    mean = F.avg_pool2d(F.pad(x, (7, 7, 0, 0), "replicate"), (1, 15), 1)
    return x + 1.2 * (x - mean)


def deblurred(instance: Instance, **settings: Any) -> Instance:
    (made,) = Deblur(**settings).apply_many([instance], Resources())
    return made


@pytest.mark.parametrize(
    ("given", "motion"),
    [(smeared(0), "sharp"), (smeared(15), "motion"), (smeared(25), "motion"), (soft(3), "isotropic")],
)
def test_motion_is_measured(given: Instance, motion: str):
    made = MeasureMotion().apply(given)
    assert made.record.motion == motion
    assert made.rgb is given.rgb
    if motion == "motion":
        assert made.record.motion_direction is not None
        assert min(made.record.motion_direction, 180 - made.record.motion_direction) < 12
        assert made.record.motion_score is not None
        assert made.record.motion_score < 80
        assert MeasureMotion(below=made.record.motion_score / 2).apply(given).record.motion == "score"


def test_a_refined_matte_is_no_witness():
    """Matting made a smeared contour narrow: that must not acquit the smear, nor a narrow one that came so."""
    given = smeared(15)
    hard = given.replace(alpha=np.where(given.alpha > 127, 255, 0).astype(np.uint8))
    assert MeasureMotion().apply(hard).record.motion == "silhouette"
    refined = MeasureMotion().apply(hard.replace(matte_reason="geometric: no background to see")).record
    assert refined.motion_silhouette is None
    assert refined.motion == "motion"


def rows(*specs: tuple[str, int | None, str | None]) -> list[Record]:
    return [
        Record(source=f"{i}.png", key=str(i), track=None if track == "-" else track, frame=frame, motion=motion)
        for i, (track, frame, motion) in enumerate(specs)
    ]


@pytest.mark.parametrize(
    ("neighbour", "status", "deblur"),
    [
        (("t", 11, "sharp"), "surplus", "no"),
        (("t", 8, "sharp"), "surplus", "no"),
        (("t", 13, "sharp"), "kept", "proposed"),
        (("u", 11, "sharp"), "kept", "proposed"),
        (("t", 11, "isotropic"), "kept", "proposed"),
        (("t", 11, "motion"), "kept", "proposed"),
        (("-", 11, "sharp"), "kept", "proposed"),
        (("t", None, "sharp"), "kept", "proposed"),
    ],
)
def test_a_sharp_neighbour_of_the_track_makes_it_surplus(
    neighbour: tuple[str, int | None, str], status: str, deblur: str
):
    made = ChooseBlurred(frames=2).apply(rows(("t", 10, "motion"), neighbour))
    assert (made[0].status, made[0].deblur) == (status, deblur)
    if status == "surplus":
        assert (made[0].stage, made[0].reason, made[0].limit) == ("deblur", "sharp_neighbour", 2)
        assert made[0].deblur_reason == "sharp_neighbour 1"
    assert made[1].status == "kept"


@pytest.mark.parametrize("elsewhere", [{"scene": "s02"}, {"source": "other_film/1.png"}])
def test_a_track_of_another_scene_or_film_is_another_track(elsewhere: dict[str, str]):
    blurred, sharp = rows(("t", 10, "motion"), ("t", 11, "sharp"))
    made = ChooseBlurred(frames=2).apply([blurred, sharp.replace(**elsewhere)])
    assert (made[0].status, made[0].deblur) == ("kept", "proposed")


def test_what_is_not_motion_says_what_it_is_and_what_is_out_stays_out():
    first, second, third = rows(("t", 1, "isotropic"), ("t", 2, "motion"), ("t", 3, None))
    out = second.decide("rejected", "filter", "dark", 1, 2)
    made = ChooseBlurred().apply([first, out, third])
    assert (made[0].deblur, made[0].deblur_reason) == ("no", "isotropic")
    assert made[1] is out
    assert made[2] is third


def test_a_proposal_waits_and_the_picture_stays(monkeypatch: pytest.MonkeyPatch):
    plug(monkeypatch, sharper)
    given = proposed()
    made = deblurred(given)
    assert (made.record.deblur, made.record.deblur_reason) == ("proposed", None)
    assert made.rgb is given.rgb
    assert made.proposed is not None
    assert made.proposed.shape == given.rgb.shape
    assert made.record.deblur_hue_shift is not None
    assert made.record.deblur_hue_shift <= 1
    assert made.record.deblur_gain is not None
    assert made.record.deblur_gain > 1.1
    applied = deblurred(given, review=False)
    assert applied.record.deblur == "applied"
    assert np.array_equal(applied.rgb, made.proposed)
    assert np.array_equal(applied.rgb[given.alpha == 0], given.rgb[given.alpha == 0])
    assert applied.alpha is given.alpha


@pytest.mark.parametrize("deblur", ["no", "taken_back"])
def test_nothing_else_is_touched(monkeypatch: pytest.MonkeyPatch, deblur: str):
    def never(_: nn.Module, x: Tensor) -> Tensor:
        raise AssertionError("the network must not run")

    plug(monkeypatch, never)
    given = smeared(15).replace(deblur=deblur)
    assert deblurred(given) is given


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda _, x: x * float("nan"), "network"),
        (lambda _, x: x, "no_gain"),
        (lambda _, x: x[:, [1, 2, 0]], "hue"),
        (lambda _, x: (x * 0.7).clamp(0, 1), "low_frequencies"),
    ],
)
def test_what_breaks_a_limit_is_taken_back_and_said(monkeypatch: pytest.MonkeyPatch, call: Any, reason: str):
    plug(monkeypatch, call)
    given = proposed()
    made = deblurred(given)
    assert (made.record.deblur, made.record.deblur_reason) == ("taken_back", reason)
    assert made.rgb is given.rgb
    assert made.proposed is None


def test_a_face_is_looked_at_where_it_is(monkeypatch: pytest.MonkeyPatch):
    seen: list[np.ndarray] = []

    class Witness:
        def compare(self, before: np.ndarray, after: np.ndarray, points: np.ndarray, scale: float) -> FaceChange:
            seen.append(points)
            return FaceChange(0.1, 0.0)

    plug(monkeypatch, sharper)
    monkeypatch.setattr(enhancement, "witness", lambda _: Witness())
    points = np.array([[100, 100], [140, 100], [120, 120], [105, 140], [135, 140]], np.float32)
    (made,) = Deblur().apply_many([proposed(face_points=points.ravel())], Resources(embedder="x"))
    assert (made.record.deblur_reason, made.record.deblur_value) == ("identity", 0.1)
    left, top = (int(np.nonzero((made.alpha > 127).any(axis))[0][0]) - stage.MARGIN for axis in (0, 1))
    assert np.allclose(seen[0], points - [max(0, left), max(0, top)])


def test_nafnet_goes_the_whole_way(tmp_path: Path):
    path = networks.save(networks.nafnet(), tmp_path / "nafnet.pth", key="params")
    settings: dict[str, Any] = {"model": str(path), "tile": 128}
    Deblur(**settings).prepare(Resources())
    made = [deblurred(proposed(), **settings) for _ in range(2)]
    assert made[0].record.deblur == "taken_back"
    assert made[0].record.deblur_value == made[1].record.deblur_value
    both = Deblur(**settings).apply_many([proposed(), proposed()], Resources(workers=2))
    assert [i.record.deblur_value for i in both] == [made[0].record.deblur_value] * 2


@pytest.mark.parametrize("name", ["deblurganv2-mobilenet", "deblurganv2-inception"])
def test_deblurgan_is_named_by_the_table_and_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    network = FPNMobileNet() if name.endswith("mobilenet") else FPNInception()
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"model": state}, tmp_path / model_named(name).file)
    monkeypatch.setenv(FOLDER, str(tmp_path))
    settings = Deblur(model=name, tile=192)
    settings.prepare(Resources())
    (made,) = settings.apply_many([proposed()], Resources())
    loaded.network.cache_clear()
    assert made.record.deblur == "taken_back"


def test_a_network_that_does_something_else_is_named(tmp_path: Path):
    path = networks.save(networks.compact(), tmp_path / "x4.pth", key="params")
    with pytest.raises(ConfigError, match="enlarges 4 times, expected a network that restores"):
        Deblur(model=str(path)).prepare(Resources())
    with pytest.raises(ConfigError, match="does upscale, not deblur"):
        Deblur(model="realesrgan-x2plus").prepare(Resources())
    with pytest.raises(ValueError, match="below"):
        Deblur(below=-1)
    with pytest.raises(ValueError, match="neighbour_frames"):
        Deblur(neighbour_frames=-1)
    with pytest.raises(ValueError, match="tile"):
        Deblur(tile=10)


def test_a_person_s_answer_is_followed(monkeypatch: pytest.MonkeyPatch):
    plug(monkeypatch, sharper)
    given = proposed()
    waiting = deblurred(given)
    accepted = deblurred(given.replace(deblur_review="accept"))
    assert (accepted.record.deblur, accepted.record.deblur_reason) == ("applied", None)
    assert waiting.proposed is not None
    assert np.array_equal(accepted.rgb, waiting.proposed)
    assert accepted.proposed is None
    assert accepted.record.deblur_hue_shift == waiting.record.deblur_hue_shift

    def never(_: nn.Module, x: Tensor) -> Tensor:
        raise AssertionError("the network must not run")

    plug(monkeypatch, never)
    refused = given.replace(deblur_review="refuse")
    for settings in ({}, {"review": False}):
        made = deblurred(refused, **settings)
        assert (made.record.deblur, made.record.deblur_reason) == ("taken_back", "person")
        assert made.rgb is given.rgb
        assert made.proposed is None
    assert deblurred(refused.replace(deblur="no")).record.deblur == "no"  # there was nothing to refuse


def test_what_it_would_be_with_each_answer_is_what_it_becomes(monkeypatch: pytest.MonkeyPatch):
    plug(monkeypatch, sharper)
    given = proposed()
    told = stage.answered(deblurred(given))
    assert stage.answered(given) == {}
    for answer, instance in told.items():
        made = deblurred(given.replace(deblur_review=answer))
        assert np.array_equal(made.rgb, instance.rgb)
        assert made.record.deblur == instance.record.deblur
        assert made.record.deblur_reason == instance.record.deblur_reason
        assert made.record.deblur_hue_shift == instance.record.deblur_hue_shift
