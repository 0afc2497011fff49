"""Files and folders that are whole or not there, also after a kill or a power cut: write beside, flush, rename."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path


def write_atomic(path: Path, data: bytes) -> None:
    """Write to a temporary name beside, flush to the disk and rename: a reader sees the old file or the whole new one.

    Raises:
        OSError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    put_file(temporary, path)


def write_whole(path: Path, data: bytes) -> None:
    """Write to a temporary name beside, of this thread's own, and rename: a reader sees the old file or the whole new
    one. Nothing is flushed: for what can be made again.

    Raises:
        OSError: It cannot be written; no part stays.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.{threading.get_ident()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def put_file(new: Path, place: Path) -> None:
    """Flush a file and let it take a place; the same errors."""
    sync_file(new)
    os.replace(new, place)
    sync_folder(place.parent)


def link_file(source: Path, place: Path) -> None:
    """Let a place hold a file's content: a hard link, or a copy where the file system has none. Whoever reads meanwhile
    sees what was there before or the new content, never a part; nothing is flushed.

    Raises:
        OSError: It cannot be done.
    """
    if place.exists() and os.path.samestat(place.stat(), source.stat()):
        return
    temporary = place.with_name(f".{place.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # no hard links here, or too many of this file
        shutil.copyfile(source, temporary)
    os.replace(temporary, place)


def put_folder(new: Path, place: Path) -> None:
    """Let a folder whose files are flushed take another one's place. A process that is killed here leaves the old one,
    none, or the new one."""
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        os.replace(place, old)
    os.replace(new, place)
    sync_folder(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def sync_file(path: Path) -> None:
    """Flush a file to the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's names to the disk, where the system can (Windows does so by itself)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
