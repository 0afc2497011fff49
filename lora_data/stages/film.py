"""A film as identity sees it: instances, their vectors and tracks, and which of them may found a cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from lora_data.evidence import units
from lora_data.manifest import Record
from lora_data.tracks import TrackLimits, find_tracks


class Film:
    """The evidence in a film's records.

    Args:
        records: All with an embedding.
        limits: What makes a track.
        well_exposed: bool ``[N]``: whose colours can be trusted. Only they may found a cluster; where most instances
            are in tracks, only those in a track.
    """

    def __init__(self, records: Sequence[Record], limits: TrackLimits, well_exposed: np.ndarray) -> None:
        self.records = records
        self.vectors = [np.asarray(r.embedding, np.float32) for r in records]
        """Their appearance: the records' own vectors, for one matrix of all would be as large again."""
        self.images: list[np.ndarray] | None = None
        """What a network says of them; None where one was not asked about all."""
        if all(r.image_embedding is not None for r in records):
            self.images = [np.asarray(r.image_embedding, np.float32) for r in records]
        self.tracks = find_tracks(records, self.vectors, limits)
        self.good = well_exposed.copy()
        alone = np.bincount(self.tracks, minlength=len(records))[self.tracks] == 1
        if alone.mean() < 0.5:
            self.good &= ~alone
        self._members: dict[int, list[int]] = defaultdict(list)
        for i in np.flatnonzero(self.good).tolist():
            self._members[int(self.tracks[i])].append(i)
        self.names = sorted(self._members)
        """The tracks that may found a cluster; what follows is one of each."""
        self.weights = np.array([len(self._members[t]) for t in self.names], np.float64)
        self.frames = [
            frozenset((records[i].folder, records[i].frame) for i in self._members[t] if records[i].frame is not None)
            for t in self.names
        ]
        keys = [min(records[i].key for i in self._members[t]) for t in self.names]
        digests = [blake2b(key.encode(), digest_size=8).digest() for key in keys]
        self.order = sorted(range(len(keys)), key=lambda t: (digests[t], keys[t]))
        """Their places in a random order that their keys alone decide."""

    def means(self, vectors: Sequence[np.ndarray], tracks: Sequence[int]) -> np.ndarray:
        """Of each track the mean over its good members, float32 ``[tracks, D]``, unit length.

        Args:
            vectors: float32 ``[D]``, one for each record.
            tracks: Their places in `names`.
        """
        found = np.empty((len(tracks), len(vectors[0])), np.float32)
        for place, track in enumerate(tracks):
            found[place] = np.stack([vectors[i] for i in self._members[self.names[track]]]).mean(0)
        return units(found)

    def faces_and_places(self, labels: np.ndarray) -> tuple[list[np.ndarray], list[set[tuple[str, int]]]]:
        """Of each cluster its faces, one for each track (float32 ``[n, D]``, unit length), and the frames it is in.

        Args:
            labels: int ``[N]``, a cluster for each record, from 0 on; -1: none.
        """
        count = int(labels.max(initial=-1)) + 1
        faces: list[dict[int, list[np.ndarray]]] = [defaultdict(list) for _ in range(count)]
        places: list[set[tuple[str, int]]] = [set() for _ in range(count)]
        for record, label, track in zip(self.records, labels.tolist(), self.tracks.tolist(), strict=True):
            if label < 0:
                continue
            if record.face_embedding is not None:
                faces[label][track].append(np.asarray(record.face_embedding, np.float32))
            if record.frame is not None:
                places[label].add((record.folder, record.frame))
        means = [[np.mean(found, axis=0) for _, found in sorted(tracks.items())] for tracks in faces]
        return [units(np.stack(mean)) if mean else np.empty((0, 0), np.float32) for mean in means], places
