from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.evidence import units
from lora_data.manifest import UNKNOWN, Record
from lora_data.stages.consistency import Consistency, same_frame

ANN, BEN = (units(v[None])[0] for v in (np.array([1.0, 0.0, 0.0, 0.1]), np.array([0.55, 0.8, 0.0, 0.1])))


def row(key: str, vector: np.ndarray, character: str, cluster: int = 0, **fields: Any) -> Record:
    return Record(source=key, key=key, character=character, cluster=cluster, embedding=vector, **fields)


def film() -> list[Record]:
    rng = np.random.default_rng(0)
    rows: list[Record] = []
    for c, (name, base) in enumerate((("ann", ANN), ("ben", BEN))):
        for n in range(12):
            vector = units((base + rng.normal(0, 0.05, 4))[None])[0]
            rows.append(row(f"{name}{n:02}", vector, name, c, tracklet=100 * c + n // 3))
    return rows


def flags(rows: list[Record]) -> dict[str, str | None]:
    return {r.key: r.flagged for r in Consistency().apply(rows)}


def test_who_fits_is_not_flagged():
    made = Consistency().apply(film())
    assert {r.flagged for r in made} == {None}
    for r in made:
        assert r.core_similarity is not None
        assert r.core_similarity > 0.95
        assert r.core_margin is not None
        assert r.core_margin > 0.2


def test_a_stranger_is_flagged_and_stays():
    stranger = row("x", np.array([0, 0, 1, 0], np.float32), "ann", tracklet=7)
    made = Consistency().apply([*film(), stranger])[-1]
    assert (made.flagged, made.status, made.character) == ("far_from_core", "kept", "ann")
    assert made.core_similarity == pytest.approx(0, abs=0.05)


def test_what_a_person_restored_is_not_flagged():
    stranger = row("x", np.array([0, 0, 1, 0], np.float32), "ann", tracklet=7, reviewed="restore")
    assert Consistency().apply([*film(), stranger])[-1].flagged is None


def test_whoever_looks_like_another_is_flagged():
    assert flags([*film(), row("x", BEN, "ann", tracklet=7)])["x"] == "far_from_core"
    between = units((0.5 * ANN + 0.5 * BEN)[None])[0]
    assert flags([*film(), row("x", between, "ann", tracklet=7)])["x"] == "nearer_to_other"


def test_a_track_does_not_vouch_for_itself():
    wrong = [row(f"x{n}", BEN, "ann", tracklet=7) for n in range(9)]
    assert {flags([*film(), *wrong])[f"x{n}"] for n in range(9)} == {"far_from_core"}
    apart = [r.replace(tracklet=70 + n) for n, r in enumerate(wrong)]
    assert {flags([*film(), *apart])[f"x{n}"] for n in range(9)} == {"nearer_to_other"}


def test_a_character_of_two_looks_has_two_cores():
    other = [row(f"w{n}", np.array([0, 0, 1, 0], np.float32), "ann", 5, tracklet=200 + n) for n in range(3)]
    assert {flags([*film(), *other])[f"w{n}"] for n in range(3)} == {None}


def test_who_has_nothing_but_its_own_track_is_not_judged():
    alone = [row(f"z{n}", np.array([0, 0, 0, 1], np.float32), "zoe", 9, tracklet=300) for n in range(4)]
    made = {r.key: r for r in Consistency().apply([*film(), *alone])}
    assert made["z0"].core_similarity is None
    assert made["z0"].flagged is None


def test_two_of_one_frame_with_one_name_are_flagged_and_named():
    rows = [row("a", ANN, "ann", 0, frame=5), row("b", ANN, "ann", 1, frame=5)]
    rows += [row("c", ANN, "ann", 0, frame=6), row("d", ANN, "ann", 0, frame=6)]  # one picture twice
    rows += [row("e", ANN, "ann", 0, frame=7), row("f", ANN, "ben", 1, frame=7)]
    rows += [row("g/a", ANN, "ann", 2, frame=6)]  # another film
    made = Consistency().apply(rows)
    assert [r.key for r in made if r.flagged == "same_frame"] == ["a", "b"]
    (line,) = same_frame(made)
    assert line.startswith("frame 5: a, b are all ann")


def test_many_frames_are_counted():
    rows = [row(f"{f}{c}", ANN, "ann", c, frame=f) for f in range(10, 24) for c in range(2)]
    lines = same_frame(Consistency().apply(rows))
    assert len(lines) == 11
    assert lines[-1].startswith("4 more frames")


def test_the_rest_is_left_alone():
    gone = row("x", BEN, "ann").decide("rejected", "filter", "dark")
    nobody = row("y", BEN, UNKNOWN, -1)
    bare = Record(source="z", key="z")
    flagged = row("w", BEN, "ann", flagged="fragments")
    made = Consistency().apply([*film(), gone, nobody, bare, flagged])
    assert made[-4:-1] == [gone, nobody, bare]
    assert made[-1].flagged == "fragments"
    assert made[-1].core_margin is not None


@settings(max_examples=20)
@given(st.permutations(range(24)))
def test_order_means_nothing(order: list[int]):
    rows = film()
    seen = {r.key: (r.flagged, r.core_similarity) for r in Consistency().apply(rows)}
    for r in Consistency().apply([rows[i] for i in order]):
        assert r.flagged == seen[r.key][0]
        assert r.core_similarity == pytest.approx(seen[r.key][1])


@pytest.mark.parametrize("fields", [{"core_similarity": 1.1}, {"core_margin": -2.0}])
def test_refuses_impossible_fields(fields: dict[str, float]):
    with pytest.raises(ValueError, match=f"{next(iter(fields))} must be"):
        Consistency(**fields)
