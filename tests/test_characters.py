from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_data.augment.policy import AUGMENT_BELOW
from lora_data.characters import (
    TARGET,
    advice,
    advice_by_name,
    auto_differs,
    faces_by_name,
    figures,
    margins,
)
from lora_data.manifest import UNKNOWN, Record
from lora_data.stages.select import Select


def make(key: str, character: str, vector: list[float] | None = None, **fields: object) -> Record:
    unit = None if vector is None else (np.array(vector) / np.linalg.norm(vector)).astype(np.float32)
    return Record(source=key, key=key, character=character, embedding=unit).replace(**fields)


# -- advice


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (0, "collect more"),
        (199, "collect more"),
        (200, "augment"),
        (299, "augment"),
        (300, "do not augment"),
        (5000, "do not augment"),
    ],
)
def test_the_strategys_numbers(kept: int, expected: str):
    assert advice(kept) == expected
    assert auto_differs([kept]) is None


def test_another_target_moves_the_advice_and_says_what_auto_would_do():
    assert [advice(n, (10, 20)) for n in (9, 10, 19, 20)] == ["collect more", "augment", "augment", "do not augment"]
    assert auto_differs([9, 19], (10, 20)) is None
    assert str(AUGMENT_BELOW) in (auto_differs([9, 20], (10, 20)) or "")
    assert str(AUGMENT_BELOW) in (auto_differs([400], (400, 500)) or "")


def test_there_is_one_300():
    assert Select().target == TARGET == (200, AUGMENT_BELOW)


# -- figures


def test_figures_count_rows_and_kept_pictures():
    records = [
        make("a", "ann", look="coat", framing="full", view="left", faces=1),
        make("b", "ann", look="coat", framing="half", faces=0),
        make("c", "ann", look="dress", view="front", faces=2),
        make("d", "ann", look="dress", framing="full", view="right", faces=1).decide("rejected", "filter", "dark"),
        make("e", "ann").decide("error", "ingest", "damaged"),
        make("f", "bob", framing="full").decide("duplicate", "deduplicate", "near_duplicate", duplicate_of="g"),
        make("h", UNKNOWN).decide("rejected", "identity", "unknown"),
    ]
    ann, bob, nobody = figures(records[::-1])
    assert (ann.name, ann.instances, ann.kept, ann.faces, ann.looked) == ("ann", 5, 3, 3, 4)
    assert ann.looks == {"coat": 2, "dress": 1}
    assert ann.views == {"front": 1, "left": 1, "right": 0, "none": 1}
    assert ann.framings == {"close-up": 0, "half": 1, "full": 1, "none": 1}
    assert (bob.instances, bob.kept, bob.looks, bob.views, bob.looked) == (1, 0, {}, {}, 0)
    assert nobody.name == UNKNOWN
    assert advice_by_name([ann, bob, nobody], (3, 4)) == {"ann": "augment", "bob": "collect more"}
    assert faces_by_name([bob, ann, nobody]) == {"ann": (3, 4)}
    assert figures([]) == []


# -- margins


def test_the_margin_is_what_one_picture_in_twenty_falls_below():
    """Three of 42 pictures of ann look nearly like bob, more than one in twenty."""
    clear = [make(f"a{n:02}", "ann", [1.0, 0.0]) for n in range(39)]
    near = [make(f"n{n}", "ann", [np.cos(1.4), np.sin(1.4)]) for n in range(3)]
    bob = [make(f"b{n}", "bob", [0.0, 1.0]) for n in range(5)]
    assert margins([*clear, *bob])["ann"] == ("bob", pytest.approx(1.0))
    assert margins([*clear, *bob])["bob"] == ("ann", pytest.approx(1.0))
    name, margin = margins([*clear, *near, *bob])["ann"]
    assert name == "bob"
    assert margin < 0


def test_a_picture_is_not_its_own_witness():
    """Two pictures at right angles: with itself in the mean each would be at 45 degrees to it."""
    records = [make("a", "ann", [1, 0, 0]), make("b", "ann", [0, 1, 0]), make("c", "bob", [0, 0, 1])]
    assert margins(records)["ann"] == ("bob", pytest.approx(0.0))
    assert "bob" not in margins(records)  # one picture has nothing to be compared with


def test_a_look_is_compared_with_itself_where_looks_are_known():
    """Ann in two very different looks, bob between them: her mean is where he is, her looks' means are not."""
    looks = [("coat", [1.0, 0.0]), ("dress", [0.0, 1.0])]
    ann = [make(f"a{look}{n}", "ann", vector, look=look) for look, vector in looks for n in range(10)]
    bob = [make(f"b{n}", "bob", [1.0, 1.0]) for n in range(5)]
    assert margins([*ann, *bob])["ann"][1] == pytest.approx(1 - np.sqrt(0.5), abs=1e-6)
    assert margins([r.replace(look=None) for r in ann] + bob)["ann"][1] < 0


def test_the_nearest_is_the_one_with_the_least_margin_and_nobody_is_none():
    records = [
        *(make(f"a{n}", "ann", [1, 0.01 * n, 0]) for n in range(5)),
        *(make(f"b{n}", "bob", [1, 1, 0]) for n in range(5)),
        *(make(f"c{n}", "cat", [0, 0, 1]) for n in range(5)),
        *(make(f"u{n}", UNKNOWN, [1, 0, 0]) for n in range(5)),
        *(make(f"r{n}", "cat", [1, 0, 0]).decide("rejected", "filter", "dark") for n in range(9)),
    ]
    assert margins(records)["ann"][0] == "bob"
    assert set(margins(records)) == {"ann", "bob", "cat"}
    assert margins([r for r in records if r.character in ("ann", UNKNOWN)]) == {}


@given(st.integers(0, 1000), st.randoms(use_true_random=False))
def test_the_order_of_the_table_says_nothing(seed: int, shuffle: object):
    rng = np.random.default_rng(seed)
    records = [make(f"k{n:02}", f"c{n % 3}", list(rng.random(6)), look="ab"[n % 2]) for n in range(20)]
    before = figures(records)
    shuffle.shuffle(records)  # type: ignore[attr-defined]
    assert figures(records) == before
    assert all(-2 <= c.margin <= 2 for c in before if c.margin is not None)
