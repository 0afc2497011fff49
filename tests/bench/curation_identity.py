"""Identity on large tables, and the three stages one after the other on 100 000 records.

The table is that of `curation_select`, with eight characters and nothing said of who is who: once as a film has it, in
tracks of six frames, and once without frame numbers, so that every instance is a track of its own. Instead of it:
scikit-learn's HDBSCAN on the embeddings, as its users call it, on the smaller table (its time grows with the square).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from sklearn.cluster import HDBSCAN

from lora_data.fingerprint import THUMBNAIL, pack_luma
from lora_data.manifest import Record
from lora_data.stages.consistency import Consistency
from lora_data.stages.deduplicate import Deduplicate
from lora_data.stages.identity import Identity
from lora_data.stages.select import Select
from tests.bench.curation_select import TRACK, synthetic_table

SIZES = (12_500, 25_000, 50_000, 100_000)
INSTEAD = 12_500
PEOPLE = 8


def cases() -> list[tuple[str, Callable[[], dict[str, float]]]]:
    """Each size in tracks, the largest without frames, the alternative, and everything together."""
    return [
        *((f"{size:,} in tracks", partial(identified, size, True)) for size in SIZES),
        (f"{SIZES[-1]:,} without frames", partial(identified, SIZES[-1], False)),
        (f"HDBSCAN instead: {INSTEAD:,}", by_hdbscan),
        (f"identity, deduplicate and select: {SIZES[-1]:,}", whole),
    ]


def strangers(size: int, frames: bool) -> list[Record]:
    """The table before anybody has a name."""
    records = synthetic_table(size, PEOPLE)
    return [replace(r, character="unknown", track=None, frame=r.frame if frames else None) for r in records]


def identified(size: int, frames: bool) -> dict[str, float]:
    """CPU seconds of identity and the check after it; wall seconds; how many characters there are."""
    return _timed(strangers(size, frames), [Identity(), Consistency()])


def by_hdbscan() -> dict[str, float]:
    vectors = np.stack([r.embedding for r in strangers(INSTEAD, True) if r.embedding is not None])
    start, wall = time.process_time(), time.perf_counter()
    labels = HDBSCAN(min_cluster_size=5, copy=True).fit_predict(vectors)  # pyright: ignore[reportArgumentType]
    spent = time.process_time() - start
    return {"seconds": spent, "wall": time.perf_counter() - wall, "characters": len(set(labels.tolist()) - {-1})}


def whole() -> dict[str, float]:
    """Every stage; pictures of a track share most bits of their hash and are one picture, as in a still shot."""
    rng = np.random.default_rng(0)
    records = strangers(SIZES[-1], True)
    y, x = np.mgrid[:THUMBNAIL, :THUMBNAIL].astype(np.float32)
    bits, luma = 0, np.zeros(0, np.uint8)
    for n, record in enumerate(records):
        if n % TRACK == 0:
            bits, phase = int(rng.integers(0, 2**64, dtype=np.uint64)), rng.uniform(0, 6, 4)
            luma = np.rint(
                128 + 60 * np.sin(x / (2 + phase[0]) + phase[1]) + 50 * np.cos(y / (2 + phase[2]) + phase[3])
            )
            luma = pack_luma(luma.astype(np.uint8))
        bits ^= 1 << int(rng.integers(64))
        records[n] = replace(record, phash=bits, thumb_luma=luma)
    return _timed(records, [Identity(), Consistency(), Deduplicate(), Select()])


def _timed(records: list[Record], stages: Sequence[Identity | Consistency | Deduplicate | Select]) -> dict[str, float]:
    start, wall = time.process_time(), time.perf_counter()
    for stage in stages:
        records = stage.apply(records)
    spent = time.process_time() - start
    names = {r.character for r in records} - {"unknown"}
    return {
        "seconds": spent,
        "wall": time.perf_counter() - wall,
        "characters": len(names),
        "kept": sum(r.active for r in records),
    }
