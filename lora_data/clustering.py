"""Average-linkage clustering of unit vectors that keeps apart what is known to be different."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from numba import njit

from lora_data.silhouette import silhouettes

NEIGHBOURS = 64
"""Most similar others that each vector may merge with at first, and half of what a group may later. Bounds memory and
time; where no vector has more than this many above the limit, the result is exact average linkage."""
_BLOCK = 128
"""Rows compared with all at a time."""


class Linkage:
    """Average linkage of the same vectors at any limit: what two limits have in common is computed once.

    Args:
        vectors: float32 ``[N, D]``, unit length.
        weights: float ``[N]``, how much each counts in the means.
        places: Where each vector was seen (frames). Who was seen in the same place is not the same.
        shared: Two groups must not merge where they share more than this part of the smaller one's places.
        neighbours: See `NEIGHBOURS`.

    Source: UPGMA, Sokal and Michener 1958; upper bounds in a queue: Müllner's generic algorithm, arXiv:1109.2378, 2011;
        cannot-link constraints: Davidson and Ravi, PKDD 2005.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        weights: np.ndarray,
        places: Sequence[AbstractSet[Hashable]],
        shared: float = 0.0,
        neighbours: int = NEIGHBOURS,
    ) -> None:
        self._vectors, self._weights, self._places = vectors, np.array(weights, np.float64), places
        self._shared, self._neighbours = shared, neighbours
        self._nearest = _nearest(vectors, neighbours)
        self._known: dict[float, list[list[int]]] = {}

    def groups(self, limit: float) -> list[list[int]]:
        """Merge the two most similar groups, again and again, while their mean pairwise cosine is at least ``limit``.

        The mean of all pairwise dot products of two groups is the dot product of their means, so a group is its sum;
        and a mean of at least ``limit`` needs at least one pair above it, so only such pairs are ever looked at. A
        merged group is never more similar to a third than the nearer of its parts was, so that what each group once
        knew of its most similar other stays an upper bound, and is looked at again only when it comes first.

        Args:
            limit: Cosine.

        Returns:
            Groups of indices, each sorted, in the order of their first members. Ties go to the lower indices.
        """
        if limit not in self._known:
            self._known[limit] = self._grouped(limit)
        return self._known[limit]

    def cut(self, limits: Sequence[float]) -> float:
        """Which limit fits: the highest whose groups hang together about as well as the best one's do.

        How well is the silhouette of each vector, and "about as well" is what two standard errors of the difference to
        the best do not tell from it. A higher limit makes purer groups, and what is one too many is merged more easily
        than a mixed one is taken apart; so the fewer vectors there are to judge by, the purer the groups.

        Args:
            limits: To be tried, rising.

        Returns:
            One of ``limits``; the lowest where nothing tells the vectors apart.

        Source: Rousseeuw, Silhouettes, Journal of Computational and Applied Mathematics 20, 1987; the simplest within a
            standard error: Breiman et al., Classification and Regression Trees, 1984. Measured on ten rendered
            characters (pair F1, purity) .958 .988, on films of seven and twelve toy ones 1.0 1.0 and .959 1.0, on
            twelve in no more than 27 tracks .931 1.0; there, within 5 % of the best mean instead, .603 .733.
        """
        count = len(self._vectors)
        if len(limits) == 1 or count < 3:
            return limits[0]
        scores: list[np.ndarray] = []
        for limit in limits:
            labels = np.zeros(count, np.int64)
            groups = self.groups(limit)
            for number, group in enumerate(groups):
                labels[group] = number
            scores.append(silhouettes(self._vectors, labels) if 1 < len(groups) < count else np.zeros(count))
        best = max(scores, key=lambda score: float(score.mean()))
        if best.mean() <= 0:
            return limits[0]
        worse = [best - score for score in scores]
        errors = [2 * float(loss.std()) / count**0.5 for loss in worse]
        fits = [float(loss.mean()) <= error + 1e-12 for loss, error in zip(worse, errors, strict=True)]
        return max(limit for limit, fit in zip(limits, fits, strict=True) if fit)

    def _grouped(self, limit: float) -> list[list[int]]:
        near = _above(*self._nearest, limit)
        groups = _Groups(self._vectors, self._weights, limit, self._places, self._shared, near, 2 * self._neighbours)
        queue = [found for i in range(len(self._vectors)) if (found := groups.best(i)) is not None]
        heapq.heapify(queue)
        while queue:
            _, _, a, b, stamp_a, stamp_b = heapq.heappop(queue)
            if groups.stamps[a] != stamp_a:
                continue
            if groups.stamps[b] == stamp_b:
                a = groups.merge(a, b)
            found = groups.best(a)
            if found is not None:
                heapq.heappush(queue, found)
        return groups.members()


