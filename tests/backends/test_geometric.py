from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.backends.geometric import antialias, pinholes, stair, without_specks


def shape(kind: str, size: int = 96, over: int = 8, angle: float = 17) -> np.ndarray:
    """The exact alpha of a shape, float in [0, 1], by supersampling."""
    n = size * over
    canvas = np.zeros((n, n), np.uint8)
    middle = n / 2
    if kind == "disc":
        cv2.circle(canvas, (int(middle), int(middle)), int(0.35 * n), 1, -1)
    else:
        box = cv2.boxPoints(((middle, middle), (0.6 * n, 0.4 * n), angle))
        cv2.fillPoly(canvas, [np.rint(box).astype(np.int32)], 1)
    return canvas.reshape(size, over, size, over).mean(axis=(1, 3))


@pytest.mark.parametrize("kind", ["disc", "box"])
@settings(max_examples=15, deadline=None)
@given(angle=st.floats(4, 86))
def test_a_hard_edge_comes_nearer_to_the_true_one(kind: str, angle: float):
    true = shape(kind, angle=angle)
    hard = true >= 0.5
    before = np.mean((hard - true) ** 2)
    after = np.mean((antialias(hard) / 255 - true) ** 2)
    assert after <= max(0.7 * before, 2e-4)


def test_a_threefold_enlarged_mask_loses_its_stairs():
    true = shape("disc", size=192)
    coarse = (cv2.resize(true, (64, 64), interpolation=cv2.INTER_AREA) >= 0.5).astype(np.uint8)
    mask = cv2.resize(coarse, (192, 192), interpolation=cv2.INTER_NEAREST).astype(bool)
    assert stair(mask) == 3
    assert stair(true >= 0.5) == 1
    assert np.mean((antialias(mask) / 255 - true) ** 2) < 0.6 * np.mean((mask - true) ** 2)


def test_away_from_the_contour_nothing_moves():
    hard = shape("disc") >= 0.5
    alpha = antialias(hard)
    kernel = np.ones((7, 7), np.uint8)
    assert (alpha[cv2.erode(hard.astype(np.uint8), kernel) > 0] == 255).all()
    assert (alpha[cv2.dilate(hard.astype(np.uint8), kernel) == 0] == 0).all()
    assert abs(float(alpha.sum()) / 255 - float(hard.sum())) < 0.01 * hard.sum()


def test_a_strand_of_one_pixel_stays():
    mask = np.zeros((40, 40), bool)
    mask[20:] = True
    mask[5:20, 17] = True
    assert (antialias(mask)[5:20, 17] == 255).all()


def test_pinholes_are_found_and_gaps_are_not():
    alpha = np.zeros((200, 200), np.uint8)
    alpha[20:180, 20:180] = 255
    cv2.circle(alpha, (60, 60), 3, 0, -1)
    alpha[100:140, 90:93] = 0  # a slit between arm and body
    cv2.circle(alpha, (140, 140), 15, 0, -1)  # a handle
    holes = pinholes(alpha)
    assert holes[60, 60]
    assert not holes[120, 91]
    assert not holes[140, 140]
    assert not holes[0, 0]


def test_specks_go_and_a_floating_part_stays():
    alpha = np.zeros((200, 200), np.uint8)
    alpha[50:150, 50:150] = 255
    alpha[10:13, 10:13] = 255
    alpha[170:190, 90:110] = 200
    tidy = without_specks(alpha)
    assert not tidy[:40, :40].any()
    np.testing.assert_array_equal(tidy[40:], alpha[40:])
    only = np.zeros((50, 50), np.uint8)
    only[3, 3] = 255
    np.testing.assert_array_equal(without_specks(only), only)
