from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lora_data.augment import measure_mattes
from lora_data.augment.crop import CELL, MATTE_MARGIN, POSITIONS, VISIBLE, resolve_crop
from lora_data.augment.params import EMPTY, FACE, HOLDS, RATIO, AugmentParams, Crop
from tests.augment.pictures import batch_of, blob, keys, module, smooth, still


def turned(points: np.ndarray, degrees: float, size: tuple[int, int]) -> np.ndarray:
    """Points (x, y) of the picture in the frame of the picture turned counter-clockwise about its middle."""
    angle = math.radians(degrees)
    x, y = points[:, 0] - size[1] / 2, points[:, 1] - size[0] / 2
    return np.stack([math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x], axis=1)


def window(crop: Crop, sample: int, degrees: float, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    middle = turned(crop.centre[sample : sample + 1].numpy(), degrees, size)[0]
    half = crop.size[sample].numpy()[::-1] / 2
    return middle - half, middle + half


def box_ratio(alpha: np.ndarray, crop: Crop, sample: int, degrees: float) -> float:
    """The ratio from every visible pixel's four corners, one by one."""
    rows, columns = np.nonzero(alpha >= VISIBLE)
    corners = [np.stack([columns + dx, rows + dy], axis=1) for dx in (0, 1) for dy in (0, 1)]
    points = turned(np.concatenate(corners).astype(float), degrees, alpha.shape)
    low, high = window(crop, sample, degrees, alpha.shape)
    inner = np.minimum(points.max(axis=0), high) - np.maximum(points.min(axis=0), low)
    return float(np.clip(inner, 0, None).prod() / (high - low).prod())


def resolve(params: AugmentParams, images: torch.Tensor, target: tuple[int, int] = (64, 64), **more: Any) -> Crop:
    sizes = torch.tensor([list(images.shape[2:])] * len(images))
    return resolve_crop(params, measure_mattes(images[:, 3], coverage=True), sizes, target, **more)


@given(
    st.integers(30, 120), st.integers(30, 120), st.floats(-5, 5), st.sampled_from([0.8, 0.9, 1.0]), st.integers(0, 999)
)
def test_the_box_ratio_is_exact_at_any_angle(height: int, width: int, degrees: float, scale: float, seed: int):
    picture = smooth(1, height, width, seed)
    assume(bool((picture[:, 3] >= VISIBLE).any()))
    crop = resolve(still(1, rotation=degrees, scale=scale, position=(seed % 97 + 0.5) / 97), picture, (48, 40))
    assert float(crop.ratio[0]) == pytest.approx(box_ratio(picture[0, 3].numpy(), crop, 0, degrees), abs=1e-9)


@settings(max_examples=60)
@given(
    st.integers(40, 160), st.integers(40, 160), st.integers(24, 80), st.integers(24, 80),
    st.floats(0, 1), st.floats(-5, 5), st.sampled_from([0.8, 0.9, 1.0]), st.booleans(), st.integers(0, 999),
)  # fmt: skip
def test_what_holds_really_holds_and_what_does_not_is_the_best(
    height: int, width: int, out_h: int, out_w: int,
    needed: float, degrees: float, scale: float, by_matte: bool, seed: int,
):  # fmt: skip
    picture = smooth(1, height, width, seed, grain=16)
    assume(bool((picture[:, 3] >= VISIBLE).any()))
    params = still(1, rotation=degrees, scale=scale, min_ratio=needed, position=(seed + 0.5) / 1000)
    params = dataclasses.replace(params, by_matte=torch.tensor([by_matte]))
    crop = resolve(params, picture, (out_h, out_w))
    low, high = crop.centre[0] - crop.size[0].flip(0) / 2, crop.centre[0] + crop.size[0].flip(0) / 2
    assert (low >= -1e-9).all()
    assert (high <= torch.tensor([width, height], dtype=torch.float64) + 1e-9).all()
    assert float(crop.size[0, 0] * out_w) == pytest.approx(float(crop.size[0, 1] * out_h), rel=1e-12)
    assert float(crop.size.prod()) == pytest.approx(
        scale**2 * min(width, height * out_w / out_h) ** 2 * out_h / out_w, rel=1e-9
    )
    ratio, outcome = float(crop.ratio[0]), int(crop.outcome[0])
    if not by_matte:
        assert ratio == pytest.approx(box_ratio(picture[0, 3].numpy(), crop, 0, degrees), abs=1e-9)
    if outcome == HOLDS:
        assert ratio >= needed
    else:
        assert outcome == RATIO
        free = dataclasses.replace(params, min_ratio=torch.zeros(1, dtype=torch.float64))
        for place in torch.linspace(0.001, 0.999, 40, dtype=torch.float64):
            other = resolve(dataclasses.replace(free, position=place[None]), picture, (out_h, out_w))
            assert ratio >= float(other.ratio[0]) - 1e-4
        assert ratio < needed + MATTE_MARGIN


@pytest.mark.parametrize("degrees", [0.0, 2.5, -5.0])
@pytest.mark.parametrize("seed", range(6))
def test_the_area_ratio_is_that_of_the_output_within_its_margin(degrees: float, seed: int):
    picture = smooth(1, 512, 448, seed, grain=40)
    params = still(1, rotation=degrees, scale=0.8, position=(seed + 0.5) / 6)
    params = dataclasses.replace(params, by_matte=torch.ones(1, dtype=torch.bool))
    augment = module({"ratio_of": "matte"})
    made = augment.apply(batch_of(picture, target=(320, 280)), params)
    assert made.params.crop is not None
    # Cells beyond the picture count as empty, the continued border does in the mask.
    assert float(made.mask.mean()) == pytest.approx(float(made.params.crop.ratio[0]), abs=MATTE_MARGIN)


def test_positions_that_hold_are_drawn_uniformly():
    picture = blob(200, 200, (60, 40, 180, 190))
    augment = module({"crop_scales": [0.8], "rotation": [0, 0], "min_character_ratio": 0.6})
    count = 4000
    shape = measure_mattes(picture[:, 3], coverage=False)
    shape = type(shape)(rows=shape.rows.expand(count, -1, -1))
    params = augment.draw(keys(count), 0)
    crop = resolve_crop(params, shape, torch.tensor([[200, 200]]).expand(count, 2), (64, 64))
    assert (crop.outcome == HOLDS).all()
    places = {tuple(p) for p in crop.centre.tolist()}
    steps = np.linspace(80, 120, POSITIONS)
    valid = {
        (x, y)
        for x in steps
        for y in steps
        if max(0, min(180, x + 80) - max(60, x - 80)) * max(0, min(190, y + 80) - max(40, y - 80)) >= 0.6 * 160**2
    }
    close = {(round(x, 6), round(y, 6)) for x, y in places}
    assert close <= {(round(x, 6), round(y, 6)) for x, y in valid}
    assert 0 < len(valid) < POSITIONS**2
    order = sorted(valid, key=lambda p: (round(p[1], 6), round(p[0], 6)))
    index = {(round(x, 6), round(y, 6)): i for i, (x, y) in enumerate(order)}
    ranks = torch.tensor([index[(round(x, 6), round(y, 6))] for x, y in crop.centre.tolist()], dtype=torch.float64)
    counts = torch.histc(ranks, bins=20, min=0, max=len(valid))
    expected = count / 20
    assert float(((counts - expected) ** 2 / expected).sum()) < 43.8 + 5  # the last bin may be a place short


@given(st.floats(-5, 5), st.floats(0.001, 0.999), st.integers(15, 105), st.integers(15, 115))
def test_a_known_face_is_never_cut(degrees: float, position: float, x: int, y: int):
    face = torch.tensor([[x, y, x + 40.0, y + 50.0]])
    params = still(1, rotation=degrees, scale=0.8, position=position)
    crop = resolve(params, blob(180, 160, (5, 5, 155, 175)), (180, 160), faces=face)
    assert int(crop.outcome[0]) == HOLDS
    low, high = window(crop, 0, degrees, (180, 160))
    clipped = np.clip([[x, y], [x + 40, y], [x, y + 50], [x + 40, y + 50]], 0, [160, 180])
    points = turned(clipped.astype(float), degrees, (180, 160))
    assert (points >= low - 1e-6).all()
    assert (points <= high + 1e-6).all()


def test_a_face_larger_than_the_crop_is_reported_and_kept_as_far_as_it_goes():
    face = torch.tensor([[0.0, 0.0, 100.0, 95.0], [float("nan")] * 4])
    pictures = blob(100, 100, (0, 0, 100, 100)).expand(2, -1, -1, -1)
    crop = resolve(still(2, scale=0.8), pictures, (64, 64), faces=face)
    assert crop.outcome.tolist() == [FACE, HOLDS]
    assert float(crop.centre[0, 1]) < 60


def test_an_empty_matte_gives_the_middle():
    crop = resolve(still(1, scale=0.8, position=0.01, min_ratio=0.6), torch.zeros(1, 4, 90, 70, dtype=torch.uint8))
    assert crop.outcome.tolist() == [EMPTY]
    assert crop.centre.tolist() == [[35.0, 45.0]]
    assert crop.ratio.tolist() == [0.0]


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 999))
def test_mattes_are_measured_pixel_by_pixel(height: int, width: int, seed: int):
    alpha = np.random.default_rng(seed).integers(0, 140, (2, height, width), dtype=np.uint8)
    shape = measure_mattes(torch.from_numpy(alpha), coverage=True)
    for picture, rows in zip(alpha, shape.rows.tolist(), strict=True):
        for line, (first, end) in zip(picture, rows, strict=True):
            seen = np.nonzero(line >= VISIBLE)[0]
            assert (first, end) == ((seen[0], seen[-1] + 1) if len(seen) else (0, 0))
    assert shape.coverage is not None
    assert float(shape.coverage.sum() * CELL * CELL) == pytest.approx(alpha.sum() / 255, rel=1e-5)


def test_the_strategys_ratio_is_feasible_for_a_full_body_by_box_and_not_by_matte():
    body = smooth(1, 400, 200)
    body[0, 3] = 0  # arms out: the box is full, the area is not
    body[0, 3, 10:390, 85:115] = 255
    body[0, 3, 90:120, 20:180] = 255
    for ratio_of, outcome in (("box", HOLDS), ("matte", RATIO)):
        augment = module({"ratio_of": ratio_of, "crop_scales": [1.0], "rotation": [0, 0], "min_character_ratio": 0.6})
        made = augment(batch_of(body, target=(200, 100)))
        assert made.params.crop is not None
        assert made.params.crop.outcome.tolist() == [outcome]
