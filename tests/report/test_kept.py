from __future__ import annotations

from pathlib import Path

import pytest

from lora_data.report import kept as module
from lora_data.report.kept import Kept


class Maker:
    """Makes other bytes each time, and counts."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> bytes:
        self.times += 1
        return b"made %d" % self.times


def test_the_same_is_made_once(tmp_path: Path):
    make = Maker()
    for _ in range(3):
        assert Kept(tmp_path).made("map", [1, {"a": 2}], ("numpy",), make) == b"made 1"


@pytest.mark.parametrize(("decides", "libraries"), [(2, ["numpy"]), (1, ["pillow"]), (1, ["numpy", "not there"])])
def test_what_decides_makes_it_anew(tmp_path: Path, decides: object, libraries: list[str]):
    make = Maker()
    Kept(tmp_path).made("map", 1, ["numpy"], make)
    assert Kept(tmp_path).made("map", decides, libraries, make) == b"made 2"


def test_other_code_makes_it_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make = Maker()
    Kept(tmp_path).made("map", [1], (), make)
    monkeypatch.setattr(module, "_code", lambda: "another")
    assert Kept(tmp_path).made("map", [1], (), make) == b"made 2"


@pytest.mark.parametrize("there", [0, 31, 64, 69])
def test_what_is_cut_off_is_made_anew(tmp_path: Path, there: int):
    make = Maker()
    Kept(tmp_path).made("map", [1], (), make)
    path = tmp_path / "report" / "map"
    path.write_bytes(path.read_bytes()[:there])
    assert Kept(tmp_path).made("map", [1], (), make) == b"made 2"
    assert [p.name for p in path.parent.iterdir()] == ["map"], "nothing temporary stays"


def test_without_a_cache_nothing_is_kept(tmp_path: Path):
    make = Maker()
    for number in (1, 2):
        assert Kept(tmp_path / "no").made("map", [1], (), make) == b"made %d" % number
    assert not (tmp_path / "no").exists()


def test_what_fails_is_not_kept(tmp_path: Path):
    def fail() -> bytes:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Kept(tmp_path).made("map", [1], (), fail)
    assert not (tmp_path / "report").exists()
