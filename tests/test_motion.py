"""What the motion guard promises: isotropic blur is never motion, a smear is found, and every witness can veto."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.motion import MotionEvidence, MotionLimits, measure, motion_verdict
from lora_data.sources import Source
from lora_data.stages.ingest import Ingest
from lora_data.stages.matte import Matte

SIZE = 320
few = settings(max_examples=12)
seeds = st.integers(0, 1000)


def figure(seed: int) -> np.ndarray:
    """A premultiplied cut-out, float32 ``[h, w, 4]``: flat patches in a round matte, anti-aliased, with room around."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: 2 * SIZE, : 2 * SIZE].astype(np.float32)
    nearest, patch = np.full(x.shape, np.inf, np.float32), np.zeros(x.shape, np.intp)
    for number, (px, py) in enumerate(rng.uniform(0, 2 * SIZE, (60, 2)).astype(np.float32)):
        distance = (x - px) ** 2 + (y - py) ** 2
        patch[distance < nearest] = number
        nearest = np.minimum(nearest, distance)
    inside = (np.hypot(x - SIZE, y - SIZE) < 0.95 * SIZE).astype(np.float32) * 255
    colour = rng.uniform(30, 225, (60, 3)).astype(np.float32)[patch] * (inside[..., None] > 0)
    flat = cv2.resize(np.dstack([colour, inside]), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return cv2.copyMakeBorder(flat, 24, 24, 24, 24, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))


