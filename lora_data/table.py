"""``instances.parquet``: the records as a table, written whole and renamed into place."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lora_data.durable import put_file
from lora_data.errors import RunError
from lora_data.manifest import Record

NAME = "instances.parquet"
WORKING = frozenset({"colour_grid", "phash_mirror", "thumb_luma", "thumb_matte"})
"""What corpus stages compare within a run and nobody afterwards: mostly small pictures, ten times as large as all
numbers together. They are not kept."""


def schema() -> pa.Schema:
    """The table's columns: the fields of `Record` without the working ones, in their order."""
    hints = typing.get_type_hints(Record)
    names = [field.name for field in dataclasses.fields(Record) if field.name not in WORKING]
    return pa.schema([(name, _arrow_type(name, hints[name])) for name in names])


def write_table(path: Path, records: Sequence[Record]) -> None:
    """Write the records, in their order."""
    columns = schema()
    arrays = [pa.array([_plain(getattr(r, name)) for r in records], columns.field(name).type) for name in columns.names]
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(pa.Table.from_arrays(arrays, schema=columns), temporary)
    put_file(temporary, path)


def read_table(path: Path) -> list[Record]:
    """Read the records back, without the working fields; arrays come as float32.

    Raises:
        RunError: The file is missing or its columns are not this version's.
    """
    if not path.is_file():
        raise RunError(f"no {path.name} in {path.parent}: expected a folder that `lora-data precompute` wrote")
    table = pq.read_table(path)
    columns = schema()
    if table.schema.names != columns.names:
        odd = sorted(set(table.schema.names) ^ set(columns.names))
        raise RunError(f"{path} was written by another version: columns differ in {odd}")
    flat = [f.name for f in columns if not pa.types.is_list(f.type)]
    arrays = {f.name: vectors(table.column(f.name)) for f in columns if pa.types.is_list(f.type)}
    records: list[Record] = []
    for i, row in enumerate(table.select(flat).to_pylist()):
        fields: dict[str, Any] = row | {name: values[i] for name, values in arrays.items()}
        records.append(Record(**fields))
    return records


def vectors(column: pa.ChunkedArray) -> list[np.ndarray | None]:
    """A column of lists of numbers as arrays, without a Python object per number."""
    found: list[np.ndarray | None] = []
    for chunk in column.chunks:
        values = chunk.values.to_numpy(zero_copy_only=False)
        offsets = chunk.offsets.to_numpy()
        valid = chunk.is_valid().to_numpy(zero_copy_only=False)
        found += [values[a:b] if v else None for a, b, v in zip(offsets[:-1], offsets[1:], valid, strict=True)]
    return found


def _arrow_type(name: str, hint: object) -> pa.DataType:
    options = [a for a in typing.get_args(hint) if a is not NoneType] or [hint]
    words = typing.get_args(options[0])  # of a Literal, alone or beside None
    kind = str if isinstance(options[0], str) or (words and isinstance(words[0], str)) else options[0]
    if name == "phash":
        return pa.uint64()
    if kind is np.ndarray:
        return pa.list_(pa.float32())
    return {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}[typing.cast(type, kind)]


def _plain(value: object) -> object:
    return value.ravel() if isinstance(value, np.ndarray) else value
