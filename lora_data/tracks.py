"""Tracks: one character over consecutive frames, which a film gives for free."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lora_data.disjoint import DisjointSets
from lora_data.manifest import Record

_COPY_BITS = 8
"""Bits of pHash within which two of one frame are one picture twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackLimits:
    """What links two instances of frames close together.

    Args:
        similarity: Least cosine of their appearance.
        overlap: Least overlap (IoU) of their silhouettes, which survive a wrong exposure or cast. Either is enough.
        gap: Largest step of frame numbers.
    """

    similarity: float
    overlap: float
    gap: int


def find_tracks(records: Sequence[Record], vectors: Sequence[np.ndarray], limits: TrackLimits) -> np.ndarray:
    """Number the tracks of instances.

    Tracks that the source names are taken as they are. Others are built from pairs that are each other's best
    continuation; scenes are never crossed, nor folders.

    Args:
        records: Any number of them.
        vectors: Of each float32 ``[D]``, unit length: its appearance.
        limits: See `TrackLimits`.

    Returns:
        int ``[N]``: for each the lowest index in its track.
    """
    groups = DisjointSets(len(records))
    named: dict[tuple[str, str | None, str], int] = {}
    moments: dict[tuple[str, int], list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        if record.track_key is not None:
            groups.join(i, named.setdefault(record.track_key, i))
        if record.frame is not None:
            moments[record.folder, record.frame].append(i)
    for (folder, frame), here in moments.items():
        for i, j in copies(records, vectors, here, limits.similarity):
            groups.join(i, j)
        for step in range(1, limits.gap + 1):
            for i, j in _links(records, vectors, here, moments.get((folder, frame + step), []), limits):
                groups.join(i, j)
    return np.array([groups.root(i) for i in range(len(records))], np.int64)


def copies(
    records: Sequence[Record], vectors: Sequence[np.ndarray], here: Sequence[int], similarity: float
) -> list[tuple[int, int]]:
    """Pairs of one frame (indices ``here``) that are one picture twice, not two characters."""
    pairs: list[tuple[int, int]] = []
    for n, i in enumerate(here):
        for j in here[n + 1 :]:
            a, b = records[i].phash, records[j].phash
            same_hash = a is None or b is None or (a ^ b).bit_count() <= _COPY_BITS
            if same_hash and float(vectors[i] @ vectors[j]) >= similarity:
                pairs.append((i, j))
    return pairs


def _links(
    records: Sequence[Record], vectors: Sequence[np.ndarray], here: list[int], there: list[int], limits: TrackLimits
) -> list[tuple[int, int]]:
    """Pairs that are each other's best continuation and near enough in appearance or in silhouette."""
    if not here or not there:
        return []
    cosine = np.stack([vectors[i] for i in here]) @ np.stack([vectors[j] for j in there]).T
    mattes = [_matte(records[i]) for i in here], [_matte(records[j]) for j in there]
    score = np.full(cosine.shape, -1.0)
    for a, i in enumerate(here):
        for b, j in enumerate(there):
            if records[i].scene != records[j].scene:
                continue
            look = (float(cosine[a, b]) - limits.similarity) / (1.001 - limits.similarity)
            shape = (_overlap(mattes[0][a], mattes[1][b]) - limits.overlap) / (1.001 - limits.overlap)
            score[a, b] = max(look, shape)
    # Copies of one picture have about equal scores: each of them may be the best.
    best = (score >= score.max(1, keepdims=True) - 1e-6) & (score >= score.max(0, keepdims=True) - 1e-6)
    return [(here[a], there[b]) for a, b in zip(*np.nonzero(best & (score >= 0)), strict=True)]


def _matte(record: Record) -> np.ndarray | None:
    return None if record.thumb_matte is None else np.unpackbits(record.thumb_matte).astype(bool)


def _overlap(a: np.ndarray | None, b: np.ndarray | None) -> float:
    if a is None or b is None:
        return 0.0
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 0.0
