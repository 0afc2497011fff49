from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_data.evidence import units
from lora_data.looks import same_faces

RULES = {"similarity": 0.55, "margin": 0.15, "least": 2}
PEOPLE = np.linalg.qr(np.random.default_rng(1).normal(size=(32, 5)))[0].T


def faces(person: int, *, likeness: float = 0.75, seed: int = 0, count: int = 3) -> np.ndarray:
    """Faces of one person at about this cosine to each other, as ArcFace sees one game character."""
    noise = np.random.default_rng([seed, person]).normal(size=(count, 32)) / 32**0.5
    return units(PEOPLE[person] * likeness**0.5 + noise * (1 - likeness) ** 0.5)


def grouped(*found: np.ndarray, places: list[set[int]] | None = None) -> list[list[int]]:
    return same_faces(found, places or [set() for _ in found], **RULES)  # type: ignore[arg-type]


def test_two_looks_with_one_face_are_one_character():
    assert grouped(faces(0, seed=1), faces(1), faces(0, seed=2), faces(2)) == [[0, 2], [1], [3]]


def test_three_looks_too():
    assert grouped(*(faces(0, seed=s) for s in range(3)), faces(1)) == [[0, 1, 2], [3]]


def test_a_network_that_finds_all_faces_alike_groups_nothing():
    blind = np.ones(32) / 32**0.5
    alike = [units(blind + 0.5 * faces(person)) for person in range(4)]
    assert (np.concatenate(alike) @ np.concatenate(alike).T).min() > RULES["similarity"]
    assert grouped(*alike) == [[0], [1], [2], [3]]


def test_without_a_stranger_nothing_shows_that_faces_tell_apart():
    assert grouped(faces(0, seed=1), faces(0, seed=2)) == [[0], [1]]
    assert grouped(faces(0, seed=1), faces(0, seed=2), faces(1)[:1]) == [[0], [1], [2]]


def test_who_is_in_one_frame_has_two_faces():
    three = [faces(0, seed=1), faces(0, seed=2), faces(1)]
    assert grouped(*three) == [[0, 1], [2]]
    assert grouped(*three, places=[{1, 2}, {2, 3}, set()]) == [[0], [1], [2]]


def test_one_face_is_no_evidence():
    assert grouped(faces(0, seed=1), faces(0, seed=2)[:1], faces(1), faces(2)) == [[0], [1], [2], [3]]


def test_clusters_without_faces_are_left_alone():
    assert grouped(np.empty(0), faces(0, seed=1), faces(0, seed=2), faces(1), np.empty(0)) == [[0], [1, 2], [3], [4]]
    assert grouped() == []


@given(st.permutations(range(5)), st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_order_means_nothing(order: list[int], people: list[int]):
    found = [faces(person, seed=n) for n, person in enumerate(people)]
    sets = {frozenset(group) for group in grouped(*found)}
    again = {frozenset(order[i] for i in group) for group in grouped(*(found[i] for i in order))}
    assert again == sets
    for group in sets:
        assert len({people[i] for i in group}) == 1


@pytest.mark.parametrize("likeness", [0.35, 0.9])
def test_likeness_decides(likeness: float):
    found = [faces(0, likeness=likeness, seed=1), faces(0, likeness=likeness, seed=2), faces(1), faces(2)]
    assert (len(grouped(*found)) == 3) == (likeness > RULES["similarity"])
