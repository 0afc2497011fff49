from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import Any

import pytest

from lora_data.download import CACHE, TRIES, download, file_digest, read_url, user_cache
from lora_data.errors import DownloadError
from tests.web import Faults, served

DATA = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "w.bin").write_bytes(DATA)
    return tmp_path / "served"


def test_a_file_is_fetched_and_checked(source: Path, tmp_path: Path):
    seen: list[tuple[int, int | None]] = []
    with served(source) as url:
        path = tmp_path / "new" / "w.bin"
        assert download(f"{url}/w.bin", path, sha256=DIGEST, advance=lambda *n: seen.append(n)) == DIGEST
        assert read_url(f"{url}/w.bin") == DATA
    assert path.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert [p.name for p in path.parent.iterdir()] == ["w.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_taken_up_again(source: Path, tmp_path: Path, ranges: bool):
    faults = Faults(cut=2, cut_after=100_000, ranges=ranges)
    with served(source, faults) as url:
        download(f"{url}/w.bin", tmp_path / "w.bin", sha256=DIGEST)
    assert (tmp_path / "w.bin").read_bytes() == DATA
    assert [wanted for _, wanted in faults.asked][1] == "bytes=100000-"
    assert len(faults.asked) == 3


def test_what_has_come_stays_for_the_next_try(source: Path, tmp_path: Path):
    faults = Faults(cut=TRIES, cut_after=1000)
    with served(source, faults) as url:
        with pytest.raises(DownloadError, match=f"{1000 * TRIES} bytes are there, the next try goes on"):
            download(f"{url}/w.bin", tmp_path / "w.bin", sha256=DIGEST)
        assert not (tmp_path / "w.bin").exists()
        download(f"{url}/w.bin", tmp_path / "w.bin", sha256=DIGEST)
    assert faults.asked[-1][1] == f"bytes={1000 * TRIES}-"
    assert file_digest(tmp_path / "w.bin") == DIGEST


def test_a_part_that_is_already_whole_is_taken(source: Path, tmp_path: Path):
    (tmp_path / ".w.bin.part").write_bytes(DATA)
    with served(source) as url:
        download(f"{url}/w.bin", tmp_path / "w.bin", sha256=DIGEST)
    assert (tmp_path / "w.bin").read_bytes() == DATA


def test_another_digest_is_refused_and_nothing_is_kept(source: Path, tmp_path: Path):
    (tmp_path / "w.bin").write_bytes(b"the one before")
    with served(source) as url, pytest.raises(DownloadError, match=rf"has SHA-256 {DIGEST}, expected 0+"):
        download(f"{url}/w.bin", tmp_path / "w.bin", sha256="0" * 64)
    assert (tmp_path / "w.bin").read_bytes() == b"the one before"
    assert not (tmp_path / ".w.bin.part").exists()


def test_an_answer_of_the_server_is_final(source: Path, tmp_path: Path):
    faults = Faults()
    with served(source, faults) as url, pytest.raises(DownloadError, match="404"):
        download(f"{url}/nothing.bin", tmp_path / "nothing.bin")
    assert len(faults.asked) == 1


def test_no_room_on_the_disk_is_said_at_once(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    opened = Path.open

    def full(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self.name.endswith(".part"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(self, *args, **kwargs)

    faults = Faults()
    monkeypatch.setattr(Path, "open", full)
    with served(source, faults) as url, pytest.raises(DownloadError, match="No space left on device"):
        download(f"{url}/w.bin", tmp_path / "w.bin")
    assert len(faults.asked) == 1


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv(CACHE, str(tmp_path))
    assert user_cache() == tmp_path
    monkeypatch.delenv(CACHE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert user_cache() == tmp_path / "xdg" / "lora_data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_cache() == Path.home() / ".cache" / "lora_data"
