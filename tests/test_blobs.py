from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest

from lora_data.blobs import Blob, Blobs, DamagedBlobError


def test_bytes_come_back_and_are_stored_once(tmp_path: Path):
    blobs = Blobs(tmp_path)
    first, second = blobs.put(b"one"), blobs.put(b"one")
    assert first == second
    assert blobs.read(first) == b"one"
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [f"{first.digest}.webp"]


@pytest.mark.parametrize("damage", ["gone", "cut", "changed"])
def test_damage_is_found_when_it_is_read_and_healed_when_it_is_stored_again(tmp_path: Path, damage: str):
    blobs = Blobs(tmp_path)
    blob = blobs.put(b"picture")
    path = blobs.path(blob)
    path.unlink() if damage == "gone" else path.write_bytes(b"pict" if damage == "cut" else b"Picture")
    with pytest.raises(DamagedBlobError) as caught:
        blobs.read(blob)
    assert pickle.loads(pickle.dumps(caught.value)).blob == blob
    assert not blobs.sound([blob])
    assert blobs.there(blob) == (damage == "changed")
    blobs.put(b"picture")
    assert blobs.sound([blob])


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(self: Path, data: bytes) -> int:
        os.close(os.open(self, os.O_CREAT))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        Blobs(tmp_path).put(b"picture")
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize("links", [True, False])
def test_a_shown_folder_holds_these_pictures_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
):
    def refused(old: Path, new: Path) -> None:
        raise OSError(errno.EPERM, "no links on this file system")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    blobs, folder = Blobs(tmp_path / "blobs"), tmp_path / "final"
    one, two = blobs.put(b"one"), blobs.put(b"two")
    blobs.show(folder, {"a": one, "b": two, "c": one})
    (folder / ".d.webp.tmp").write_bytes(b"of a run that was killed")
    blobs.show(folder, {"a": two, "b": two})
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"a.webp": b"two", "b.webp": b"two"}
    assert os.path.samestat((folder / "a.webp").stat(), blobs.path(two).stat()) == links


def test_a_shown_picture_that_somebody_changed_is_put_back(tmp_path: Path):
    blobs, folder = Blobs(tmp_path / "blobs"), tmp_path / "final"
    one = blobs.put(b"one")
    blobs.show(folder, {"a": one})
    (folder / "a.webp").unlink()
    (folder / "a.webp").write_bytes(b"painted over")
    blobs.show(folder, {"a": one})
    assert (folder / "a.webp").read_bytes() == b"one"


def test_a_blob_is_what_it_says():
    assert Blob("ab", 3) == Blob("ab", 3) != Blob("ab", 4)
