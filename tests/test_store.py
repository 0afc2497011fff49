from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lora_data.store import THUMBNAIL, decode_webp, encode_lossy, encode_webp, small
from tests.conftest import cutout


@settings(max_examples=30, deadline=None)
@given(pixels=hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(4))))
def test_pixels_come_back_bit_for_bit_also_under_alpha_zero(pixels: np.ndarray):
    rgb, alpha = decode_webp(encode_webp(pixels[..., :3], pixels[..., 3]))
    np.testing.assert_array_equal(np.dstack([rgb, alpha]), pixels)


def test_a_thumbnail_is_small_and_never_enlarged():
    for size, expected in ((400, THUMBNAIL), (50, 50)):
        rgb, _ = decode_webp(encode_lossy(*small(*cutout(size), THUMBNAIL)))
        assert rgb.shape[:2] == (expected, expected)
