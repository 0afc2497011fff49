"""What the offline benchmarks run on: the demo's film, its pictures at other sizes, the renders beside the repository.

And which networks: the small real ones beside the repository, or a random one of the same kind.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from lora_data.demo import make_film
from tests.conftest import DEV
from tests.models import networks
from tests.models.stand_ins import ARCFACE, COMPACT, SCRFD, YUNET

NO_RENDERS = "Left out: the renders in ../shared/data/dev are not here."
SIZE = 384
"""Longest side of the demo film's masters, px."""


def film(root: Path, instances: int) -> Path:
    """A film of the demo's: ``instances/`` with damaged, odd and broken files, ``masters/``, ``truth.jsonl``."""
    make_film(root / "film", instances=instances, size=SIZE, workers=2)
    return root / "film"


def resized(film: Path, folder: Path, count: int, side: int) -> Path:
    """Write ``count`` cut-outs with a longest side of ``side`` px.

    Rendering at 1024 px takes seconds a picture, so they are the film's masters, resized (bicubic), each under a light
    of its own that falls off across the picture, with a little noise: no two hash alike, and PNG and WebP have
    something to do. Detail finer than the masters' they have not.
    """
    folder.mkdir(parents=True)
    masters = sorted((film / "masters").glob("*.webp"))
    for i in range(count):
        image = Image.open(masters[i % len(masters)]).convert("RGBA")
        size = (round(image.width * side / max(image.size)), round(image.height * side / max(image.size)))
        pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC)).astype(np.float32)
        draw = np.random.default_rng(i)
        across, down = (np.linspace(-1, 1, n, dtype=np.float32) for n in size)
        slope, bend = draw.uniform(-0.15, 0.15, 2), draw.uniform(0, 2 * np.pi, 2)
        light = 1 + slope[0] * np.sin(2 * across + bend[0]) + slope[1] * np.sin(2 * down + bend[1])[:, None]
        noise = draw.integers(-3, 4, (*pixels.shape[:2], 1))
        rgb = np.clip(pixels[..., :3] * light[..., None] + noise, 0, 255) * (pixels[..., 3:] > 0)
        Image.fromarray(np.dstack([rgb, pixels[..., 3]]).astype(np.uint8)).save(
            folder / f"film_{10 * i:06d}_i0.png", compress_level=1
        )
    return folder


def some_of(folder: Path, target: Path, count: int, only: Callable[[Path], bool] = lambda path: True) -> Path:
    """A folder with ``count`` pictures of another, evenly spread, and all that lies beside them under their names."""
    target.mkdir(parents=True)
    pictures = sorted(p for p in folder.iterdir() if p.suffix in (".png", ".webp") and only(p))
    for place in np.linspace(0, len(pictures) - 1, min(count, len(pictures))).astype(int):
        for path in folder.glob(f"{pictures[place].stem}.*"):
            shutil.copy(path, target)
    return target


def renders() -> Path | None:
    """The renders' cut-outs, where they are here."""
    return DEV / "instances" if DEV.is_dir() else None


def with_networks(root: Path) -> tuple[str, tuple[str, ...]]:
    """What runs, in words, and the settings: the small real networks where they are here, else a random upscaler."""
    off = {"face_restore.enabled": "false", "deblur.enabled": "false", "upscale.enabled": "true"}
    if ARCFACE.is_file():
        words = "SCRFD 2.5G, YuNet, a small ArcFace, Real-ESRGAN animevideov3"
        own = {
            "faces.enabled": "true",
            "faces.detectors": json.dumps([str(SCRFD), str(YUNET)]),
            "faces.embedder": str(ARCFACE),
            "upscale.model": str(COMPACT),
        }
    else:
        words = "an upscaler of animevideov3's kind and size with random weights (../shared/models is not here)"
        own = {"upscale.model": str(upscaler(root))}
    return words, tuple(f"precompute.{key}={value}" for key, value in {**off, **own}.items())


def upscaler(root: Path) -> Path:
    """Real-ESRGAN's animevideov3 where it is here, else random weights of the same kind and size."""
    if COMPACT.is_file():
        return COMPACT
    return networks.save(networks.compact(features=64, convolutions=16), root / "random.pth", key="params")
