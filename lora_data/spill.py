"""Arrays that are rarely looked at, in a file instead of in memory."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path

import numpy as np

_FIRST, _LARGEST = 4 << 20, 256 << 20
"""Bytes of the first file, and of the largest: each is twice as large as the one before, for one takes a descriptor."""
_STEP = 1 << 20
"""Bytes that are written before memory lets go of them."""
_ALIGNED = 16


class Spill:
    """Puts arrays into files without a name, which are gone with the last of their arrays, or with the process.

    Args:
        folder: Where the files lie; on a disk rather than in memory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maps: list[mmap.mmap] = []
        self._used = 0

    def put(self, array: np.ndarray) -> np.ndarray:
        """The same array, read-only, mapped from a file: its bytes are in memory only while they are looked at.

        Raises:
            OSError: There is no room.
        """
        data = np.ascontiguousarray(array)
        if not data.nbytes:
            return data.copy()
        if not self._maps or self._used + data.nbytes > len(self._maps[-1]):
            self.rest()
            size = min(2 * len(self._maps[-1]), _LARGEST) if self._maps else _FIRST
            self._maps.append(_mapped(self._folder, max(size, data.nbytes)))
            self._used = 0
        here, start = self._maps[-1], self._used
        here[start : start + data.nbytes] = data.tobytes()
        self._used += -(-data.nbytes // _ALIGNED) * _ALIGNED
        if self._used // _STEP > start // _STEP:
            _let_go(here)
        found = np.frombuffer(here, data.dtype, data.size, start).reshape(data.shape)
        found.flags.writeable = False
        return found

    def rest(self) -> None:
        """Take out of memory what was looked at."""
        for one in self._maps:
            _let_go(one)


def _mapped(folder: Path, size: int) -> mmap.mmap:
    """A file of its own. Its room is taken now: where a disk fills up later, writing to a mapping ends the process."""
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            for start in range(0, size, _STEP):
                file.write(bytes(min(_STEP, size - start)))
            file.flush()
        return mmap.mmap(file.fileno(), size)


def _let_go(one: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_DONTNEED"):  # of a shared mapping: the file has what was written
        one.madvise(mmap.MADV_DONTNEED)
