"""Looks: clusters of appearance that are one character in other clothes, by their faces."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from lora_data.clustering import average_linkage
from lora_data.evidence import units


def same_faces(
    faces: Sequence[np.ndarray],
    places: Sequence[AbstractSet[Hashable]],
    *,
    similarity: float,
    margin: float,
    least: int,
    shared: float = 0.0,
) -> list[list[int]]:
    """Group clusters that have one face.

    A face network that was trained on photographs may find that all faces of a film are one person's: measured with a
    small ArcFace on ten stylised characters, strangers are as alike (.79) as shots of one (.81). So the film itself
    must show that its faces can be told apart: a group is believed only where its faces are nearer to each other than
    to anybody else's by a margin. Where nobody else has a face, nothing shows that, and nothing is grouped.

    Args:
        faces: For each cluster its faces, float32 ``[n, D]``, unit length, one for each track.
        places: For each cluster the frames that it was seen in.
        similarity: Least mean cosine of two clusters' faces.
        margin: How much nearer the least alike two of a group must be than any of it is to any cluster outside.
        least: Fewest faces of a cluster that count.
        shared: Two clusters must not be grouped that share more than this part of the smaller one's frames.

    Returns:
        Groups of indices, each sorted, in the order of their first members; most have one.
    """
    known = [i for i, found in enumerate(faces) if len(found) >= least]
    alone = [[i] for i in range(len(faces))]
    if len(known) < 3:
        return alone
    means = np.stack([np.asarray(faces[i], np.float64).mean(0) for i in known])
    alike = means @ means.T  # the mean over all pairs of two clusters' faces
    groups = average_linkage(units(means), np.ones(len(known)), similarity, [places[i] for i in known], shared)
    merged: list[list[int]] = []
    for group in groups:
        outside = sorted(set(range(len(known))) - set(group))
        if len(group) < 2 or not outside:
            continue
        inside = alike[np.ix_(group, group)][~np.eye(len(group), dtype=bool)].min()
        if inside >= similarity and inside - alike[np.ix_(group, outside)].max() >= margin:
            merged.append(sorted(known[i] for i in group))
    taken = {i for group in merged for i in group}
    return sorted([*merged, *(one for one in alone if one[0] not in taken)])
