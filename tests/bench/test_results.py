"""What benchmarks say is what they measured."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from tests.bench.results import Table, alone, finish, interleaved, machine


def two() -> int:
    return 2


def test_more_a_second_is_faster_and_more_seconds_are_slower():
    rates = Table("x", "images a second", {"a": [10, 30], "b": [20, 20]}, reference="b")
    assert rates.ratios("a") == [0.5, 1.5]
    times = Table("x", "s", {"a": [10, 30], "b": [20, 20]}, reference="b")
    assert times.ratios("a") == pytest.approx([2, 2 / 3])
    assert Table("x", "s", {"a": [1]}).ratios("a") == []


def test_rounds_that_do_not_match_have_no_ratio():
    with pytest.raises(ValueError, match="shorter"):
        Table("x", "s", {"a": [1, 2], "b": [1]}, reference="b").ratios("a")


def test_the_file_holds_every_value_and_the_print_its_middle(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    table = Table(
        "speed", "images a second", {"ours": [3, 1, 2.5], "theirs": [1, 1, 1]}, "theirs", {"ours": {"kept": 7}}
    )
    path = finish("name", [table], argparse.Namespace(rounds=3, out=tmp_path), remarks=["Left out: nothing."])
    tree = json.loads(path.read_text())
    row = tree["tables"][0]["rows"][0]
    assert row["values"] == [3, 1, 2.5]
    assert (row["median"], row["min"], row["max"], row["repeats"], row["kept"]) == (2.5, 1, 3, 3, 7)
    assert row["times_reference"]["median"] == 2.5
    assert tree["settings"] == {"rounds": 3}
    assert tree["machine"]["packages"]["numpy"]
    said = capsys.readouterr().out
    assert "| ours | 2.5 (1 to 3) | 2.50 | 7 |" in said
    assert "Left out: nothing." in said


def test_every_work_has_its_turn_in_every_round():
    calls: list[str] = []
    works = {name: (lambda name=name: calls.append(name) or len(calls)) for name in "abc"}
    found = interleaved(works, 4)
    assert all(len(values) == 4 for values in found.values())
    assert all(sorted(calls[i : i + 3]) == ["a", "b", "c"] for i in range(0, 12, 3))


def test_a_package_that_is_not_installed_is_not_named():
    assert "no-such-package-here" not in machine(["no-such-package-here"])["packages"]


def test_alone_gives_what_it_measured():
    assert alone(two) == 2
