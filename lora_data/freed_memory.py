"""What the C library does with memory that was freed: kept for the next picture, or given back to the system."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT, _APART = 32 << 20, 1 << 20
_keeps = threading.Event()


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of freed pictures instead of giving it back to the system after each one.

    Every picture is followed by one of about the same size; without this, mapping its pages anew is up to half of the
    time of a stage (measured: colour 43 against 26 ms at 1024 px). For processes that are ours alone. Does nothing
    where the C library is another one.

    Arrow, where it is not imported yet, shares that memory: its own allocators keep a second store of freed blocks.

    Source: mallopt(3). 32 MiB is the largest threshold that glibc takes on 64 bit. Arrow C++, Memory Management.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    mallopt(_M_MMAP_THRESHOLD, _KEPT)
    mallopt(_M_TRIM_THRESHOLD, 256 << 20)
    _keeps.set()


@contextmanager
def large_blocks_apart() -> Generator[None]:
    """Within, blocks of 1 MiB and more are mapped one by one and given back as they are freed: where large arrays of
    all sizes follow each other, kept memory is mostly gaps between them (measured after identity of 5,000: 40 MB).

    It holds for all threads of the process. Does nothing where freed memory is not kept.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None or not _keeps.is_set():
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, _APART)
    try:
        yield
    finally:
        mallopt(_M_MMAP_THRESHOLD, _KEPT)


def release_freed_memory() -> None:
    """Give the system back what glibc keeps of freed memory: what comes next needs other blocks. Does nothing where the
    C library is another one.

    Source: malloc_trim(3).
    """
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of glibc; None where the C library is another one."""
    # getattr: musl lacks it
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
