from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lora_data import colour

pictures = hnp.arrays(np.uint8, (12, 10, 3))


def texture(seed: int = 0, size: int = 64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(size) / 5)[:, None] * np.cos(np.arange(size) / 7)[None] * 60
    return np.clip(128 + wave[..., None] + rng.normal(0, 12, (size, size, 1)) + [20, 0, -20], 0, 255).astype(np.uint8)


def test_linear_and_back_is_exact_on_every_level() -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    linear = colour.to_linear(levels)
    assert linear.dtype == np.float32
    assert np.array_equal(colour.to_srgb(linear), levels)
    assert (np.diff(linear[:, 0]) > 0).all()


@pytest.mark.parametrize(("level", "expected"), [(0, 0.0), (10, 10 / 255 / 12.92), (188, 0.5029), (255, 1.0)])
def test_linear_light_of_known_levels(level: int, expected: float) -> None:
    assert colour.to_linear(np.full((1, 1, 3), level, np.uint8))[0, 0, 0] == pytest.approx(expected, abs=1e-4)


def test_srgb_clips() -> None:
    assert colour.to_srgb(np.array([-0.5, 2.0])).tolist() == [0, 255]


@settings(max_examples=20, deadline=None)
@given(pictures)
def test_luma_and_luminance_lie_between_the_channels(rgb: np.ndarray) -> None:
    luma = colour.luma(rgb)
    assert (luma >= rgb.min(-1) - 1e-3).all()
    assert (luma <= rgb.max(-1) + 1e-3).all()
    linear = colour.to_linear(rgb)
    y = colour.luminance(linear)
    assert (y >= linear.min(-1) - 1e-5).all()
    assert (y <= linear.max(-1) + 1e-5).all()


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1))
def test_lightness_has_an_inverse(y: float) -> None:
    level = colour.lightness(np.array([y]))
    assert 0 <= level[0] <= 100 + 1e-9
    assert colour.from_lightness(level)[0] == pytest.approx(y, abs=1e-6)


def test_lightness_agrees_with_lab() -> None:
    gray = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    level = colour.lightness(colour.luminance(colour.to_linear(gray)))
    assert np.abs(level - colour.lab(gray)[..., 0]).max() < 0.2


@settings(max_examples=15, deadline=None)
@given(pictures)
def test_gray_has_no_chroma_and_no_hue(rgb: np.ndarray) -> None:
    gray = np.repeat(rgb[..., :1], 3, axis=2)
    assert np.abs(colour.lab(gray)[..., 1:]).max() < 0.5
    assert colour.hue_shift(gray, gray, np.ones(gray.shape[:2], bool)) is None


def test_hue_shift_is_zero_on_itself_and_symmetric() -> None:
    image = np.full((16, 16, 3), (180, 90, 60), np.uint8)
    other = np.full((16, 16, 3), (180, 120, 60), np.uint8)
    everywhere = np.ones((16, 16), bool)
    assert colour.hue_shift(image, image, everywhere) == 0
    there = colour.hue_shift(image, other, everywhere)
    assert there is not None
    assert there > 10
    assert colour.hue_shift(other, image, everywhere) == there
    assert colour.hue_shift(image, other, np.zeros((16, 16), bool)) is None


def test_hue_shift_goes_the_short_way_round() -> None:
    a, b = np.full((16, 16, 3), (60, 170, 200), np.uint8), np.full((16, 16, 3), (60, 185, 190), np.uint8)
    shift = colour.hue_shift(a, b, np.ones((16, 16), bool))
    assert shift is not None
    assert shift < 60


def test_hue_shift_sees_no_gain_in_linear_light() -> None:
    image = np.full((16, 16, 3), (180, 90, 60), np.uint8)
    brighter = colour.to_srgb(colour.to_linear(image) * 1.3)
    shift = colour.hue_shift(image, brighter, np.ones((16, 16), bool))
    assert shift is not None
    assert shift < 1.2


def test_structure_is_blind_to_brightness_and_contrast_but_not_to_noise() -> None:
    image = texture()
    everywhere = np.ones(image.shape[:2], bool)
    flatter = np.rint(image * 0.6 + 40).astype(np.uint8)
    noise = np.random.default_rng(1).normal(0, 20, image.shape)
    noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
    assert colour.structure(image, image, everywhere) == pytest.approx(1, abs=1e-5)
    same, worse = colour.structure(image, flatter, everywhere), colour.structure(image, noisy, everywhere)
    assert same is not None
    assert worse is not None
    assert same > 0.98
    assert worse < 0.95
    assert colour.structure(image, image, ~everywhere) is None
