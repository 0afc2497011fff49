"""Consistency: look once more at who is who, now that everybody has a name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lora_data.evidence import units
from lora_data.manifest import UNKNOWN, Record
from lora_data.stage import CorpusStage

_SHOWN = 10
"""Frames that are named in a run's warnings; the others are counted. The table has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency(CorpusStage):
    """Flag instances that do not fit their character: a person should look, nothing is rejected for it.

    - "same_frame": two different instances of one frame have one name; a merge, a name or a reference is wrong.
    - "far_from_core": its appearance is unlike its character's.
    - "nearer_to_other": its appearance is about as much or more like another character's.

    A character's core is the mean of its instances, one for each of its clusters (looks); an instance's own track is
    left out of it, so that a track that came in by mistake does not vouch for itself.

    Args:
        core_similarity: Cosine to the core below which an instance is far. Measured between single instances of
            different characters: half are below .77; of one character in different shots: 95 % above .87.
        core_margin: How much nearer its own core must be than any other character's. Measured on ten rendered
            characters: 9 of 328 are flagged below .02, 55 below .05.

    Raises:
        ValueError: A field is out of range.
    """

    name: ClassVar[str] = "consistency"
    version: ClassVar[int] = 1

    core_similarity: float = 0.8
    core_margin: float = 0.02

    def __post_init__(self) -> None:
        for field in ("core_similarity", "core_margin"):
            if not -1 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} must be in [-1, 1], got {getattr(self, field)}")

    def apply(self, records: Sequence[Record]) -> list[Record]:
        """Write ``core_similarity``, ``core_margin`` and ``flagged`` of every active record that has a character."""
        result = list(records)
        usable = [i for i, r in enumerate(records) if r.active and r.embedding is not None and r.character != UNKNOWN]
        if usable:
            own, other = _to_cores([records[i] for i in usable])
            for i, near, far in zip(usable, own.tolist(), other.tolist(), strict=True):
                result[i] = self._judged(records[i], near, far)
        for here in _same_frames(result):
            for i in here:
                if result[i].reviewed != "restore":
                    result[i] = result[i].replace(flagged="same_frame")
        return result

    def _judged(self, record: Record, own: float, other: float) -> Record:
        if np.isnan(own):  # nothing but its own track
            return record
        margin = None if np.isnan(other) else own - other
        record = record.replace(core_similarity=own, core_margin=margin)
        if record.flagged is not None or record.reviewed == "restore":  # a person looked
            return record
        if own < self.core_similarity:
            return record.replace(flagged="far_from_core")
        if margin is not None and margin < self.core_margin:
            return record.replace(flagged="nearer_to_other")
        return record


def same_frame(records: Sequence[Record]) -> list[str]:
    """A line for each frame in which two instances have one name."""
    lines: list[str] = []
    found = _same_frames(records)
    for here in found[:_SHOWN]:
        first = records[here[0]]
        keys = ", ".join(records[i].key for i in here)
        lines.append(
            f"frame {first.frame}: {keys} are all {first.character}; one frame cannot show one character twice"
        )
    if len(found) > _SHOWN:
        lines.append(f"{len(found) - _SHOWN} more frames show one character twice: flagged same_frame in the table")
    return lines


def _same_frames(records: Sequence[Record]) -> list[list[int]]:
    """Groups of active records of one frame that have one name, in the order of the records.

    Those of one cluster are left out: identity took them for copies of one picture.
    """
    seen: dict[tuple[str, int, str], list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        if record.active and record.frame is not None and record.character != UNKNOWN:
            seen[record.folder, record.frame, record.character].append(i)
    return [here for here in seen.values() if len(here) > 1 and len({records[i].cluster for i in here}) > 1]


def _to_cores(records: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Per record the cosine to the nearest core of its own character and of any other; nan where there is none."""
    vectors = np.stack([np.asarray(r.embedding, np.float32) for r in records])
    groups: dict[tuple[str, int | None], list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        groups[record.character, record.cluster].append(i)
    names = sorted(groups, key=lambda key: (key[0], -1 if key[1] is None else key[1]))
    totals = np.stack([vectors[groups[name]].sum(0, dtype=np.float64) for name in names])
    cosines = vectors @ units(totals).T
    characters = np.array([name[0] for name in names])
    mine = np.array([r.character for r in records])[:, None] == characters
    other = np.where(mine, np.nan, cosines)
    for number, name in enumerate(names):  # once more for its own cluster, without its own track
        for track in _tracks(records, groups[name]):
            rest = totals[number] - vectors[track].sum(0, dtype=np.float64)
            alone = len(track) == len(groups[name])
            cosines[track, number] = np.nan if alone else vectors[track] @ units(rest)
    own = np.where(mine, cosines, np.nan)
    return _largest(own), _largest(other)


def _tracks(records: Sequence[Record], members: Sequence[int]) -> list[list[int]]:
    """Members by track; what is in none is a track of its own."""
    tracks: dict[int | str, list[int]] = defaultdict(list)
    for i in members:
        number = records[i].tracklet
        tracks[records[i].key if number is None else number].append(i)
    return list(tracks.values())


def _largest(values: np.ndarray) -> np.ndarray:
    """The largest number of each row; nan where there is none."""
    largest = np.where(np.isnan(values), -np.inf, values).max(1)
    return np.where(np.isneginf(largest), np.nan, largest)
