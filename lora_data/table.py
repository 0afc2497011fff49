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

SPILLED = frozenset({"thumb_luma"})
"""Those of them that few records are asked for, and that are large: 5 of the 9 kB of a record's arrays."""

ROWS = 256
"""Rows of a row group: written one after the other, they need 5 MB and not 20 kB a record."""


def schema() -> pa.Schema:
    """The table's columns: the fields of `Record` without the working ones, in their order."""
    hints = typing.get_type_hints(Record)
    names = [field.name for field in dataclasses.fields(Record) if field.name not in WORKING]
    return pa.schema([(name, _arrow_type(name, hints[name])) for name in names])


def write_table(path: Path, records: Sequence[Record]) -> None:
    """Write the records, in their order."""
    columns = schema()
    temporary = path.with_name(f".{path.name}.tmp")
    # A dictionary of numbers that hardly ever come again would be larger than they are: with it, three times the memory
    # and a quarter more bytes.
    words = [field.name for field in columns if pa.types.is_string(field.type)]
    with pq.ParquetWriter(temporary, columns, use_dictionary=words) as writer:  # pyright: ignore[reportArgumentType]
        for start in range(0, len(records), ROWS):
            part = records[start : start + ROWS]
            arrays = [
                pa.array([_plain(getattr(r, name)) for r in part], columns.field(name).type) for name in columns.names
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=columns))
    put_file(temporary, path)
    pa.default_memory_pool().release_unused()  # what it took for a row group; Arrow would keep it


def read_table(path: Path) -> list[Record]:
    """Read the records back, without the working fields; arrays come as float32.

    Raises:
        RunError: The file is missing or its columns are not this version's.
    """
    if not path.is_file():
        raise RunError(f"no {path.name} in {path.parent}: expected a folder that `lora-data precompute` wrote")
    columns = schema()
    flat = [f.name for f in columns if not pa.types.is_list(f.type)]
    records: list[Record] = []
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if names != columns.names:
            odd = sorted(set(names) ^ set(columns.names))
            raise RunError(f"{path} was written by another version: columns differ in {odd}")
        for batch in file.iter_batches(ROWS):
            arrays = {f.name: vectors(batch.column(f.name)) for f in columns if pa.types.is_list(f.type)}
            for i, row in enumerate(batch.select(flat).to_pylist()):
                fields: dict[str, Any] = row | {name: values[i] for name, values in arrays.items()}
                records.append(Record(**fields))
    return records


def vectors(column: pa.ListArray) -> list[np.ndarray | None]:
    """A column of lists of numbers as arrays, without a Python object per number."""
    values = column.values.to_numpy(zero_copy_only=False)
    offsets = column.offsets.to_numpy()
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    return [values[a:b] if v else None for a, b, v in zip(offsets[:-1], offsets[1:], valid, strict=True)]


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
