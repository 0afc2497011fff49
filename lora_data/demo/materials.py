"""Materials and small builders that the body and the head share."""

from __future__ import annotations

import numpy as np

from lora_data.demo.cast import Design
from lora_data.demo.sdf import Decal, Material, Prim, Vec


def linear(code: str) -> Vec:
    """``#rrggbb`` in linear light (IEC 61966-2-1)."""
    x = np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    r, g, b = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).tolist()
    return (r, g, b)


def ball(at: Vec, size: Vec | float, material: Material, turn: Vec = (0, 0, 0), blend: float = 0) -> Prim:
    """An ellipsoid."""
    return Prim("ellipsoid", at, size if isinstance(size, tuple) else (size,) * 3, material, turn, blend)


def skin(d: Design) -> Material:
    """Fur, skin or painted shell."""
    if d.kind == "robot":
        return Material(linear(d.fur), rough=0.3, specular=0.06)
    if d.kind == "child":
        return Material(linear(d.fur), rough=0.55, skin=1.0, fuzz=0.15)
    return Material(linear(d.fur), rough=0.8, fuzz=0.5, skin=0.3, weave=0.15)


def cloth(code: str, decals: tuple[Decal, ...] = ()) -> Material:
    """Knitted or woven cloth."""
    return Material(linear(code), rough=0.85, fuzz=0.35, weave=1.0, decals=decals)
