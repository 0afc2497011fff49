"""Near hashes: none is missed, none is invented, groups are stars."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.hash_index import BITS, HashIndex, bands_for, leaders


def ball(seed: int, count: int, bits: int) -> np.ndarray:
    """Hashes around a few centres, each with up to ``bits`` bits changed; some are equal."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, 5, np.uint64)[rng.integers(0, 5, count)]
    for _ in range(bits):
        change = rng.random(count) < 0.7
        hashes = np.where(change, hashes ^ (np.uint64(1) << rng.integers(0, 64, count).astype(np.uint64)), hashes)
    return hashes


def near_by_hand(hashes: np.ndarray, value: int, radius: int) -> list[int]:
    return [i for i, h in enumerate(hashes.tolist()) if (h ^ value).bit_count() <= radius]


def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    words = np.ascontiguousarray(a ^ b)
    return np.unpackbits(words.view(np.uint8).reshape(*words.shape, 8), axis=-1).sum(-1)


def all_of_them(best: int, near: np.ndarray) -> np.ndarray:
    return np.ones(len(near), bool)


@pytest.mark.parametrize("count", [0, 1, 30, 1000, 100_000, 10_000_000])
def test_what_is_near_is_near_in_a_band(count: int) -> None:
    for radius in range(BITS + 1):
        bands = bands_for(count, radius)
        if bands:  # else every hash is compared
            assert sum(width for width, _ in bands) <= BITS
            # To be far in every band takes one bit more than its limit in each.
            assert sum(limit + 1 for _, limit in bands) > radius
    assert not bands_for(count, BITS)
    assert bool(bands_for(count, 8)) == (count >= 1000)


@pytest.mark.parametrize("count", [200, 3000])
@pytest.mark.parametrize("radius", [0, 1, 3, 4, 8, 10, 13, 31, 64])
def test_finds_what_comparing_all_finds(count: int, radius: int) -> None:
    hashes = ball(count + radius, count, radius + 2)
    index = HashIndex(hashes, radius)
    among = np.random.default_rng(0).random(count) < 0.8
    for value in [*hashes[:20].tolist(), 0, 2**64 - 1]:
        expected = near_by_hand(hashes, value, radius)
        assert index.near(value, np.ones(count, bool)).tolist() == expected
        assert index.near(value, among).tolist() == [i for i in expected if among[i]]
    alone = [len(near_by_hand(hashes, value, radius)) == 1 for value in hashes[:200].tolist()]
    assert index.accompanied()[:200].tolist() == [not a for a in alone]


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(0, 63), max_size=12)), max_size=400),
    st.sampled_from([0, 1, 2, 4, 8, 9, 16]),
)
def test_no_pair_is_missed(centres: list[int], changes: list[tuple[int, set[int]]], radius: int) -> None:
    words = [centres[c % len(centres)] ^ sum(1 << b for b in bits) for c, bits in changes] * 4  # enough for bands
    hashes = np.array(words, np.uint64)
    index, everyone = HashIndex(hashes, radius), np.ones(len(words), bool)
    for value in words[:12]:
        assert index.near(value, everyone).tolist() == near_by_hand(hashes, value, radius)
    assert index.accompanied().all()  # each is there four times


@pytest.mark.parametrize("count", [0, 1, 40, 5000])
@pytest.mark.parametrize("radius", [0, 4, 8, 40])
def test_leaders_are_those_of_the_plain_greedy_order(count: int, radius: int) -> None:
    hashes = ball(count, count, 9)

    def some(best: int, near: np.ndarray) -> np.ndarray:
        return (near * 7 + best) % 5 > 0

    expected = np.arange(count)
    left = np.ones(count, bool)
    for i in range(count):
        if left[i]:
            left[i] = False
            near = np.flatnonzero(left & (apart(hashes, hashes[i]) <= radius))
            taken = near[some(i, near)]
            left[taken], expected[taken] = False, i
    assert np.array_equal(leaders(hashes, radius, some), expected)


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(0, 3000), st.sampled_from([2, 8, 12]))
def test_groups_are_stars_and_leaders_are_apart(seed: int, count: int, radius: int) -> None:
    hashes = ball(seed, count, radius)
    leader = leaders(hashes, radius, all_of_them)
    assert (leader[leader] == leader).all()
    assert (leader <= np.arange(count)).all()
    assert (apart(hashes, hashes[leader]) <= radius).all()
    first = np.flatnonzero(leader == np.arange(count))[:60]
    between = apart(hashes[first][:, None], hashes[first])
    assert (between[~np.eye(len(first), dtype=bool)] > radius).all()


def test_a_chain_does_not_collapse() -> None:
    chain = np.array([(1 << n) - 1 for n in range(64)], np.uint64)  # each one bit from the next
    leader = leaders(chain, 8, all_of_them)
    assert np.flatnonzero(leader == np.arange(64)).tolist() == list(range(0, 64, 9))


def test_equal_hashes_are_looked_at_once() -> None:
    looks: list[int] = []

    def count(best: int, near: np.ndarray) -> np.ndarray:
        looks.append(len(near))
        return np.ones(len(near), bool)

    assert not leaders(np.full(100_000, 12345, np.uint64), 8, count).any()
    assert looks == [99_999]


@pytest.mark.parametrize("radius", [-1, 65])
def test_refuses_an_impossible_radius(radius: int) -> None:
    with pytest.raises(ValueError, match=r"radius must be in \[0, 64\], got"):
        HashIndex(np.zeros(3, np.uint64), radius)
