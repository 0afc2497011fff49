"""Identity: who is who, from appearance, from faces, and from what a film gives for free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from lora_data.decisions import Decision
from lora_data.evidence import adapted, film_mean, units
from lora_data.manifest import UNKNOWN, Record
from lora_data.stage import CorpusStage
from lora_data.stages.film import Film
from lora_data.tracks import TrackLimits

_STEP = 0.05
"""Of the similarities that are tried."""
_SOME = 2000
"""Tracks on which they are tried, and from which the film's own mean is taken."""
_BLOCK = 256
"""Tracks that are adapted at a time."""
_ROUNDS = 2
"""How often that mean is taken: the first groups may still mix characters in whom the film's look is strong. A third
time changes nothing (measured on draws of 2 to 10 rendered characters)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity(CorpusStage):
    """Give every active record a ``cluster`` and a ``character``; reject what belongs to none.

    1. *Tracks*: instances of frames close together are one character where appearance or silhouette hardly changes
       (`lora_data.tracks`). Tracks that the source names are taken as they are.
    2. *Clusters*: tracks merge by average linkage of their well-exposed members. Two different instances of one frame
       are two characters, so tracks (and clusters) that share frames stay apart. Then once more, adapted to the film:
       what its characters have in common is taken away, and what a network says of the pictures counts too, where one
       is configured (`lora_data.evidence`).
    3. *Rescue*: what is left joins the nearest cluster if it is near and no other is about as near. The badly exposed,
       whose colours say little, never found or bridge a cluster; nor, where most instances are in tracks, does what is
       seen in a single frame, which is mostly a prop, a part or a damaged picture (pair F1 .905 without this, .944
       with it).
    4. *Looks*: clusters that have one face are one character in other clothes (`lora_data.looks`). A character of
       several clusters has a ``look`` for each.

    Purity comes first: a person merges two pure clusters with one key, a mixed one has to be taken apart. Characters
    are named ``character_00`` and so on by their size, then by key; looks likewise.

    Args:
        references: A folder of named cut-outs, one folder per character (see `lora_data.stages.references`).
        names: By character: instances (keys or sources) of it. Everybody whom the run takes for the same gets the name.
        merges: Lists of instances that are one character each.
        splits: Lists of instances that are a character of their own each (see `lora_data.decisions`).
        method: How tracks become clusters: "linkage" as above, or "hdbscan" (scikit-learn's, on the tracks' means; it
            knows neither the similarities nor the frames). Measured on ten rendered characters, and on draws of five
            and of three of them (pair F1, purity): linkage .958 .988; .972 .989; .985 1.0; HDBSCAN .957 .988; .948
            .976; .987 .987, with up to three clusters a character where linkage has two.
        merge_similarity: Mean cosine at which clusters merge at first. Measured on twelve draws of five out of ten
            rendered characters under eight lights (pair F1, purity, both means): .86 .974 .976; .88 .976 .978; .89 .968
            .978; .90 .957 .978; .91 .940 .980; .92 .926 .980; .94 .787 .997.
        film_similarity: The same once adapted to the film, as a range: films differ in light and in how alike their
            characters are, and the film itself shows where they come apart (`lora_data.clustering.Linkage`). Measured
            (pair F1, purity): ten rendered characters under eight lights, .45 .957 .972; .50 .958 .988; .55 .943 .988;
            .60 .901 .988; twelve toy characters under five lights, .50 .693 .620; .55 .813 .837; .60 to .65 1.0 1.0;
            .75 .958 1.0. Chosen from the range: .958 .988 and 1.0 1.0. Not adapted: .957 .972 of the ten.
        film_prior: See `lora_data.evidence.film_mean`. Measured for two: .55 to .60 then do what .50 does with one.
        image_similarity: What ``film_similarity`` is for the network's vectors. Those of one character are less alike:
            half are above .35 with OSNet, where colours have .75.
        image_weight: How much the network's vectors count beside the colours. Measured with OSNet: .1 to .3 alike.
        min_cluster_size: Instances that make a character; props and parts mostly come alone. A cut-out film's minor
            characters have about nine in two shots.
        rescue_similarity: Cosine to the nearest cluster's mean from which a left-over joins it. Measured between single
            instances of different characters: 95 % below .88, 99 % below .91; of one character in different shots: half
            above .94.
        rescue_margin: How much nearer than the second nearest it must be.
        face_similarity: Mean cosine of two clusters' faces from which they may be one character. Source: ArcFace on one
            rendered game character, .73 with a deviation of .058 (three of them below); strangers reach .41.
        face_margin: How much less alike everybody else's faces must be. Source: half of what lies between those two.
        face_tracks: Fewest tracks with a face, for a cluster's face to be known.
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
        ValueError: A field is out of range, or two names are given to one instance.

    Source: tracks as positives and frames as negatives: Nir et al., CAST, Eurographics 2022.
    """

    name: ClassVar[str] = "identity"
    version: ClassVar[int] = 2

    references: str | None = None
    names: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    merges: tuple[tuple[str, ...], ...] = ()
    splits: tuple[tuple[str, ...], ...] = ()
    method: Literal["linkage", "hdbscan"] = "linkage"
    merge_similarity: float = 0.9
    film_similarity: tuple[float, float] = (0.5, 0.7)
    film_prior: float = 1.0
    image_similarity: float = 0.1
    image_weight: float = 0.2
    min_cluster_size: int = 4
    rescue_similarity: float = 0.9
    rescue_margin: float = 0.03
    face_similarity: float = 0.55
    face_margin: float = 0.15
    face_tracks: int = 2
    track_similarity: float = 0.94
    track_overlap: float = 0.8
    track_gap: int = 3
    shared_frames: float = 0.05
    brightness_range: tuple[float, float] = (30.0, 220.0)
    max_burnt: float = 0.5

    def __post_init__(self) -> None:
        for name in ("merge_similarity", "rescue_similarity", "track_similarity", "track_overlap"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        for name in ("rescue_margin", "shared_frames", "max_burnt", "image_weight", "face_margin"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("image_similarity", "face_similarity"):
            if not -1 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [-1, 1], got {getattr(self, name)}")
        for name in ("min_cluster_size", "face_tracks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("track_gap", "film_prior"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        low, high = self.film_similarity
        if not 0 < low <= high <= 1:
            raise ValueError(f"film_similarity must be two rising numbers in (0, 1], got {self.film_similarity}")
        low, high = self.brightness_range
        if not 0 <= low < high <= 255:
            raise ValueError(f"brightness_range must be two rising numbers in [0, 255], got {self.brightness_range}")
        owners: dict[str, str] = {}
        for character, instances in self.names.items():
            for instance in instances:
                if owners.setdefault(instance, character) != character:
                    raise ValueError(f"names give {instance} to {owners[instance]} and to {character}")
        _ = self.decisions  # refuses what is no decision

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """``splits``, ``merges`` and ``names``, in this order: a name is for what they left."""
        where = "precompute.identity"
        return (
            *(
                Decision(do="split", instances=tuple(group), where=f"{where}.splits[{i}]")
                for i, group in enumerate(self.splits)
            ),
            *(
                Decision(do="merge", instances=tuple(group), where=f"{where}.merges[{i}]")
                for i, group in enumerate(self.merges)
            ),
            *(
                Decision(do="name", instances=tuple(group), character=name, where=f"{where}.names.{name}")
                for name, group in self.names.items()
            ),
        )

    def apply(self, records: Sequence[Record]) -> list[Record]:
        """Write ``cluster``, ``character``, ``look``, ``tracklet``; reject (reason "unknown") who belongs to none."""
        result = list(records)
        usable = [i for i, r in enumerate(records) if r.active and r.embedding is not None]
        if not usable:
            return result
        limits = TrackLimits(similarity=self.track_similarity, overlap=self.track_overlap, gap=self.track_gap)
        chosen = [records[i] for i in usable]
        film = Film(chosen, limits, np.array([self._well_exposed(r) for r in chosen]))
        labels, nearest = self._clusters(film)
        characters, looks = _named(labels, film.records, self._one_face(film, labels))
        found = zip(usable, labels.tolist(), nearest.tolist(), film.tracks.tolist(), strict=True)
        for position, label, similarity, track in found:
            result[position] = result[position].replace(tracklet=track)
            if label >= 0:
                name, look = characters[label], looks[label]
                result[position] = result[position].replace(cluster=label, character=name, look=look)
            else:
                rejected = result[position].decide("rejected", self.name, "unknown", similarity, self.rescue_similarity)
                result[position] = rejected.replace(cluster=-1, character=UNKNOWN)
        return result

    def _clusters(self, film: Film) -> tuple[np.ndarray, np.ndarray]:
        """Per record its cluster, by size (-1: none), and its cosine to the nearest cluster."""
        groups = self._grouped(film)
        of_track = {film.names[i]: g for g, group in enumerate(groups) for i in group}
        labels = np.array([of_track.get(int(t), -1) for t in film.tracks])
        size = Counter(labels[labels >= 0].tolist())
        first_key = _first_keys(labels, film.records)
        order = sorted((g for g in size if size[g] >= self.min_cluster_size), key=lambda g: (-size[g], first_key[g]))
        rank = {g: n for n, g in enumerate(order)}
        labels = np.array([rank.get(int(g), -1) for g in labels])
        if not order:
            return labels, np.zeros(len(labels))
        totals = np.zeros((len(order), len(film.vectors[0])))
        for i in np.flatnonzero((labels >= 0) & film.good).tolist():
            totals[labels[i]] += film.vectors[i]
        return self._rescued(labels, film.vectors, units(totals))

    def _grouped(self, film: Film) -> list[list[int]]:
        """Groups of the film's named tracks."""
        from lora_data.clustering import Linkage, hdbscan
        from lora_data.linkage_rounds import linkage_of_many

        if self.method == "hdbscan":
            return hdbscan(film.means(film.vectors, range(len(film.names))))
        some = sorted(film.order[:_SOME])
        rules = film.weights[some], [film.frames[t] for t in some], self.shared_frames
        evidence = self._evidence(film, some)
        linkage, limit = Linkage(evidence[0][0], *rules), self.merge_similarity
        common: list[np.ndarray] = []
        for _ in range(_ROUNDS):
            groups = [group for group in linkage.groups(limit) if rules[0][group].sum() >= self.min_cluster_size]
            common = [film_mean(vectors, groups, self.film_prior) for vectors, _ in evidence]
            linkage = Linkage(adapted(evidence, common), *rules)
            limit = linkage.cut(self._limits(evidence[0][1]))
        if len(some) == len(film.order):
            return linkage.groups(limit)
        vectors = np.empty((len(film.names), sum(map(len, common))), np.float32)
        del evidence, linkage
        for start in range(0, len(vectors), _BLOCK):  # what is known of all at once would be several times as large
            block = range(start, min(start + _BLOCK, len(vectors)))
            vectors[block.start : block.stop] = adapted(self._evidence(film, block), common)
        return linkage_of_many(vectors, film.weights, limit, film.frames, self.shared_frames, film.order)

    def _evidence(self, film: Film, tracks: Sequence[int]) -> list[tuple[np.ndarray, float]]:
        """How these tracks look, their mean vectors of appearance and by a network, and how much each counts."""
        means = film.means(film.vectors, tracks)
        if film.images is None or not self.image_weight:
            return [(means, 1.0)]
        return [(means, 1 - self.image_weight), (film.means(film.images, tracks), self.image_weight)]

    def _limits(self, weight: float) -> list[float]:
        """The similarities to be tried, where appearance has this weight and the network's vectors have the rest."""
        low, high = self.film_similarity
        steps = np.linspace(low, high, 1 + round((high - low) / _STEP)).tolist()
        return [(1 - weight) * self.image_similarity + weight * step for step in steps]

    def _rescued(
        self, labels: np.ndarray, vectors: Sequence[np.ndarray], centres: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        similarity = np.stack([centres @ vector for vector in vectors])
        nearest = similarity.max(1)
        ranked = np.sort(similarity, axis=1)
        second = ranked[:, -2] if len(centres) > 1 else np.full(len(labels), -1.0)
        joins = (labels < 0) & (nearest >= self.rescue_similarity) & (nearest - second >= self.rescue_margin)
        return np.where(joins, similarity.argmax(1), labels), nearest

    def _one_face(self, film: Film, labels: np.ndarray) -> list[list[int]]:
        """Groups of clusters that are one character."""
        from lora_data.looks import same_faces

        rules = {"similarity": self.face_similarity, "margin": self.face_margin, "shared": self.shared_frames}
        return same_faces(*film.faces_and_places(labels), least=self.face_tracks, **rules)

    def _well_exposed(self, record: Record) -> bool:
        """Exposure as it came, where that was measured: correction lifts what was never exposed."""
        brightness = record.brightness if record.source_brightness is None else record.source_brightness
        burnt = record.clipped_bright if record.source_clipped_bright is None else record.source_clipped_bright
        low, high = self.brightness_range
        return (brightness is None or low <= brightness <= high) and (burnt is None or burnt <= self.max_burnt)


def _named(
    labels: np.ndarray, records: Sequence[Record], groups: Sequence[Sequence[int]]
) -> tuple[dict[int, str], dict[int, str | None]]:
    """By cluster: its character's name, and its look where the character has several."""
    size = Counter(labels.tolist())
    first_key = _first_keys(labels, records)
    order = sorted(groups, key=lambda group: (-sum(size[c] for c in group), min(first_key[c] for c in group)))
    characters = {cluster: f"character_{n:02d}" for n, group in enumerate(order) for cluster in group}
    looks = {
        cluster: f"look_{n:02d}" if len(group) > 1 else None for group in groups for n, cluster in enumerate(group)
    }
    return characters, looks


def _first_keys(labels: np.ndarray, records: Sequence[Record]) -> dict[int, str]:
    """By cluster: the lowest key in it."""
    first: dict[int, str] = {}
    for label, record in zip(labels.tolist(), records, strict=True):
        first[label] = min(first.get(label, record.key), record.key)
    return first
