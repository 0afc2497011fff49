from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.clustering import Linkage, average_linkage
from lora_data.evidence import units
from lora_data.linkage_rounds import linkage_of_many


def cast(people: int, each: int, seed: int = 0, noise: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of people that are far apart, in random order, and whose each is."""
    rng = np.random.default_rng(seed)
    bases = np.linalg.qr(rng.normal(size=(24, people)))[0].T
    owner = rng.permutation(np.repeat(np.arange(people), each))
    return units(bases[owner] + rng.normal(0, noise / 24**0.5, (len(owner), 24))), owner


def nowhere(vectors: np.ndarray) -> list[frozenset[int]]:
    return [frozenset() for _ in vectors]


@settings(max_examples=20)
@given(st.integers(0, 99), st.integers(1, 30))
def test_what_fits_at_once_is_clustered_at_once(seed: int, size: int):
    vectors = units(np.random.default_rng(seed).normal(size=(size, 4)))
    places = [frozenset({i % 7}) for i in range(size)]
    order = np.random.default_rng(seed).permutation(size).tolist()
    found = linkage_of_many(vectors, np.ones(size), 0.6, places, 0.0, order, most=size)
    assert found == average_linkage(vectors, np.ones(size), 0.6, places)


@pytest.mark.parametrize("most", [7, 20, 59])
@pytest.mark.parametrize("seed", range(3))
def test_rounds_find_the_same_people(most: int, seed: int):
    vectors, owner = cast(5, 12, seed)
    order = np.random.default_rng(seed).permutation(60).tolist()
    found = linkage_of_many(vectors, np.ones(60), 0.8, nowhere(vectors), 0.0, order, most)
    assert sorted(map(tuple, found)) == sorted(tuple(np.flatnonzero(owner == n)) for n in range(5))


def test_a_rare_one_among_many_is_found():
    vectors, owner = cast(3, 40)
    keep = np.flatnonzero((owner != 2) | (np.cumsum(owner == 2) <= 3))
    order = np.random.default_rng(1).permutation(len(keep)).tolist()
    found = linkage_of_many(vectors[keep], np.ones(len(keep)), 0.8, nowhere(keep), 0.0, order, most=12)
    assert sorted(map(len, found)) == [3, 40, 40]


def test_places_keep_apart_in_every_round():
    twins = units(np.random.default_rng(0).normal(1, 0.02, (40, 8)))
    places = [frozenset({i % 20}) for i in range(40)]  # every one beside its twin
    found = linkage_of_many(twins, np.ones(40), 0.9, places, 0.0, list(range(40)), most=9)
    for group in found:
        assert len({i % 20 for i in group}) == len(group)
    assert sorted(i for group in found for i in group) == list(range(40))


def test_strangers_stay_alone_however_many():
    vectors = np.eye(24, dtype=np.float32)
    assert linkage_of_many(vectors, np.ones(24), 0.5, nowhere(vectors), 0.0, list(range(24)), most=5) == [
        [i] for i in range(24)
    ]
    assert linkage_of_many(vectors[:0], np.ones(0), 0.5, [], 0.0, [], most=5) == []


def test_the_cut_is_where_people_come_apart():
    """Two people at .75, their own at .9: only a limit between the two tells them apart and no more."""
    rng = np.random.default_rng(0)
    base = np.zeros((4, 32))
    base[:, 0], base[range(4), range(1, 5)] = 1.0, 0.58
    owner = np.repeat(np.arange(4), 10)
    vectors = units(base[owner] + rng.normal(0, 0.38 / 32**0.5, (40, 32)))
    limits = [0.5, 0.6, 0.7, 0.8, 0.85, 0.95]
    chosen = Linkage(vectors, np.ones(40), nowhere(vectors)).cut(limits)
    assert chosen in (0.8, 0.85)
    assert len(average_linkage(vectors, np.ones(40), chosen, nowhere(vectors))) == 4


def test_where_nothing_comes_apart_the_lowest_is_taken():
    one = units(np.random.default_rng(0).normal(1, 0.01, (9, 5)))
    assert Linkage(one, np.ones(9), nowhere(one)).cut([0.5, 0.6, 0.7]) == 0.5
    assert Linkage(one[:2], np.ones(2), nowhere(one[:2])).cut([0.5, 0.6]) == 0.5
    assert Linkage(one, np.ones(9), nowhere(one)).cut([0.6]) == 0.6
