from __future__ import annotations

import json
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from lora_data import remote_lock
from lora_data.errors import RunError
from lora_data.remote_lock import NAME, RemoteLock
from lora_data.storage import RemoteFolder

pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"BEAT": 0.1, "WATCHED": 0.6, "SETTLED": 0.05}.items():
        monkeypatch.setattr(remote_lock, name, seconds)


@pytest.fixture
def cache(request: pytest.FixtureRequest) -> Generator[RemoteFolder]:
    remote = RemoteFolder(f"memory://locks/{request.node.name}/cache")
    yield remote
    remote.delete([NAME])


def test_another_machine_is_refused_as_long_as_the_holder_lives(cache: RemoteFolder, tmp_path: Path):
    with RemoteLock(cache, tmp_path / "a") as lock:
        with (
            pytest.raises(RunError, match=r"another run works on memory://locks/.*on "),
            RemoteLock(cache, tmp_path / "b"),
        ):
            pass
        lock.check()
    assert cache.size(NAME) is None
    with RemoteLock(cache, tmp_path / "b"):
        pass


def test_what_a_dead_machine_left_is_taken_over(cache: RemoteFolder, tmp_path: Path):
    cache.write(NAME, json.dumps({"machine": "gone", "host": "there", "process": 7, "beats": 3}).encode())
    with RemoteLock(cache, tmp_path):
        assert json.loads(cache.read(NAME))["machine"] != "gone"
    cache.write(NAME, b"\xff no JSON")
    with RemoteLock(cache, tmp_path):
        pass


def test_a_machine_does_not_wait_for_its_own_crash(
    cache: RemoteFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(remote_lock, "WATCHED", 60.0)
    with RemoteLock(cache, tmp_path):
        left = cache.read(NAME)
    cache.write(NAME, left)
    start = time.perf_counter()
    with RemoteLock(cache, tmp_path):
        pass
    assert time.perf_counter() - start < 30


def test_of_two_at_the_same_moment_one_is_refused(cache: RemoteFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def other(seconds: float) -> None:
        cache.write(NAME, json.dumps({"machine": "faster", "host": "there", "process": 7, "beats": 1}).encode())

    monkeypatch.setattr(time, "sleep", other)
    with pytest.raises(RunError, match="process 7 on there"), RemoteLock(cache, tmp_path):
        pass
    assert json.loads(cache.read(NAME))["machine"] == "faster"


def test_who_was_silent_for_too_long_learns_it(cache: RemoteFolder, tmp_path: Path):
    taken = json.dumps({"machine": "awake", "host": "there", "process": 7, "beats": 1}).encode()

    def checked_until_noticed(lock: RemoteLock) -> None:
        for _ in range(500):
            cache.write(NAME, taken)
            time.sleep(0.02)
            lock.check()

    with RemoteLock(cache, tmp_path) as lock, pytest.raises(RunError, match="process 7 on there"):
        checked_until_noticed(lock)
    assert cache.read(NAME) == taken
