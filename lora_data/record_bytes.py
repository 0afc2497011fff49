"""Fields of a record as bytes, and back: the same values give the same bytes, and come back bit for bit.

A JSON header (floats in their shortest exact form), then the arrays as they lie in memory.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from lora_data.manifest import Record
from lora_data.spill import Spill

NAMES = tuple(f.name for f in dataclasses.fields(Record) if f.name not in ("source", "key"))
"""All fields but those that name the input."""


def only(record: Record, names: Iterable[str]) -> Record:
    """A record with the input's name and these fields, and nothing else."""
    return Record(source=record.source, key=record.key, **{name: getattr(record, name) for name in sorted(names)})


def changes(before: Record, after: Record) -> dict[str, Any]:
    """The fields that are others afterwards."""
    found: dict[str, Any] = {}
    for name in NAMES:
        old, new = getattr(before, name), getattr(after, name)
        if old is new or (not isinstance(new, np.ndarray) and not isinstance(old, np.ndarray) and old == new):
            continue
        found[name] = new
    return found


def to_bytes(fields: Mapping[str, Any]) -> bytes:
    """Fields by name as bytes.

    Raises:
        TypeError: A value is none that a record holds.
    """
    arrays = {n: np.ascontiguousarray(v) for n, v in sorted(fields.items()) if isinstance(v, np.ndarray)}
    plain = {n: v for n, v in sorted(fields.items()) if n not in arrays}
    shapes = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    header = json.dumps([plain, shapes], separators=(",", ":"), default=_scalar).encode()
    return b"".join([len(header).to_bytes(4, "little"), header, *(array.tobytes() for array in arrays.values())])


def from_bytes(data: bytes) -> dict[str, Any]:
    """The fields of `to_bytes`."""
    end = 4 + int.from_bytes(data[:4], "little")
    plain, shapes = json.loads(data[4:end])
    fields: dict[str, Any] = plain
    for name, dtype, shape in shapes:
        count = int(np.prod(shape, dtype=np.int64))
        fields[name] = np.frombuffer(data, np.dtype(dtype), count, end).reshape(shape)
        end += fields[name].nbytes
    return fields


def merged(record: Record, data: bytes, spill: Spill, spilled: Collection[str]) -> Record:
    """A record with the fields of `to_bytes`, in which no array holds on to the bytes beside it.

    Args:
        record: As it was.
        data: What `to_bytes` made of the fields.
        spill: Where the arrays of ``spilled`` go.
        spilled: Names of fields; arrays of all others are copied.
    """
    fields = from_bytes(data)
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            fields[name] = spill.put(value) if name in spilled else value.copy()
    return record.replace(**fields)


def _scalar(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a record holds numbers, texts and arrays, got {type(value).__name__}")
