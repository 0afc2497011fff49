"""One run at a time on an OUT: a lock that the operating system takes away when its process ends, however it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lora_data.errors import RunError

NAME = "run.lock"


@contextmanager
def run_lock(folder: Path) -> Generator[None]:
    """Hold the lock of a folder.

    Args:
        folder: ``OUT/cache``; made if it is not there.

    Raises:
        RunError: Another process holds it; its number is in the message.
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / NAME).open("a+b") as file:
        if not _locked(file):
            file.seek(0)
            owner = file.read(32).decode("ascii", "replace").strip() or "unknown"
            raise RunError(
                f"another run works on {folder.parent} (process {owner}): wait until it has finished, or stop it"
            )
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30
    """Byte that is locked: away from the number, which others must be able to read."""

    def _locked(file: IO[bytes]) -> bool:
        file.seek(_FAR)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _locked(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
