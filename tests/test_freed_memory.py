from __future__ import annotations

import platform
import subprocess
import sys
import threading

import pytest

from lora_data import freed_memory
from tests.conftest import ROOT

CODE = """
import ctypes
import numpy as np
from lora_data.freed_memory import keep_freed_memory, large_blocks_apart, release_freed_memory

class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

def mapped():  # MiB that were mapped one by one
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Info
    return libc.mallinfo2().hblkhd >> 20

def block():
    return np.ones(16 << 20, np.uint8)

start = mapped()
keep_freed_memory()
with large_blocks_apart():
    one = block()
    inside = mapped() - start
del one
one = block()
print(inside, mapped() - start)
del one
release_freed_memory()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_blocks_come_from_kept_memory_but_where_they_are_kept_apart():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.split() == ["16", "0"], done.stderr


@pytest.mark.parametrize("keeps", [True, False])
def test_who_keeps_no_memory_is_left_alone(keeps: bool, monkeypatch: pytest.MonkeyPatch):
    said: list[tuple[int, ...]] = []
    monkeypatch.setattr(freed_memory, "_glibc", lambda name: lambda *given: said.append(given) or 1)
    monkeypatch.setattr(freed_memory, "_keeps", threading.Event())
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "system")
    if keeps:
        freed_memory.keep_freed_memory()
    before = len(said)
    with pytest.raises(ZeroDivisionError), freed_memory.large_blocks_apart():
        raise ZeroDivisionError
    assert said[before:] == ([(-3, 1 << 20), (-3, 32 << 20)] if keeps else [])
