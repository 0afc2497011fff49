"""The loader against what a person would use instead: a folder with Pillow and a DataLoader, and plain webdataset.

    python -m tests.bench.loader [--images 120] [--side 1024] [--workers 2] [--epochs 3] [--rounds 3]

All decode the same RGBA cut-outs of the demo film and give batches of 4: ours from shards of lossless WebP, into one
buffer; the folder from PNG files (what people have), collated by worker processes; webdataset from our shards with
Pillow. First and later epochs apart, since ours keeps decoded pictures; start-up counts. Medians over interleaved
rounds.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from functools import partial
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
from tests.bench.results import Table, finish, interleaved, parser_for

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


def rates(maker: Callable[[], Epoch], epochs: int) -> tuple[float, float]:
    """Images a second of the first epoch, start-up included, and of the later ones, with a fresh loader."""
    start = time.perf_counter()
    epoch = maker()
    first = epoch() / (time.perf_counter() - start)
    start = time.perf_counter()
    later = sum(epoch() for _ in range(epochs - 1)) / (time.perf_counter() - start)
    return first, later


def main() -> None:
    parser = parser_for(__doc__, rounds=3)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3, help="at least 2")
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
        works = {name: partial(rates, maker, options.epochs) for name, maker in makers.items()}
        found = interleaved(works, options.rounds)
    tables = [
        Table(
            f"Loading {options.images} cut-outs of {options.side} px, {options.workers} workers, {words}",
            "images a second",
            {name: [pair[place] for pair in pairs] for name, pairs in found.items()},
            FOLDER,
        )
        for place, words in enumerate(("first epoch", "later epochs"))
    ]
    finish("loader", tables, options, packages=("webdataset",))


if __name__ == "__main__":
    main()
