"""What ``lora-data inspect`` says: the characters of a run in tables of text, from the table and the shards' index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_data.characters import NONE, SHOTS, TARGET, VIEWS, Figures, advice, auto_differs, figures
from lora_data.errors import MissingExtraError
from lora_data.manifest import UNKNOWN, Record
from lora_data.shards import INDEX, Index, read_index

TABLE = "instances.parquet"
"""As `lora_data.table.NAME`, which wants pyarrow: shards can be looked at without."""
UNSEEN = "-"
"""In a cell: not measured, or there is nothing to compare with."""

Rows = list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Inspection:
    """Tables, each with its header first, and sentences to print below."""

    tables: list[Rows]
    remarks: list[str]


def inspect(out: Path) -> Inspection:
    """Look at a run, or at shards that were copied elsewhere.

    Where the table lies beside the shards and can be read, every character of it has a row, whatever became of its
    instances. Else the shards' index alone speaks, and a remark says what is left out and why.

    Args:
        out: OUT, or its folder of shards.

    Raises:
        ShardError: There are no shards, or they are not whole.
        RunError: The table or ``run.json`` is there and cannot be read.
    """
    shards = out / "shards" if not (out / INDEX).is_file() and (out / "shards" / INDEX).is_file() else out
    index = read_index(shards)
    try:
        records, target = _read(shards.absolute().parent, index)
    except _LeftOutError as why:
        return Inspection(
            [_shards(index)], [f"left out: instances, looks, views, framing, faces, margins and advice; {why}"]
        )
    rows = figures(records)
    return Inspection([_overview(rows, target), _variety(rows), _shards(index)], _remarks(rows, target))


class _LeftOutError(Exception):
    """Why the table cannot speak."""


def _read(out: Path, index: Index) -> tuple[list[Record], tuple[float, float]]:
    if not (out / TABLE).is_file():
        raise _LeftOutError(f"there is no {TABLE} beside the shards")
    try:
        from lora_data.report.run_info import read_records, read_run
    except ImportError as error:
        raise _LeftOutError(str(MissingExtraError(error.name or "pyarrow", "precompute", f"reading {TABLE}"))) from None
    records = read_records(out, embeddings=True)
    if {r.key for r in records if r.active} != {s.key for s in index.samples}:
        raise _LeftOutError(f"the {TABLE} beside the shards is of another run")
    return records, read_run(out).target or TARGET


def _overview(rows: Sequence[Figures], target: tuple[float, float]) -> Rows:
    table: Rows = [("character", "instances", "kept", "faces", "looks", "nearest", "margin", "advice")]
    for c in rows:
        table.append(
            (
                c.name,
                str(c.instances),
                str(c.kept),
                f"{c.faces} of {c.looked}" if c.looked else UNSEEN,
                str(len(c.looks)) if c.looks else UNSEEN,
                c.nearest or UNSEEN,
                UNSEEN if c.margin is None else f"{c.margin:+.3f}",
                UNSEEN if c.name == UNKNOWN else advice(c.kept, target),
            )
        )
    return table


def _variety(rows: Sequence[Figures]) -> Rows:
    """Kept pictures by view and framing."""
    others = sorted({name for c in rows for name in c.framings} - set(SHOTS))
    shots = (*SHOTS, *others)
    table: Rows = [("kept", *VIEWS, "no face", *(name if name != NONE else "no framing" for name in shots))]
    for c in rows:
        views = [str(c.views[name]) if c.views else UNSEEN for name in (*VIEWS, NONE)]
        table.append((c.name, *views, *(str(c.framings.get(name, 0)) for name in shots)))
    return table


def _shards(index: Index) -> Rows:
    table: Rows = [("in shards", "samples", "shards", "median size", "MB")]
    for name, count in sorted(index.counts().items()):
        samples = sorted((s for s in index.samples if s.character == name), key=lambda s: (s.width * s.height, s.key))
        middle = samples[len(samples) // 2]
        own = [s for s in index.shards if s.character == name]
        megabytes = sum(s.bytes for s in own) / 1e6
        table.append((name, str(count), str(len(own)), f"{middle.width}x{middle.height}", f"{megabytes:.1f}"))
    return table


def _remarks(rows: Sequence[Figures], target: tuple[float, float]) -> list[str]:
    remarks = [f"looks of {c.name}: {_listed(c.looks)}" for c in rows if c.looks]
    if rows and not any(c.looked for c in rows):
        remarks.append("faces, views: nobody looked for faces; --preset full or precompute.faces.enabled=true does")
    if any(c.margin is not None for c in rows):
        remarks.append(
            "margin: how much more a picture is like its own character than like the nearest other; 19 of 20 have more"
        )
    differs = auto_differs((c.kept for c in rows if c.name != UNKNOWN), target)
    return [*remarks, differs] if differs else remarks


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(counts).most_common())
