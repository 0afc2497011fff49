"""What resuming costs and saves, and whether a killed run gives the bytes of one that was never disturbed.

    python -m tests.bench.resume [--instances 2000] [--kills 20] [--workers 2] [--rounds 1]

Times a first run on the demo's film (pictures of up to 128 px), the same command again, one with another threshold and
one with some new pictures; then kills runs at random moments (SIGKILL to the process group) and compares what the
command makes of them.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from lora_data.demo import make_film
from tests.bench.results import Table, finish, parser_for
from tests.conftest import ROOT


def command(folder: Path, out: Path, *more: str) -> list[str]:
    """The command line of a run."""
    run = [sys.executable, "-m", "lora_data", "precompute", str(folder), "--out", str(out)]
    return [*run, "--set", "precompute.filter.min_size=32", *more]


def environment() -> dict[str, str]:
    """This one, with the package that is tested in front."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def run(folder: Path, out: Path, *more: str) -> float:
    """Run to the end; return its seconds."""
    start = time.perf_counter()
    subprocess.run(command(folder, out, *more), check=True, capture_output=True, env=environment())
    return time.perf_counter() - start


def content(out: Path) -> dict[str, bytes]:
    """What counts of a run: shards, index and table."""
    files = [*sorted((out / "shards").iterdir()), out / "instances.parquet"]
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in files}


def kill(folder: Path, out: Path, after: float | None, *more: str) -> tuple[bool, float]:
    """Start a run and kill it and its workers ``after`` seconds after it began to read; None: let it finish.

    Returns:
        Whether it was killed before its end, and the seconds from its beginning to read to its end.
    """
    with subprocess.Popen(
        command(folder, out, *more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        env=environment(),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        process.stderr.readline()  # the first pass has begun; importing everything is of no interest
        start = time.perf_counter()
        if after is not None:
            time.sleep(after)
        running = after is not None and process.poll() is None
        if running:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return running, time.perf_counter() - start


def killed_and_resumed(folder: Path, root: Path, kills: int, *more: str, seed: int = 0) -> int:
    """Kill runs at random moments, every second time the one that goes on, until one is left to finish.

    Returns:
        How many runs were killed before they had finished.

    Raises:
        AssertionError: What is made in the end differs from a run that was never disturbed.
    """
    random_moment = random.Random(seed)
    _, whole = kill(folder, root / "undisturbed", None, *more)
    expected, killed = content(root / "undisturbed"), 0
    for number in range(kills):
        out = root / f"out{number // 2}"
        killed += kill(folder, out, random_moment.uniform(0, whole), *more)[0]
        if number % 2 or number == kills - 1:
            run(folder, out, *more)
            assert content(out) == expected, f"run {number} differs"
    return killed


def resumed(folder: Path, out: Path, workers: Sequence[str]) -> dict[str, float]:
    """Seconds of a first run, of the same command again, with another threshold, and with some new pictures."""
    pictures = sorted(p for p in folder.iterdir() if p.suffix == ".png")
    new = {path: path.read_bytes() for path in pictures[:: len(pictures) // 10]}
    for path in new:
        path.unlink()
    time.sleep(3)  # files that changed a moment ago are read again
    found = {"first run": run(folder, out, *workers), "again": run(folder, out, *workers)}
    found["another threshold"] = run(folder, out, *workers, "--set", "precompute.filter.blur_threshold=70")
    for path, data in new.items():
        path.write_bytes(data)
    return {**found, f"{len(new)} new pictures": run(folder, out, *workers)}


def megabytes(folder: Path, out: Path) -> dict[str, float]:
    """What lies on disk afterwards."""
    cache, source = (sum(p.stat().st_size for p in f.rglob("*.*")) / 1e6 for f in (out / "cache" / "blobs", folder))
    database = (out / "cache" / "results.sqlite").stat().st_size / 1e6
    return {"inputs": source, "stored pictures": cache, "database": database}


def main() -> None:
    parser = parser_for(__doc__, rounds=1)
    parser.add_argument("--instances", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    workers = ("--workers", str(options.workers))
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_film(root / "film", instances=options.instances, characters=8, size=128, workers=options.workers)
        folder = root / "film" / "instances"
        count = len(list(folder.iterdir()))
        rounds = [resumed(folder, root / f"out{number}", workers) for number in range(options.rounds)]
        sizes = megabytes(folder, root / "out0")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_film(root / "film", instances=24, characters=2, size=224)
        killed = killed_and_resumed(root / "film" / "instances", root, options.kills, *workers)
    spent = {name: [found[name] for found in rounds] for name in rounds[0]}
    tables = [
        Table(f"Resuming: {count} files of up to 128 px, {options.workers} workers", "s", spent),
        Table("On disk", "MB", {name: [size] for name, size in sizes.items()}),
    ]
    remark = f"{killed} of {options.kills} runs were killed before their end: the same bytes each time"
    finish("resume", tables, options, remarks=[remark], more={"killed": killed})


if __name__ == "__main__":
    main()
