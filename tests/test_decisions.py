from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_data.decisions import Decision, Settings, answers, effective, missing, settings, told, words
from lora_data.manifest import Record


def reject(*instances: str, **fields: Any) -> Decision:
    return Decision(do="reject", instances=instances, **fields)


def undo(of: Decision) -> Decision:
    return Decision(do="undo", of=of.identifier)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"do": "dance"}, "do must be one of"),
        ({"do": "reject"}, "reject needs at least 1 instances"),
        ({"do": "merge", "instances": ("a", "a")}, "merge needs at least 2"),
        ({"do": "move", "instances": ("a",)}, "move needs a character"),
        ({"do": "accept", "instances": ("a",)}, "accept needs an enhancement"),
        ({"do": "accept", "instances": ("a",), "enhancement": "sharpen"}, "enhancement must be one of"),
        ({"do": "augment", "character": "luca"}, "augment needs an augment"),
        ({"do": "symmetric"}, "symmetric needs a character"),
        ({"do": "undo"}, "undo needs an of"),
        ({"do": "reject", "instances": ("a",), "character": "luca"}, "reject has no use for character"),
        ({"do": "symmetric", "character": "luca", "instances": ("a",)}, "symmetric has no use for instances"),
        ({"do": "name", "instances": ("a",), "character": " "}, "is no character's name"),
    ],
)
def test_what_a_decision_lacks_or_has_too_much(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Decision(**fields)


def test_an_identifier_is_what_it_says_or_its_id():
    assert reject("a").identifier == reject("a", where="elsewhere").identifier != reject("b").identifier
    assert reject("a", id="0123").identifier == "0123"


def test_undo_takes_the_last_of_its_name_back():
    first, other, second = reject("a"), reject("b"), reject("a")
    assert effective([first, other, second, undo(first)]) == (first, other)
    assert effective([first, undo(first), first]) == (first,)
    assert effective([undo(first), first]) == (first,)


@given(st.lists(st.sampled_from("abc")), st.integers(0, 8))
def test_what_is_undone_leaves_what_was_before(instances: list[str], count: int):
    decisions = [reject(name, id=str(place)) for place, name in enumerate(instances)]
    back = [undo(decision) for decision in reversed(decisions[-count:] if count else [])]
    assert effective([*decisions, *back]) == tuple(decisions[: len(decisions) - len(back)])


def test_the_last_word_counts():
    decisions = [
        reject("a", "b"),
        Decision(do="restore", instances=("b", "c")),
        Decision(do="accept", instances=("a",), enhancement="deblur"),
        Decision(do="refuse", instances=("a", "b"), enhancement="deblur"),
        Decision(do="refuse", instances=("a",), enhancement="colour"),
    ]
    assert words(decisions) == {"a": "reject", "b": "restore", "c": "restore"}
    assert answers(decisions) == {("a", "deblur"): "refuse", ("b", "deblur"): "refuse", ("a", "colour"): "refuse"}
    rows = told([Record(source=f"{key}.png", key=key) for key in "abcd"], decisions)
    assert [r.reviewed for r in rows] == ["reject", "restore", "restore", None]
    assert [(r.deblur_review, r.colour_review) for r in rows] == [
        ("refuse", "refuse"),
        ("refuse", None),
        *[(None, None)] * 2,
    ]


def test_a_source_is_as_good_as_a_key():
    [record] = told([Record(source="sub/a.png", key="sub-a")], [reject("sub/a.png")])
    assert record.reviewed == "reject"


def test_without_symmetry_there_is_no_flip():
    symmetric = Decision(do="symmetric", character="luca")
    policy = Decision(do="augment", character="luca", augment={"horizontal_flip": 0.5, "rotation": [-1, 1]})
    asymmetric = Decision(do="symmetric", character="luca", symmetric=False)
    assert settings([symmetric, policy]) == {"luca": Settings(True, policy.augment)}
    assert settings([symmetric, policy, asymmetric]) == {"luca": Settings(False, {"rotation": [-1, 1]})}


def test_what_is_not_there_is_named():
    first = reject("a", "x", where="review.toml, decision 1")
    lines = missing([first, Decision(do="undo", of="nothing", where="review.toml, decision 2"), undo(first)], ["a"])
    assert lines == [
        "review.toml, decision 1: reject names instances that are not in INPUT: x",
        "review.toml, decision 2: undo names a decision that is not there before it: nothing",
    ]
