"""Average-linkage clustering of unit vectors that keeps apart what is known to be different."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

NEIGHBOURS = 64
"""Most similar others that each vector may merge with at first. Bounds memory; where no vector has more than this many
above the limit, the result is exact average linkage."""


@dataclass(slots=True)
class _Group:
    members: list[int]
    total: np.ndarray
    weight: float
    near: set[int]
    places: set[Hashable]


def average_linkage(
    vectors: np.ndarray,
    weights: np.ndarray,
    limit: float,
    places: Sequence[AbstractSet[Hashable]],
    shared: float = 0.0,
    neighbours: int = NEIGHBOURS,
) -> list[list[int]]:
    """Merge the two most similar groups, again and again, while their mean pairwise cosine is at least ``limit``.

    The mean of all pairwise dot products of two groups is the dot product of their means, so a group is its sum; and a
    mean of at least ``limit`` needs at least one pair above it, so only such pairs are ever looked at.

    Args:
        vectors: float32 ``[N, D]``, unit length.
        weights: float ``[N]``, how much each counts in the means.
        limit: Cosine.
        places: Where each vector was seen (frames). Who was seen in the same place is not the same.
        shared: Two groups must not merge where they share more than this part of the smaller one's places.
        neighbours: See `NEIGHBOURS`.

    Returns:
        Groups of indices, each sorted, in the order of their first members. Ties go to the lower indices.

    Source: UPGMA, Sokal and Michener 1958; cannot-link constraints: Davidson and Ravi, PKDD 2005.
    """
    near = _near(vectors, limit, neighbours)
    groups = {
        i: _Group([i], vectors[i] * np.float64(weights[i]), float(weights[i]), near[i], set(places[i]))
        for i in range(len(vectors))
    }
    queue: list[tuple[float, int, int]] = []

    def propose(a: int, b: int) -> None:
        first, second = groups[a], groups[b]
        similarity = float(first.total @ second.total) / (first.weight * second.weight)
        if similarity >= limit:
            heapq.heappush(queue, (-similarity, min(a, b), max(a, b)))

    for a, b in ((a, b) for a, group in groups.items() for b in group.near if a < b):
        propose(a, b)
    name = len(vectors)  # a merged group gets a new name, so that proposals of its parts are recognised as stale
    while queue:
        _, a, b = heapq.heappop(queue)
        if a not in groups or b not in groups:
            continue
        first, second = groups[a], groups[b]
        if len(first.places & second.places) > shared * min(len(first.places), len(second.places)):
            first.near.discard(b)
            second.near.discard(a)
            continue
        del groups[a], groups[b]
        around = (first.near | second.near) & groups.keys()
        total, weight = first.total + second.total, first.weight + second.weight
        groups[name] = _Group(first.members + second.members, total, weight, around, first.places | second.places)
        for other in sorted(around):
            groups[other].near -= {a, b}
            groups[other].near.add(name)
            propose(name, other)
        name += 1
    return sorted(sorted(group.members) for group in groups.values())


def hdbscan(vectors: np.ndarray) -> list[list[int]]:
    """Groups by scikit-learn's HDBSCAN (two members make a cluster); what it calls noise is alone.

    Args:
        vectors: float ``[N, D]``, unit length: Euclidean distance then orders as the cosine does.

    Returns:
        Groups of indices, each sorted, in the order of their first members.

    Source: Campello, Moulavi, Sander, Density-Based Clustering Based on Hierarchical Density Estimates, PAKDD 2013.
    """
    from sklearn.cluster import HDBSCAN

    if len(vectors) < 3:
        return [[i] for i in range(len(vectors))]
    finder = HDBSCAN(min_cluster_size=2, min_samples=1, copy=True)  # pyright: ignore[reportArgumentType]
    labels = finder.fit_predict(vectors.astype(np.float64))
    groups: dict[int, list[int]] = {}
    for i, label in enumerate(labels.tolist()):
        groups.setdefault(label if label >= 0 else -1 - i, []).append(i)
    return sorted(groups.values())


def _near(vectors: np.ndarray, limit: float, most: int, block: int = 1024) -> list[set[int]]:
    """For each vector the others at ``limit`` and above, at most ``most`` of them and whoever chose it."""
    near: list[set[int]] = [set() for _ in vectors]
    for start in range(0, len(vectors), block):
        similarity = vectors[start : start + block] @ vectors.T
        for row, values in enumerate(similarity):
            i = start + row
            values[i] = -1
            chosen = np.flatnonzero(values >= limit)
            if len(chosen) > most:
                chosen = chosen[np.argsort(-values[chosen], kind="stable")[:most]]
            for j in chosen.tolist():
                near[i].add(j)
                near[j].add(i)
    return near
