"""One run at a time on an OUT behind a URL: an object that its holder rewrites again and again.

A store takes no lock away from a machine that died. So whoever finds the object watches it: where it changes, its
holder is alive; where it does not, a crash left it, and it is taken over. No clocks are compared.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from lora_data.durable import write_whole
from lora_data.errors import RunError
from lora_data.run_lock import run_lock
from lora_data.storage import RemoteFolder

if TYPE_CHECKING:
    from typing_extensions import Self

NAME = "run.lock"
BEAT = 10.0
"""Seconds between two writes: on S3 some 0.2 cents an hour."""
WATCHED = 3.5 * BEAT
"""Seconds that somebody else's object is watched: three writes may be late."""
SETTLED = 1.0
"""Seconds after which two that came at the same moment see the same object."""


@contextmanager
def locked(cache: Path, remote: RemoteFolder | None) -> Generator[Callable[[], None]]:
    """Hold the locks of an OUT, here and behind its URL.

    Args:
        cache: ``OUT/cache``, on this machine.
        remote: The same behind a URL, where OUT is.

    Yields:
        What makes sure that they are still held (see `RemoteLock.check`).

    Raises:
        RunError: Another run holds one.
        OSError: The folder cannot be written, or the store cannot be reached.
    """
    with run_lock(cache):
        if remote is None:
            yield lambda: None
        else:
            with RemoteLock(remote, cache) as lock:
                yield lock.check


class RemoteLock:
    """The lock of one OUT. A context manager.

    Args:
        remote: ``OUT/cache`` behind its URL.
        folder: What stands for it on this machine, held by `lora_data.run_lock`: the name under which this machine
            takes locks is kept there, so that it need not wait for its own after a crash.

    Raises:
        RunError: On entry: a run on another machine holds it.
        OSError: On entry: the store cannot be reached.
    """

    def __init__(self, remote: RemoteFolder, folder: Path) -> None:
        self._remote = remote
        self._machine = _machine(folder)
        self._said = {"machine": self._machine, "host": socket.gethostname(), "process": os.getpid()}
        self._beats = 0
        self._lost: str | None = None
        self._done = threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        found = self._other()
        if found is not None:
            time.sleep(WATCHED)
            if (now := self._other()) is not None and now != found:
                raise RunError(self._words(now))
        self._write()
        time.sleep(SETTLED)
        if (now := self._other()) is not None:
            raise RunError(self._words(now))
        self._beating.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._beating.join()
        with suppress(OSError):  # it is then found to be left, as after a crash
            if self._lost is None:
                self._remote.delete([NAME])

    def check(self) -> None:
        """Make sure that the lock is still held.

        Raises:
            RunError: This machine slept or had no network for so long that another one took over.
        """
        if self._lost is not None:
            raise RunError(f"{self._lost}; it took over because nothing was heard from here. What is done is kept")

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            with suppress(OSError):  # the next one may get through
                if (now := self._other()) is not None:
                    self._lost = self._words(now)
                    return
                self._write()

    def _words(self, holder: dict[str, object]) -> str:
        folder = self._remote.url.removesuffix("/cache")
        return f"another run works on {folder} (process {holder.get('process')} on {holder.get('host')})"

    def _other(self) -> dict[str, object] | None:
        """What another machine says in the object; None where it is this one's, nobody's or damaged."""
        try:
            found = json.loads(self._remote.read(NAME))
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("machine") != self._machine else None

    def _write(self) -> None:
        self._beats += 1
        self._remote.write(NAME, json.dumps({**self._said, "beats": self._beats}).encode())


def _machine(folder: Path) -> str:
    """A name that no other machine has, the same every time."""
    path = folder / "machine"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, secrets.token_hex(16).encode())
    return path.read_text()
