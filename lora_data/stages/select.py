"""Select: of too many pictures of a character, the most different ones."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lora_data.characters import TARGET
from lora_data.manifest import Record
from lora_data.stage import CorpusStage
from lora_data.stages.deduplicate import quality_of

_SHOTS = {"close-up": 0.0, "half": 0.5, "full": 1.0}
_COARSE = 24
"""Side of the silhouettes that are compared."""
_GRID = 2048
"""Steps that 1 is divided into where embeddings are compared. Products of such whole numbers add up exactly in float32
as long as the sum stays below 2^24, and 2048^2 is 2^22: the result is the same whatever order a machine adds in. It
moves a cosine by about .0002."""
_BLOCK = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Select(CorpusStage):
    """Keep at most ``target[1]`` active records of each character; mark the others surplus (reason "crowded").

    Greedy farthest-point selection: start with the best picture, then take again and again the one that is farthest
    from all that were taken. Distance adds up appearance (1 - cosine), silhouette, view, framing, light and time,
    so that poses, views, shots and lights are spread; of two about equally far the better one (`quality_of`) is
    taken. Frames beside each other in a film are near in every term, so that the second of them waits until nothing
    farther is left. What a person restored is taken before anything else, and all of it. Below the target nothing
    is dropped: ``target[0]`` is what `lora_data.characters.advice` calls enough.

    A surplus record says how far it is from the nearest kept one (``value``), which that is (``surplus_to``), and how
    near two kept ones are at least (``limit``).

    Expression is no term. The table has five points of a face, and they do not see it: where the part around the mouth
    was widened or narrowed on 17 rendered faces (factors .75 to 1.4), the distance of the mouth's corners that the
    detectors gave changed by 1 % in the median; they follow a mean face. ArcFace is trained to overlook expression. It
    is spread only as far as another moment, pose or light comes with it.

    Args:
        target: Fewest wanted and most kept of each character. Source: strategy, target dataset size.
        silhouette: Weight of 1 - IoU of the silhouettes: pose and view, which appearance hardly sees.
        view: Weight of another turn of the head, where a face was found: a quarter turn is 1.
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
    version: ClassVar[int] = 3

    target: tuple[int, int] = TARGET
    silhouette: float = 0.3
    view: float = 0.2
    framing: float = 0.2
    light: float = 0.5
    time: float = 0.1
    time_scale: int = 96
    tie: float = 0.05

    def __post_init__(self) -> None:
        low, high = self.target
        if not 1 <= low <= high:
            raise ValueError(f"target must be two rising numbers of at least 1, got {self.target}")
        for field in ("silhouette", "view", "framing", "light", "time"):
            if not 0 <= getattr(self, field) <= 10:
                raise ValueError(f"{field} must be in [0, 10], got {getattr(self, field)}")
        if self.time_scale < 1:
            raise ValueError(f"time_scale must be at least 1, got {self.time_scale}")
        if not 0 <= self.tie < 1:
            raise ValueError(f"tie must be in [0, 1), got {self.tie}")

    def apply(self, records: Sequence[Record]) -> list[Record]:
        """Mark what is beyond the target, with ``value``, ``limit`` and ``surplus_to``; ``limit`` is None for one kept.

        The outcome does not depend on the order of the records. Time grows with their number times ``target[1]``,
        memory with their number (about 6 kB each on top of the records).
        """
        result = [r.replace(quality=quality_of(r)) if r.active and r.quality is None else r for r in records]
        characters: dict[str, list[int]] = defaultdict(list)
        for i, record in enumerate(result):
            if record.active:
                characters[record.character].append(i)
        for positions in characters.values():
            if len(positions) <= self.target[1]:
                continue
            positions.sort(key=lambda i: result[i].key)
            spread = self._spread([result[i] for i in positions])
            limit = spread.radius if math.isfinite(spread.radius) else None
            keys = [result[i].key for i in positions]
            for at in np.flatnonzero(~spread.kept).tolist():
                value, near = float(spread.distance[at]), keys[spread.nearest[at]]
                surplus = result[positions[at]]
                result[positions[at]] = surplus.decide("surplus", self.name, "crowded", value, limit, surplus_to=near)
        return result

    def _spread(self, records: Sequence[Record]) -> _Spread:
        """Choose ``target[1]`` of more records than that, which come sorted by key; first those a person restored."""
        features = _Features(records)
        quality = np.array([r.quality or 0.0 for r in records])
        # equal qualities go to the lower key
        rank = np.empty(len(records), np.int64)
        rank[np.argsort(-quality, kind="stable")] = np.arange(len(records))
        distance = np.full(len(records), np.inf)
        nearest = np.zeros(len(records), np.int64)
        kept = np.zeros(len(records), bool)
        wanted = [i for i in np.argsort(rank).tolist() if records[i].reviewed == "restore"]
        chosen, radius = wanted[0] if wanted else int(rank.argmin()), math.inf
        for taken in range(1, max(self.target[1], len(wanted)) + 1):
            radius = min(radius, float(distance[chosen]))
            kept[chosen] = True
            nearer, away = self._nearer(features, chosen, distance)
            distance[nearer] = away
            nearest[nearer] = chosen
            if taken < len(wanted):
                chosen = wanted[taken]
                continue
            left = np.where(kept, -1.0, distance)
            farthest = np.flatnonzero(left >= (1 - self.tie) * left.max())
            chosen = int(farthest[rank[farthest].argmin()])
        return _Spread(kept, distance, nearest, radius)

    def _nearer(self, features: _Features, to: int, than: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which records are nearer to one than a distance of their own, and how near.

        No term is below 0, so that a record which the cheap ones alone put too far away needs no others; a term that
        one of the two lacks counts nothing.
        """
        f = features
        apart = np.minimum(np.abs(f.frames - f.frames[to]) / self.time_scale, 1)
        apart = np.where(f.folders == f.folders[to], apart, 1)
        away = (
            self.view * np.nan_to_num(np.minimum(np.abs(f.turns - f.turns[to]) / 90, 1))
            + self.framing * np.nan_to_num(np.abs(f.shots - f.shots[to]))
            + self.light * np.nan_to_num(np.abs(f.lights - f.lights[to])) / 255
            + self.time * np.nan_to_num(apart)
        )
        at = np.flatnonzero(away < than)
        away = away[at] + self.silhouette * f.shapes(at, to)
        near = away < than[at]
        at, away = at[near], away[near]
        away = away + f.looks(at, to)
        near = away < than[at]
        return at[near], away[near]


@dataclass(frozen=True, slots=True, eq=False)
class _Spread:
    """Which are kept, each one's distance to the nearest kept and its position, and the least between two kept."""

    kept: np.ndarray
    distance: np.ndarray
    nearest: np.ndarray
    radius: float


class _Features:
    """The numbers of a character's records as arrays, one row each; NaN, or a row of zeros, where there is none."""

    def __init__(self, records: Sequence[Record]) -> None:
        length = max((len(r.embedding) for r in records if r.embedding is not None), default=1)
        self.vectors = np.zeros((len(records), length), np.float32)
        self.mattes = np.zeros((len(records), _COARSE**2), np.float32)
        for i, record in enumerate(records):
            if record.embedding is not None:
                self.vectors[i] = record.embedding
        for start in range(0, len(records), _BLOCK):
            block = self.vectors[start : start + _BLOCK]
            np.rint(block * _GRID, out=block)
            there = [i for i in range(start, min(start + _BLOCK, len(records))) if records[i].thumb_matte is not None]
            if there:
                self.mattes[there] = _coarse(np.stack([np.asarray(records[i].thumb_matte) for i in there]))
        self.squares = np.einsum("ij,ij->i", self.vectors, self.vectors)
        self.areas = self.mattes.sum(1)
        self.frames = _numbers([r.frame for r in records])
        self.folders = np.unique([r.folder for r in records], return_inverse=True)[1]
        self.turns = _numbers([r.face_yaw for r in records])
        self.lights = _numbers([r.brightness for r in records])
        self.shots = _numbers([_SHOTS.get(r.framing or "") for r in records])

    def shapes(self, at: np.ndarray, to: int) -> np.ndarray:
        """1 - IoU of the silhouettes of some records and of one."""
        shared = _products(self.mattes, at, to)
        areas = self.areas[at]
        union = areas + self.areas[to] - shared
        return np.where((areas > 0) & (self.areas[to] > 0), 1 - shared / np.maximum(union, 1), 0)

    def looks(self, at: np.ndarray, to: int) -> np.ndarray:
        """Half the squared distance of the embeddings: 1 - cosine, but exactly 0 between equals."""
        squares = self.squares[at]
        apart = 0.5 * (squares + self.squares[to]) - _products(self.vectors, at, to)
        return np.where((squares > 0) & (self.squares[to] > 0), apart / _GRID**2, 0)


def _products(rows: np.ndarray, at: np.ndarray, to: int) -> np.ndarray:
    """Dot products of some rows with one, float64."""
    if 3 * len(at) > len(rows):  # to read all is faster than to collect
        return (rows @ rows[to])[at].astype(np.float64)
    parts = [rows[at[start : start + _BLOCK]] @ rows[to] for start in range(0, len(at), _BLOCK)]
    return np.concatenate([np.zeros(0), *parts])


def _coarse(packed: np.ndarray) -> np.ndarray:
    """Packed silhouettes ``[n, side * side / 8]`` at a side of 24: 1 where half of a cell is covered, ``[n, 576]``."""
    bits = np.unpackbits(packed, axis=1)
    side = math.isqrt(bits.shape[1])
    step = side // _COARSE
    # rows first: long runs of bytes add up fast
    rows = bits.reshape(len(bits), _COARSE, step, side).sum(2, dtype=np.uint16).reshape(-1, _COARSE, step)
    covered = np.zeros(rows.shape[:2], np.uint16)
    for column in range(step):
        covered += rows[:, :, column]
    return (2 * covered >= step * step).reshape(len(bits), -1)


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([math.nan if v is None else v for v in values], np.float64)
