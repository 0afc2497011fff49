"""Offline throughput without networks: instances per second at 1024 px, whole and per stage, and memory.

    python -m tests.bench.precompute [--instances 60] [--rounds 3] [--json FILE]
    python -m tests.bench.precompute --memory 200 2000

Medians and the spread over rounds; the ratio is to what a person would write instead: per image, decode with Pillow,
CLAHE on 8-bit Lab with OpenCV, save as PNG, one process. The film is the demo's, enlarged to 1024 px.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lora_data import load_config
from lora_data.demo import make_film
from lora_data.pipeline import precompute, recipe
from lora_data.sample import Instance
from lora_data.sources import discover
from lora_data.stage import MapStage
from lora_data.store import encode_webp

SIDE = 1024
MEMORY_CODE = """
import pathlib, resource, sys
import cv2, imagehash, pymatting, skimage.feature, sklearn.cluster
from lora_data import load_config
from lora_data.engines.process import keep_freed_memory
from lora_data.pipeline import precompute
keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
precompute(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), load_config(), workers=1)
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def enlarge(film: Path, folder: Path, count: int) -> None:
    """Write ``count`` cut-outs of 1024 px made from a film's masters, each with a little noise of its own."""
    folder.mkdir(parents=True)
    masters = sorted((film / "masters").glob("*.webp"))
    for i in range(count):
        image = Image.open(masters[i % len(masters)]).convert("RGBA")
        scale = SIDE / max(image.size)
        pixels = np.asarray(
            image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        )
        noise = np.random.default_rng(i).integers(-3, 4, (*pixels.shape[:2], 1))
        rgb = np.clip(pixels[..., :3].astype(int) + noise, 0, 255) * (pixels[..., 3:] > 0)
        Image.fromarray(np.dstack([rgb.astype(np.uint8), pixels[..., 3]])).save(
            folder / f"film_{10 * i:06d}_i0.png", compress_level=1
        )


def by_hand(folder: Path, out: Path) -> None:
    """What a person would write instead."""
    out.mkdir(exist_ok=True)
    clahe = cv2.createCLAHE(2.0, (8, 8))
    for path in sorted(folder.iterdir()):
        pixels = np.asarray(Image.open(path).convert("RGBA"))
        lab = cv2.cvtColor(pixels[..., :3], cv2.COLOR_RGB2Lab)
        lab[..., 0] = clahe.apply(lab[..., 0])
        rgb = cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)
        Image.fromarray(np.dstack([rgb, pixels[..., 3]])).save(out / path.name)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def per_stage(folder: Path) -> dict[str, float]:
    """Median milliseconds of each map stage, one thread, over the film."""
    cv2.setNumThreads(1)
    config = load_config()
    spent: dict[str, list[float]] = {}
    for source in discover(folder).sources[:30]:
        start = time.perf_counter()
        instance = config.precompute.ingest.read(source)
        spent.setdefault("ingest", []).append(time.perf_counter() - start)
        assert isinstance(instance, Instance)
        for stage in recipe(config):
            if isinstance(stage, MapStage):
                start = time.perf_counter()
                instance = stage.apply(instance)
                spent.setdefault(stage.name, []).append(time.perf_counter() - start)
        start = time.perf_counter()
        encode_webp(instance.rgb, instance.alpha)
        spent.setdefault("encode", []).append(time.perf_counter() - start)
    return {name: round(1000 * statistics.median(values), 1) for name, values in spent.items()}


def memory(counts: list[int]) -> None:
    """Peak memory of a run with one worker, in a process of its own, for several numbers of instances."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_film(root / "film", instances=16, size=384)
        for count in counts:
            enlarge(root / "film", root / str(count), count)
            done = subprocess.run(
                [sys.executable, "-c", MEMORY_CODE, str(root / str(count)), str(root / f"out{count}")],
                capture_output=True,
                text=True,
                check=True,
            )
            base, peak = (int(v) / 1024 for v in done.stdout.split()[-2:])
            print(f"{count:6d} instances: imports {base:.0f} MiB, peak {peak:.0f} MiB, beyond {peak - base:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory", type=int, nargs="+", metavar="N")
    options = parser.parse_args()
    if options.memory:
        memory(options.memory)
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_film(root / "film", instances=24, size=384)
        enlarge(root / "film", root / "in", options.instances)
        config = load_config()
        variants: dict[str, Callable[[], object]] = {
            "lora-data, 1 worker": lambda: precompute(root / "in", root / "one", config, workers=1),
            "lora-data, 2 workers": lambda: precompute(root / "in", root / "two", config, workers=2),
            "by hand (Pillow + OpenCV, Lab CLAHE only)": lambda: by_hand(root / "in", root / "hand"),
        }
        rates: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(options.rounds):  # interleaved: the machine's speed drifts
            for name, work in variants.items():
                rates[name].append(options.instances / seconds(work))
        stages = per_stage(root / "in")
    result = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "instances": options.instances,
        "side": SIDE,
        "instances_per_second": {
            name: {"median": round(statistics.median(v), 2), "min": round(min(v), 2), "max": round(max(v), 2)}
            for name, v in rates.items()
        },
        "stage_ms_median": stages,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
