from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest

from lora_data import results as module
from lora_data.blobs import Blob
from lora_data.engines.local import LocalEngine
from lora_data.errors import RunError
from lora_data.results import NAME, NEXT, Result, Results


def stored(results: Results, key: str, picture: bytes = b"picture") -> Result:
    result = Result(b"fields of " + key.encode(), {NEXT: results.blobs.put(picture)})
    results.put(key, result)
    return result


def test_a_result_is_found_again_by_another_process(tmp_path: Path):
    with Results(tmp_path) as results:
        made = stored(results, "a")
    with Results(tmp_path) as results:
        assert results.get("a") == made
        assert results.get("b") is None
        assert results.warning is None


@pytest.mark.parametrize("column", ["fields", "pictures", "seal"])
def test_a_row_that_does_not_fit_its_seal_is_unknown(tmp_path: Path, column: str):
    with Results(tmp_path) as results:
        stored(results, "a")
        stored(results, "b", b"another")
        results._base.execute(
            f"UPDATE results SET {column} = (SELECT {column} FROM results WHERE key = 'b') WHERE key = 'a'"
        )
        assert results.get("a") is None
        assert results.get("b") is not None


def test_a_result_without_its_picture_is_unknown(tmp_path: Path):
    with Results(tmp_path) as results:
        blob = stored(results, "a").pictures[NEXT]
        stored(results, "b", b"another")
        results.blobs.path(blob).unlink()
        assert results.get("a") is None
        results.blobs.put(b"picture")
        assert results.get("a") is not None
        results.forget(blob)
        assert results.get("a") is None
        assert results.get("b") is not None


@pytest.mark.parametrize("damage", ["text", "cut", "page", "format"])
def test_a_damaged_database_is_started_anew_and_said(tmp_path: Path, damage: str):
    with Results(tmp_path) as results:
        for i in range(200):
            stored(results, f"key{i}")
    path = tmp_path / NAME
    data = path.read_bytes()
    if damage == "format":
        with sqlite3.connect(path) as base:
            base.execute("PRAGMA user_version = 99")
        base.close()
    else:
        path.write_bytes(
            {"text": b"no database at all", "cut": data[: len(data) // 2], "page": data[:4096] + os.urandom(8192)}[
                damage
            ]
        )
    with Results(tmp_path) as results:
        assert results.warning is not None
        assert str(path) in results.warning
        assert results.get("key0") is None
        stored(results, "new")
    with Results(tmp_path) as results:
        assert results.warning is None
        assert results.get("new") is not None


def test_a_database_that_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / NAME).mkdir()
    with pytest.raises(RunError, match="the same command goes on"):
        Results(tmp_path)


def test_files_are_read_once_until_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    plain = module.file_digest

    def counted(path: Path) -> str:
        read.append(path.name)
        return plain(path)

    monkeypatch.setattr(module, "file_digest", counted)
    files = [tmp_path / name for name in ("a", "b", "gone")]
    for path in files[:2]:
        path.write_bytes(path.name.encode())
    with Results(tmp_path / "cache") as results:
        results.digests(files)
        results.digests(files)
        assert sorted(read) == ["a", "a", "b", "b"], "a file that changed a moment ago is not trusted yet"
        later = time.time_ns() + 10**10
        monkeypatch.setattr(time, "time_ns", lambda: later)
        first = results.digests(files, LocalEngine(2).each)
        read.clear()
        assert results.digests(files, LocalEngine(2).each) == first
        assert set(first) == set(files[:2])
        assert not read
        stat = files[0].stat()
        files[0].write_bytes(b"A")  # the same size
        os.utime(files[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))  # and time
        time.sleep(0.02)
        files[0].touch()
        os.utime(files[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert results.digests(files)[files[0]] == plain(files[0]) != first[files[0]]
        assert read == ["a"]


def test_what_the_last_finished_run_did_not_use_goes(tmp_path: Path):
    with Results(tmp_path) as results:
        for key in "abc":
            stored(results, key, key.encode() * 100)
        results.finish()
    with Results(tmp_path) as results:
        results.get("a")
        stored(results, "d", b"a" * 100)
        results.finish()
    with Results(tmp_path) as results:  # a run that was stopped
        results.get("b")
        results.flush()
    with Results(tmp_path) as results:
        assert results.unused() == 100
        gone = results.prune()
        assert results.unused() == 0
        assert (gone.gone, gone.stayed, gone.freed, gone.kept) == (1, 3, 100, 200)
        assert [key for key in "abcd" if results.get(key)] == ["a", "b", "d"]
        assert len(list(results.blobs.folder.glob("*/*"))) == 2


def test_a_limit_lets_the_longest_unused_go_and_all_means_all(tmp_path: Path):
    with Results(tmp_path) as results:
        for key in "ab":
            stored(results, key, key.encode() * 100)
        results.finish()
        temporary = results.blobs.path(Blob("abcd", 1))
        temporary.parent.mkdir(exist_ok=True)
        temporary.write_bytes(b"left by a run that was killed")
        assert results.prune(most=150).gone == 1
        assert not temporary.exists()
        assert results.get("a") is not None
        everything = results.prune(everything=True)
        assert (everything.gone, everything.freed, everything.kept) == (1, 100, 0)
        assert not list(results.blobs.folder.glob("*/*"))
