"""Deduplication: hashes alone up to a million, the whole stage on 100 000 records, and what a person would use instead.

Hashes come in two kinds. ``uniform``: random bits, a tenth are copies of others with up to 4 bits changed. ``clumped``:
as a film's are; poses, around each of them tracks of 100 frames that wander by up to 2 bits a frame, so that every hash
has many near ones and chains run on for long (of 398 renders, 63 % of the pairs of neighbouring frames are within 8
bits, and no pair of two shots).

Instead of it, on 50 000 hashes (at a million those that compare all take 400 times that): comparing all with NumPy, a
row at a time (what imagehash's users write); faiss's binary range search, by brute force and by its multi-hash index
(set so that it is exact); on 5 000 hashes imagededup's default search, one worker process (its other one, a tree, took
more than a minute at this radius). The last two find all pairs and choose nobody.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from lora_data.fingerprint import THUMBNAIL, pack_luma, pack_matte
from lora_data.hash_index import leaders
from lora_data.manifest import Record
from lora_data.stages.deduplicate import Deduplicate
from tests.bench.results import cpu_seconds

RADIUS = 8
SIZES = (125_000, 250_000, 500_000, 1_000_000)
BY_HAND = 50_000
FEWER = 5_000
"""For imagededup, which hands the whole table to its worker once per hundred hashes."""
RECORDS = 100_000
TRACK = 100


def flipped(hashes: np.ndarray, bits: int, rng: np.random.Generator) -> np.ndarray:
    """Up to ``bits`` bits of each changed."""
    for _ in range(bits):
        hashes = hashes ^ (np.uint64(1) << rng.integers(0, 64, len(hashes)).astype(np.uint64))
    return hashes


def uniform(count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    originals = rng.integers(0, 2**64, count - count // 10, np.uint64)
    return rng.permutation(np.concatenate([originals, flipped(originals[: count // 10], 4, rng)]))


def clumped(count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    poses = rng.integers(0, 2**64, count // 2000, np.uint64)
    frames = [flipped(poses[rng.integers(0, len(poses), count // TRACK)], 12, rng)]
    for _ in range(TRACK - 1):
        frames.append(flipped(frames[-1], 2, rng))
    return rng.permutation(np.concatenate(frames))


KINDS: dict[str, Callable[[int], np.ndarray]] = {"uniform": uniform, "clumped": clumped}


def every(best: int, near: np.ndarray) -> np.ndarray:
    return np.ones(len(near), bool)


def ours(kind: str, count: int) -> dict[str, float]:
    hashes = KINDS[kind](count)
    leaders(hashes[:3000], RADIUS, every)  # compiles
    start = time.process_time()
    leader = leaders(hashes, RADIUS, every)
    seconds = time.process_time() - start
    return {"seconds": seconds, "kept": float((leader == np.arange(count)).sum())}


def by_hand(kind: str, count: int) -> dict[str, float]:
    """Every hash against all later ones."""
    hashes = KINDS[kind](count)
    start = time.process_time()
    left = np.ones(count, bool)
    kept = 0
    for i in range(count):
        if left[i]:
            kept += 1
            left[i:] &= np.bitwise_count(hashes[i:] ^ hashes[i]) > RADIUS
    return {"seconds": time.process_time() - start, "kept": float(kept)}


def by_faiss(kind: str, count: int, tables: bool) -> dict[str, float]:
    """All pairs within the radius, one thread: by brute force, or by four tables of 16 bits, each searched within 2."""
    import faiss  # pyright: ignore[reportMissingImports]

    faiss.omp_set_num_threads(1)
    codes = KINDS[kind](count).view(np.uint8).reshape(-1, 8)
    start = time.process_time()
    index: Any = faiss.IndexBinaryMultiHash(64, 4, 16) if tables else faiss.IndexBinaryFlat(64)
    if tables:
        index.nflip = 2
    index.add(codes)
    limits = index.range_search(codes, RADIUS + 1)[0]  # below the radius that it is given
    return {"seconds": time.process_time() - start, "pairs": float(limits[-1] - count) / 2}


def by_imagededup(kind: str, count: int) -> dict[str, float]:
    """All pairs within the radius, in its own dictionaries."""
    from imagededup.handlers.search.retrieval import HashEval  # pyright: ignore[reportMissingImports]
    from imagededup.methods import PHash  # pyright: ignore[reportMissingImports]

    logging.disable(logging.INFO)
    hashes = {f"{i}.png": f"{value:016x}" for i, value in enumerate(KINDS[kind](count).tolist())}
    start = cpu_seconds()
    search = HashEval(
        test=hashes, queries=hashes, distance_function=PHash.hamming_distance, verbose=False, threshold=RADIUS,
        search_method="brute_force_cython", num_dist_workers=1,
    )  # fmt: skip
    found = search.retrieve_results()
    seconds = cpu_seconds() - start
    return {"seconds": seconds, "pairs": sum(map(len, found.values())) / 2}


def missing() -> list[str]:
    """Packages that are compared with and not installed."""
    return [name for name in ("faiss", "imagededup") if find_spec(name) is None]


def stage(count: int) -> dict[str, float]:
    """The whole stage: a film's hashes, thumbnails that change from frame to frame as the hashes do."""
    rng = np.random.default_rng(0)
    height, width = np.mgrid[0:THUMBNAIL, 0:THUMBNAIL].astype(np.float32)
    matte = pack_matte(np.hypot((height - 48) / 46, (width - 48) / 30) < 1)
    tracks = count // TRACK
    hashes = rng.integers(0, 2**64, tracks, np.uint64)
    records: list[Record] = []
    for frame in range(TRACK):
        hashes = flipped(hashes, 1, rng)
        rows = 128 + 50 * np.cos(height[:, :1] / 5 + 0.03 * frame)
        for track in range(tracks):
            luma = rows + 60 * np.sin(width[:1] / 4 + track + 0.05 * frame)
            key = f"{track:06d}_{frame:03d}"
            records.append(
                Record(
                    source=key, key=key, sharpness=float(rng.lognormal()), phash=int(hashes[track]),
                    phash_mirror=int(rng.integers(0, 2**64, dtype=np.uint64)),
                    thumb_luma=pack_luma(luma.astype(np.uint8)), thumb_matte=matte.copy(),
                )
            )  # fmt: skip
    Deduplicate().apply(records[::100] + records[:2000])  # compiles
    start = time.process_time()
    result = Deduplicate().apply(records)
    return {"seconds": time.process_time() - start, "kept": float(sum(r.active for r in result))}


def cases() -> list[tuple[str, Callable[[], dict[str, float]]]]:
    found: list[tuple[str, Callable[[], dict[str, float]]]] = [
        (f"{kind}, {count} hashes", partial(ours, kind, count)) for kind in KINDS for count in SIZES
    ]
    found += [(f"{kind}, {BY_HAND} hashes, ours", partial(ours, kind, BY_HAND)) for kind in KINDS]
    found += [(f"{kind}, {BY_HAND} hashes, NumPy by hand", partial(by_hand, kind, BY_HAND)) for kind in KINDS]
    if "faiss" not in missing():
        for name, tables in (("brute force", False), ("multi-hash", True)):
            case = partial(by_faiss, "uniform", BY_HAND, tables)
            found.append((f"uniform, {BY_HAND} hashes, faiss, {name} (pairs only)", case))
    if "imagededup" not in missing():
        case = partial(by_imagededup, "uniform", FEWER)
        found.append((f"uniform, {FEWER} hashes, imagededup (pairs only)", case))
        found.append((f"uniform, {FEWER} hashes, ours", partial(ours, "uniform", FEWER)))
    found.append((f"the stage, {RECORDS} records with thumbnails", partial(stage, RECORDS)))
    return found
