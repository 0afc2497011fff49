"""Near-duplicates among pictures, from the files to who is whose copy: ours, imagededup, and imagehash by hand.

    python -m tests.bench.near_duplicates [--instances 64] [--rounds 3]

CPU time, one process and one thread each (imagededup always starts another one, and that counts). Ours decodes, hashes
the character alone on gray (and its mirror image), keeps a thumbnail, searches within 8 bits, confirms by SSIM on the
common matte and names mirror images. imagededup's PHash (its default search, threshold 8) and imagehash's phash with a
comparison of all pairs see the whole canvas, whatever colour is hidden under alpha. On films of which the truth is
known it is also counted what is taken away: planted copies, and others (neighbours that a still camera made alike;
pictures that only look alike to a hash).
The search alone, on up to a million hashes: ``python -m tests.bench.curation deduplicate``.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lora_data.errors import ImageError
from lora_data.sample import Instance
from lora_data.sources import discover
from lora_data.stages.deduplicate import Deduplicate
from lora_data.stages.fingerprint import Fingerprint
from lora_data.stages.ingest import Ingest
from tests.bench import inputs
from tests.bench.by_hand import NO_PICTURE
from tests.bench.results import Table, alone, cpu_seconds, finish, interleaved, parser_for

RADIUS = 8
Found = tuple[float, list[str]]
"""CPU seconds, and the names of the files that are to go."""


def ours(folder: Path) -> Found:
    """As a run does it, without the stages between."""
    from lora_data.engines.process import single_thread
    from lora_data.freed_memory import keep_freed_memory

    keep_freed_memory()
    fingerprint, deduplicate, ingest = Fingerprint(), Deduplicate(), Ingest()
    sources = discover(folder).sources
    with single_thread():
        deduplicate.apply([r for s in sources[:9] if (r := _record(ingest, fingerprint, s)) is not None])  # compiles
        start = cpu_seconds()
        records = [r for s in sources if (r := _record(ingest, fingerprint, s)) is not None]
        result = deduplicate.apply(records)
        spent = cpu_seconds() - start
    return spent, [r.source for r in result if r.duplicate_of is not None]


def _record(ingest: Ingest, fingerprint: Fingerprint, source: Any) -> Any:
    try:
        found = ingest.read(source)
        return fingerprint.apply(found).record if isinstance(found, Instance) else None
    except ImageError:
        return None


def by_imagededup(folder: Path) -> Found:
    """As its README shows, with one worker process: it cannot do without."""
    import logging

    from imagededup.methods import PHash  # pyright: ignore[reportMissingImports]  # extra: bench

    logging.disable(logging.WARNING)  # of files that are no pictures
    hasher = PHash(verbose=False)
    start = cpu_seconds()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it was given hashes
        hashes = hasher.encode_images(image_dir=str(folder), num_enc_workers=1)
        gone = hasher.find_duplicates_to_remove(encoding_map=hashes, max_distance_threshold=RADIUS)
    return cpu_seconds() - start, list(gone)


def by_imagehash(folder: Path) -> Found:
    """The first of every group stays, found by comparing each picture with all that stayed."""
    import imagehash
    from PIL import Image

    start = cpu_seconds()
    kept: list[imagehash.ImageHash] = []
    gone: list[str] = []
    for path in sorted(folder.iterdir()):
        try:
            found = imagehash.phash(Image.open(path))
        except NO_PICTURE:
            continue
        if any(found - other <= RADIUS for other in kept):
            gone.append(path.name)
        else:
            kept.append(found)
    return cpu_seconds() - start, gone


def judged(gone: Collection[str], truth: Path) -> dict[str, float | str]:
    """How many of the planted copies went (of each group one is to stay), and how many others."""
    groups: dict[str, set[str]] = defaultdict(set)
    for row in map(json.loads, truth.read_text().splitlines()):
        group = row.get("exact_dup_group") or row.get("near_dup_group")
        if group:
            groups[str(group)].add(Path(row["file"]).name)
    right = sum(min(len(group & set(gone)), len(group) - 1) for group in groups.values())
    planted = sum(len(group) - 1 for group in groups.values())
    return {"planted copies found": f"{right} of {planted}", "others taken away": len(set(gone)) - right}


def main() -> None:
    parser = parser_for(__doc__, rounds=3)
    parser.add_argument("--instances", type=int, default=64, help="of the demo's film")
    options = parser.parse_args()
    works: dict[str, Callable[[Path], Found]] = {"lora-data": ours, "imagehash, all pairs": by_imagehash}
    remarks: list[str] = []
    if find_spec("imagededup"):
        works["imagededup"] = by_imagededup
    else:
        remarks.append("Left out: imagededup is not installed.")
    tables: list[Table] = []
    with tempfile.TemporaryDirectory() as scratch:
        film = inputs.film(Path(scratch), options.instances)
        folders = {f"the demo's film, {inputs.SIZE} px": film / "instances"}
        renders = inputs.renders()
        if renders is None:
            remarks.append(inputs.NO_RENDERS)
        else:
            folders["renders"] = renders
        for title, folder in folders.items():
            runs = interleaved({n: partial(alone, partial(w, folder)) for n, w in works.items()}, options.rounds)
            count = sum(1 for p in folder.iterdir() if p.suffix in (".png", ".webp"))
            rates = {name: [count / spent for spent, _ in found] for name, found in runs.items()}
            more = {name: judged(found[0][1], folder.parent / "truth.jsonl") for name, found in runs.items()}
            tables.append(Table(f"Near-duplicates: {title}", "pictures a second", rates, "imagehash, all pairs", more))
    finish("near_duplicates", tables, options, packages=("imagededup", "imagehash"), remarks=remarks)


if __name__ == "__main__":
    main()
