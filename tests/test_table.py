from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lora_data.errors import RunError
from lora_data.manifest import Record
from lora_data.table import WORKING, read_table, schema, write_table


def test_records_come_back(tmp_path: Path):
    records = [
        Record(source="a.png", key="a", phash=2**64 - 1, embedding=np.array([0.6, 0.8], np.float32), frame=3),
        Record(source='b"\n.png', key="b").decide("rejected", "filter", "dark", 3.0, 30.0),
    ]
    write_table(tmp_path / "instances.parquet", records)
    back = read_table(tmp_path / "instances.parquet")
    for before, after in zip(records, back, strict=True):
        for field in dataclasses.fields(Record):
            a, b = getattr(before, field.name), getattr(after, field.name)
            np.testing.assert_array_equal(a, b) if isinstance(a, np.ndarray) else None
            assert isinstance(a, np.ndarray) or a == b, field.name
    assert back[0].embedding is not None
    assert back[0].embedding.dtype == np.float32


def test_the_table_has_a_column_for_every_field_but_the_working_pictures():
    fields = [f.name for f in dataclasses.fields(Record)]
    assert set(fields) >= WORKING
    assert schema().names == [f for f in fields if f not in WORKING]


def test_a_table_of_many_rows_is_written_and_read_part_by_part(tmp_path: Path):
    vector = np.arange(3, dtype=np.float32)
    records = [Record(source=f"{i}.png", key=str(i), embedding=vector + i if i % 3 else None) for i in range(2500)]
    write_table(tmp_path / "t.parquet", records)
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups == 10
    back = read_table(tmp_path / "t.parquet")
    assert [r.key for r in back] == [r.key for r in records]
    for before, after in zip(records, back, strict=True):
        np.testing.assert_array_equal(before.embedding, after.embedding)


def test_an_empty_table_is_a_table(tmp_path: Path):
    write_table(tmp_path / "t.parquet", [])
    assert read_table(tmp_path / "t.parquet") == []


def test_a_missing_table_and_another_versions_are_named(tmp_path: Path):
    with pytest.raises(RunError, match=r"no t\.parquet"):
        read_table(tmp_path / "t.parquet")
    pq.write_table(pa.table({"source": ["a"], "odd": [1]}), tmp_path / "t.parquet")
    with pytest.raises(RunError, match="another version"):
        read_table(tmp_path / "t.parquet")
