"""Shared pictures: small procedural cut-outs, and the renders beside the repository where they are there."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

settings.register_profile("here", deadline=None)  # a test asserts no time
settings.load_profile("here")
ROOT = Path(__file__).parents[1]
DEV = ROOT.parent / "shared" / "data" / "dev"


def cutout(
    size: int = 96, *, seed: int = 0, colour: tuple[int, int, int] = (200, 120, 60)
) -> tuple[np.ndarray, np.ndarray]:
    """A shaded, textured ball with an antialiased straight matte on hidden black: rgb and alpha."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    middle = (size - 1) / 2
    distance = np.hypot(x - middle, y - middle)
    alpha = np.clip(size * 0.4 - distance + 0.5, 0, 1)
    noise = np.random.default_rng(seed).normal(0, 12, (size, size, 1))
    shade = np.clip(1.1 - distance / size - (x - y) / (4 * size), 0.2, 1.2)[..., None]
    rgb = np.clip(np.asarray(colour) * shade + noise, 0, 255) * (alpha > 0)[..., None]
    return rgb.astype(np.uint8), np.rint(alpha * 255).astype(np.uint8)


def png(pixels: np.ndarray, mode: str | None = None) -> bytes:
    """PNG bytes of an array (in another Pillow mode, where one is named)."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def dev() -> Path:
    """The renders of third-party characters; the test is skipped where they are not beside the repository."""
    if not DEV.is_dir():
        pytest.skip("the renders in ../shared/data/dev are not here")
    return DEV