def straight(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    alpha = np.rint(flat[..., 3].clip(0, 255)).astype(np.uint8)
    rgb = np.rint((flat[..., :3] * 255 / np.maximum(flat[..., 3:], 0.5)).clip(0, 255)).astype(np.uint8)
    rgb[alpha == 0] = 0
    return rgb, alpha


def disk(radius: float) -> np.ndarray:
    n = int(np.ceil(radius)) + 1
    y, x = np.mgrid[-n : n + 1, -n : n + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return kernel / kernel.sum()


def smear(length: float, angle: float, turn: float = 0.0) -> np.ndarray:
    """A line of ``length`` px at ``angle`` degrees counter-clockwise, its direction turning by ``turn`` degrees."""
    s = np.linspace(-0.5, 0.5, 16 * int(length))
    heading = np.radians(angle + turn * s)
    x, y = (np.cumsum(step) * length / len(s) for step in (np.cos(heading), -np.sin(heading)))
    n = int(length) // 2 + 2
    bins = [np.arange(-n - 0.5, n + 1)] * 2
    kernel, _, _ = np.histogram2d(y - y.mean(), x - x.mean(), bins=bins)
    return kernel / kernel.sum()


def blurred(flat: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return cv2.filter2D(flat, -1, kernel.astype(np.float32), borderType=cv2.BORDER_CONSTANT)


def found(flat: np.ndarray, **more: object) -> MotionEvidence:
    evidence = measure(*straight(flat), **more)  # pyright: ignore[reportArgumentType]
    assert evidence is not None
    return evidence


def apart(a: float, b: float) -> float:
    return abs((a - b + 90) % 180 - 90)


@few
@given(seed=seeds, radius=st.floats(1.5, 8))
def test_a_lens_out_of_focus_is_never_motion(seed: int, radius: float):
    assert motion_verdict(found(blurred(figure(seed), disk(radius))), MotionLimits())[0] is False


@few
@given(seed=seeds, sigma=st.floats(0.5, 5))
def test_gaussian_softness_is_never_motion(seed: int, sigma: float):
    soft = cv2.GaussianBlur(figure(seed), (0, 0), sigma)
    assert motion_verdict(found(soft), MotionLimits())[0] is False


@few
@given(seed=seeds)
def test_a_sharp_picture_is_sharp(seed: int):
    assert motion_verdict(found(figure(seed)), MotionLimits()) == (False, "sharp")


@settings(max_examples=25)
@given(seed=seeds, length=st.floats(10, 25), angle=st.floats(0, 180))
def test_a_straight_smear_is_found_with_its_direction(seed: int, length: float, angle: float):
    evidence = found(blurred(figure(seed), smear(length, angle)))
    assert motion_verdict(evidence, MotionLimits()) == (True, "motion")
    assert evidence.direction is not None
    assert apart(evidence.direction, angle) < 10


@few
@given(seed=seeds, length=st.floats(12, 25), angle=st.floats(0, 180), turn=st.floats(-35, 35))
def test_a_slightly_curved_smear_is_found(seed: int, length: float, angle: float, turn: float):
    assert motion_verdict(found(blurred(figure(seed), smear(length, angle, turn))), MotionLimits())[0] is True


@few
@given(seed=seeds, angle=st.floats(0, 180))
def test_a_quarter_turn_turns_the_direction(seed: int, angle: float):
    flat = blurred(figure(seed), smear(13, angle))
    before, after = found(flat), found(np.ascontiguousarray(np.rot90(flat)))  # counter-clockwise
    assert before.direction is not None
    assert after.direction is not None
    assert apart(after.direction, before.direction + 90) < 3
    assert after.softness == pytest.approx(before.softness, abs=0.05)
    assert after.coherence == pytest.approx(before.coherence, abs=0.1)


@few
@given(seed=seeds, scale=st.sampled_from([1.0, 2.0]))
def test_colour_under_a_transparent_matte_changes_nothing(seed: int, scale: float):
    flat = cv2.resize(blurred(figure(seed), smear(13, 30)), None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    rgb, alpha = straight(flat)
    other = rgb.copy()
    other[alpha == 0] = np.random.default_rng(seed).integers(0, 256, (int((alpha == 0).sum()), 3))
    assert measure(other, alpha) == measure(rgb, alpha)


def test_a_face_in_focus_vetoes():
    sharp = figure(3)
    flat = blurred(sharp, smear(17, 20))
    box = (160, 70, 220, 130)  # left, top, right, bottom
    flat[70:130, 160:220] = sharp[70:130, 160:220]
    assert motion_verdict(found(flat), MotionLimits()) == (True, "motion")  # too small to call the whole sharp
    assert motion_verdict(found(flat, face_box=box), MotionLimits()) == (False, "face_in_focus")
    elsewhere = found(flat, face_box=(100, 180, 240, 320))
    assert motion_verdict(elsewhere, MotionLimits()) == (True, "motion")
    nowhere = found(flat, face_box=(-50, -50, -10, -10))
    assert nowhere.face_focus is None


def test_a_face_box_is_in_pixels_of_the_picture():
    sharp = figure(3)
    flat = blurred(sharp, smear(17, 20))
    flat[60:140, 150:230] = sharp[60:140, 150:230]
    large = cv2.resize(flat, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)  # comes down to the canonical height
    inside = found(large, face_box=(450, 180, 690, 420))
    outside = found(large, face_box=(300, 540, 720, 960))
    assert inside.face_focus is not None
    assert outside.face_focus is not None
    assert inside.face_focus > 1.2 > outside.face_focus


def test_a_sharp_matte_around_a_smear_contradicts_unless_it_was_refined():
    flat, sharp = blurred(figure(5), smear(15, 70)), figure(5)
    rgb, _ = straight(flat)
    _, alpha = straight(sharp)
    alpha[straight(flat)[1] < 250] = 0  # narrower than the smear, so that the colour is clean
    alpha = cv2.GaussianBlur(alpha, (0, 0), 0.5)
    rgb[alpha == 0] = 0
    own, refined = measure(rgb, alpha), measure(rgb, alpha, refined=True)
    assert motion_verdict(own, MotionLimits()) == (False, "silhouette")
    assert refined is not None
    assert refined.silhouette is None
    assert motion_verdict(refined, MotionLimits()) == (True, "motion")


def test_a_close_up_has_no_silhouette():
    rgb, _ = straight(blurred(figure(7), smear(15, 70)))
    evidence = measure(np.ascontiguousarray(rgb[90:270, 90:270]), np.full((180, 180), 255, np.uint8))
    assert evidence is not None
    assert evidence.softness is not None
    assert evidence.silhouette is None


def test_nothing_can_be_said_without_texture():
    flat = np.full((200, 200, 3), 120, np.uint8)
    evidence = measure(flat, np.full((200, 200), 255, np.uint8))
    assert evidence == MotionEvidence()
    assert motion_verdict(evidence, MotionLimits()) == (False, "no_texture")
    assert measure(flat, np.zeros((200, 200), np.uint8)) is None
    assert measure(flat[:12, :12], np.full((12, 12), 255, np.uint8)) is None
    assert motion_verdict(None, MotionLimits()) == (False, "no_texture")


PROVED: dict[str, float | None] = {
    "softness": 1.4,
    "direction": 30.0,
    "coherence": 1.6,
    "agreement": 0.7,
    "silhouette": 1.8,
    "face_focus": 1.0,
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, "motion"),
        ({"silhouette": None, "face_focus": None}, "motion"),
        ({"softness": None}, "no_texture"),
        ({"agreement": None}, "no_texture"),
        ({"softness": 2.3}, "sharp"),
        ({"coherence": 1.1}, "isotropic"),
        ({"agreement": 0.2}, "directions_disagree"),
        ({"silhouette": 1.0}, "silhouette"),
        ({"silhouette": 0.6}, "silhouette"),
        ({"face_focus": 1.7}, "face_in_focus"),
        ({"coherence": 1.3}, "motion"),  # the silhouette agrees
        ({"silhouette": None, "coherence": 1.3}, "isotropic"),
        ({"silhouette": None, "agreement": 0.4}, "directions_disagree"),
    ],
)
def test_every_reason(change: dict[str, float | None], reason: str):
    evidence = MotionEvidence(**{**PROVED, **change})
    assert motion_verdict(evidence, MotionLimits()) == (reason == "motion", reason)


@pytest.mark.parametrize("change", [{"softness": 0.4}, {"coherence": 0.9}, {"agreement": 1.5}, {"face_focus": -1.0}])
def test_limits_have_ranges(change: dict[str, float]):
    with pytest.raises(ValueError, match=next(iter(change))):
        MotionLimits(**change)


def test_on_renders_of_other_peoples_characters(dev: Path):
    """Measured: 15 of 15 with motion blur found, none of the 358 others."""
    caught, motion, touched = 0, 0, []
    for line in (dev / "truth.jsonl").read_text().splitlines():
        truth = json.loads(line)
        if truth["kind"] != "instance":
            continue
        damage = {d["type"] for d in truth["degradations"]}
        smeared = "motion_blur" in damage
        if not (smeared or truth["dof"] or "defocus" in damage or truth["frame"] % 4 == 0):
            continue
        name = Path(truth["file"]).name
        read = Ingest().read(Source(source=name, path=dev / "instances" / name))
        assert not hasattr(read, "status"), name
        matted = Matte().apply(read)  # pyright: ignore[reportArgumentType]
        refined = (matted.record.matte_reason or "").startswith(("knn", "geometric"))
        proved, _ = motion_verdict(measure(matted.rgb, matted.alpha, refined=refined), MotionLimits())
        motion, caught = motion + smeared, caught + (smeared and proved)
        if proved and not smeared:
            touched.append(name)
    assert touched == []
    assert caught >= 0.85 * motion
