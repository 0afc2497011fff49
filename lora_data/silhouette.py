"""How well a grouping fits: the silhouette of each of its members."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def silhouettes(away: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How much nearer each one is to its own group than to the nearest other, from -1 to 1.

    Args:
        away: Distances, ``[N, N]``, 0 on the diagonal.
        labels: int64 ``[N]``: the groups, numbered from 0 on without a gap; at least two.

    Returns:
        float64 ``[N]``; 0 for who is alone in its group.

    Source: Rousseeuw, Silhouettes, Journal of Computational and Applied Mathematics 20, 1987.
    """
    sizes = np.bincount(labels)
    found = np.zeros(len(labels))
    for i in range(len(labels)):
        own = labels[i]
        if sizes[own] == 1:
            continue
        sums = np.zeros(len(sizes))
        for j in range(len(labels)):
            sums[labels[j]] += away[i, j]
        inner, outer = sums[own] / (sizes[own] - 1), np.inf
        for group in range(len(sizes)):
            if group != own:
                outer = min(outer, sums[group] / sizes[group])
        most = max(inner, outer)
        if most > 0:
            found[i] = (outer - inner) / most
    return found
