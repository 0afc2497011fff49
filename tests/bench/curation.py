"""What the stages that see only the table cost on large ones: time, spread, memory.

    python -m tests.bench.curation [PART ...] [--rounds 3] [--json FILE]

Parts: see `PARTS`. Each measurement runs in a process of its own, so that its peak memory is its own; rounds are
interleaved, for the machine's speed drifts. Tables are synthetic.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench import curation_deduplicate, curation_identity, curation_select

Measurement = dict[str, float]
"""``seconds`` of CPU time, and whatever else the case counts."""
Case = tuple[str, Callable[[], Measurement]]

PARTS: dict[str, Callable[[], list[Case]]] = {
    "identity": curation_identity.cases,
    "deduplicate": curation_deduplicate.cases,
    "select": curation_select.cases,
}
"""Part: its cases, in the order in which they are shown. A case builds its input and measures once."""


def alone(measure: Callable[[], Measurement]) -> Measurement:
    """Measure in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_with_memory, measure).result()


def _with_memory(measure: Callable[[], Measurement]) -> Measurement:
    found = measure()
    return {**found, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def spread(rounds: list[Measurement]) -> dict[str, Any]:
    """Median, least and most seconds; of the rest the median."""
    seconds = [r["seconds"] for r in rounds]
    rest = {k: round(statistics.median(r[k] for r in rounds), 3) for k in rounds[0] if k != "seconds"}
    return {
        "seconds": round(statistics.median(seconds), 3),
        "min": round(min(seconds), 3),
        "max": round(max(seconds), 3),
        **rest,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"PART must be of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    result: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    for part in options.parts or PARTS:
        cases = PARTS[part]()
        rounds: dict[str, list[Measurement]] = {name: [] for name, _ in cases}
        start = time.perf_counter()
        for number in range(options.rounds):
            for name, measure in cases:
                rounds[name].append(alone(measure))
                print(f"{part}, round {number + 1}, {name}: {rounds[name][-1]['seconds']:.2f} s", file=sys.stderr)
        result[part] = {name: spread(values) for name, values in rounds.items()}
        result[part]["all together"] = {"wall_seconds": round(time.perf_counter() - start)}
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
