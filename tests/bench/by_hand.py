"""What a person writes instead of the offline half: a loop over the files, one function a picture, PNG out.

The obvious equivalents of our steps, none of them aware of the matte except where a mean needs it: no colour is
continued under alpha, gray-world trusts any picture, CLAHE runs on 8-bit Lab (which moves hues), a damaged picture is
left out without a row that says so, and nothing is named, filtered, deduplicated, selected or kept for the next time.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import imagehash
import numpy as np
from PIL import Image

from lora_data.freed_memory import keep_freed_memory

THUMBNAIL = 192
SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
NO_PICTURE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises where a file is none."""


def improved(path: Path, out: Path) -> dict[str, float | str] | None:
    """Decode, smooth the matte, balance and equalise the light, measure, hash, write a PNG and a thumbnail.

    Returns:
        What was measured; None where the file is no picture.
    """
    try:
        pixels = np.asarray(Image.open(path).convert("RGBA"))
    except NO_PICTURE:
        return None
    rgb, alpha = np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3])
    alpha = np.asarray(cv2.bilateralFilter(alpha, 5, 50, 5))
    inside = alpha > 127
    if not inside.any():
        return None
    means = rgb[inside].mean(axis=0)
    rgb = np.clip(rgb * (means.mean() / np.maximum(means, 1)).astype(np.float32), 0, 255).astype(np.uint8)
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)
    lab[..., 0] = cv2.createCLAHE(2.0, (8, 8)).apply(lab[..., 0])
    rgb = np.asarray(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB))
    gray = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    low, high = np.percentile(gray[inside], (5, 95))
    made = Image.fromarray(np.dstack([rgb, alpha]))
    made.save(out / f"{path.stem}.png")
    small = made.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    small.save(out / f"{path.stem}_small.png")
    return {
        "brightness": float(gray[inside].mean()),
        "low": float(low),
        "high": float(high),
        "clipped": float((rgb[inside] > 250).any(axis=1).mean()),
        "saturation": float(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)[..., 1][inside].mean()),
        "sharpness": float(cv2.Laplacian(gray, cv2.CV_64F)[inside].var()),
        "hash": str(imagehash.phash(made.convert("RGB"))),
    }


def loop(folder: Path, out: Path, workers: int = 1) -> list[dict[str, float | str]]:
    """All pictures of a folder, in as many processes (each one thread, as ours)."""
    out.mkdir(parents=True)
    work = partial(improved, out=out)
    paths = sorted(
        p for p in folder.iterdir() if p.suffix.lower() in (".png", ".webp", ".jpg", ".jpeg", ".tif", ".bmp")
    )
    if workers == 1:
        cv2.setNumThreads(1)
        rows = [work(path) for path in paths]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin) as pool:
            rows = list(pool.map(work, paths))
    return [row for row in rows if row is not None]


def _begin() -> None:
    cv2.setNumThreads(1)
    keep_freed_memory()


def upscaled(folder: Path, out: Path, model: Path, threads: int) -> int:
    """Enlarge all pictures with a network: whole, one by one, averaged down to twice their size, PNG out.

    Returns:
        How many.
    """
    import torch
    from spandrel import ImageModelDescriptor, ModelLoader

    torch.set_num_threads(threads)
    out.mkdir(parents=True)
    network = ModelLoader().load_from_file(model)
    assert isinstance(network, ImageModelDescriptor)
    network.eval()
    paths = sorted(folder.glob("*.png"))
    for path in paths:
        image = Image.open(path).convert("RGBA")
        rgb: Any = np.asarray(image)[..., :3]
        with torch.inference_mode():
            made = network(torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None].float() / 255)
        levels = (made[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
        size = 2 * image.width, 2 * image.height
        large = Image.fromarray(levels).resize(size, Image.Resampling.BOX)
        large.putalpha(image.getchannel("A").resize(size, Image.Resampling.BICUBIC))
        large.save(out / path.name)
    return len(paths)
