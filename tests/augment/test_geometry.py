from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from lora_data.augment.geometry import Interpolation, kernel, premultiply, warp
from lora_data.augment.table import make_table
from tests.augment.pictures import smooth, still, with_crop

KINDS: list[Interpolation] = ["bicubic", "bilinear"]


def sample(
    pixels: torch.Tensor,
    target: tuple[int, int],
    kind: Interpolation = "bicubic",
    *,
    centre: tuple[float, float] | None = None,
    zoom: float | None = None,
    rotation: float = 0.0,
    sizes: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Warp float pictures; the whole picture where nothing else is said."""
    count, _, height, width = pixels.shape
    zoom = zoom or width / target[1]
    params = with_crop(
        still(count, rotation=rotation),
        [centre or (width / 2, height / 2)] * count,
        [(zoom * target[0], zoom * target[1])] * count,
    )
    sizes = torch.tensor([[height, width]] * count) if sizes is None else sizes
    return warp(pixels, make_table(params, sizes, (height, width), target), target, kind)


@pytest.mark.parametrize("kind", KINDS)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99))
def test_the_whole_picture_at_its_own_size_is_the_picture_bit_for_bit(
    kind: Interpolation, height: int, width: int, seed: int
):
    pixels = torch.rand(2, 4, height, width, generator=torch.Generator().manual_seed(seed))
    sampled, inside = sample(pixels, (height, width), kind)
    assert torch.equal(sampled, pixels)
    assert bool(inside.all())


@pytest.mark.parametrize("kind", KINDS)
def test_a_shift_by_whole_pixels_copies_them(kind: Interpolation):
    pixels = torch.rand(1, 4, 40, 50)
    sampled, _ = sample(pixels, (20, 20), kind, centre=(23, 18), zoom=1)
    assert torch.allclose(sampled, pixels[..., 8:28, 13:33], atol=2e-4)


def test_positive_degrees_turn_counter_clockwise():
    pixels = torch.zeros(1, 4, 101, 101)
    pixels[..., 48:53, 90:95] = 1  # to the right of the middle
    sampled, _ = sample(pixels, (101, 101), rotation=5.0)
    weight = sampled[0, 0].numpy() / sampled[0, 0].numpy().sum()
    y, x = (float((weight * grid).sum()) for grid in np.mgrid[:101, :101])
    assert y == pytest.approx(50 - 42 * np.sin(np.radians(5)), abs=0.2)  # up: y points down
    assert x == pytest.approx(50 + 42 * np.cos(np.radians(5)), abs=0.2)


@given(st.floats(-5, 5), st.floats(0.5, 1.0), st.integers(0, 99))
def test_it_is_torchs_sampler_at_the_same_places(rotation: float, zoom: float, seed: int):
    pixels = torch.rand(1, 4, 33, 29, generator=torch.Generator().manual_seed(seed))
    sampled, _ = sample(pixels, (20, 24), zoom=zoom, rotation=rotation)
    angle = np.radians(rotation)
    u, v = np.meshgrid((np.arange(24) + 0.5 - 12) * zoom, (np.arange(20) + 0.5 - 10) * zoom)
    x, y = 14.5 + np.cos(angle) * u - np.sin(angle) * v, 16.5 + np.sin(angle) * u + np.cos(angle) * v
    grid = torch.from_numpy(np.stack([2 * x / 29 - 1, 2 * y / 33 - 1], axis=-1))[None]
    expected = F.grid_sample(pixels.double(), grid, "bicubic", "border", align_corners=False).clamp(0, 1)
    assert torch.allclose(sampled.double(), expected, atol=1e-4)


def contrast_left(kind: Interpolation, zoom: float, frequency: float, out: int = 240) -> float:
    """Amplitude of a sine of the source after a warp, over half a pixel off the grid and a turn."""
    x = np.mgrid[:512, :512][1]
    wave = 0.5 + 0.25 * np.sin(2 * np.pi * frequency * (x + 0.31))
    pixels = torch.from_numpy(np.repeat(wave[None, None], 4, axis=1)).float()
    sampled, _ = sample(pixels, (out, out), kind, zoom=zoom, centre=(256.5, 255.7), rotation=3.0)
    return float(sampled[0, 0, 20:-20, 20:-20].std() / (0.25 / 2**0.5))


def test_one_bicubic_warp_keeps_the_contrast_that_bilinear_loses():
    assert contrast_left("bicubic", 0.8, 0.3) > 0.93
    assert contrast_left("bilinear", 0.8, 0.3) < 0.8


@pytest.mark.parametrize("zoom", [1.5, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_output_cannot_show_does_not_fold_into_it(kind: Interpolation, zoom: float):
    beyond = 0.75 / zoom  # above the output's limit of half a cycle per pixel
    assert contrast_left(kind, zoom, beyond, out=200) < 0.35
    assert contrast_left(kind, zoom, 0.1 / zoom, out=200) > 0.9


def test_a_larger_source_is_averaged_like_torchs_antialiased_resize():
    pixels = torch.rand(2, 4, 90, 60)
    sampled, _ = sample(pixels, (45, 30), "bicubic")
    expected = F.interpolate(pixels, (45, 30), mode="bicubic", antialias=True).clamp(0, 1)
    # torch's antialiased kernel has the slope -0.5, ours -0.75 with or without stretching.
    assert float((sampled - expected)[..., 4:-4, 4:-4].abs().max()) < 0.1
    flat, _ = sample(torch.full((1, 4, 90, 60), 0.37), (40, 30), "bicubic", zoom=2.0)
    assert torch.allclose(flat, torch.tensor(0.37), atol=1e-6)


@pytest.mark.parametrize("target", [(48, 40), (20, 16)])
@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_beside_a_picture_on_its_canvas_is_never_read(kind: Interpolation, target: tuple[int, int]):
    pixels = torch.rand(1, 4, 36, 30)
    canvas = torch.rand(1, 4, 50, 44)
    canvas[..., :36, :30] = pixels
    for rotation in (0.0, 4.0):
        tight, inside = sample(pixels, target, kind, centre=(15, 18), zoom=30 / target[1], rotation=rotation)
        padded, same = sample(
            canvas, target, kind,
            centre=(15, 18), zoom=30 / target[1], rotation=rotation, sizes=torch.tensor([[36, 30]]),
        )  # fmt: skip
        assert torch.allclose(tight, padded, atol=2e-4)
        assert torch.equal(inside, same)


def test_beyond_the_picture_its_border_continues_and_is_not_inside():
    pixels = torch.rand(1, 4, 40, 40)
    sampled, inside = sample(pixels, (40, 40), rotation=5.0)
    corners = ~inside[0, 0]
    assert 0.01 < float(corners.float().mean()) < 0.06
    assert corners[0, 0] or corners[0, -1]
    # The continued border is as bright as the border: nothing dark comes in.
    bright, _ = sample(torch.ones(1, 4, 40, 40), (40, 40), rotation=5.0)
    assert torch.allclose(bright, torch.ones(()), atol=1e-5)
    assert float(sampled.min()) >= 0


@given(st.floats(0, 1))
def test_the_kernels_weights_sum_to_one(offset: float):
    for kind in KINDS:
        taps = torch.tensor([offset + 1, offset, 1 - offset, 2 - offset], dtype=torch.float64)
        assert float(kernel(taps, kind).sum()) == pytest.approx(1, abs=1e-12)


def test_edges_carry_no_hidden_colour():
    picture = smooth(1, 40, 40)
    picture[:, 3] = 255
    picture[:, 3, :, 20:] = 0
    loud = picture.clone()
    loud[:, 0, :, 20:] = 255
    results = [sample(premultiply(p), (64, 64), zoom=0.6, centre=(20, 20), rotation=3.0)[0] for p in (picture, loud)]
    assert torch.equal(results[0], results[1])
