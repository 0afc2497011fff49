"""Average-linkage clustering of more vectors than can be clustered at once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from lora_data.clustering import average_linkage, together

MOST = 20_000
"""Vectors that are clustered at once: more take the square of the time."""
_BLOCK = 1024


def linkage_of_many(
    vectors: np.ndarray,
    weights: np.ndarray,
    limit: float,
    places: Sequence[AbstractSet[Hashable]],
    shared: float,
    order: Sequence[int],
    most: int = MOST,
) -> list[list[int]]:
    """`average_linkage` of any number of vectors, in time that grows with it: exact up to ``most``.

    More are clustered in rounds: ``most`` of them as they are, then each of the others joins the group to which its
    mean cosine is highest, if that is at least ``limit`` and the places allow it; what stays alone waits for the next
    round. At last the groups of all rounds are clustered.

    Args:
        vectors: As for `average_linkage`; so are ``weights``, ``limit``, ``places`` and ``shared``.
        order: The indices in the order in which they take part; random, but by content.
        most: In one round.

    Returns:
        As `average_linkage`.
    """
    if len(order) <= most:
        return average_linkage(vectors, weights, limit, places, shared)
    groups: list[list[int]] = []
    left = list(order)
    while len(left) > most:
        sample, rest = sorted(left[:most]), left[most:]
        found = _linked(vectors, weights, limit, places, shared, [[i] for i in sample])
        firm = [group for group in found if len(group) > 1]
        alone = {group[0] for group in found if len(group) == 1}
        rest = _join(firm, rest, vectors, weights, limit, places, shared)
        if firm:
            groups += firm
            left = [i for i in left[:most] if i in alone] + rest
        else:  # nobody is like anybody: they are what they are
            groups += [[i] for i in sample]
            left = rest
    return _linked(vectors, weights, limit, places, shared, [*groups, *([i] for i in left)])


def _linked(
    vectors: np.ndarray,
    weights: np.ndarray,
    limit: float,
    places: Sequence[AbstractSet[Hashable]],
    shared: float,
    parts: Sequence[Sequence[int]],
) -> list[list[int]]:
    """Average linkage of groups."""
    parts = sorted(parts, key=min)
    sums = np.array([weights[list(part)].sum() for part in parts])
    seen = [frozenset().union(*(places[i] for i in part)) for part in parts]
    merged = average_linkage(_means(vectors, weights, parts), sums, limit, seen, shared)
    return sorted(sorted(i for part in group for i in parts[part]) for group in merged)


def _join(
    groups: list[list[int]],
    rest: Sequence[int],
    vectors: np.ndarray,
    weights: np.ndarray,
    limit: float,
    places: Sequence[AbstractSet[Hashable]],
    shared: float,
) -> list[int]:
    """Let each of ``rest`` join the group that it is most like; return those that none takes, in their order."""
    if not groups:
        return list(rest)
    means = _means(vectors, weights, groups)
    seen = [set[Hashable]().union(*(places[i] for i in group)) for group in groups]
    left: list[int] = []
    for start in range(0, len(rest), _BLOCK):
        block = list(rest[start : start + _BLOCK])
        for i, similarity in zip(block, vectors[block] @ means.T, strict=True):
            for g in np.argsort(-similarity, kind="stable").tolist():
                if similarity[g] < limit:
                    left.append(i)
                    break
                if not together(places[i], seen[g], shared):
                    groups[g].append(i)
                    seen[g] |= places[i]
                    break
            else:
                left.append(i)
    return left


def _means(vectors: np.ndarray, weights: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """The weighted mean of each group, float32 ``[groups, D]``."""
    means = np.empty((len(groups), vectors.shape[1]), np.float32)
    for place, group in enumerate(groups):
        members = list(group)
        means[place] = weights[members] @ vectors[members].astype(np.float64) / weights[members].sum()
    return means
