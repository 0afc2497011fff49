"""What the C library does with memory that was freed: kept for the next picture, or given back to the system."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


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
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, 256 << 20)


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
