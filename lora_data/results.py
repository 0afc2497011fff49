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
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from lora_data.blobs import Blob, Blobs
from lora_data.download import file_digest
from lora_data.errors import RunError
from lora_data.storage import RemoteFolder, stamp

if TYPE_CHECKING:
    from typing_extensions import Self

    from lora_data.storage import FilePath

Mark = tuple[tuple[int, int, int], str] | None
Each = Callable[[Callable[["FilePath"], Mark], Sequence["FilePath"]], Sequence[Mark]]

NAME = "results.sqlite"
BLOBS = "blobs"
NEXT = "next"
"""The kind of the picture that the next pass reads; all other kinds are shown to people."""
_SCHEMA = 1
_SAVE_EVERY = 300.0
"""Seconds between copies of the database to a store; a pass ends in between."""
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
        remote: The same behind a URL, where OUT is: the pictures lie there.

    Raises:
        RunError: The database can be neither read nor made.
    """

    def __init__(self, folder: Path, remote: RemoteFolder | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.blobs = Blobs(folder / BLOBS, remote.below(BLOBS) if remote is not None else None)
        self._listed: dict[str, int] | None = None
        self._path = folder / NAME
        self._remote = remote
        self._saved = time.monotonic()
        if remote is not None and not self._path.exists():
            self._fetch(remote)
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
        try:
            if self._remote is not None and kind is None:
                self._save(self._remote)
        finally:
            self._base.close()

    def get(self, key: str) -> Result | None:
        """The result of a key, if it is there, whole, and its pictures are there at their sizes."""
        with self._told():
            row = self._base.execute("SELECT seal, pictures, fields FROM results WHERE key = ?", (key,)).fetchone()
        if row is None or row[0] != _seal(key, row[1], row[2]):
            return None
        pictures = {kind: Blob(digest, size) for kind, (digest, size) in json.loads(row[1]).items()}
        if not all(self._there(blob) for blob in pictures.values()):
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
        if self._remote is not None and time.monotonic() - self._saved > _SAVE_EVERY:
            self._save(self._remote)

    def finish(self) -> None:
        """Note that this run has finished: what it did not use may go (see `prune`)."""
        self.flush()
        with self._told():
            self._note("finished", self._run)

    def digests(self, paths: Iterable[FilePath], each: Each | None = None) -> dict[FilePath, str]:
        """SHA-256 of files; those of the same size and times as when they were last read are not read again.

        Args:
            paths: Files here or behind a URL.
            each: Applies a function that reads to many things (`lora_data.engines`); None: one after the other.

        Returns:
            By path; a file that cannot be read is left out.
        """
        found: dict[FilePath, str] = {}
        unread: list[FilePath] = []
        for path in dict.fromkeys(paths):
            known = self._known(path)
            if known is None:
                unread.append(path)
            else:
                found[path] = known
        read = each(digested, unread) if each is not None else [digested(path) for path in unread]
        settled = time.time_ns() - _SETTLED
        with self._told():
            self._base.execute("BEGIN")
            for path, row in zip(unread, read, strict=True):
                if row is None:
                    continue
                mark, found[path] = row
                if max(mark[1:]) < settled:
                    values = (_bytes(path), *mark, found[path])
                    self._base.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", values)
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
            stay, gone, stayed = self._sorted_out(everything, most)
            self._base.execute("BEGIN")
            self._base.executemany("DELETE FROM results WHERE key = ?", [(key,) for key in gone])
            if everything:
                self._base.execute("DELETE FROM files")
            self._base.execute("COMMIT")
            self._base.execute("VACUUM")
        free = {digest: size for digest, size in self.blobs.stored().items() if digest not in stay}
        self.blobs.remove(free)
        return Pruned(len(gone), stayed, sum(free.values()), sum(stay.values()))

    def unused(self) -> int:
        """Bytes of the pictures that `prune` would remove."""
        with self._told():
            stay, gone, _ = self._sorted_out(False, None)
        alone = {digest: size for pictures in gone.values() for digest, size in pictures.items() if digest not in stay}
        return sum(alone.values())

    def _sorted_out(self, everything: bool, most: int | None) -> tuple[dict[str, int], dict[str, dict[str, int]], int]:
        """Bytes of the pictures that stay, by digest; the same of each result that goes, by its key; how many stay."""
        finished = self._fact("finished")
        rows = self._base.execute("SELECT key, pictures, run FROM results ORDER BY run DESC, key").fetchall()
        stay: dict[str, int] = {}
        gone: dict[str, dict[str, int]] = {}
        total = 0
        for key, pictures, run in rows:
            new = {digest: size for digest, size in json.loads(pictures).values() if digest not in stay}
            fits = most is None or total + sum(new.values()) <= most
            if everything or run < finished or not fits:
                gone[key] = new
                continue
            stay |= new
            total += sum(new.values())
        return stay, gone, len(rows) - len(gone)

    def _save(self, remote: RemoteFolder) -> None:
        """Copy the database as it is now to where the pictures are: another machine can go on from there."""
        copy = self._path.with_name(f".{NAME}.copy")
        copy.unlink(missing_ok=True)
        with self._told(), closing(sqlite3.connect(copy)) as base:
            self._base.backup(base)
        remote.upload(copy, NAME)
        copy.unlink()
        self._saved = time.monotonic()

    def _fetch(self, remote: RemoteFolder) -> None:
        """Go on from what another machine has left, if there is something."""
        copy = self._path.with_name(f".{NAME}.copy")
        try:
            remote.download(NAME, copy)
        except FileNotFoundError:
            copy.unlink(missing_ok=True)
        else:
            os.replace(copy, self._path)

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

    def _there(self, blob: Blob) -> bool:
        """Whether a picture is there. A store is listed once: asking for each would take hours."""
        if self.blobs.remote is None:
            return self.blobs.there(blob)
        if self._listed is None:
            self._listed = self.blobs.stored()
        return self._listed.get(blob.digest) == blob.size or self.blobs.there(blob)

    def _known(self, path: FilePath) -> str | None:
        try:
            mark = stamp(path)
        except OSError:
            return None
        with self._told():
            row = self._base.execute(
                "SELECT digest FROM files WHERE path = ? AND size = ? AND modified = ? AND changed = ?",
                (_bytes(path), *mark),
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


def digested(path: FilePath) -> tuple[tuple[int, int, int], str] | None:
    """A file's mark (see `lora_data.storage.stamp`) and SHA-256; None where it cannot be read."""
    try:
        return stamp(path), file_digest(path)
    except OSError:
        return None


def _bytes(path: FilePath) -> bytes:
    return os.fsencode(path.absolute()) if isinstance(path, Path) else str(path).encode()
