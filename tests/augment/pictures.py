"""Shared pictures and policies for the augmentation's tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from lora_data.augment import AugmentParams, Batch, CharacterAugment, Crop
from lora_data.config import Config, parse_config


def smooth(count: int, height: int, width: int, seed: int = 0, *, grain: int = 6) -> Tensor:
    """Smooth random colours under a smooth random matte, uint8 RGBA ``[B, 4, H, W]``, channels-last."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(count, 4, max(2, height // grain), max(2, width // grain), generator=generator)
    pixels = torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)
    pixels[:, 3] = ((pixels[:, 3] - 0.4) * 8).clamp(0, 1)
    return (pixels * 255).round().to(torch.uint8).contiguous(memory_format=torch.channels_last)


def blob(height: int, width: int, box: tuple[int, int, int, int], seed: int = 0) -> Tensor:
    """One opaque random ellipse in a box (x0, y0, x1, y1) on nothing, uint8 RGBA ``[1, 4, H, W]``."""
    x0, y0, x1, y1 = box
    y, x = np.mgrid[:height, :width] + 0.5
    inside = ((x - (x0 + x1) / 2) / ((x1 - x0) / 2)) ** 2 + ((y - (y0 + y1) / 2) / ((y1 - y0) / 2)) ** 2 <= 1
    picture = smooth(1, height, width, seed)
    picture[0, 3] = torch.from_numpy(inside.astype(np.uint8) * 255)
    return picture


def config(policy: dict[str, Any] | None = None, **data: Any) -> Config:
    """A configuration with one shared policy and no shards."""
    return parse_config({"data": {"shards": "nowhere", **data}, "augment": policy or {}})


def module(policy: dict[str, Any] | None = None, *, backend: Any = "eager", **data: Any) -> CharacterAugment:
    return CharacterAugment(config(policy, **data), counts={"a": 10, "b": 10}, backend=backend)


def batch_of(images: Tensor, **fields: Any) -> Batch:
    count = len(images)
    named: dict[str, Any] = {"sample_keys": keys(count), "characters": ["a"] * count, **fields}
    return Batch(images=images, **named)


def keys(count: int, start: int = 0) -> list[str]:
    return [f"sample_{i}" for i in range(start, start + count)]


def still(count: int, **changes: float) -> AugmentParams:
    """Parameters that draw nothing, with some values changed for every sample."""
    values = {"scale": 1.0, "position": 0.5, "rotation": 0.0, "brightness": 1.0, "contrast": 1.0}
    values |= {"noise_std": 0.0, "min_ratio": 0.0, **changes}
    tensors = {n: torch.full((count,), v, dtype=torch.float64) for n, v in values.items()}
    background = torch.tensor([[0.5] * 6 + [0.0, 0.0]], dtype=torch.float64).expand(count, 8).clone()
    return AugmentParams(
        **tensors,
        flip=torch.zeros(count, dtype=torch.bool),
        noise_everywhere=torch.zeros(count, dtype=torch.bool),
        noise_seed=torch.arange(count),
        by_matte=torch.zeros(count, dtype=torch.bool),
        background=background,
        crop=None,
    )


def with_crop(
    params: AugmentParams, centres: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]]
) -> AugmentParams:
    """Parameters with crops put by hand: (x, y) and (height, width)."""
    count = len(params)
    crop = Crop(
        centre=torch.tensor(centres, dtype=torch.float64),
        size=torch.tensor(sizes, dtype=torch.float64),
        ratio=torch.ones(count, dtype=torch.float64),
        outcome=torch.zeros(count, dtype=torch.int64),
    )
    return dataclasses.replace(params, crop=crop)


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    """Any policy that the configuration allows, without flips."""

    def span(low: float, high: float) -> list[float]:
        return sorted(draw(st.tuples(st.floats(low, high), st.floats(low, high))))

    return {
        "crop_scales": draw(st.lists(st.floats(0.8, 1.0), min_size=1, max_size=4)),
        "min_character_ratio": draw(st.floats(0, 1)),
        "ratio_of": draw(st.sampled_from(["box", "matte"])),
        "rotation": span(-5, 5),
        "brightness": span(0.9, 1.1),
        "contrast": span(0.95, 1.05),
        "noise_std": draw(st.floats(0, 0.01)),
        "noise_probability": draw(st.floats(0, 1)),
        "noise_area": draw(st.sampled_from(["matte", "everywhere"])),
    }
