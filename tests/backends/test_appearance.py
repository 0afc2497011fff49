from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.backends.appearance import DIMENSIONS, embed_appearance
from lora_data.colour import to_linear, to_srgb

DEV = Path(__file__).parents[3] / "shared" / "data" / "dev"


def figure(palette: list[tuple[int, int, int]], seed: int, size: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """A cut-out made of patches of the given colours, with shading; where they lie depends on the seed."""
    rng = np.random.default_rng(seed)
    order = rng.integers(0, len(palette), (8, 6))
    order.flat[: len(palette)] = np.arange(len(palette))
    small = np.array(palette, np.uint8)[order]
    rgb = cv2.resize(small, (size * 3 // 4, size), interpolation=cv2.INTER_NEAREST)
    shade = np.linspace(0.5, 1, size)[:, None, None]
    rgb = to_srgb(to_linear(rgb) * shade)
    alpha = np.zeros(rgb.shape[:2], np.uint8)
    cv2.ellipse(alpha, (size * 3 // 8, size // 2), (size * 3 // 8 - 4, size // 2 - 4), 0, 0, 360, 255, -1)
    return rgb, alpha


REDS = [(200, 60, 40), (240, 200, 170), (90, 50, 30), (230, 230, 225)]
BLUES = [(40, 90, 200), (240, 200, 60), (30, 40, 60), (120, 200, 230)]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 90), st.integers(3, 90))
def test_is_a_unit_vector_and_deterministic(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
    alpha = rng.integers(0, 256, (height, width), np.uint8)
    vector = embed_appearance(rgb, alpha)
    assert vector.shape == (DIMENSIONS,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(vector, embed_appearance(rgb.copy(), alpha.copy()))


@pytest.mark.parametrize("seed", range(4))
def test_hidden_colour_and_canvas_leave_no_trace(seed: int) -> None:
    rgb, alpha = figure(REDS, seed, size=400)
    other = np.where(alpha[..., None] > 0, rgb, np.random.default_rng(seed).integers(0, 256, rgb.shape, np.uint8))
    moved = np.pad(other, ((7, 30), (50, 1), (0, 0))), np.pad(alpha, ((7, 30), (50, 1)))
    assert np.array_equal(embed_appearance(rgb, alpha), embed_appearance(*moved))


@pytest.mark.parametrize("gains", [(1.0, 0.7, 0.5), (0.5, 0.7, 1.0), (0.6, 0.6, 0.6)])
def test_another_light_changes_less_than_another_character(gains: tuple[float, float, float]) -> None:
    rgb, alpha = figure(REDS, 0)
    lit = to_srgb(to_linear(rgb) * np.array(gains))
    same = embed_appearance(rgb, alpha) @ embed_appearance(lit, alpha)
    other = embed_appearance(rgb, alpha) @ embed_appearance(*figure(BLUES, 0))
    assert same > 0.93
    assert same > other + 0.1


def test_size_matters_little() -> None:
    rgb, alpha = figure(REDS, 1, size=768)
    small = cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(alpha, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    assert embed_appearance(rgb, alpha) @ embed_appearance(small, mask) > 0.97


@pytest.mark.parametrize("value", [0, 1, 255])
def test_one_colour_and_faint_mattes_have_an_embedding(value: int) -> None:
    rgb = np.full((20, 10, 3), value, np.uint8)
    for alpha in (255, 150, 1, 0):
        assert np.isfinite(embed_appearance(rgb, np.full((20, 10), alpha, np.uint8))).all()


@pytest.mark.skipif(not DEV.is_dir(), reason="no ../shared/data/dev beside the repository")
def test_finds_the_same_character_in_other_shots() -> None:
    truth = [json.loads(line) for line in (DEV / "truth.jsonl").read_text().splitlines()]
    shots: dict[str, tuple[str, Path]] = {}
    for t in truth:
        if t["kind"] == "instance" and t["clean"]:
            shots.setdefault(t["shot_id"], (t["identity"], DEV / t["file"]))
    names = [name for name, _ in shots.values()]
    images = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for _, path in shots.values()]
    assert all(image is not None for image in images)
    vectors = np.stack(
        [embed_appearance(np.ascontiguousarray(i[..., 2::-1]), i[..., 3].copy()) for i in images if i is not None]
    )
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1)
    right = [names[i] == names[int(similarity[i].argmax())] for i in range(len(names))]
    assert len(names) > 50
    assert np.mean(right) > 0.85  # .97 over all frames; a CIELAB histogram: .74
