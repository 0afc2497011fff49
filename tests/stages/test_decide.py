from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lora_data.decisions import Decision
from lora_data.manifest import UNKNOWN, Record
from lora_data.stages.decide import Decide


def row(key: str, cluster: int, **fields: Any) -> Record:
    name = f"character_{cluster:02d}" if cluster >= 0 else UNKNOWN
    record = Record(source=f"{key}.png", key=key, cluster=cluster, character=name, **fields)
    return record if cluster >= 0 else record.decide("rejected", "identity", "unknown", 0.5, 0.9)


ROWS = [row("a0", 0), row("a1", 0), row("a2", 0), row("b0", 1), row("b1", 1), row("c0", 2), row("x", -1)]


def decided(*decisions: Decision) -> dict[str, Record]:
    result = Decide(decisions=decisions).apply(ROWS)
    assert [r.key for r in result] == [r.key for r in ROWS]
    return {r.key: r for r in result}


def test_a_name_is_for_everybody_who_is_taken_for_the_same():
    rows = decided(Decision(do="name", instances=("a1",), character="luca"))
    assert [rows[k].character for k in ("a0", "a1", "a2")] == ["luca"] * 3
    assert rows["b0"].character == "character_01"


def test_a_source_is_as_good_as_a_key():
    assert decided(Decision(do="name", instances=("b0.png",), character="giulia"))["b1"].character == "giulia"


def test_a_merge_takes_the_larger_one_s_name_and_keeps_the_clusters():
    rows = decided(Decision(do="merge", instances=("b1", "a0")))
    assert {rows[k].character for k in ("a0", "a1", "a2", "b0", "b1")} == {"character_00"}
    assert [rows[k].cluster for k in ("a0", "b0")] == [0, 1]


def test_a_look_is_for_the_clusters_that_were_meant():
    rows = decided(
        Decision(do="merge", instances=("a0", "b0"), character="luca"),
        Decision(do="name", instances=("b0",), character="luca", look="sea monster"),
    )
    assert [rows[k].look for k in ("a0", "b0", "b1")] == [None, "sea monster", "sea monster"]


def test_a_split_is_a_new_character_in_a_new_cluster():
    rows = decided(Decision(do="split", instances=("a1", "a2")))
    assert [rows[k].character for k in ("a0", "a1", "a2")] == ["character_00", "character_03", "character_03"]
    assert rows["a1"].cluster == rows["a2"].cluster == 3


def test_a_move_takes_these_and_no_others():
    rows = decided(Decision(do="move", instances=("a1",), character="character_01"))
    assert [rows[k].character for k in ("a0", "a1", "b0")] == ["character_00", "character_01", "character_01"]
    assert rows["a1"].cluster == 1


def test_whom_nobody_knew_is_known_now():
    for decision in (
        Decision(do="move", instances=("x",), character="luca"),
        Decision(do="merge", instances=("x", "a0"), character="luca"),
        Decision(do="name", instances=("x",), character="luca"),
        Decision(do="split", instances=("x",), character="luca"),
    ):
        stranger = decided(decision)["x"]
        assert (stranger.character, stranger.status, stranger.reason, stranger.limit) == ("luca", "kept", None, None)
        assert stranger.cluster is not None
        assert stranger.cluster >= 0


def test_what_was_rejected_for_something_else_stays_rejected():
    blurred = row("z", 0).decide("rejected", "filter", "blur", 20.0, 80.0)
    broken = row("e", -1).decide("error", "ingest", "truncated")
    stage = Decide(decisions=(Decision(do="name", instances=("z", "e"), character="luca"),))
    first, second = stage.apply([blurred, broken])
    assert (first.character, first.status, first.reason) == ("luca", "rejected", "blur")
    assert second is broken


def test_a_later_one_sees_what_an_earlier_one_did():
    rows = decided(
        Decision(do="name", instances=("a0",), character="luca"),
        Decision(do="split", instances=("a2",), character="ercole"),
        Decision(do="name", instances=("a0",), character="alberto"),
    )
    assert [rows[k].character for k in ("a0", "a1", "a2")] == ["alberto", "alberto", "ercole"]


def test_instances_that_are_not_there_are_passed_over():
    assert Decide(decisions=(Decision(do="split", instances=("nobody",)),)).apply(ROWS) == ROWS


acts = st.builds(
    Decision,
    do=st.sampled_from(["name", "merge", "split", "move"]),
    instances=st.lists(st.sampled_from([r.key for r in ROWS]), min_size=2, max_size=4, unique=True).map(tuple),
    character=st.sampled_from(["luca", "giulia", "character_01"]),
)


@given(st.lists(acts, max_size=6), st.permutations(range(len(ROWS))))
def test_laws(decisions: list[Decision], order: list[int]):
    """Nothing is lost, the last word counts, and the order of the rows means nothing."""
    stage = Decide(decisions=tuple(decisions))
    result = stage.apply(ROWS)
    again = stage.apply([ROWS[i] for i in order])
    seen = {r.key: (r.character, r.cluster, r.look, r.status) for r in result}
    assert {r.key: (r.character, r.cluster, r.look, r.status) for r in again} == seen
    for record in result:
        assert (record.character == UNKNOWN) == (record.status == "rejected")
    if decisions:
        assert {seen[key][0] for key in decisions[-1].instances} == {decisions[-1].character}


def test_who_was_found_stays_known():
    rows = decided(
        Decision(do="move", instances=("a1",), character="luca"), Decision(do="move", instances=("a1",), character="x")
    )
    assert (rows["a1"].character, rows["a1"].found_character, rows["a1"].found_cluster) == ("x", "character_00", 0)
    assert rows["a0"].found_character is None


def test_a_person_s_word_about_single_instances():
    word = {"a0": "reject", "x": "restore", "e": "restore", "i": "restore"}
    rows = [
        *ROWS,
        row("e", 0).decide("error", "ingest", "damaged"),
        row("i", 0).decide("rejected", "ingest", "small_mask", 3.0, 8.0),
    ]
    given = [r.replace(reviewed=word.get(r.key)) for r in rows]
    found = {r.key: r for r in Decide(decisions=()).apply(given)}
    assert (found["a0"].status, found["a0"].stage, found["a0"].reason) == ("rejected", "decide", "person")
    assert (found["x"].status, found["x"].reason, found["x"].value) == ("kept", None, None)
    assert (found["e"].status, found["i"].status) == ("error", "rejected")  # there is no picture of either
