from __future__ import annotations

import cv2
import numpy as np
import pytest

from lora_data.colour import hue_shift
from lora_data.gate import FaceChange, Limits, Verdict, judge, keep_low_frequencies
from lora_data.matte import fill_hidden, interior
from tests.conftest import cutout


@pytest.fixture(scope="module")
def small() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A soft original (filled, float), its inside, and the sharp picture at twice the size."""
    rgb, alpha = cutout(256, seed=3, colour=(210, 130, 60))
    y, x = np.mgrid[:256, :256]
    checks = (((x // 8 + y // 8) % 2) * 24 - 12).astype(np.int16)
    sharp = np.clip(fill_hidden(rgb, alpha).astype(np.int16) + checks[..., None], 0, 255).astype(np.float32)
    before = np.rint(cv2.resize(sharp, (128, 128), interpolation=cv2.INTER_AREA)).astype(np.uint8)
    return before, interior(cv2.resize(alpha, (128, 128), interpolation=cv2.INTER_AREA)), sharp


def gated(before: np.ndarray, raw: np.ndarray, inside: np.ndarray) -> Verdict:
    final = np.rint(keep_low_frequencies(before, raw)).clip(0, 255).astype(np.uint8)
    return judge(before, raw.astype(np.float32), final, inside, Limits())


def enlarged(before: np.ndarray) -> np.ndarray:
    return cv2.resize(before, (256, 256), interpolation=cv2.INTER_CUBIC).astype(np.float32)


def test_true_detail_passes(small: tuple[np.ndarray, np.ndarray, np.ndarray]):
    before, inside, sharp = small
    verdict = gated(before, sharp, inside)
    assert verdict.reason is None
    assert verdict.hue_shift is not None
    assert verdict.hue_shift < 1


def test_a_network_that_shifts_hue_is_refused(small: tuple[np.ndarray, np.ndarray, np.ndarray]):
    before, inside, sharp = small
    verdict = gated(before, sharp[..., [1, 0, 2]], inside)
    assert verdict.reason == "hue"
    assert verdict.value is not None
    assert verdict.limit is not None
    assert verdict.value > verdict.limit


def test_a_small_shift_of_hue_is_repaired_and_what_is_left_is_measured(
    small: tuple[np.ndarray, np.ndarray, np.ndarray],
):
    before, inside, sharp = small
    cast = sharp * np.array([1.0, 1.02, 0.98], np.float32)
    assert gated(before, cast, inside).reason is None
    unrepaired = judge(before, cast, cast.clip(0, 255).astype(np.uint8), inside, Limits(hue=0.1))
    assert unrepaired.reason == "hue"


def test_a_network_that_invents_low_frequencies_is_refused(small: tuple[np.ndarray, np.ndarray, np.ndarray]):
    before, inside, sharp = small
    y, x = np.mgrid[:256, :256]
    blob = 70 * np.exp(-((x - 120) ** 2 + (y - 130) ** 2) / 900)[..., None]
    verdict = gated(before, (sharp - blob * np.array([0.9, 0.6, 0.3])).clip(0, 255).astype(np.float32), inside)
    assert verdict.reason == "low_frequencies"
    assert verdict.limit == 30
    assert verdict.value is not None
    assert verdict.value < 30


def test_a_network_that_does_nothing_is_refused(small: tuple[np.ndarray, np.ndarray, np.ndarray]):
    before, inside, _ = small
    verdict = gated(before, enlarged(before), inside)
    assert (verdict.reason, verdict.limit) == ("no_gain", 1.1)
    assert verdict.value == pytest.approx(1.0, abs=0.05)


def test_a_network_that_blurs_is_refused(small: tuple[np.ndarray, np.ndarray, np.ndarray]):
    before, inside, _ = small
    verdict = gated(before, cv2.GaussianBlur(enlarged(before), (0, 0), 2), inside)
    assert verdict.reason == "no_gain"


def test_low_frequencies_come_back(small: tuple[np.ndarray, np.ndarray, np.ndarray]):
    before, _, sharp = small
    moved = sharp + 9
    back = cv2.resize(keep_low_frequencies(before, moved), (128, 128), interpolation=cv2.INTER_AREA)
    coarse = [cv2.GaussianBlur(i.astype(np.float32), (0, 0), 2) for i in (back, before)]
    assert float(np.abs(coarse[0] - coarse[1]).max()) < 0.5


def test_the_same_size_is_judged_too(small: tuple[np.ndarray, np.ndarray, np.ndarray]):
    """Deblurring and face restoration do not enlarge."""
    before, inside, sharp = small
    soft = cv2.GaussianBlur(sharp, (0, 0), 1.5).round().astype(np.uint8)
    where = cv2.resize(inside.astype(np.uint8), (256, 256), interpolation=cv2.INTER_NEAREST) > 0
    assert gated(soft, sharp, where).reason is None
    assert gated(soft, soft.astype(np.float32), where).reason == "no_gain"
    assert before.shape == (128, 128, 3)


@pytest.mark.parametrize(
    ("change", "reason", "value", "limit"),
    [
        (FaceChange(0.6, 0.0), "identity", 0.6, 0.75),
        (FaceChange(0.9, 0.2), "landmarks", 0.2, 0.05),
        (FaceChange(0.6, 0.2), "identity", 0.6, 0.75),
        (FaceChange(0.9, None), None, None, None),
        (FaceChange(0.9, 0.01), None, None, None),
    ],
)
def test_a_network_that_swaps_or_moves_a_face_is_refused(
    small: tuple[np.ndarray, np.ndarray, np.ndarray],
    change: FaceChange,
    reason: str | None,
    value: float | None,
    limit: float | None,
):
    before, inside, sharp = small
    final = np.rint(keep_low_frequencies(before, sharp)).clip(0, 255).astype(np.uint8)
    verdict = judge(before, sharp, final, inside, Limits(), face=lambda: change)
    assert (verdict.reason, verdict.value, verdict.limit) == (reason, value, limit)
    assert verdict.gain >= 1.1, "it sharpens, whatever else is wrong with it"


def test_the_face_is_not_looked_at_where_another_limit_is_broken(small: tuple[np.ndarray, np.ndarray, np.ndarray]):
    before, inside, _ = small

    def never() -> FaceChange:
        raise AssertionError("nobody asked")

    plain = enlarged(before)
    verdict = judge(before, plain, plain.astype(np.uint8), inside, Limits(), face=never)
    assert verdict.reason == "no_gain"
    assert verdict.value == verdict.gain < 1.1


def test_the_colour_of_each_px_comes_back_and_its_detail_stays(small: tuple[np.ndarray, np.ndarray, np.ndarray]):
    before, inside, sharp = small
    tinted = sharp + np.array([12, -4, -9], np.float32)
    made = np.rint(keep_low_frequencies(before, tinted)).clip(0, 255).astype(np.uint8)
    back = cv2.resize(made, (128, 128), interpolation=cv2.INTER_AREA)
    shift = hue_shift(before, back, inside)
    assert shift is not None
    assert shift < 1.5  # rounding to 8 bit alone gives about 1.2
    assert cv2.Laplacian(made, cv2.CV_32F).var() > 2 * cv2.Laplacian(enlarged(before), cv2.CV_32F).var()


@pytest.mark.parametrize("field", ["hue", "low_psnr", "gain", "identity", "moved"])
def test_an_impossible_limit_is_an_error(field: str):
    with pytest.raises(ValueError, match=field):
        Limits(**{field: -2.0})
