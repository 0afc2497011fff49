"""Select on large tables: time and peak memory, and the ratio to k-means with the picture nearest to each centre.

    python -m tests.bench.curation_select [--sizes 12500 25000 50000 100000] [--rounds 3] [--json FILE]

The table is synthetic: tracks of six frames, with an embedding and a silhouette per track that drift from frame to
frame. Embeddings of a character lie about .05 (1 - cosine) apart, within a track .003, as on rendered characters.
K-means sees the embeddings alone, and has as many centres as pictures are kept. Each measurement is a process of its
own, so that peaks do not add up; "beyond" is what selecting takes on top of the table.
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
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin

from lora_data.backends.appearance import DIMENSIONS
from lora_data.manifest import Record
from lora_data.stages.deduplicate import quality_of
from lora_data.stages.select import Select

SIZES = (12_500, 25_000, 50_000, 100_000)
TRACK = 6
"""Frames of a track."""


def synthetic_table(count: int, characters: int = 1, seed: int = 0) -> list[Record]:
    """Records as the selection finds them: embedding, silhouette, framing, light, sharpness and frame numbers."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:96j, -1:1:96j].astype(np.float32)
    names = rng.random((characters, DIMENSIONS), np.float32)
    records: list[Record] = []
    for track in range(-(-count // TRACK)):
        colours = names[track % characters] + 0.44 * (rng.random(DIMENSIONS, np.float32) - 0.5)
        cx, cy, wide, tall = rng.uniform((-0.3, -0.3, 0.2, 0.4), (0.3, 0.3, 0.6, 0.9))
        light, framing = rng.uniform(40, 200), ("close-up", "half", "full")[int(rng.integers(3))]
        for step in range(min(TRACK, count - track * TRACK)):
            vector = np.maximum(colours + 0.1 * (rng.random(DIMENSIONS, np.float32) - 0.5), 0)
            drift = cx + 0.02 * step
            matte = ((x - drift) / wide) ** 2 + ((y - cy) / tall) ** 2 < 1
            number = track * TRACK + step
            record = Record(
                source=f"film/{number:06d}.png",
                key=f"k{number:06d}",
                frame=10 * track + step,
                track=f"t{track}",
                character=f"c{track % characters}",
                box_width=400,
                box_height=600,
                matte_soft=0.5,
                sharpness=float(rng.uniform(1, 8)),
                brightness=float(light + rng.normal(0, 2)),
                framing=framing,
                embedding=vector / np.linalg.norm(vector),
                thumb_matte=np.packbits(matte),
            )
            records.append(record.replace(quality=quality_of(record)))
    return records


def plain(records: Sequence[Record], keep: int) -> list[str]:
    """What a person would use instead: k-means on the embeddings, and of each cluster the picture nearest to it."""
    vectors = np.stack([r.embedding for r in records if r.embedding is not None])
    model = KMeans(keep, n_init=1, random_state=0)  # pyright: ignore[reportArgumentType]
    model.fit(vectors)
    return [records[i].key for i in pairwise_distances_argmin(model.cluster_centers_, vectors)]


def select_part(
    sizes: Sequence[int] = SIZES, rounds: int = 3, characters: Sequence[int] = (1, 8), plain_up_to: int = 25_000
) -> list[dict[str, Any]]:
    """Measure the selection; one row per size and number of characters.

    Args:
        sizes: Records of the table.
        rounds: Processes per measurement; medians are reported.
        characters: Among how many the records are dealt out.
        plain_up_to: Largest table on which k-means runs as well: its time grows faster.

    Returns:
        Rows with ``records``, ``characters``, ``seconds`` (median, min, max), ``cpu_seconds``, ``peak_mib`` of the
        process, ``beyond_mib`` over the table, ``kept``, and for one character up to ``plain_up_to`` ``kmeans_seconds``
        and ``ratio_to_kmeans`` (CPU time of both, which other work on the machine does not stretch).
    """
    rows: list[dict[str, Any]] = []
    for size in sizes:
        for names in characters:
            ours = [_measured("ours", size, names) for _ in range(rounds)]
            spent = [m["seconds"] for m in ours]
            row: dict[str, Any] = {
                "records": size,
                "characters": names,
                "seconds": {"median": statistics.median(spent), "min": min(spent), "max": max(spent)},
                "cpu_seconds": statistics.median(m["cpu_seconds"] for m in ours),
                "peak_mib": round(statistics.median(m["peak_mib"] for m in ours)),
                "beyond_mib": round(statistics.median(m["beyond_mib"] for m in ours)),
                "kept": ours[0]["kept"],
            }
            if names == 1 and size <= plain_up_to:
                other = _measured("plain", size, names)
                row["kmeans_seconds"] = other["seconds"]
                row["ratio_to_kmeans"] = round(other["cpu_seconds"] / row["cpu_seconds"], 1)
            rows.append(row)
    return rows


def _measured(what: str, size: int, characters: int) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.curation_select", "--one", what, str(size), str(characters)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _one(what: str, size: int, characters: int) -> dict[str, Any]:
    records = synthetic_table(size, characters)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start, busy = time.perf_counter(), time.process_time()
    if what == "plain":
        kept = len(plain(records, Select().target[1]))
    else:
        kept = sum(r.active for r in Select().apply(records))
    spent, busy = time.perf_counter() - start, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": round(spent, 2),
        "cpu_seconds": round(busy, 2),
        "peak_mib": peak,
        "beyond_mib": peak - before,
        "kept": kept,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("WHAT", "SIZE", "CHARACTERS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        what, size, characters = options.one
        print(json.dumps(_one(what, int(size), int(characters))))
        return
    result = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "select": select_part(options.sizes, options.rounds),
    }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
