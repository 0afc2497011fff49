"""Average-linkage clustering of unit vectors that keeps apart what is known to be different."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

NEIGHBOURS = 64
"""Most similar others that each vector may merge with at first, and half of what a group may later. Bounds memory and
time; where no vector has more than this many above the limit, the result is exact average linkage."""
MOST = 20_000
"""Vectors that are clustered at once: more take the square of the time."""
_BLOCK = 256


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
    mean of at least ``limit`` needs at least one pair above it, so only such pairs are ever looked at. A merged group
    is never more similar to a third than the nearer of its parts was, so that what each group once knew of its most
    similar other stays an upper bound, and is looked at again only when it comes first.

    Args:
        vectors: float32 ``[N, D]``, unit length.
        weights: float ``[N]``, how much each counts in the means.
        limit: Cosine.
        places: Where each vector was seen (frames). Who was seen in the same place is not the same.
        shared: Two groups must not merge where they share more than this part of the smaller one's places.
        neighbours: See `NEIGHBOURS`.

    Returns:
        Groups of indices, each sorted, in the order of their first members. Ties go to the lower indices.

    Source: UPGMA, Sokal and Michener 1958; upper bounds in a queue: Müllner's generic algorithm, arXiv:1109.2378, 2011;
        cannot-link constraints: Davidson and Ravi, PKDD 2005.
    """
    groups = _Groups(vectors, weights, limit, places, shared, neighbours)
    queue = [found for i in range(len(vectors)) if (found := groups.best(i)) is not None]
    heapq.heapify(queue)
    while queue:
        _, a, b, stamp_a, stamp_b = heapq.heappop(queue)
        if groups.stamps[a] != stamp_a:
            continue
        if groups.stamps[b] == stamp_b:
            a = groups.merge(a, b)
        found = groups.best(a)
        if found is not None:
            heapq.heappush(queue, found)
    return groups.members()


class _Groups:
    """The groups so far; each has the number of its first member."""

    def __init__(
        self,
        vectors: np.ndarray,
        weights: np.ndarray,
        limit: float,
        places: Sequence[AbstractSet[Hashable]],
        shared: float,
        neighbours: int,
    ) -> None:
        self._limit, self._shared, self._most = limit, shared, 2 * neighbours
        self._totals = vectors * np.asarray(weights, np.float64)[:, None]
        self._weights = np.array(weights, np.float64)
        self._places: list[AbstractSet[Hashable]] = list(places)
        self._parent = list(range(len(vectors)))
        self._near = _near(vectors, limit, neighbours)
        self.stamps = [0] * len(vectors)
        """How often each group has grown; -1: it is a part of another one."""

    def best(self, a: int) -> tuple[float, int, int, int, int] | None:
        """The most similar group that this one may merge with, as the queue holds it."""
        around = sorted({self._root(i) for i in self._near[a]} - {a})
        if not around:
            self._near[a] = set()
            return None
        similarity = self._totals[around] @ self._totals[a] / (self._weights[around] * self._weights[a])
        order = np.argsort(-similarity, kind="stable")[: self._most]
        order = order[similarity[order] >= self._limit].tolist()
        apart: set[int] = set()
        chosen = None
        for at in order:
            if _together(self._places[a], self._places[around[at]], self._shared):
                apart.add(at)
                continue
            chosen = -float(similarity[at]), a, around[at], self.stamps[a], self.stamps[around[at]]
            break
        self._near[a] = {around[at] for at in order if at not in apart}
        return chosen

    def merge(self, a: int, b: int) -> int:
        """Make one group of two; return its number."""
        a, b = min(a, b), max(a, b)
        self._totals[a] += self._totals[b]
        self._weights[a] += self._weights[b]
        self._places[a] = self._places[a] | self._places[b]
        self._near[a] |= self._near[b]
        self._near[b], self._places[b] = set(), frozenset()
        self._parent[b] = a
        self.stamps[a] += 1
        self.stamps[b] = -1
        return a

    def members(self) -> list[list[int]]:
        """The groups, in the order of their first members."""
        found: dict[int, list[int]] = {}
        for i in range(len(self._parent)):
            found.setdefault(self._root(i), []).append(i)
        return list(found.values())

    def _root(self, i: int) -> int:
        parent = self._parent
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i


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
    means = np.stack([_total(vectors, weights, part) for part in parts]) / sums[:, None] if parts else vectors[:0]
    seen = [frozenset().union(*(places[i] for i in part)) for part in parts]
    merged = average_linkage(means.astype(np.float32), sums, limit, seen, shared)
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
    means = np.stack([_total(vectors, weights, g) / weights[g].sum() for g in groups]).astype(np.float32)
    seen = [set[Hashable]().union(*(places[i] for i in group)) for group in groups]
    left: list[int] = []
    for start in range(0, len(rest), _BLOCK):
        block = list(rest[start : start + _BLOCK])
        for i, similarity in zip(block, vectors[block] @ means.T, strict=True):
            for g in np.argsort(-similarity, kind="stable").tolist():
                if similarity[g] < limit:
                    left.append(i)
                    break
                if not _together(places[i], seen[g], shared):
                    groups[g].append(i)
                    seen[g] |= places[i]
                    break
            else:
                left.append(i)
    return left


def _total(vectors: np.ndarray, weights: np.ndarray, members: Sequence[int]) -> np.ndarray:
    """The weighted sum of some vectors."""
    return weights[list(members)] @ vectors[list(members)].astype(np.float64)


def _together(a: AbstractSet[Hashable], b: AbstractSet[Hashable], shared: float) -> bool:
    """Whether two groups were seen in the same places."""
    few, many = sorted((a, b), key=len)
    return bool(few) and sum(place in many for place in few) > shared * len(few)


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


def _near(vectors: np.ndarray, limit: float, most: int) -> list[set[int]]:
    """For each vector the others at ``limit`` and above, at most ``most`` of them and whoever chose it."""
    near: list[set[int]] = [set() for _ in vectors]
    for start in range(0, len(vectors), _BLOCK):
        similarity = vectors[start : start + _BLOCK] @ vectors.T
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -1
        if len(vectors) > most:
            chosen = np.argpartition(-similarity, most, axis=1)[:, :most]
        else:
            chosen = np.broadcast_to(np.arange(len(vectors)), similarity.shape)
        above = np.take_along_axis(similarity, chosen, axis=1) >= limit
        for i, others, keep in zip((start + rows).tolist(), chosen, above, strict=True):
            for j in others[keep].tolist():
                near[i].add(j)
                near[j].add(i)
    return near
