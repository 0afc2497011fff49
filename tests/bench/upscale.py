"""Upscaling: the gated network stage beside the loop over spandrel that a person writes, on the same small cut-outs.

    python -m tests.bench.upscale [--instances 24] [--rounds 3]

Ours reads stored pictures, shows the network the character with a margin in tiles (or whole, where it is small), puts
the picture's own low frequencies back, holds the result against limits, enlarges the matte apart and stores lossless
WebP. The loop (`tests.bench.by_hand.upscaled`) reads PNG, shows it the whole canvas, black where it is transparent,
trusts it, and writes PNG. Pictures: the renders that are here, else the demo's film; network: Real-ESRGAN's
animevideov3, else random weights of its kind. Loading it is in the clock of both, importing torch is not.
"""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

from PIL import Image

from lora_data.blobs import Blobs
from lora_data.engines.batches import NetworkPass
from lora_data.errors import ImageError
from lora_data.freed_memory import keep_freed_memory
from lora_data.manifest import Record
from lora_data.models.loaded import network
from lora_data.record_bytes import from_bytes
from lora_data.sample import Instance
from lora_data.sources import discover
from lora_data.stage import Resources
from lora_data.stages.ingest import Ingest
from lora_data.stages.matte import Matte
from lora_data.stages.upscale import Upscale
from lora_data.store import encode_webp
from lora_data.work import Item, Made
from tests.bench import by_hand, inputs
from tests.bench.results import Table, alone, finish, interleaved, parser_for, seconds


def small_ones(root: Path, count: int) -> Path:
    """A folder of sound cut-outs that the stage enlarges."""
    renders = inputs.renders()
    source = renders or inputs.film(root, max(8, count)) / "instances"
    return inputs.some_of(source, root / "in", count, only=small_one)


def small_one(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
            box = image.convert("RGBA").getchannel("A").point(lambda a: 255 * (a > 127)).getbbox()
            return path.suffix == ".png" and image.mode == "RGBA" and box is not None and _side(box) < Upscale().below
    except by_hand.NO_PICTURE:
        return False


def _side(box: tuple[int, int, int, int]) -> int:
    return max(box[2] - box[0], box[3] - box[1])


def _begin() -> None:
    """What takes seconds to import, and what the command does before it starts."""
    warnings.simplefilter("ignore")  # of what spandrel's architectures use
    for module in ("torch", "spandrel", "spandrel_extra_arches"):
        import_module(module)
    keep_freed_memory()


def ours(folder: Path, model: Path, workers: int) -> tuple[float, dict[str, int]]:
    """Seconds of the pass over stored pictures, and what became of them."""
    _begin()
    stage, outcomes = Upscale(model=str(model)), Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        blobs = Blobs(Path(scratch))
        items: list[Item] = []
        for source in discover(folder).sources:
            try:
                found = Ingest().read(source)
            except ImageError:
                continue
            if isinstance(found, Instance):
                ready = Matte().apply(found)
                items.append(Item(ready.record, blobs.put(encode_webp(ready.rgb, ready.alpha))))

        def arrived(number: int, made: Made) -> None:
            row: Record = items[number].record.replace(**from_bytes(made.fields))
            outcomes[row.upscale] += 1

        resources = Resources("cpu", workers)
        spent = seconds(lambda: NetworkPass((stage,), blobs, resources).run(items, arrived))
        network.cache_clear()
    return spent, dict(outcomes)


def theirs(folder: Path, model: Path, threads: int) -> tuple[float, dict[str, int]]:
    """Seconds of the loop."""
    _begin()
    with tempfile.TemporaryDirectory() as scratch:
        return seconds(lambda: by_hand.upscaled(folder, Path(scratch) / "out", model, threads)), {}


def main() -> None:
    parser = parser_for(__doc__, rounds=3)
    parser.add_argument("--instances", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        model = inputs.upscaler(root)
        folder = small_ones(root, options.instances)
        count = len(list(folder.glob("*.png")))
        works: dict[str, Callable[[], tuple[float, dict[str, int]]]] = {
            "lora-data, 1 worker": partial(ours, folder, model, 1),
            "lora-data, 2 workers": partial(ours, folder, model, 2),
            "spandrel loop, 1 thread": partial(theirs, folder, model, 1),
            "spandrel loop, 2 threads": partial(theirs, folder, model, 2),
        }
        runs = interleaved({name: partial(alone, work) for name, work in works.items()}, options.rounds)
    rates = {name: [count / spent for spent, _ in found] for name, found in runs.items()}
    words = {name: ", ".join(f"{k} {v}" for k, v in sorted(found[0][1].items())) for name, found in runs.items()}
    more = {name: {"outcomes": outcomes} for name, outcomes in words.items()}
    title = f"Upscaling {count} {'renders' if inputs.renders() else 'cut-outs of the demo'} with {model.name}"
    table = Table(title, "pictures a second", rates, "spandrel loop, 2 threads", more)
    finish("upscale", [table], options, packages=("spandrel",))


if __name__ == "__main__":
    main()
