from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lora_data.errors import RunError, ShardError
from lora_data.inspection import Inspection, Rows, inspect
from lora_data.manifest import UNKNOWN, Record
from lora_data.shards import ShardSample, write_shards
from lora_data.table import write_table
from tests.test_cli import blocked


def make(key: str, character: str, turn: float, **fields: object) -> Record:
    vector = np.array([np.cos(turn), np.sin(turn)], np.float32)
    return Record(source=f"{key}.png", key=key, character=character, embedding=vector, framing="half").replace(**fields)


RECORDS = [
    *(make(f"a{n}", "ann", 0.0, look="coat", faces=1, view="left") for n in range(3)),
    make("a3", "ann", 0.0, look="dress", faces=0),
    make("a4", "ann", 0.0, faces=1).decide("surplus", "select", "crowded", 0.1, 0.2, surplus_to="a0"),
    *(make(f"b{n}", "bob", 1.5, faces=0) for n in range(2)),
    make("u", UNKNOWN, 0.7).decide("rejected", "identity", "unknown"),
]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run's table, run.json and shards."""
    folder = tmp_path / "out"
    samples = [ShardSample(r.key, r.character, 300, 400, {"txt": b"x"}) for r in RECORDS if r.active]
    folder.mkdir()
    write_shards(folder / "shards", samples, max_bytes=10**6)
    write_table(folder / "instances.parquet", RECORDS)
    (folder / "run.json").write_text(json.dumps({"config": {"precompute": {"select": {"target": [3, 4]}}}}))
    return folder


def cell(table: Rows, name: str, column: str) -> str:
    (row,) = [r for r in table[1:] if r[0] == name]
    return row[table[0].index(column)]


def test_each_character_has_its_numbers(out: Path):
    found = inspect(out)
    overview, variety, shards = found.tables
    assert [row[0] for row in overview[1:]] == ["ann", "bob", UNKNOWN]
    assert {c: cell(overview, "ann", c) for c in overview[0][1:]} == {
        "instances": "5",
        "kept": "4",
        "faces": "4 of 5",
        "looks": "2",
        "nearest": "bob",
        "margin": f"{1 - np.cos(1.5):+.3f}",
        "advice": "do not augment",
    }
    assert cell(overview, "bob", "advice") == "collect more"
    assert cell(overview, UNKNOWN, "advice") == "-"
    assert [cell(variety, "ann", c) for c in ("front", "left", "right", "no face")] == ["0", "3", "0", "1"]
    assert [cell(variety, "ann", c) for c in ("close-up", "half", "full")] == ["0", "4", "0"]
    assert cell(shards, "ann", "samples") == "4"
    assert cell(shards, "ann", "median size") == "300x400"
    assert "looks of ann: coat 3, dress 1" in found.remarks
    assert any("auto" in remark for remark in found.remarks)  # 4 of 4 wanted, and training would augment below 300


def test_the_folder_of_shards_will_do(out: Path, monkeypatch: pytest.MonkeyPatch):
    assert inspect(out / "shards") == inspect(out)
    monkeypatch.chdir(out / "shards")
    assert inspect(Path()) == inspect(out)


def only_shards(found: Inspection) -> str:
    (table,) = found.tables
    assert [row[:2] for row in table] == [("in shards", "samples"), ("ann", "4"), ("bob", "2")]
    (remark,) = found.remarks
    assert remark.startswith("left out: instances, looks, views")
    return remark


def test_copied_shards_say_what_they_do_not_know(out: Path, tmp_path: Path):
    shutil.copytree(out / "shards", tmp_path / "elsewhere" / "shards")
    assert "no instances.parquet beside" in only_shards(inspect(tmp_path / "elsewhere" / "shards"))


def test_the_table_of_another_run_does_not_speak(out: Path):
    write_table(out / "instances.parquet", RECORDS[1:])
    assert "another run" in only_shards(inspect(out))


def test_without_pyarrow_the_index_speaks(out: Path):
    done = blocked(f"from lora_data.cli import main\nsys.exit(main(['inspect', {str(out)!r}]))")
    assert done.returncode == 0, done.stderr
    assert "ann" in done.stdout
    assert 'pip install "lora-data[precompute]"' in done.stdout


def test_where_nobody_looked_for_faces_that_is_said(out: Path):
    write_table(out / "instances.parquet", [r.replace(faces=None, view=None, look=None) for r in RECORDS])
    found = inspect(out)
    assert cell(found.tables[0], "ann", "faces") == cell(found.tables[1], "ann", "left") == "-"
    assert cell(found.tables[0], "ann", "looks") == "-"
    assert any(remark.startswith("faces, views: nobody looked") for remark in found.remarks)


def test_what_is_no_run_is_named(out: Path, tmp_path: Path):
    with pytest.raises(ShardError, match=r"no index\.json"):
        inspect(tmp_path)
    (out / "run.json").write_text("{")
    with pytest.raises(RunError, match="not JSON"):
        inspect(out)
