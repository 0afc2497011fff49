"""Evidence of appearance, adapted to a film: what its characters have in common says nothing about who is who."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_BLOCK = 256
"""Vectors that are adapted at a time."""


def film_mean(vectors: np.ndarray, groups: Sequence[Sequence[int]], prior: float) -> np.ndarray:
    """The mean appearance of a film: over groups, each counting once, drawn towards none.

    Args:
        vectors: float32 ``[N, D]``.
        groups: Indices of what is probably one character each. Counted once, so that a lead fifty times as frequent
            as another does not make the mean his own.
        prior: Weight of zero, in characters: few characters say little about what is common.

    Returns:
        float32 ``[D]``.
    """
    if not groups:
        return np.zeros(vectors.shape[1], np.float32)
    total = np.sum([vectors[list(group)].mean(0, dtype=np.float64) for group in groups], axis=0)
    return (total / (len(groups) + prior)).astype(np.float32)


def units(vectors: np.ndarray) -> np.ndarray:
    """Scale each row to unit length."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(length, 1e-12)).astype(np.float32, copy=False)


def adapted(parts: Sequence[tuple[np.ndarray, float]], common: Sequence[np.ndarray]) -> np.ndarray:
    """Take away what is common, and join so that the cosine of two is the weighted mean of the parts' cosines.

    Args:
        parts: Vectors, float32 ``[N, D]``, and their weights.
        common: What each part's vectors have in common, float32 ``[D]`` (see `film_mean`). A vector of which it leaves
            nothing says nothing.

    Returns:
        float32 ``[N, sum of D]``, unit length.
    """
    count = len(parts[0][0])
    result = np.empty((count, sum(map(len, common))), np.float32)
    for start in range(0, count, _BLOCK):  # each step of it makes a copy
        rows = slice(start, start + _BLOCK)
        given = zip(parts, common, strict=True)
        result[rows] = units(
            np.hstack([units(vectors[rows] - mean) * np.float32(weight**0.5) for (vectors, weight), mean in given])
        )
    return result
