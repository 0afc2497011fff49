from __future__ import annotations

import errno
import gc
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lora_data.spill import Spill

ARRAYS = hnp.arrays(
    st.sampled_from([np.uint8, np.float32, np.bool_, np.int64]), hnp.array_shapes(max_dims=3, min_side=0, max_side=40)
)


@given(st.lists(ARRAYS, max_size=20))
def test_arrays_come_back_as_they_were_also_after_a_rest(
    tmp_path_factory: pytest.TempPathFactory, given: list[np.ndarray]
):
    folder = tmp_path_factory.getbasetemp()
    spill = Spill(folder)
    found = [spill.put(array) for array in given]
    spill.rest()
    for before, after in zip(given, found, strict=True):
        assert after.dtype == before.dtype
        np.testing.assert_array_equal(after, before)
        assert not after.size or not after.flags.writeable


def test_many_fill_several_files_and_nothing_is_left_in_the_folder(tmp_path: Path):
    spill = Spill(tmp_path)
    arrays = [np.random.default_rng(i).integers(0, 256, 300_000, np.uint8) for i in range(70)]
    found = [spill.put(array) for array in arrays]
    large = spill.put(np.arange(3_000_000))
    assert list(tmp_path.iterdir()) == []
    del spill
    gc.collect()
    assert all((a == b).all() for a, b in zip(arrays, found, strict=True))
    assert (large == np.arange(3_000_000)).all()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_was_put_is_not_in_memory(tmp_path: Path):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    spill, one = Spill(tmp_path), np.ones(1 << 20, np.uint8)
    found = [spill.put(one)]
    before = resident()
    found += [spill.put(one) for _ in range(100)]
    assert resident() - before < 20 << 20
    assert sum(int(array.sum()) for array in found) == 101 << 20
    assert resident() - before > 80 << 20
    spill.rest()
    assert resident() - before < 20 << 20


def test_a_full_disk_is_said_when_the_room_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        Spill(tmp_path).put(np.ones(3))


def test_a_system_that_cannot_reserve_writes_the_room_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    assert Spill(tmp_path).put(np.arange(5)).tolist() == [0, 1, 2, 3, 4]
