"""Disjoint sets of indices."""

from __future__ import annotations


class DisjointSets:
    """Each of ``count`` indices is alone at first. A set has the number of its lowest member.

    Source: union by joining, find by path halving: Tarjan and van Leeuwen, Journal of the ACM 31, 1984.
    """

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def __len__(self) -> int:
        return len(self._parent)

    def root(self, i: int) -> int:
        """The number of the set that ``i`` is in."""
        parent = self._parent
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        """Make one set of the two that ``i`` and ``j`` are in."""
        i, j = self.root(i), self.root(j)
        self._parent[max(i, j)] = min(i, j)
