"""The pictures of the page: the run's thumbnails, and small copies of what waits for a person or was drawn."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lora_data.durable import link_file, write_whole
from lora_data.manifest import Record
from lora_data.store import TAKEN_BACK_KINDS, THUMBNAIL, decode_webp, encode_lossy, small

THUMBS = {"after": "thumbs", "before": "before"}
"""Kind of picture in the report: its folder in ``OUT/cache``."""
PROPOSED, DRAWN = "proposed", "drawn"
"""Kinds that are made for the report: thumbnails of enhancements that wait for a person, and augmented pictures."""
_STORED = {
    **THUMBS,
    PROPOSED: "accepted",
    **TAKEN_BACK_KINDS,
}
"""Kind: its folder in ``OUT/cache``. Those named like an enhancement hold what was taken back, both sides in one."""

_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Pictures:
    """The pictures that lie in ``OUT/cache``, and those that the page shows.

    Args:
        cache: ``OUT/cache``.
    """

    def __init__(self, cache: Path) -> None:
        self._folders = {kind: cache / name for kind, name in _STORED.items()}
        self._there = {kind: _names(folder) for kind, folder in self._folders.items()}
        self._used: set[tuple[str, str]] = set()
        self._drawn: dict[str, bytes] = {}

    def url(self, kind: str, key: str) -> str | None:
        """Where the page finds a picture, relative to itself; None where there is none, or no such kind."""
        name = f"{key}.webp"
        if not _KEY.fullmatch(key) or name not in self._there.get(kind, ()):
            return None
        self._used.add((kind, name))
        return f"thumbs/{kind}/{name}"

    def add(self, key: str, number: int, picture: np.ndarray) -> str:
        """Take in a drawn picture, uint8 RGB ``[h, w, 3]``; where the page finds it."""
        name = f"{key}.{number}.webp"
        self._drawn[name] = encode_lossy(picture, np.full(picture.shape[:2], 255, np.uint8))
        return f"thumbs/{DRAWN}/{name}"

    def any(self, records: Sequence[Record]) -> bool:
        """Whether there is a picture of at least one of these."""
        return any(f"{r.key}.webp" in self._there[kind] for kind in THUMBS for r in records)

    def put(self, name: str, data: bytes) -> None:
        """Take in the bytes of a drawn picture under the name that `add` gave it."""
        self._drawn[name] = data

    def drawn(self) -> dict[str, bytes]:
        """The drawn pictures, by name."""
        return dict(self._drawn)

    def write(self, folder: Path) -> None:
        """Put every picture that was asked for below a folder, each whole; what is there already stays as it is. Stored
        ones are hard links, or copies where the file system has none: nobody writes to a stored picture.

        Raises:
            OSError: It cannot be written.
        """
        for kind in self._kinds():
            (folder / kind).mkdir(parents=True, exist_ok=True)
        for kind, name in sorted(self._used):
            source, target = self._folders[kind] / name, folder / kind / name
            if kind == PROPOSED:
                _let_be(target, _thumbnail(source))
            else:
                link_file(source, target)
        for name, data in self._drawn.items():
            _let_be(folder / DRAWN / name, data)

    def clear(self, folder: Path) -> None:
        """Remove what lies below a folder and was not asked for.

        Raises:
            OSError: It cannot be removed.
        """
        wanted = {*self._used, *((DRAWN, name) for name in self._drawn)}
        for inner in list(os.scandir(folder)):
            if inner.name not in self._kinds():
                shutil.rmtree(inner.path)
                continue
            for entry in list(os.scandir(inner.path)):
                if (inner.name, entry.name) not in wanted:
                    os.unlink(entry.path)

    def _kinds(self) -> list[str]:
        return sorted({kind for kind, _ in self._used} | set(THUMBS) | ({DRAWN} if self._drawn else set[str]()))


def _let_be(target: Path, data: bytes) -> None:
    """Let a file hold these bytes."""
    if not target.is_file() or target.read_bytes() != data:
        write_whole(target, data)


def tile_id(key: str) -> str | None:
    """The id of a picture's tile in its contact sheet; None where the key is none that a run gives."""
    return f"t-{key}" if _KEY.fullmatch(key) else None


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()


def _thumbnail(path: Path) -> bytes:
    """A small copy of a finished picture, as the run's own thumbnails are."""
    return encode_lossy(*small(*decode_webp(path.read_bytes()), THUMBNAIL))
