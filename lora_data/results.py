"""What passes have computed, by content key: ``OUT/cache/results.sqlite`` for numbers, blobs for pictures.

One process reads and writes it (workers store blobs alone), in WAL mode: a process that is killed leaves whole rows. A
row carries a digest of itself; one that does not fit it, or whose pictures are not there, counts as unknown and is
computed again. A file that is no database any more is started anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from lora_data.blobs import Blob, Blobs
from lora_data.download import file_digest
from lora_data.errors import RunError

if TYPE_CHECKING:
    from typing_extensions import Self

NAME = "results.sqlite"
BLOBS = "blobs"
NEXT = "next"
"""The kind of the picture that the next pass reads; all other kinds are shown to people."""
_SCHEMA = 1
_SETTLED = 2_000_000_000
"""ns: a file that changed a moment ago may change again within the same tick of the file system's clock."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a pass made of one instance.

    Args:
        fields: The record's changed fields (see `lora_data.record_bytes`).
        pictures: By kind.
    """

    fields: bytes
    pictures: Mapping[str, Blob]


class Results:
    """The store of one OUT. A context manager.

    Args:
        folder: ``OUT/cache``; made if it is not there.

    Raises:
        RunError: The database can be neither read nor made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.blobs = Blobs(folder / BLOBS)
        self._path = folder / NAME
        self.warning: str | None = None
        """What was wrong with the database that was there; None: nothing."""
        with self._told():
            try:
                self._base = self._opened()
            except sqlite3.OperationalError:
                raise  # it cannot be opened: deleting it would not help
            except sqlite3.DatabaseError as error:
                self.warning = f"{self._path} cannot be used ({error}) and is started anew: all is computed again"
                for suffix in ("", "-wal", "-shm"):
                    self._path.with_name(NAME + suffix).unlink(missing_ok=True)
                self._base = self._opened()
            self._run = self._fact("run") + 1
        self._used: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()

    def get(self, key: str) -> Result | None:
        """The result of a key, if it is there, whole, and its pictures are there at their sizes."""
        with self._told():
            row = self._base.execute("SELECT seal, pictures, fields FROM results WHERE key = ?", (key,)).fetchone()
        if row is None or row[0] != _seal(key, row[1], row[2]):
            return None
        pictures = {kind: Blob(digest, size) for kind, (digest, size) in json.loads(row[1]).items()}
        if not all(self.blobs.there(blob) for blob in pictures.values()):
            return None
        self._used.append(key)
        return Result(row[2], pictures)

    def put(self, key: str, result: Result) -> None:
        """Store a result; what was there is replaced."""
        pictures = json.dumps({kind: [blob.digest, blob.size] for kind, blob in sorted(result.pictures.items())})
        row = (key, _seal(key, pictures, result.fields), pictures, result.fields, self._run)
        with self._told():
            self._base.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", row)

    def forget(self, blob: Blob) -> None:
        """Drop the results that a picture belongs to: it is damaged."""
        with self._told():
            self._base.execute("DELETE FROM results WHERE instr(pictures, ?)", (blob.digest,))

    def flush(self) -> None:
        """Note which results this run has used so far."""
        with self._told():
            self._base.execute("BEGIN")
            self._base.executemany("UPDATE results SET run = ? WHERE key = ?", [(self._run, key) for key in self._used])
            self._note("run", self._run)
            self._base.execute("COMMIT")
        self._used.clear()

    def finish(self) -> None:
        """Note that this run has finished: what it did not use may go (see `prune`)."""
        self.flush()
        with self._told():
            self._note("finished", self._run)

    def digests(self, paths: Iterable[Path], workers: int = 1) -> dict[Path, str]:
        """SHA-256 of files; those of the same size and times as when they were last read are not read again.

        Returns:
            By path; a file that cannot be read is left out.
        """
        found: dict[Path, str] = {}
        unread: list[Path] = []
        for path in dict.fromkeys(paths):
            known = self._known(path)
            if known is None:
                unread.append(path)
            else:
                found[path] = known
        with ThreadPoolExecutor(workers) as pool:
            rows = [row for row in pool.map(_digested, unread) if row is not None]
        settled = time.time_ns() - _SETTLED
        with self._told():
            self._base.execute("BEGIN")
            for path, size, changed, digest in rows:
                found[path] = digest
                if max(changed) < settled:
                    row = (os.fsencode(path.absolute()), size, *changed, digest)
                    self._base.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", row)
            self._base.execute("COMMIT")
        return found

    def prune(self, *, everything: bool = False, most: int | None = None) -> Pruned:
        """Remove results that the last finished run did not use, and pictures that no result needs.

        Args:
            everything: Remove all results.
            most: Bytes of pictures that may stay; results go, those that were not used for longest first, until the
                rest fits. None: no limit.
        """
        with self._told():
            finished = self._fact("finished")
            rows = self._base.execute("SELECT key, pictures, run FROM results ORDER BY run DESC, key").fetchall()
            stay: dict[str, int] = {}
            gone: list[str] = []
            total = 0
            for key, pictures, run in rows:
                new = {digest: size for digest, size in json.loads(pictures).values() if digest not in stay}
                fits = most is None or total + sum(new.values()) <= most
                if everything or run < finished or not fits:
                    gone.append(key)
                    continue
                stay |= new
                total += sum(new.values())
            self._base.execute("BEGIN")
            self._base.executemany("DELETE FROM results WHERE key = ?", [(key,) for key in gone])
            if everything:
                self._base.execute("DELETE FROM files")
            self._base.execute("COMMIT")
            self._base.execute("VACUUM")
        freed = 0
        for path in self.blobs.folder.glob("*/*"):
            if path.stem not in stay:
                freed += path.stat().st_size
                path.unlink()
        return Pruned(len(gone), len(rows) - len(gone), freed, total)

    def _opened(self) -> sqlite3.Connection:
        base = sqlite3.connect(self._path, isolation_level=None)
        try:
            base.execute("PRAGMA journal_mode = WAL")
            base.execute("PRAGMA synchronous = NORMAL")
            check = base.execute("PRAGMA quick_check(1)").fetchone()[0]
            if check != "ok":
                raise sqlite3.DatabaseError(check)
            version = base.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _SCHEMA):
                raise sqlite3.DatabaseError(f"it has format {version}, this version writes {_SCHEMA}")
            base.execute(
                "CREATE TABLE IF NOT EXISTS results "
                "(key TEXT PRIMARY KEY, seal TEXT, pictures TEXT, fields BLOB, run INTEGER)"
            )
            base.execute(
                "CREATE TABLE IF NOT EXISTS files "
                "(path BLOB PRIMARY KEY, size INTEGER, modified INTEGER, changed INTEGER, digest TEXT)"
            )
            base.execute("CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER)")
            base.execute(f"PRAGMA user_version = {_SCHEMA}")
        except sqlite3.Error:
            base.close()
            raise
        return base

    def _known(self, path: Path) -> str | None:
        try:
            stat = path.stat()
        except OSError:
            return None
        with self._told():
            row = self._base.execute(
                "SELECT digest FROM files WHERE path = ? AND size = ? AND modified = ? AND changed = ?",
                (os.fsencode(path.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns),
            ).fetchone()
        return None if row is None else row[0]

    def _fact(self, name: str) -> int:
        row = self._base.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return 0 if row is None else row[0]

    def _note(self, name: str, value: int) -> None:
        self._base.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    @contextmanager
    def _told(self) -> Generator[None]:
        """Turn the database's errors into one that says what to do."""
        try:
            yield
        except sqlite3.Error as error:
            raise RunError(
                f"{self._path} cannot be used: {error}; what is done is kept, the same command goes on from there"
            ) from error


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed from a cache and what stayed.

    Args:
        gone: Results that were removed.
        stayed: Results that stayed.
        freed: Bytes of pictures that were removed.
        kept: Bytes of pictures that stayed.
    """

    gone: int
    stayed: int
    freed: int
    kept: int


def _seal(key: str, pictures: str, fields: bytes) -> str:
    return hashlib.sha256(b"\0".join([key.encode(), pictures.encode(), fields])).hexdigest()


def _digested(path: Path) -> tuple[Path, int, tuple[int, int], str] | None:
    """A file's size, times and digest; None where it cannot be read."""
    try:
        stat = path.stat()
        return path, stat.st_size, (stat.st_mtime_ns, stat.st_ctime_ns), file_digest(path)
    except OSError:
        return None
