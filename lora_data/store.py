"""Where pixels wait between passes: ``OUT/cache``, one lossless WebP a picture.

Lossless WebP at effort 0 was measured smaller and faster than PNG at level 1 on renders (11 against 16 ms, 161 against
239 kB at about 0.35 Mpx), so the same bytes that wait here go into the shards.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

THUMBNAIL = 192
"""Longest side of a thumbnail, px."""


def encode_webp(rgb: np.ndarray, alpha: np.ndarray) -> bytes:
    """Lossless WebP of a straight-alpha picture; the colour under alpha 0 is kept as it is."""
    buffer = io.BytesIO()
    Image.fromarray(_rgba(rgb, alpha)).save(buffer, "WEBP", lossless=True, quality=0, method=0, exact=True)
    return buffer.getvalue()


def decode_webp(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The rgb and alpha of `encode_webp`'s bytes."""
    pixels = np.asarray(Image.open(io.BytesIO(data), formats=("WEBP",)).convert("RGBA"))
    return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3])


def write_atomic(path: Path, data: bytes) -> None:
    """Write to a temporary name beside and rename: a reader sees the old file or the whole new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


@dataclass(frozen=True, slots=True)
class PixelStore:
    """Pictures by kind and key below one folder.

    Args:
        folder: ``OUT/cache``.
    """

    folder: Path

    def path(self, kind: str, key: str) -> Path:
        """Where the picture of a key lies."""
        return self.folder / kind / f"{key}.webp"

    def prepare(self, kind: str) -> None:
        """Make the folder of a kind."""
        (self.folder / kind).mkdir(parents=True, exist_ok=True)

    def save(self, kind: str, key: str, rgb: np.ndarray, alpha: np.ndarray) -> None:
        """Store a picture losslessly."""
        write_atomic(self.path(kind, key), encode_webp(rgb, alpha))

    def load(self, kind: str, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Read a picture back: rgb and alpha."""
        return decode_webp(self.path(kind, key).read_bytes())

    def move(self, kind: str, other: str, key: str) -> None:
        """Let a picture be of another kind."""
        os.replace(self.path(kind, key), self.path(other, key))

    def save_thumbnail(self, kind: str, key: str, rgb: np.ndarray, alpha: np.ndarray) -> None:
        """Store a small copy (longest side 192 px, never enlarged), resized premultiplied."""
        image = Image.fromarray(_rgba(rgb, alpha))
        # Pillow resizes RGBA premultiplied; reduce() first keeps a large picture cheap.
        image = image.resize(_fit(image.size), Image.Resampling.BILINEAR, reducing_gap=2.0)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=80, method=0)
        write_atomic(self.path(kind, key), buffer.getvalue())

    def clear(self, kind: str) -> None:
        """Delete the pictures of a kind."""
        folder = self.folder / kind
        if folder.is_dir():
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()


def _rgba(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return cv2.merge([rgb, alpha])  # five times as fast as stacking with NumPy


def _fit(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, THUMBNAIL / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
