from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.backends.equalise import Engine, clahe, equalise, smooth_gain

ENGINES: list[Engine] = ["opencv", "skimage"]


def picture(seed: int = 0, size: tuple[int, int] = (192, 160)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    base = np.linspace(40, 160, size[0])[:, None] + np.linspace(-20, 20, size[1])[None]
    return np.clip(base + rng.normal(0, 8, size), 0, 255).astype(np.uint8)


def disc(size: tuple[int, int] = (192, 160)) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return ((y - size[0] / 2) / (size[0] * 0.4)) ** 2 + ((x - size[1] / 2) / (size[1] * 0.4)) ** 2 < 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("outside", [0, 255])
def test_what_is_outside_does_not_matter(engine: Engine, outside: int) -> None:
    image, inside = picture(), disc()
    other = np.where(inside, image, outside).astype(np.uint8)
    kept = [clahe(x, inside, clip_limit=2, tiles=8, engine=engine)[inside] for x in (image, other)]
    assert np.array_equal(kept[0], kept[1])
    kept = [equalise(x, inside, engine=engine)[inside] for x in (image, other)]
    assert np.array_equal(kept[0], kept[1])


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 10), st.integers(20, 150), st.integers(20, 150), st.sampled_from(ENGINES))
def test_any_size_and_grid(tiles: int, height: int, width: int, engine: Engine) -> None:
    image, inside = picture(1, (height, width)), disc((height, width))
    result = clahe(image, inside, clip_limit=2, tiles=tiles, engine=engine)
    assert result.shape == image.shape
    assert result.dtype == np.float32
    assert 0 <= result.min() <= result.max() <= 255


def test_a_full_mask_is_plain_clahe() -> None:
    image = picture(2, (256, 256))
    ours = clahe(image, np.ones(image.shape, bool), clip_limit=2, tiles=8, engine="opencv")
    assert np.array_equal(ours, cv2.createCLAHE(2.0, (8, 8)).apply(image))


def test_a_full_mask_is_plain_equalisation() -> None:
    image = picture(3)
    ours = equalise(image, np.ones(image.shape, bool), engine="opencv")
    assert np.array_equal(ours, cv2.equalizeHist(image))


@pytest.mark.parametrize("engine", ENGINES)
def test_contrast_grows_inside_and_single_pixels_do(engine: Engine) -> None:
    image, inside = picture(), disc()
    result = clahe(image, inside, clip_limit=4, tiles=2, engine=engine)
    assert result[inside].std() > image[inside].std()
    lonely = np.zeros_like(inside)
    lonely[3, 5] = True
    assert clahe(image, lonely, clip_limit=2, tiles=8, engine=engine).shape == image.shape


def test_equalise_makes_the_inside_uniform() -> None:
    image, inside = picture(), disc()
    values = equalise(image, inside, engine="opencv")[inside]
    assert np.abs(np.percentile(values, [25, 50, 75]) - [64, 128, 191]).max() < 6


@pytest.mark.parametrize("engine", ENGINES)
def test_equalise_keeps_the_order_of_values(engine: Engine) -> None:
    image, inside = picture(), disc()
    values, result = image[inside], equalise(image, inside, engine=engine)[inside]
    order = np.argsort(values, kind="stable")
    assert (np.diff(result[order]) >= 0).all()


def test_an_affine_function_of_the_guide_is_kept() -> None:
    guide, inside = picture().astype(np.float32) / 255, disc()
    target = 0.7 * guide - 0.2
    slope, offset = smooth_gain(target, guide, inside, radius=10, epsilon=1e-8)
    assert np.abs((slope * guide + offset - target)[inside]).max() < 1e-3


def test_noise_in_the_target_is_smoothed_and_the_outside_not_looked_at() -> None:
    guide, inside = picture().astype(np.float32) / 255, disc()
    noise = np.random.default_rng(4).normal(0, 0.1, guide.shape).astype(np.float32)
    slope, offset = smooth_gain(noise, guide, inside, radius=10, epsilon=4e-4)
    assert (slope * guide + offset)[inside].std() < 0.3 * noise[inside].std()
    other = np.where(inside, noise, 9).astype(np.float32)
    again = smooth_gain(other, guide, inside, radius=10, epsilon=4e-4)
    assert np.array_equal(slope, again[0])
    assert np.array_equal(offset, again[1])
    assert slope[0, 0] == offset[0, 0] == 0
