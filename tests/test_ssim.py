"""SSIM on the common matte: scikit-image's numbers, whatever is skipped on the way."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from lora_data.ssim import SHARED, common_ssim

Thumbnail = tuple[np.ndarray, np.ndarray]


def thumb(seed: int, noise: float, roll: tuple[int, int] = (0, 0), rough: float = 0.0) -> Thumbnail:
    """A smooth picture with noise of its own; its matte reaches the border in places."""
    base, own = np.random.default_rng(1), np.random.default_rng(seed)
    luma = cv2.resize(base.integers(0, 256, (9, 9), np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC)
    level = cv2.resize(base.random((7, 7)), (96, 96), interpolation=cv2.INTER_CUBIC)
    level = level + rough * cv2.resize(own.random((7, 7)) - 0.5, (96, 96))
    luma = np.clip(luma + own.normal(0, noise, luma.shape), 0, 255).astype(np.uint8)
    return np.roll(luma, roll, (0, 1)), np.roll(level > 0.35, roll, (0, 1))


def by_scikit(a: Thumbnail, b: Thumbnail, shift: int = 1) -> float:
    best, side = 0.0, len(a[0])
    for move in itertools.product(range(-shift, shift + 1), repeat=2):
        here = tuple(slice(max(0, d), side + min(0, d)) for d in move)
        there = tuple(slice(max(0, -d), side + min(0, -d)) for d in move)
        common, union = a[1][here] & b[1][there], a[1][here] | b[1][there]
        if common.any() and common.sum() >= SHARED * union.sum():
            full = structural_similarity(a[0][here], b[0][there], data_range=255, full=True)[1]
            best = max(best, float(full[common].mean()))
    return best


pairs = st.tuples(
    st.integers(0, 99), st.floats(0, 40), st.tuples(st.integers(-2, 2), st.integers(-2, 2)), st.floats(0, 0.1)
)


@given(pairs, pairs)
def test_the_numbers_are_scikits(one: tuple, other: tuple) -> None:
    a, b = thumb(*one), thumb(*other)
    assert common_ssim(a, b) == pytest.approx(by_scikit(a, b), abs=1e-9)
    assert common_ssim(a, b, shift=0) == pytest.approx(by_scikit(a, b, 0), abs=1e-9)


@given(pairs, pairs, st.floats(0.3, 0.999))
def test_giving_up_early_changes_no_decision(one: tuple, other: tuple, threshold: float) -> None:
    a, b = thumb(*one), thumb(*other)
    best = common_ssim(a, b)
    quick = common_ssim(a, b, threshold=threshold)
    assert (quick >= threshold) == (best >= threshold)
    assert quick <= best
    assert quick == 0 or quick >= threshold


def test_a_shift_is_found() -> None:
    a = thumb(0, 0)
    assert common_ssim(a, thumb(0, 0, (1, -1))) == pytest.approx(1, abs=0.01)
    assert common_ssim(a, thumb(0, 0, (1, -1)), shift=0) < 0.99


@pytest.mark.parametrize("order", ["F", "reversed"])
def test_memory_layout_does_not_matter(order: str) -> None:
    a, b = thumb(0, 5), thumb(1, 5)
    laid = tuple(np.asfortranarray(p) if order == "F" else p[:, ::-1].copy()[:, ::-1] for p in b)
    assert common_ssim(a, (laid[0], laid[1])) == common_ssim(a, b)


def test_only_the_same_silhouette_is_compared() -> None:
    luma, matte = thumb(0, 0)
    part = matte.copy()
    part[:40] = False
    nothing = np.zeros_like(matte)
    assert common_ssim((luma, matte), (luma, matte)) == 1
    assert common_ssim((luma, matte), (luma, part)) == 0
    assert common_ssim((luma, nothing), (luma, nothing)) == 0
