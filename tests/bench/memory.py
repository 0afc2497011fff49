"""Peak memory of runs over few and over many instances, of the driver and of all its processes together.

    python -m tests.bench.memory [--instances 500 5000] [--workers 1 2] [--side 96] [--rounds 1]

Each run is a process of its own, watched from outside twenty times a second. ``driver`` is the run's own process (its
peak as the system counted it), ``all`` the largest sum of resident memory over it and its workers; shared pages count
in each process that maps them. The growth divided by the instances that were added is what one instance costs.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.bench import inputs
from tests.bench.results import Table, finish, interleaved, parser_for

SAMPLED = 0.05
"""Seconds between two looks."""
CODE = """
from lora_data.freed_memory import keep_freed_memory
if __name__ == "__main__":
    keep_freed_memory()  # as the command line does it, before pyarrow
import io, pathlib, resource, sys
import cv2, imagehash, kornia, pyarrow.parquet, pymatting, skimage.feature, sklearn.cluster, torch
from lora_data import load_config
from lora_data.pipeline import precompute
from lora_data.progress import RunProgress

def most():
    # Not ru_maxrss where there is better: it starts with what the process had before exec, which is its parent's.
    status = pathlib.Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))

if __name__ == "__main__":
    before = most()
    folder, out, workers = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
    config = load_config(overrides=["precompute.filter.min_size=32"], decided=False)
    precompute(folder, out, config, workers=workers, progress=RunProgress(stream=io.StringIO()))
    print(before, most())
"""
"""A run; prints the most memory, KiB, after its imports (the report's among them) and at its end."""


class Peak(NamedTuple):
    """MiB: of the driver after its imports and in all, of all processes together; and the seconds that the run took."""

    imports: float
    driver: float
    together: float
    seconds: float


def peak(folder: Path, out: Path, workers: int) -> Peak:
    """Run in a process of its own and watch it."""
    command = [sys.executable, "-c", CODE, str(folder), str(out), str(workers)]
    start, together = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            together = max(together, _resident(watched))
            time.sleep(SAMPLED)
        said, error = process.communicate()
    if process.returncode:
        raise RuntimeError(error)
    imports, driver = (int(word) / 1024 for word in said.split()[-2:])
    return Peak(imports, driver, max(together / 2**20, driver), time.perf_counter() - start)


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass  # it ended while we looked
    return total


def main() -> None:
    parser = parser_for(__doc__, rounds=1)
    parser.add_argument("--instances", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--side", type=int, default=96, help="longest side of the pictures, px")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        film = inputs.film(root, 24)
        for count in options.instances:
            inputs.resized(film, root / str(count), count, options.side)
        runs = iter(range(10**6))

        def watched(count: int, workers: int) -> Peak:
            return peak(root / str(count), root / f"out{next(runs)}", workers)

        keys = [(count, workers) for workers in options.workers for count in options.instances]
        works = {f"{n:,} instances, {w} worker{'s' * (w > 1)}": (n, w) for n, w in keys}
        found = interleaved({name: (lambda key=key: watched(*key)) for name, key in works.items()}, options.rounds)
    few, many = min(options.instances), max(options.instances)
    growth: dict[str, list[float]] = {}
    for workers in options.workers if few < many else ():
        names = {n: name for name, (n, w) in works.items() if w == workers}
        for place in ("driver", "together"):
            pairs = zip(found[names[few]], found[names[many]], strict=True)
            values = [(getattr(b, place) - getattr(a, place)) * 1024 / (many - few) for a, b in pairs]
            growth[f"{workers} worker{'s' * (workers > 1)}, {'driver' if place == 'driver' else 'all'}"] = values
    driver = {name: [p.driver for p in peaks] for name, peaks in found.items()}
    more = {
        name: {
            "after imports": round(statistics.median(p.imports for p in peaks)),
            "all processes": round(statistics.median(p.together for p in peaks)),
            "seconds": round(statistics.median(p.seconds for p in peaks)),
        }
        for name, peaks in found.items()
    }
    tables = [Table(f"Peak memory, pictures of {options.side} px", "MiB, driver", driver, more=more)]
    tables += [Table(f"Growth from {few:,} to {many:,} instances", "KiB an instance", growth)] if growth else []
    own = {"benchmark_peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}
    finish("memory", tables, options, packages=("psutil", "pyarrow"), more=own)


if __name__ == "__main__":
    main()
