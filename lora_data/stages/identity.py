"""Identity: who is who, from appearance and from what a film gives for free."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lora_data.manifest import UNKNOWN, Record
from lora_data.stage import CorpusStage

_BATCH = 4096
_COPY_BITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity(CorpusStage):
    """Give every active record a ``cluster`` and a ``character``; reject what belongs to none.

    1. *Tracks*: instances of frames close together are one character where appearance or silhouette hardly changes.
       A silhouette survives a wrong exposure or cast. Tracks that the source names are taken as they are.
    2. *Clusters*: tracks merge by average linkage of their well-exposed members. Two different instances of one frame
       are two characters, so tracks (and clusters) that share frames stay apart.
    3. *Rescue*: what is left joins the nearest cluster if it is near and no other is about as near. The badly exposed,
       whose colours say little, never found or bridge a cluster; nor, where most instances are in tracks, does what is
       seen in a single frame, which is mostly a prop, a part or a damaged picture (pair F1 .905 without this, .944
       with it).

    Purity comes first: a person merges two pure clusters with one key, a mixed one has to be taken apart. Characters
    are named ``character_00`` and so on by the size of their cluster, then by key.

    Args:
        references: A folder of named cut-outs, one folder per character (see `lora_data.stages.references`).
        method: How tracks become clusters: "linkage" as above, or "hdbscan" (scikit-learn's, on the tracks' means; it
            knows neither ``merge_similarity`` nor the frames). Measured on ten rendered characters (pair F1, purity,
            coverage): linkage .958 .973 1.0; HDBSCAN on tracks .882 .981 .87, on single instances .150 .994 .93.
        merge_similarity: Mean cosine at which clusters merge. Measured on twelve draws of five out of ten rendered
            characters under eight lights (pair F1, purity, both means): .86 .974 .976; .88 .976 .978; .89 .968 .978;
            .90 .957 .978; .91 .940 .980; .92 .926 .980; .94 .787 .997. All ten without frame numbers: .88 .926 .956;
            .89 .925 .967; .90 .899 .972; .92 .887 .972. The default is where purity has levelled off in both.
        min_cluster_size: Instances that make a character; props and parts mostly come alone. A cut-out film's minor
            characters have about nine in two shots.
        rescue_similarity: Cosine to the nearest cluster's mean from which a left-over joins it. Measured between single
            instances of different characters: 95 % below .88, 99 % below .91; of one character in different shots: half
            above .94.
        rescue_margin: How much nearer than the second nearest it must be.
        track_similarity: Cosine of neighbours in a track. Measured on 538 pairs within shots and 324 between different
            subjects, up to three frames apart: .94 has none of the latter.
        track_overlap: The same for the overlap (IoU) of the silhouettes: .8 has none (the highest is .75). Either
            alone is enough; together they link 96 %.
        track_gap: Largest step of frame numbers within a track.
        shared_frames: Share of the smaller group's frames that two groups may have in common and still merge: part
            masks and mirrors put one character twice into a frame now and then.
        brightness_range: Mean luma of the well exposed, 0..255. Source: strategy 4.1.
        max_burnt: Share of clipped pixels of the well exposed. Measured: overexposed .73 and more, clean .01.

    Raises:
        ValueError: A field is out of range.

    Source: tracks as positives and frames as negatives: Nir et al., CAST, Eurographics 2022.
    """

    name: ClassVar[str] = "identity"
    version: ClassVar[int] = 1

    references: str | None = None
    method: Literal["linkage", "hdbscan"] = "linkage"
    merge_similarity: float = 0.9
    min_cluster_size: int = 4
    rescue_similarity: float = 0.9
    rescue_margin: float = 0.03
    track_similarity: float = 0.94
    track_overlap: float = 0.8
    track_gap: int = 3
    shared_frames: float = 0.05
    brightness_range: tuple[float, float] = (30.0, 220.0)
    max_burnt: float = 0.5

    def __post_init__(self) -> None:
        for field in ("merge_similarity", "rescue_similarity", "track_similarity", "track_overlap"):
            if not 0 < getattr(self, field) <= 1:
                raise ValueError(f"{field} must be in (0, 1], got {getattr(self, field)}")
        for field in ("rescue_margin", "shared_frames", "max_burnt"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} must be in [0, 1], got {getattr(self, field)}")
        if self.min_cluster_size < 1:
            raise ValueError(f"min_cluster_size must be at least 1, got {self.min_cluster_size}")
        if self.track_gap < 0:
            raise ValueError(f"track_gap must be at least 0, got {self.track_gap}")
        low, high = self.brightness_range
        if not 0 <= low < high <= 255:
            raise ValueError(f"brightness_range must be two rising numbers in [0, 255], got {self.brightness_range}")

    def apply(self, records: Sequence[Record]) -> list[Record]:
        """Write ``cluster`` and ``character``; reject (reason "unknown") active records that belong to none."""
        result = list(records)
        usable = [i for i, r in enumerate(records) if r.active and r.embedding is not None]
        if not usable:
            return result
        chosen = [records[i] for i in usable]
        vectors = np.stack([np.asarray(r.embedding, np.float32) for r in chosen])
        labels, nearest = self._labels(chosen, vectors)
        for position, label, similarity in zip(usable, labels.tolist(), nearest.tolist(), strict=True):
            if label >= 0:
                result[position] = result[position].replace(cluster=label, character=f"character_{label:02d}")
            else:
                rejected = result[position].decide("rejected", self.name, "unknown", similarity, self.rescue_similarity)
                result[position] = rejected.replace(cluster=-1, character=UNKNOWN)
        return result

    def _labels(self, records: list[Record], vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Per record its cluster (-1: none) and its cosine to the nearest cluster."""
        from lora_data.clustering import average_linkage, hdbscan

        tracks = self._tracks(records, vectors)
        good = np.array([self._well_exposed(r) for r in records])
        alone = np.bincount(tracks, minlength=len(records))[tracks] == 1
        if alone.mean() < 0.5:
            good &= ~alone
        members: dict[int, list[int]] = defaultdict(list)
        for i in np.flatnonzero(good).tolist():
            members[int(tracks[i])].append(i)
        names = sorted(members)
        frames = [frozenset(_moment(records[i]) for i in members[t] if records[i].frame is not None) for t in names]
        means = np.stack([_unit(vectors[members[t]].mean(0)) for t in names]) if names else vectors[:0]
        weights = np.array([len(members[t]) for t in names], np.float64)

        if self.method == "hdbscan":
            groups = hdbscan(means)
        else:
            groups = average_linkage(means, weights, self.merge_similarity, frames, self.shared_frames)
        of_track = {names[i]: g for g, group in enumerate(groups) for i in group}
        labels = np.array([of_track.get(int(t), -1) for t in tracks])
        size = Counter(labels[labels >= 0].tolist())
        first_key = {g: min(records[i].key for i in np.flatnonzero(labels == g)) for g in size}
        order = sorted((g for g in size if size[g] >= self.min_cluster_size), key=lambda g: (-size[g], first_key[g]))
        rank = {g: n for n, g in enumerate(order)}
        labels = np.array([rank.get(int(g), -1) for g in labels])
        if not order:
            return labels, np.zeros(len(records))
        core = [np.flatnonzero((labels == n) & good) for n in range(len(order))]
        centres = np.stack([_unit(vectors[c].mean(0)) for c in core])
        return self._rescued(labels, vectors, centres)

    def _rescued(self, labels: np.ndarray, vectors: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        similarity = vectors @ centres.T
        nearest = similarity.max(1)
        ranked = np.sort(similarity, axis=1)
        second = ranked[:, -2] if len(centres) > 1 else np.full(len(labels), -1.0)
        joins = (labels < 0) & (nearest >= self.rescue_similarity) & (nearest - second >= self.rescue_margin)
        return np.where(joins, similarity.argmax(1), labels), nearest

    def _well_exposed(self, record: Record) -> bool:
        """Exposure as it came, where that was measured: correction lifts what was never exposed."""
        brightness = record.brightness if record.source_brightness is None else record.source_brightness
        burnt = record.clipped_bright if record.source_clipped_bright is None else record.source_clipped_bright
        low, high = self.brightness_range
        return (brightness is None or low <= brightness <= high) and (burnt is None or burnt <= self.max_burnt)

    def _tracks(self, records: list[Record], vectors: np.ndarray) -> np.ndarray:
        """Per record the number of its track: the lowest index in it."""
        parent = list(range(len(records)))

        def root(i: int) -> int:
            while parent[i] != i:
                parent[i] = parent[parent[i]]
                i = parent[i]
            return i

        def join(i: int, j: int) -> None:
            i, j = root(i), root(j)
            parent[max(i, j)] = min(i, j)

        named: dict[tuple[str, str | None, str], int] = {}
        moments: dict[tuple[str, int | None], list[int]] = defaultdict(list)
        for i, record in enumerate(records):
            if record.track_key is not None:
                join(i, named.setdefault(record.track_key, i))
            if record.frame is not None:
                moments[_moment(record)].append(i)
        mattes = [_matte(r) for r in records]
        for (folder, frame), here in moments.items():
            for i, j in self._copies(records, vectors, here):
                join(i, j)
            for step in range(1, self.track_gap + 1):
                there = moments.get((folder, (frame or 0) + step), [])
                for i, j in self._links(records, vectors, mattes, here, there):
                    join(i, j)
        return np.array([root(i) for i in range(len(records))])

    def _copies(self, records: list[Record], vectors: np.ndarray, here: list[int]) -> list[tuple[int, int]]:
        """Pairs of one frame that are one picture twice, not two characters."""
        pairs: list[tuple[int, int]] = []
        for n, i in enumerate(here):
            for j in here[n + 1 :]:
                a, b = records[i].phash, records[j].phash
                same_hash = a is None or b is None or (a ^ b).bit_count() <= _COPY_BITS
                if same_hash and float(vectors[i] @ vectors[j]) >= self.track_similarity:
                    pairs.append((i, j))
        return pairs

    def _links(
        self,
        records: list[Record],
        vectors: np.ndarray,
        mattes: list[np.ndarray | None],
        here: list[int],
        there: list[int],
    ) -> list[tuple[int, int]]:
        """Pairs that are each other's best continuation and near enough in appearance or in silhouette."""
        if not here or not there:
            return []
        cosine = vectors[here] @ vectors[there].T
        score = np.full(cosine.shape, -1.0)
        for a, i in enumerate(here):
            for b, j in enumerate(there):
                if records[i].scene != records[j].scene:
                    continue
                look = (float(cosine[a, b]) - self.track_similarity) / (1.001 - self.track_similarity)
                shape = (_overlap(mattes[i], mattes[j]) - self.track_overlap) / (1.001 - self.track_overlap)
                score[a, b] = max(look, shape)
        # Copies of one picture have about equal scores: each of them may be the best.
        best = (score >= score.max(1, keepdims=True) - 1e-6) & (score >= score.max(0, keepdims=True) - 1e-6)
        return [(here[a], there[b]) for a, b in zip(*np.nonzero(best & (score >= 0)), strict=True)]


def _moment(record: Record) -> tuple[str, int | None]:
    """One moment of one film: frame numbers of two folders may be of two films."""
    return record.folder, record.frame


def _matte(record: Record) -> np.ndarray | None:
    return None if record.thumb_matte is None else np.unpackbits(record.thumb_matte).astype(bool)


def _overlap(a: np.ndarray | None, b: np.ndarray | None) -> float:
    if a is None or b is None:
        return 0.0
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 0.0


def _unit(vector: np.ndarray) -> np.ndarray:
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
