from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lora_data.matte import bounding_box, composite, enlarge, fill_hidden, interior, resize, tight_crop
from tests.conftest import cutout

PICTURES = st.tuples(st.integers(1, 24), st.integers(1, 24)).flatmap(
    lambda size: st.tuples(hnp.arrays(np.uint8, (*size, 3)), hnp.arrays(np.uint8, size))
)


@settings(max_examples=60, deadline=None)
@given(picture=PICTURES, threshold=st.sampled_from([0, 127, 250]))
def test_filling_keeps_what_is_known_and_stays_between_its_colours(
    picture: tuple[np.ndarray, np.ndarray], threshold: int
):
    rgb, alpha = picture
    filled = fill_hidden(rgb, alpha, threshold)
    known = alpha > threshold
    assert filled.shape == rgb.shape
    assert filled.dtype == np.uint8
    np.testing.assert_array_equal(filled[known], rgb[known])
    if known.any():
        assert (filled >= rgb[known].min(axis=0).astype(int) - 1).all()
        assert (filled <= rgb[known].max(axis=0).astype(int) + 1).all()
    else:
        assert (filled == 128).all()


def test_filling_does_not_depend_on_what_was_hidden():
    rgb, alpha = cutout(80)
    garish = np.where(alpha[..., None] > 250, rgb, np.uint8(255) - rgb).astype(np.uint8)
    np.testing.assert_array_equal(fill_hidden(rgb, alpha), fill_hidden(garish, alpha))


def test_filling_leaves_no_silhouette():
    rgb = np.full((64, 64, 3), (200, 40, 90), np.uint8)
    alpha = np.zeros((64, 64), np.uint8)
    alpha[20:40, 25:45] = 255
    rgb[alpha == 0] = 0
    assert np.abs(fill_hidden(rgb, alpha).astype(int) - (200, 40, 90)).max() <= 1


@settings(max_examples=60, deadline=None)
@given(alpha=hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_the_box_is_the_smallest_that_holds_the_matte(alpha: np.ndarray):
    box = bounding_box(alpha)
    if box is None:
        assert not (alpha > 127).any()
        return
    x, y, w, h = box
    inside = alpha[y : y + h, x : x + w] > 127
    assert inside.sum() == (alpha > 127).sum()
    assert inside[0].any()
    assert inside[-1].any()
    assert inside[:, 0].any()
    assert inside[:, -1].any()


def test_the_interior_stays_away_from_the_contour_but_not_from_the_canvas():
    alpha = np.zeros((40, 40), np.uint8)
    alpha[10:, 10:30] = 255
    inside = interior(alpha, erode=4)
    assert inside[14:, 14:26].all()
    assert not inside[:14].any()
    assert not inside[:, :14].any()


@pytest.mark.parametrize("background", [(128, 128, 128), (0, 255, 0)])
def test_compositing_mixes_in_proportion(background: tuple[int, int, int]):
    rgb = np.full((1, 3, 3), (200, 100, 0), np.uint8)
    out = composite(rgb, np.array([[0, 51, 255]], np.uint8), background)
    np.testing.assert_array_equal(out[0, 0], background)
    np.testing.assert_array_equal(out[0, 2], (200, 100, 0))
    expected = np.rint(0.2 * np.array((200, 100, 0)) + 0.8 * np.array(background))
    np.testing.assert_allclose(out[0, 1], expected, atol=1)


def test_cropping_and_resizing_keep_colour_and_matte_together():
    rgb, alpha = cutout(100)
    small_rgb, small_alpha = tight_crop(rgb, alpha, margin=2)
    assert small_rgb.shape[:2] == small_alpha.shape
    assert max(small_alpha.shape) < 90
    half = resize(fill_hidden(rgb, alpha), alpha, (50, 50))
    assert half[0].shape == (50, 50, 3)
    assert abs(float(half[1].mean()) - float(alpha.mean())) < 1
    np.testing.assert_array_equal(resize(rgb, alpha, (100, 100))[0], rgb)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(2, 4))
def test_an_enlarged_matte_averages_down_to_itself(seed: int, scale: int):
    """Even noise, whose every px is an edge. Measured: 1.5 levels at twice the size, 4 at three and four times."""
    noise = np.random.default_rng(seed).integers(0, 256, (24, 31)).astype(np.uint8)
    for alpha in (cutout(64)[1], noise):
        made = enlarge(alpha, scale)
        assert made.shape == (scale * alpha.shape[0], scale * alpha.shape[1])
        back = cv2.resize(made.astype(np.float32), alpha.shape[::-1], interpolation=cv2.INTER_AREA)
        assert float(np.abs(back - alpha).max()) <= (3 if scale == 2 else 8)
        assert float(np.abs(back - alpha).mean()) <= 0.5
