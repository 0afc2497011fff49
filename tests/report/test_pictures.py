from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lora_data.report import pictures as module
from lora_data.report.pictures import Pictures


def asked(cache: Path, *keys: str, drawn: int | None = None) -> Pictures:
    pictures = Pictures(cache)
    for key in keys:
        assert pictures.url("after", key) is not None
    if drawn is not None:
        pictures.add("a", 0, np.full((8, 8, 3), drawn, np.uint8))
    return pictures


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "cache" / "thumbs").mkdir(parents=True)
    for key in "abc":
        (tmp_path / "cache" / "thumbs" / f"{key}.webp").write_bytes(key.encode())
    return tmp_path / "cache"


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("links", [True, False])
def test_what_is_the_same_stays_and_the_rest_is_what_was_asked_for(
    cache: Path, tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise OSError("no hard links here")

    if not links:
        monkeypatch.setattr(module.os, "link", refuse)
    folder = tmp_path / "thumbs"
    first = asked(cache, "a", "b", drawn=10)
    first.write(folder)
    first.clear(folder)
    before = content(folder)
    assert before.keys() == {"after/a.webp", "after/b.webp", "drawn/a.0.webp"}
    drawn = (folder / "drawn" / "a.0.webp").stat().st_ino
    other = cache / "thumbs" / "new"
    other.write_bytes(b"A")
    other.replace(cache / "thumbs" / "a.webp")
    (folder / "after" / ".c.webp.tmp").write_bytes(b"of a run that was killed")
    second = asked(cache, "a", "c", drawn=10)
    second.write(folder)
    assert content(folder)["after/b.webp"] == b"b", "the page before finds its pictures until the new one is there"
    second.clear(folder)
    expected = {"after/a.webp": b"A", "after/c.webp": b"c", "drawn/a.0.webp": before["drawn/a.0.webp"]}
    assert content(folder) == expected
    assert (folder / "drawn" / "a.0.webp").stat().st_ino == drawn
    third = asked(cache, "a")
    third.write(folder)
    third.clear(folder)
    assert content(folder) == {"after/a.webp": b"A"}
