"""Read what a run left in OUT: ``run.json`` and ``instances.parquet``, whichever version wrote them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lora_data.errors import RunError
from lora_data.manifest import Record
from lora_data.table import NAME as TABLE
from lora_data.table import ROWS, vectors

RUN = "run.json"

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A stage that the preset left out, why, and the command that turns it on."""

    stage: str
    why: str
    turn_on: str


@dataclass(frozen=True, slots=True)
class Model:
    """A model file that was used."""

    name: str
    digest: str
    licence: str


@dataclass(frozen=True, slots=True)
class Pass:
    """A pass over the instances, how long it took, how many of them an earlier run had in its cache, how many others it
    took in a second, and the most memory it had on a GPU, MB."""

    name: str
    seconds: float | None
    instances: int | None
    cached: int | None
    per_second: float | None
    gpu_megabytes: float | None


@dataclass(frozen=True, slots=True)
class RunInfo:
    """``run.json``, as far as it is there.

    Args:
        version: Of lora_data; empty where unknown.
        preset: "light" or "full"; empty where unknown.
        seed: None where unknown.
        input: INPUT as it was given.
        config: The configuration as indented JSON; empty where unknown.
        tree: The same as tables.
        limits: The filter's numbers by name; a range is two of them, ``<name>.0`` and ``<name>.1``.
        hash_limit: Most bits in which the perceptual hashes of near-duplicates differ; None where unknown.
        target: Pictures wanted per character, lowest and highest.
        skipped: What was left out.
        ignored: Files in INPUT that are no pictures.
        versions: Packages and their versions.
        models: Model files.
        passes: The passes, in their order.
        decisions: A person's decisions that were applied, by their identifiers; see `lora_data.decisions`.
    """

    version: str
    preset: str
    seed: int | None
    input: str
    config: str
    tree: Json
    limits: Mapping[str, float]
    hash_limit: float | None
    target: tuple[float, float] | None
    skipped: tuple[Skipped, ...]
    ignored: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]
    models: tuple[Model, ...]
    passes: tuple[Pass, ...]
    decisions: tuple[str, ...]


def read_run(out: Path) -> RunInfo:
    """Read ``OUT/run.json``. Keys that are missing or of another kind are left empty, not refused.

    Raises:
        RunError: The file is there and is not JSON.
    """
    path = out / RUN
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise RunError(f"{path} is not JSON: {error}") from None
    run = _table(content)
    config = _table(run.get("config"))
    precompute = _table(config.get("precompute"))
    seed = run.get("seed")
    return RunInfo(
        version=_text(run.get("lora_data")),
        preset=_text(run.get("preset")),
        seed=seed if isinstance(seed, int) else None,
        input=_text(run.get("input")),
        config=json.dumps(config, indent=2, ensure_ascii=False) if config else "",
        tree=config,
        limits=_numbers(_table(precompute.get("filter"))),
        hash_limit=_number(_table(precompute.get("deduplicate")).get("phash_threshold")),
        target=_pair(_table(precompute.get("select")).get("target")),
        skipped=tuple(
            Skipped(_text(s.get("stage")), _text(s.get("why")), _text(s.get("turn_on")))
            for s in _tables(run.get("skipped"))
        ),
        ignored=tuple(_text(name) for name in _list(run.get("ignored_files"))),
        versions=tuple((name, _text(version)) for name, version in _table(run.get("versions")).items()),
        models=tuple(
            Model(_text(m.get("name")), _text(m.get("digest")), _text(m.get("licence")))
            for m in _tables(run.get("models"))
        ),
        passes=tuple(
            Pass(
                _text(p.get("name")),
                _number(p.get("seconds")),
                _count(p.get("instances")),
                _count(p.get("cached")),
                _number(p.get("per_second")),
                _number(p.get("gpu_megabytes")),
            )
            for p in _tables(run.get("passes"))
        ),
        decisions=tuple(_text(name) for name in _list(run.get("decisions"))),
    )


def read_records(out: Path, *, embeddings: bool = False) -> list[Record]:
    """Read the table's scalar columns, sorted by key. Unlike `lora_data.table.read_table`, an older table will do.

    Args:
        out: OUT.
        embeddings: Whether the kept records have their ``embedding`` as well.

    Raises:
        RunError: The table is missing or has no ``source`` and ``key``.
    """
    path = out / TABLE
    if not path.is_file():
        raise RunError(f"no {TABLE} in {out}: expected a folder that `lora-data precompute` wrote")
    there = set(pq.read_schema(path).names)
    if not {"source", "key"} <= there:
        raise RunError(f"{path} is no table of lora_data: it has no columns source and key")
    fields = dataclasses.fields(Record)
    # arrays are most of the bytes, and nothing here draws them
    names = [f.name for f in fields if f.name in there and "ndarray" not in str(f.type)]
    defaults = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
    records: list[Record] = []
    for row in _rows(path, names, embeddings=embeddings and "embedding" in there):
        for name, value in row.items():
            if _missing(value):
                row[name] = defaults.get(name, "")
        records.append(Record(**row))
    pa.default_memory_pool().release_unused()  # what it took for a row group; Arrow would keep it
    return sorted(records, key=lambda r: r.key)


def _rows(path: Path, names: Sequence[str], *, embeddings: bool) -> Iterator[dict[str, Any]]:
    """The rows of a table, of which only a part is held at a time; those that are kept with their embedding."""
    with pq.ParquetFile(path) as file:
        for part in file.iter_batches(ROWS, columns=[*names, *(["embedding"] if embeddings else [])]):
            values = vectors(part.column("embedding")) if embeddings else [None] * part.num_rows
            for row, vector in zip(part.select(list(names)).to_pylist(), values, strict=True):
                if vector is not None and row.get("status") == "kept":
                    row["embedding"] = vector.copy()  # it alone: the others beside it go
                yield row


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _table(value: object) -> Json:
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []


def _tables(value: object) -> list[Json]:
    return [_table(item) for item in _list(value) if isinstance(item, dict)]


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _pair(value: object) -> tuple[float, float] | None:
    numbers = [_number(v) for v in _list(value)]
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
        return None
    return numbers[0], numbers[1]


def _numbers(table: Json) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in table.items():
        pair = _pair(value)
        if pair is not None:
            found[f"{name}.0"], found[f"{name}.1"] = pair
        elif (single := _number(value)) is not None:
            found[name] = single
    return found
