from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data import colour as c
from lora_data.manifest import Record
from lora_data.matte import interior
from lora_data.sample import Instance
from lora_data.stages.colour import Colour


def figure(seed: int = 0, size: int = 160, light: float = 1.0, noise: float = 2.0) -> Instance:
    """A shaded ball of four colours on black, softly cut out."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    distance = np.hypot(x, y)
    paint = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.6, 0.5, 0.3], [0.2, 0.5, 0.2]])[(x > 0) + 2 * (y > 0)]
    shade = 0.15 + 0.85 * np.clip(0.5 - x - y, 0, 1)
    rgb = c.to_srgb(paint * shade[..., None] * light).astype(np.float64) + rng.normal(0, noise, (size, size, 1))
    alpha = np.rint(np.clip((0.45 - distance) * size / 2, 0, 1) * 255).astype(np.uint8)
    return Instance(Record(source="a.png", key="a"), np.clip(np.rint(rgb), 0, 255).astype(np.uint8), alpha)


def mean_lightness(instance: Instance) -> float:
    level = c.lightness(c.luminance(c.to_linear(instance.rgb)))
    return float(level[interior(instance.alpha, erode=2)].mean())


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 99),
    st.floats(0.05, 1.4),
    st.sampled_from(["clahe", "equalise"]),
    st.sampled_from(["opencv", "skimage"]),
)
def test_hue_and_structure_stay(seed: int, light: float, method: Any, engine: Any) -> None:
    before = figure(seed, light=light)
    stage = Colour(method=method, engine=engine)
    after = stage.apply(before)
    inside = interior(before.alpha, erode=1)
    shift = c.hue_shift(before.rgb, after.rgb, inside)
    likeness = c.structure(before.rgb, after.rgb, inside)
    assert shift is None or shift <= 1.5
    assert likeness is not None
    assert likeness >= 0.98
    assert abs(mean_lightness(after) - mean_lightness(before)) < stage.max_lightness_shift + 1
    assert after.record.colour in ("applied", "taken_back")
    assert np.array_equal(after.alpha, before.alpha)
    if after.record.colour == "taken_back":
        assert np.array_equal(after.rgb, before.rgb)
        assert after.record.colour_reason in ("hue", "structure")


def test_it_does_something_and_always_the_same() -> None:
    before = figure()
    after = Colour().apply(before)
    assert after.record.colour == "applied"
    assert after.record.colour_hue_shift is not None
    assert np.abs(after.rgb.astype(int) - before.rgb).max() > 3
    assert np.array_equal(Colour().apply(before).rgb, after.rgb)


@pytest.mark.parametrize("preserve_hue", [True, False])
def test_hidden_colour_has_no_say(preserve_hue: bool) -> None:
    before = figure()
    other = before.replace(rgb=np.where((before.alpha > 0)[..., None], before.rgb, 255).astype(np.uint8))
    stage = Colour(preserve_hue=preserve_hue)
    seen = before.alpha > 250
    assert np.array_equal(stage.apply(before).rgb[seen], stage.apply(other).rgb[seen])


def test_night_stays_night() -> None:
    night = figure(light=0.06)
    before, after = mean_lightness(night), mean_lightness(Colour(strength=1).apply(night))
    assert before < 20
    assert after < before + 4


def test_no_pixel_is_scaled_beyond_the_largest_gain() -> None:
    before = figure(light=0.3)
    after = Colour(strength=1, max_lightness_shift=100, max_gain=1.2, max_hue_shift=180, min_structure=0).apply(before)
    y = [c.luminance(c.to_linear(x.rgb)) for x in (before, after)]
    bright = y[0] > 0.05  # where rounding is small against the gain
    ratio = (y[1] / np.maximum(y[0], 1e-6))[bright]
    assert 1.1 < ratio.max() < 1.25
    assert ratio.min() > 1 / 1.25


def test_a_pixel_with_a_full_channel_gets_no_brighter() -> None:
    before = figure()
    paint = before.rgb.copy()
    paint[40:120, 40:120] = (255, 120, 40)  # a flat bright patch among darker ones
    before = before.replace(rgb=paint)
    after = Colour(strength=1, max_lightness_shift=100, max_hue_shift=180, min_structure=0).apply(before)
    assert (after.rgb[40:120, 40:120] <= paint[40:120, 40:120]).all()
    assert (after.rgb.astype(int) - paint).max() > 5


def test_a_step_that_moves_hue_is_taken_back() -> None:
    before = figure()
    after = Colour(max_hue_shift=0.0).apply(before)
    assert (after.record.colour, after.record.colour_reason) == ("taken_back", "hue")
    assert after.record.colour_hue_shift is not None
    assert after.record.colour_hue_shift > 0
    assert after.rgb is before.rgb


def test_a_step_that_changes_structure_is_taken_back() -> None:
    after = Colour(min_structure=1.0).apply(figure())
    assert (after.record.colour, after.record.colour_reason) == ("taken_back", "structure")


def test_without_hue_preservation_hue_moves_further() -> None:
    before = figure(light=0.4, noise=0)
    shifts = [
        Colour(preserve_hue=keep, strength=1, max_hue_shift=180).apply(before).record.colour_hue_shift
        for keep in (True, False)
    ]
    assert shifts[0] is not None
    assert shifts[1] is not None
    assert shifts[0] < shifts[1]


def test_per_channel_equalisation_is_there_without_hue_preservation() -> None:
    before = figure()
    after = Colour(method="equalise", preserve_hue=False, min_structure=0).apply(before)
    assert after.record.colour == "applied"
    assert np.array_equal(after.rgb[before.alpha == 0], before.rgb[before.alpha == 0])


def test_none_changes_nothing() -> None:
    before = figure()
    after = Colour(method="none").apply(before)
    assert after.rgb is before.rgb
    assert (after.record.colour, after.record.colour_reason) == ("no", "off")


@pytest.mark.parametrize("alpha", [0, 60])
def test_nothing_opaque_is_nothing_to_equalise(alpha: int) -> None:
    before = figure()
    before = before.replace(alpha=np.full_like(before.alpha, alpha))
    after = Colour().apply(before)
    assert (after.record.colour, after.record.colour_reason) == ("no", "small")
    assert after.rgb is before.rgb


def test_white_balance_is_a_gain_in_linear_light() -> None:
    before = figure().replace(wb_red=1.2, wb_green=1.0, wb_blue=0.5)
    after = Colour(method="none").apply(before)
    expected = c.to_srgb(c.to_linear(before.rgb) * np.array([1.2, 1, 0.5], np.float32))
    assert np.array_equal(after.rgb, expected)
    assert after.record.colour == "applied"
    assert str(after.record.colour_reason).startswith("white balance")
    assert Colour(method="none", white_balance=False).apply(before).rgb is before.rgb


def test_the_measured_shift_is_the_equalisations_alone() -> None:
    after = Colour().apply(figure().replace(wb_red=1.2, wb_green=1.0, wb_blue=0.5))
    assert after.record.colour == "applied"
    assert after.record.colour_reason == "white balance"
    assert after.record.colour_hue_shift is not None
    assert after.record.colour_hue_shift <= 1.5


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"method": "gamma"}, "method"),
        ({"engine": "numpy"}, "engine"),
        ({"clip_limit": 0.5}, "clip_limit"),
        ({"tiles": 0}, "tiles"),
        ({"strength": 1.5}, "strength"),
        ({"max_gain": 0.9}, "max_gain"),
        ({"max_hue_shift": -1}, "max_hue_shift"),
        ({"min_structure": 2}, "min_structure"),
    ],
)
def test_impossible_values_are_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named} must be"):
        Colour(**fields)


def test_a_person_s_no_leaves_the_picture_as_it_is() -> None:
    given = figure().replace(wb_red=1.4, wb_green=0.9, wb_blue=0.8)
    assert Colour().apply(given).record.colour == "applied"
    made = Colour().apply(given.replace(colour_review="refuse"))
    assert (made.record.colour, made.record.colour_reason) == ("taken_back", "person")
    assert made.record.colour_hue_shift is None
    assert made.rgb is given.rgb
