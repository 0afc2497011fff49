"""The loader against what a person would use instead: a folder with Pillow and a DataLoader, and plain webdataset.

    python -m tests.bench.loader [--images 120] [--side 1024] [--workers 2] [--epochs 3] [--rounds 3] [--json FILE]

All decode the same RGBA cut-outs of the demo film and give batches of 4: ours from shards of lossless WebP, into one
buffer; the folder from PNG files (what people have), collated by worker processes; webdataset from our shards with
Pillow. First and later epochs apart, since ours keeps decoded pictures; start-up counts. Medians over interleaved
rounds.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from lora_data.config import parse_config
from lora_data.demo import make_film
from lora_data.shards import ShardSample, write_shards
from lora_data.train.loader import make_loader

Epoch = Callable[[], int]
FOLDER = "folder, Pillow, DataLoader"


def write_inputs(root: Path, images: int, side: int) -> None:
    """The same cut-outs as a folder of PNG and as shards."""
    make_film(root / "film", instances=24, size=384)
    masters = sorted((root / "film" / "masters").glob("*.webp"))
    (root / "folder").mkdir()
    samples: list[ShardSample] = []
    for i in range(images):
        image = Image.open(masters[i % len(masters)]).convert("RGBA").resize((side, side), Image.Resampling.BICUBIC)
        image.save(root / "folder" / f"{i:05d}.png")
        data = io.BytesIO()
        image.save(data, "WEBP", lossless=True, quality=0, method=0, exact=True)
        samples.append(ShardSample(f"k{i:05d}", "film", side, side, {"webp": data.getvalue(), "txt": b"x"}))
    write_shards(root / "shards", samples, max_bytes=10**9)


class Folder(Dataset[torch.Tensor]):
    """What people write."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.iterdir())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> torch.Tensor:
        return torch.from_numpy(np.array(Image.open(self.paths[place]).convert("RGBA"))).permute(2, 0, 1)


def folder_epochs(root: Path, workers: int) -> Epoch:
    loader = DataLoader(
        Folder(root / "folder"), batch_size=4, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    return lambda: sum(len(batch) for batch in loader)


def webdataset_epochs(root: Path, workers: int) -> Epoch:
    from webdataset.compat import WebDataset

    urls = [str(p) for p in sorted((root / "shards").glob("*.tar"))]

    def picture(fields: dict[str, Any]) -> torch.Tensor:
        return torch.from_numpy(np.array(Image.open(io.BytesIO(fields["webp"])).convert("RGBA"))).permute(2, 0, 1)

    dataset: Any = (
        WebDataset(urls, shardshuffle=False, empty_check=False).map(picture).batched(4, collation_fn=torch.stack)
    )
    # One shard cannot be split over workers: plain webdataset reads it in one.
    loader = DataLoader(dataset, batch_size=None, num_workers=min(workers, len(urls)))
    return lambda: sum(len(batch) for batch in loader)


def our_epochs(root: Path, workers: int, cache_gb: float) -> Epoch:
    tree = {
        "data": {"shards": str(root / "shards"), "resolution": 1024, "cache_gb": cache_gb},
        "characters": {"film": {"repeats": 1}},
    }
    loader = make_loader(parse_config(tree), num_workers=workers)
    return lambda: sum(len(batch.images) for batch in loader)


def measure(makers: dict[str, Callable[[], Epoch]], rounds: int, epochs: int) -> dict[str, Any]:
    """Images a second of the first and of later epochs, with fresh loaders in each round."""
    rates: dict[str, dict[str, list[float]]] = {name: {"first": [], "later": []} for name in makers}
    order, shuffler = list(makers), random.Random(0)
    for _ in range(rounds):
        shuffler.shuffle(order)
        for name in order:
            start = time.perf_counter()
            epoch = makers[name]()
            count = epoch()
            rates[name]["first"].append(count / (time.perf_counter() - start))
            for _ in range(epochs - 1):
                start = time.perf_counter()
                count = epoch()
                rates[name]["later"].append(count / (time.perf_counter() - start))
    result: dict[str, Any] = {}
    for name, kinds in rates.items():
        result[name] = {
            kind: {
                "images_per_second": round(statistics.median(values), 1),
                "slowest": round(min(values), 1),
                "fastest": round(max(values), 1),
                "times_folder": round(statistics.median(values) / statistics.median(rates[FOLDER][kind]), 2),
            }
            for kind, values in kinds.items()
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write_inputs(root, options.images, options.side)
        makers: dict[str, Callable[[], Epoch]] = {
            FOLDER: lambda: folder_epochs(root, options.workers),
            "webdataset, Pillow, DataLoader": lambda: webdataset_epochs(root, options.workers),
            "make_loader": lambda: our_epochs(root, options.workers, 4.0),
            "make_loader, no cache": lambda: our_epochs(root, options.workers, 0.0),
        }
        result = {
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "images": options.images,
            "side": options.side,
            "workers": options.workers,
            "loaders": measure(makers, options.rounds, options.epochs),
        }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
