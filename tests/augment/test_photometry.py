from __future__ import annotations

import colorsys
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lora_data.augment.photometry import NOISE_SIZE, TOE, light, noise, noise_table
from lora_data.augment.table import PIVOT
from tests.augment.pictures import batch_of, module, smooth, still

FACTORS = st.tuples(st.floats(0.9, 1.1), st.floats(0.95, 1.05))
COLOUR = st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))


def lit(colour: tuple[int, ...], factors: tuple[float, float], alpha: float = 1.0) -> np.ndarray:
    """One straight colour through `light`, as straight float64 in [0, 1]."""
    rgb = torch.tensor(colour, dtype=torch.float64).view(1, 3, 1, 1) / 255 * alpha
    opaque = torch.full((1, 1, 1, 1), alpha, dtype=torch.float64)
    gain, lift = (torch.tensor(v, dtype=torch.float64) for v in (factors[0] * factors[1], (1 - factors[1]) * PIVOT))
    return (light(rgb, opaque, gain, lift) / alpha).view(3).numpy()


@given(COLOUR, FACTORS, st.floats(0.05, 1))
def test_hue_and_saturation_stay_and_no_channel_clips(
    colour: tuple[int, ...], factors: tuple[float, float], alpha: float
):
    result = lit(colour, factors, alpha)
    assert result.min() >= 0
    assert result.max() <= 1 + 1e-9
    before, after = colorsys.rgb_to_hsv(*(c / 255 for c in colour)), colorsys.rgb_to_hsv(*result)
    if max(colour) - min(colour) > 8:
        assert abs((after[0] - before[0] + 0.5) % 1 - 0.5) * 360 <= 1e-4
    if max(colour) > 0:
        assert abs(after[1] - before[1]) <= 1e-6


@given(FACTORS, st.floats(16 / 255, 1))
def test_the_value_follows_brightness_then_contrast(factors: tuple[float, float], value: float):
    grey = torch.full((1, 3, 1, 1), value, dtype=torch.float64)
    gain, lift = torch.tensor(factors[0] * factors[1]), torch.tensor((1 - factors[1]) * PIVOT)
    result = float(light(grey, torch.ones(1, 1, 1, 1, dtype=torch.float64), gain, lift)[0, 0])
    brightness, contrast = factors
    assert result == pytest.approx(min(1.0, contrast * (brightness * value - PIVOT) + PIVOT), abs=1e-6)


@given(FACTORS)
def test_the_curve_rises_stays_bounded_and_leaves_black_black(factors: tuple[float, float]):
    values = [lit((v, v, v), factors)[0] for v in range(256)]
    assert values[0] == 0
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(values))
    scales = [v / (i / 255) for i, v in enumerate(values) if i]
    assert min(scales) > 0.54
    assert max(scales) < 1.45
    toe = [s for i, s in enumerate(scales, start=1) if i / 255 < TOE - 1e-9]
    assert max(toe) - min(toe) < 1e-9


def test_nothing_drawn_changes_nothing():
    rgb = torch.rand(1, 3, 8, 8)
    assert torch.allclose(light(rgb, torch.ones(1, 1, 8, 8), torch.tensor(1.0), torch.tensor(0.0)), rgb, atol=1e-7)


def test_noise_is_normal_white_and_decided_by_the_seed():
    seeds = torch.tensor([7, 65536 + 7, 2**32 - 1, 7])
    values = noise(noise_table(), seeds, 0, (300, 320))
    assert torch.equal(values[0], values[3])
    assert not torch.equal(values[0], values[1])
    for sample in values[:3]:
        assert abs(float(sample.mean())) < 0.02
        assert float(sample.std()) == pytest.approx(1, abs=0.02)
    flat = values[2].reshape(3, -1)
    assert float((torch.corrcoef(flat) - torch.eye(3)).abs().max()) < 0.02
    grid = values[2]
    for lag in (1, 2, 5):
        assert abs(float((grid[:, :-lag] * grid[:, lag:]).mean())) < 0.02
        assert abs(float((grid[:, :, :-lag] * grid[:, :, lag:]).mean())) < 0.02
    assert not torch.equal(noise(noise_table(), seeds, 3, (300, 320))[0], values[0])


def test_noise_reads_the_table_round_its_end():
    table = torch.arange(NOISE_SIZE, dtype=torch.float32)
    values = noise(table, torch.zeros(1, dtype=torch.int64), 0, (4000, 40))[0]
    steps = values[:, :, 1:] - values[:, :, :-1]
    assert set(steps.unique().tolist()) <= {1.0, 1.0 - NOISE_SIZE}
    assert (steps < 0).any()


@pytest.mark.parametrize("area", ["matte", "everywhere"])
def test_noise_has_its_deviation_where_it_should_be(area: str):
    picture = torch.full((1, 4, 200, 200), 128, dtype=torch.uint8)
    picture[:, 3] = 0
    picture[:, 3, :, :100] = 255
    params = still(1, noise_std=0.01)
    params.noise_everywhere[:] = area == "everywhere"
    made = module().apply(batch_of(picture), params).pixel_values / 2
    assert float(made[..., :90].std()) == pytest.approx(0.01, rel=0.05)
    assert abs(float(made[..., :90].mean()) * 2 - (128 / 127.5 - 1)) < 3e-4
    expected = 0.01 if area == "everywhere" else 0.0
    assert float(made[..., 110:].std()) == pytest.approx(expected, rel=0.05, abs=1e-7)


def test_backgrounds_are_what_was_drawn():
    picture = torch.zeros(3, 4, 60, 80, dtype=torch.uint8)
    params = still(3)
    background = torch.zeros(3, 8, dtype=torch.float64)
    background[0, :6] = torch.tensor([1.0, 0.5, 0.0] * 2)
    background[1, 3:6] = 1.0
    background[1, 6] = 90.0  # upwards: dark below, bright above
    background[2, :6], background[2, 7] = 0.5, 0.1
    params.background.set_(background)  # pyright: ignore[reportArgumentType]
    made = (module().apply(batch_of(picture), params).pixel_values + 1) / 2
    assert torch.allclose(made[0].mean(dim=(1, 2)), torch.tensor([1.0, 0.5, 0.0]), atol=1e-6)
    column = made[1, 0].mean(dim=1)
    assert float(column[0]) > 0.98
    assert float(column[-1]) < 0.02
    assert bool((column[:-1] >= column[1:]).all())
    assert float(made[2].std()) == pytest.approx(0.1, rel=0.05)
    assert float((made[2, 0] - made[2, 1]).std()) > 0.1


def test_the_background_never_takes_part_in_the_light():
    picture = smooth(1, 50, 50)
    picture[:, 3] = 0
    made = module().apply(batch_of(picture), still(1, brightness=1.1, contrast=0.95)).pixel_values
    assert torch.allclose(made, torch.zeros(()), atol=1e-6)
