"""How well a grouping fits: the silhouette of each of its members."""

from __future__ import annotations

import numpy as np

_BLOCK = 128
"""Vectors compared with all groups at a time."""


def silhouettes(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How much nearer each one is to its own group than to the nearest other, from -1 to 1.

    The distance of two is 1 less their cosine, so that the mean one to a group follows from the group's sum: the square
    of the vectors' number is never held.

    Args:
        vectors: ``[N, D]``, unit length.
        labels: int ``[N]``: the groups, numbered from 0 on without a gap; at least two.

    Returns:
        float64 ``[N]``; 0 for who is alone in its group.

    Source: Rousseeuw, Silhouettes, Journal of Computational and Applied Mathematics 20, 1987.
    """
    sizes = np.bincount(labels)
    sums = np.zeros((len(sizes), vectors.shape[1]))
    np.add.at(sums, labels, vectors)
    found = np.zeros(len(vectors))
    for start in range(0, len(vectors), _BLOCK):
        rows = vectors[start : start + _BLOCK].astype(np.float64)
        own, at = labels[start : start + _BLOCK], np.arange(len(rows))
        alike = rows @ sums.T
        others = np.maximum(sizes[own] - 1, 1)  # of its own group
        inner = np.maximum(1 - (alike[at, own] - (rows * rows).sum(1)) / others, 0)
        alike /= sizes
        alike[at, own] = -np.inf
        outer = np.maximum(1 - alike.max(1), 0)
        most = np.maximum(inner, outer)
        with_any = (sizes[own] > 1) & (most > 0)
        found[start : start + _BLOCK] = np.where(with_any, (outer - inner) / np.where(with_any, most, 1), 0)
    return found
