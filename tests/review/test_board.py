from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lora_data.decisions import Decision
from lora_data.errors import ConfigError, RunError
from lora_data.review.board import Board, describe
from lora_data.review.file import NAME, append_decision, read_decisions
from tests.review.outs import row, synthetic

ROWS = [row("a0"), row("a1"), row("b0", "character_01"), row("b1", "character_01")]


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(synthetic(tmp_path / "out", ROWS))


def decide(board: Board, **fields: object) -> None:
    board.decide(Decision(**fields))  # pyright: ignore[reportArgumentType]


def test_only_what_changed_is_told(board: Board):
    decide(board, do="reject", instances=("b0",))
    changes = board.changes(0)
    assert (changes["version"], changes["reload"]) == (1, False)
    rows = changes["rows"]
    assert isinstance(rows, list)
    assert [place for place, _ in rows] == [2]
    assert board.changes(1)["rows"] == []
    assert board.changes(7)["reload"]  # a page of an earlier server


def test_what_waits_is_what_the_run_did_not_apply(board: Board):
    decide(board, do="reject", instances=("a0",), id="1" * 12)
    decide(board, do="reject", instances=("b0",), id="2" * 12)
    assert board.state()["waiting"] == 2
    (board.out / "run.json").write_text(json.dumps({"decisions": ["1" * 12, "2" * 12]}))
    assert board.state()["waiting"] == 0
    decide(board, do="undo", of="1" * 12)
    assert board.state()["waiting"] == 1  # to be undone is a change too


def test_two_boards_append_one_after_the_other(tmp_path: Path):
    out = synthetic(tmp_path / "out", ROWS)
    boards = [Board(out), Board(out)]
    names = [(n, i) for i in range(20) for n in range(2)]
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda item: decide(boards[item[0]], do="reject", instances=("a0",), id=f"{item[0]}-{item[1]}"), names
            )
        )
    found = read_decisions(out / NAME)
    assert sorted(d.id or "" for d in found) == sorted(f"{n}-{i}" for n, i in names)
    assert all(board.state()["waiting"] == 40 for board in boards)


def test_settings_follow_the_decisions(board: Board):
    decide(board, do="symmetric", character="character_00")
    decide(board, do="augment", character="character_00", augment={"horizontal_flip": 0.5})
    assert board.state()["settings"] == {"character_00": {"symmetric": True, "augment": {"horizontal_flip": 0.5}}}
    with pytest.raises(ConfigError, match="symmetric"):
        decide(board, do="augment", character="character_01", augment={"horizontal_flip": 0.5})


def test_a_table_that_is_being_written_is_no_end(board: Board):
    table = board.out / "instances.parquet"
    whole = table.read_bytes()
    table.unlink()
    assert "no instances.parquet" in str(board.state()["problem"])
    table.write_bytes(whole)
    assert board.state()["problem"] is None


def test_without_a_table_there_is_no_page(tmp_path: Path):
    with pytest.raises(RunError, match=r"no instances\.parquet"):
        Board(tmp_path)


def test_the_comment_says_what_was_done(board: Board):
    decide(board, do="reject", instances=("a0", "a1"), id="a" * 12)
    decide(board, do="undo", of="a" * 12)
    comments = [line for line in (board.out / NAME).read_text().splitlines() if line.startswith("# 2")]
    assert [line.partition(": ")[2] for line in comments] == ["reject 2 pictures", "undo of: reject 2 pictures"]


@pytest.mark.parametrize(
    ("decision", "text"),
    [
        (Decision(do="name", instances=("a",), character="luca"), "name luca"),
        (Decision(do="merge", instances=("a", "b"), character="luca"), "merge into luca"),
        (Decision(do="split", instances=("a",)), "split 1 picture off"),
        (Decision(do="move", instances=("a", "b"), character="luca"), "move 2 pictures to luca"),
        (Decision(do="accept", instances=("a",), enhancement="face_restore"), "accept face restore of 1 picture"),
        (Decision(do="symmetric", character="luca", symmetric=False), "luca is not symmetric"),
    ],
)
def test_a_decision_in_words(decision: Decision, text: str):
    assert describe(decision) == text


def test_what_was_left_open_by_hand_is_closed_first(tmp_path: Path):
    path = tmp_path / NAME
    path.write_text('[[decision]]\ndo = "reject"\ninstances = ["a"]')  # no end of line
    append_decision(path, Decision(do="restore", instances=("b",)), "now:\nrestore")
    assert [d.do for d in read_decisions(path)] == ["reject", "restore"]
