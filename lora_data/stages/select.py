"""Select: of too many pictures of a character, the most different ones."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lora_data.manifest import Record
from lora_data.stage import CorpusStage
from lora_data.stages.deduplicate import quality_of

_SHOTS = {"close-up": 0.0, "half": 0.5, "full": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Select(CorpusStage):
    """Keep at most ``target[1]`` active records of each character; mark the others surplus (reason "crowded").

    Greedy farthest-point selection: start with the best picture, then take again and again the one that is farthest
    from all that were taken. Distance adds up appearance (1 - cosine), silhouette, framing, light and time, so that
    poses, views, shots and lights are spread; of two about equally far the better one (`quality_of`) is taken. Below
    the target nothing is dropped: ``target[0]`` is what the report calls enough.

    Args:
        target: Fewest wanted and most kept of each character. Source: strategy, target dataset size.
        silhouette: Weight of 1 - IoU of the silhouettes: pose and view, which appearance hardly sees.
        framing: Weight of another framing (close-up to full figure is 1).
        light: Weight of the difference of mean luma over 255.
        time: Weight of the distance in frames, saturating at ``time_scale``.
        time_scale: Frames after which two pictures are taken as of different moments; four seconds of film.
        tie: Share of the largest distance within which quality decides.

    Raises:
        ValueError: A field is out of range.

    Source: T. Gonzalez, Clustering to minimize the maximum intercluster distance, Theoretical Computer Science 38,
        1985. The weights give each term about the same spread (standard deviation .05 to .1) on rendered shots.
    """

    name: ClassVar[str] = "select"
    version: ClassVar[int] = 1

    target: tuple[int, int] = (200, 300)
    silhouette: float = 0.3
    framing: float = 0.2
    light: float = 0.5
    time: float = 0.1
    time_scale: int = 96
    tie: float = 0.05

    def __post_init__(self) -> None:
        low, high = self.target
        if not 1 <= low <= high:
            raise ValueError(f"target must be two rising numbers of at least 1, got {self.target}")
        for field in ("silhouette", "framing", "light", "time"):
            if not 0 <= getattr(self, field) <= 10:
                raise ValueError(f"{field} must be in [0, 10], got {getattr(self, field)}")
        if self.time_scale < 1:
            raise ValueError(f"time_scale must be at least 1, got {self.time_scale}")
        if not 0 <= self.tie < 1:
            raise ValueError(f"tie must be in [0, 1), got {self.tie}")

    def apply(self, records: Sequence[Record]) -> list[Record]:
        """Mark what is beyond the target; ``value`` is the distance to the nearest kept, ``limit`` the least kept."""
        result = [r.replace(quality=quality_of(r)) if r.active and r.quality is None else r for r in records]
        characters: dict[str, list[int]] = defaultdict(list)
        for i, record in enumerate(result):
            if record.active:
                characters[record.character].append(i)
        for positions in characters.values():
            if len(positions) <= self.target[1]:
                continue
            kept, distance, radius = self._spread([result[i] for i in positions])
            for i, keep, nearest in zip(positions, kept.tolist(), distance.tolist(), strict=True):
                if not keep:
                    result[i] = result[i].decide("surplus", self.name, "crowded", nearest, radius)
        return result

    def _spread(self, records: list[Record]) -> tuple[np.ndarray, np.ndarray, float]:
        """Which are kept, each one's distance to the nearest kept, and the distance at which the last was taken."""
        features = _Features(records)
        quality = np.array([r.quality or 0.0 for r in records])
        # Equal qualities go to the lower key: records come sorted, and argmax takes the first.
        rank = np.argsort(np.lexsort((np.arange(len(records)), -quality)))
        distance = np.full(len(records), np.inf)
        kept = np.zeros(len(records), bool)
        chosen, radius = int(rank.argmin()), math.inf
        for _ in range(self.target[1]):
            radius = min(radius, float(distance[chosen]))
            kept[chosen] = True
            distance = np.minimum(distance, self._distance(features, chosen))
            distance[kept] = 0
            farthest = np.flatnonzero(~kept & (distance >= (1 - self.tie) * distance[~kept].max(initial=0)))
            if len(farthest):
                chosen = int(farthest[rank[farthest].argmin()])
        return kept, distance, radius

    def _distance(self, features: _Features, to: int) -> np.ndarray:
        """Distance of every record to one; a term that one of the two lacks counts nothing."""
        f = features
        shared = f.mattes @ f.mattes[to]
        union = f.areas + f.areas[to] - shared
        shape = np.where((f.areas > 0) & (f.areas[to] > 0), 1 - shared / np.maximum(union, 1), 0)
        apart = np.minimum(np.abs(f.frames - f.frames[to]) / self.time_scale, 1)
        apart = np.where(f.folders == f.folders[to], apart, 1)
        return (
            np.maximum(1 - f.vectors @ f.vectors[to], 0)
            + self.silhouette * shape
            + self.framing * np.nan_to_num(np.abs(f.shots - f.shots[to]))
            + self.light * np.nan_to_num(np.abs(f.lights - f.lights[to])) / 255
            + self.time * np.nan_to_num(apart)
        )


class _Features:
    """The numbers of a character's records as arrays, one row each."""

    def __init__(self, records: list[Record]) -> None:
        length = max((len(r.embedding) for r in records if r.embedding is not None), default=1)
        self.vectors = np.zeros((len(records), length), np.float32)
        self.mattes = np.zeros((len(records), 24 * 24), np.float32)
        for i, record in enumerate(records):
            if record.embedding is not None:
                self.vectors[i] = record.embedding
            if record.thumb_matte is not None:
                bits = np.unpackbits(record.thumb_matte)
                side = math.isqrt(len(bits))
                coarse = bits.reshape(24, side // 24, 24, side // 24).mean((1, 3))
                self.mattes[i] = (coarse >= 0.5).ravel()
        self.areas = self.mattes.sum(1)
        self.frames = np.array([np.nan if r.frame is None else r.frame for r in records], np.float64)
        self.folders = np.array([r.source.rpartition("/")[0] for r in records])
        self.lights = np.array([np.nan if r.brightness is None else r.brightness for r in records], np.float64)
        self.shots = np.array([_SHOTS.get(r.framing or "", np.nan) for r in records], np.float64)
