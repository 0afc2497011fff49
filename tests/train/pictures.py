"""Small shards for the training half's tests."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from lora_data.shards import ShardSample, write_shards
from tests.augment.pictures import smooth


def write_small(
    folder: Path,
    counts: dict[str, int],
    *,
    caption: str | None = None,
    faces: dict[str, tuple[float, float, float, float]] | None = None,
) -> dict[str, np.ndarray]:
    """Shards of small random cut-outs of different sizes; their pixels by key."""
    samples: list[ShardSample] = []
    pixels: dict[str, np.ndarray] = {}
    for character, count in sorted(counts.items()):
        for i in range(count):
            height, width = 40 + 7 * (i % 5), 30 + 9 * (i % 4)
            picture = np.ascontiguousarray(smooth(1, height, width, i)[0].permute(1, 2, 0).numpy())
            data = io.BytesIO()
            Image.fromarray(picture).save(data, "WEBP", lossless=True, exact=True, quality=0, method=0)
            key = f"{character}_{i:03d}"
            files = {"webp": data.getvalue(), "json": b"{}"}
            if caption is not None:
                files["txt"] = caption.encode()
            samples.append(ShardSample(key, character, width, height, files, (faces or {}).get(key)))
            pixels[key] = picture
    write_shards(folder, samples, max_bytes=60_000)
    return pixels