def average_linkage(
    vectors: np.ndarray,
    weights: np.ndarray,
    limit: float,
    places: Sequence[AbstractSet[Hashable]],
    shared: float = 0.0,
    neighbours: int = NEIGHBOURS,
) -> list[list[int]]:
    """`Linkage.groups` at one limit."""
    return Linkage(vectors, weights, places, shared, neighbours).groups(limit)


class _Groups:
    """The groups so far; each has the number of its first member."""

    def __init__(
        self,
        vectors: np.ndarray,
        weights: np.ndarray,
        limit: float,
        places: Sequence[AbstractSet[Hashable]],
        shared: float,
        near: list[np.ndarray],
        most: int,
    ) -> None:
        self._limit, self._shared, self._most = limit, shared, most
        self._vectors = vectors
        self._weights = weights.copy()
        self._totals = np.zeros((0, vectors.shape[1]))
        """The weighted sums of groups of several; that of one vector follows from it."""
        self._rows = np.full(len(vectors), -1, np.int32)
        """Where among them each group's sum is; -1: it is one vector."""
        self._free: list[int] = []
        self._places: list[AbstractSet[Hashable]] = list(places)
        self._parent = np.arange(len(vectors), dtype=np.int32)
        self._seen = np.zeros(len(vectors), np.bool_)
        self._near = near
        self.stamps = [0] * len(vectors)
        """How often each group has grown; -1: it is a part of another one."""

    def best(self, a: int) -> tuple[float, tuple[int, int], int, int, int, int] | None:
        """The most similar group that this one may merge with, as the queue holds it: by similarity, then by the pair,
        whichever of the two asks. For who may merge only since the other has grown has not asked again.
        """
        sums = self._vectors, self._totals, self._rows, self._weights
        around, similarity = _ranked(a, self._near[a], self._parent, self._seen, *sums, self._limit, self._most)
        self._near[a] = around  # also those that it may not merge with now: as it grows, what it shares may get less
        place = 0
        while place < len(around) and together(self._places[a], self._places[int(around[place])], self._shared):
            place += 1
        if place == len(around):
            return None
        b = int(around[place])
        return -float(similarity[place]), (min(a, b), max(a, b)), a, b, self.stamps[a], self.stamps[b]

    def merge(self, a: int, b: int) -> int:
        """Make one group of two; return its number."""
        a, b = min(a, b), max(a, b)
        total = self._total(a) + self._total(b)
        if self._rows[b] >= 0:
            self._free.append(int(self._rows[b]))
        if self._rows[a] < 0:
            self._rows[a] = self._row()
        self._totals[self._rows[a]] = total
        self._weights[a] += self._weights[b]
        self._places[a] = self._places[a] | self._places[b]
        self._near[a] = np.concatenate([self._near[a], self._near[b]])
        self._near[b], self._places[b] = self._near[b][:0], frozenset()
        self._parent[b] = a
        self.stamps[a] += 1
        self.stamps[b] = -1
        return a

    def _total(self, a: int) -> np.ndarray:
        """The weighted sum of a group, float64 ``[D]``."""
        return self._totals[self._rows[a]] if self._rows[a] >= 0 else self._vectors[a] * self._weights[a]

    def _row(self) -> int:
        """A row of `_totals` that no group has."""
        if not self._free:
            count = len(self._totals)
            more = max(16, count // 2)
            # in place: all sums and a copy of them at once would be the most that a run holds
            self._totals.resize((count + more, self._totals.shape[1]), refcheck=False)
            self._free.extend(range(count + more - 1, count - 1, -1))
        return self._free.pop()

    def members(self) -> list[list[int]]:
        """The groups, in the order of their first members."""
        found: dict[int, list[int]] = {}
        for i in range(len(self._parent)):
            found.setdefault(int(_root(self._parent, i)), []).append(i)
        return list(found.values())


def together(a: AbstractSet[Hashable], b: AbstractSet[Hashable], shared: float) -> bool:
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


def _nearest(vectors: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """For each vector ``most`` others (or all), none more similar than they are, and their cosines: ``[N, most]``."""
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, len(vectors), _BLOCK):
        similarity = vectors[start : start + _BLOCK] @ vectors.T
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -1
        if len(vectors) > most:
            chosen = np.argpartition(-similarity, most, axis=1)[:, :most]
        else:
            chosen = np.broadcast_to(np.arange(len(vectors)), similarity.shape)
        parts.append((chosen.astype(np.int32), np.take_along_axis(similarity, chosen, axis=1)))
    if not parts:
        return np.zeros((0, 0), np.int32), np.zeros((0, 0), np.float32)
    return np.concatenate([chosen for chosen, _ in parts]), np.concatenate([cosines for _, cosines in parts])


def _above(chosen: np.ndarray, cosines: np.ndarray, limit: float) -> list[np.ndarray]:
    """For each vector those of its nearest that are at ``limit`` and above, and whoever has it among its own."""
    count = len(chosen)
    if not count:
        return []
    rows, columns = np.nonzero(cosines >= limit)
    others = chosen[rows, columns]
    del columns
    pairs = np.empty((2, len(rows)), np.int64)
    pairs[0], pairs[1] = rows, others
    pairs *= count
    pairs[0] += others
    pairs[1] += rows
    del rows, others
    pairs = pairs.reshape(-1)
    pairs.sort()
    pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)]]
    ends = np.searchsorted(pairs, np.arange(1, count) * count)
    pairs %= count
    return np.split(pairs.astype(np.int32), ends)


