"""What takes long to make for a page and is made anew only when what decides it changes: ``OUT/cache/report``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from lora_data.content_key import version_of
from lora_data.durable import write_whole

_DIGEST = 32


class Kept:
    """The last of each thing that was made.

    Args:
        cache: ``OUT/cache``; where it is not there, nothing is kept.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def made(self, name: str, decides: object, libraries: Sequence[str], make: Callable[[], bytes]) -> bytes:
        """What ``make`` gives, or gave when the same decided.

        Args:
            name: Of the thing, a file's name.
            decides: Everything that decides it, as JSON; this package's own code is taken in by itself.
            libraries: Packages whose versions decide too.
            make: Makes it; what it raises is passed on, and nothing is kept.

        Raises:
            OSError: It cannot be written.
        """
        said = json.dumps([decides, _code(), [version_of(package) for package in libraries]], sort_keys=True)
        wanted = hashlib.sha256(said.encode()).digest()
        path = self._cache / "report" / name
        if path.is_file():
            found = path.read_bytes()
            data = found[2 * _DIGEST :]
            if found[: 2 * _DIGEST] == wanted + hashlib.sha256(data).digest():
                return data
        data = make()
        if self._cache.is_dir():
            path.parent.mkdir(exist_ok=True)
            write_whole(path, wanted + hashlib.sha256(data).digest() + data)
        return data


@cache
def _code() -> str:
    """A digest of this package's source: other code may make something else of the same."""
    whole = hashlib.sha256()
    waiting = [files("lora_data")]
    while waiting:
        for entry in sorted(waiting.pop().iterdir(), key=lambda e: e.name):
            if entry.is_dir():
                waiting.append(entry)
            elif entry.name.endswith(".py"):
                whole.update(hashlib.sha256(entry.read_bytes()).digest())
    return whole.hexdigest()
