"""One form for all benchmarks: how they measure, what they print, and the JSON that they write.

A result is a list of tables. A row holds one figure per round; shown are its median, its extremes, and how many times
as fast as the table's reference it was within the same round. Printed as Markdown, written with the machine and the
versions of what was compared to ``bench_out/NAME.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import lora_data
from tests.conftest import ROOT

OUT = ROOT / "bench_out"
ALWAYS = ("numpy", "pillow", "opencv-python", "torch")
"""Packages whose versions every result names, where they are installed."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Table:
    """Figures of several variants of one thing.

    Args:
        title: What was measured, on what.
        unit: "... a second" (more is better) or anything else (less is better).
        rows: By variant, one figure per round.
        reference: The row that all are compared with; None: none is.
        more: By variant, what else is known about it; one value a name.
    """

    title: str
    unit: str
    rows: Mapping[str, Sequence[float]]
    reference: str | None = None
    more: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict[str, Mapping[str, float | str]])

    def ratios(self, name: str) -> list[float]:
        """Round by round, how many times as fast as the reference; empty where there is none."""
        if self.reference is None:
            return []
        pairs = zip(self.rows[name], self.rows[self.reference], strict=True)
        return [own / other if self.unit.endswith("a second") else other / own for own, other in pairs]

    def as_tree(self) -> dict[str, Any]:
        """For JSON."""
        rows: list[dict[str, Any]] = []
        for name, values in self.rows.items():
            ratios = self.ratios(name)
            row = {"name": name, **_spread(values), "repeats": len(values), "values": [_short(v) for v in values]}
            rows.append({**row, **({"times_reference": _spread(ratios)} if ratios else {}), **self.more.get(name, {})})
        return {"title": self.title, "unit": self.unit, "reference": self.reference, "rows": rows}

    def __str__(self) -> str:
        """For people: Markdown."""
        extras = list(dict.fromkeys(key for values in self.more.values() for key in values))
        heads = ["", self.unit, *(["times the reference"] if self.reference else []), *extras]
        lines = [f"{self.title} (reference: {self.reference})" if self.reference else self.title, ""]
        lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        for name, values in self.rows.items():
            cells = [name, _words(values)]
            if self.reference:
                cells.append(f"{statistics.median(self.ratios(name)):.2f}")
            cells += [str(self.more.get(name, {}).get(key, "")) for key in extras]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


def parser_for(text: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"repeats of everything (default: {rounds})")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the JSON (default: bench_out)")
    return parser


def finish(
    name: str,
    tables: Sequence[Table],
    options: argparse.Namespace,
    *,
    packages: Sequence[str] = (),
    remarks: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
) -> Path:
    """Print what was found and write it.

    Args:
        name: Of the benchmark; of the file.
        tables: What was found.
        options: What it was run with.
        packages: What was compared with; versions are written.
        remarks: What was left out, and why.
        more: Anything that is no table.

    Returns:
        The JSON file.
    """
    settings = {key: value for key, value in vars(options).items() if key != "out"}
    tree = {
        "bench": name,
        "machine": machine(packages),
        "settings": settings,
        "remarks": list(remarks),
        "tables": [table.as_tree() for table in tables],
        **(more or {}),
    }
    for table in tables:
        print(table)
    for remark in remarks:
        print(remark)
    path = options.out / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, indent=1, default=str) + "\n", encoding="utf-8")
    print(f"written to {path}")
    return path


def machine(packages: Sequence[str] = ()) -> dict[str, Any]:
    """What the figures depend on besides the code."""
    found: dict[str, str] = {}
    for package in (*ALWAYS, *packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "ram_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_at_the_end": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "lora-data": lora_data.__version__,
        "packages": found,
    }


def interleaved(works: Mapping[str, Callable[[], Found]], rounds: int) -> dict[str, list[Found]]:
    """What each work returns in each round, in a new order each round: the machine's speed drifts."""
    found: dict[str, list[Found]] = {name: [] for name in works}
    order, shuffler = list(works), random.Random(0)
    for number in range(rounds):
        shuffler.shuffle(order)
        for name in order:
            start = time.perf_counter()
            found[name].append(works[name]())
            spent = time.perf_counter() - start
            if spent > 1:
                print(f"round {number + 1} of {rounds}, {name}: {spent:.1f} s", file=sys.stderr)
    return found


def alone(measure: Callable[[], Found]) -> Found:
    """Measure in a fresh process of its own; ``measure`` can be pickled."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_as_guest, measure).result()


def _as_guest(measure: Callable[[], Found]) -> Found:
    """Measure where ``__main__`` is empty: processes that are started there would else import the whole benchmark."""
    sys.modules["__main__"] = ModuleType("__main__")
    return measure()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cpu_seconds() -> float:
    """CPU time of this process and of those that it started and that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": _short(statistics.median(values)), "min": _short(min(values)), "max": _short(max(values))}


def _words(values: Sequence[float]) -> str:
    found = [f"{v:,}" if v >= 1000 else f"{v:g}" for v in _spread(values).values()]
    return found[0] if len(values) == 1 else f"{found[0]} ({found[1]} to {found[2]})"


def _short(value: float) -> float:
    """Three digits that count; whole above a hundred."""
    return round(value) if abs(value) >= 100 else float(f"{value:.3g}")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