@njit(nogil=True, cache=True)
def _root(parent: np.ndarray, i: int) -> int:
    """The number of the group that ``i`` is in, by path halving."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _product(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(nogil=True, cache=True)
def _ranked(
    a: int, near: np.ndarray, parent: np.ndarray, seen: np.ndarray, vectors: np.ndarray, totals: np.ndarray,
    rows: np.ndarray, weights: np.ndarray, limit: float, most: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The groups of ``near`` but ``a``, at most ``most``, the most similar first, and their mean cosines to it.

    ``seen`` is room to work in, all False before and after.
    """
    around = np.empty(len(near), np.int32)
    count = 0
    for i in near:
        root = _root(parent, i)
        if root != a and not seen[root]:
            seen[root] = True
            around[count] = root
            count += 1
    around = np.sort(around[:count])
    own = totals[rows[a]] if rows[a] >= 0 else vectors[a] * weights[a]
    other = np.empty_like(own)
    similarity = np.empty(count, np.float64)
    count = 0
    for root in around:
        seen[root] = False
        if rows[root] >= 0:
            product = _product(own, totals[rows[root]])
        else:
            for i in range(len(other)):
                other[i] = vectors[root, i] * weights[root]
            product = _product(own, other)
        found = product / (weights[root] * weights[a])
        if found >= limit:
            around[count], similarity[count] = root, found
            count += 1
    order = np.argsort(-similarity[:count], kind="mergesort")[:most]
    return around[order], similarity[order]
