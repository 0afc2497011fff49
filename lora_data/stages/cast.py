"""Colour casts: what the same subject looks like in neighbouring frames, and the gains that bring an outlier back.

A cast is judged only against the *same subject* a few frames away, never against an assumption about the world: a shot
that is orange as a whole is graded so and stays orange.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import ClassVar

import numpy as np

from lora_data.manifest import Record
from lora_data.sample import Instance
from lora_data.stage import CorpusStage, MapStage

GRID = 8
"""Cells a side of the grid. Measured on 1400 pairs of neighbouring frames: 12 cells separate casts no better."""
_SAMPLED = 256
"""The grid is measured on every k-th pixel, so that the longer side has between this and twice this."""
_SHADOW = 0.004
"""Added to linear light before ratios: one level of sRGB 13. Below that, noise and rounding rule the ratio."""
_CLIPPED = 0.85
"""Cells with a channel above this mean (sRGB 238) hold clipped pixels: their ratios are not the light's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureCast(MapStage):
    """Write `Record.colour_grid`: the character's linear colour on a coarse grid over its tight matte box.

    float32, flat, ``[GRID, GRID, 4]``: linear red, green and blue times coverage, and coverage, each 0..1. Runs after
    the matte stage and before the colour stage.
    """

    name: ClassVar[str] = "cast"

    def apply(self, instance: Instance) -> Instance:
        """Measure the grid; None where the matte is empty."""
        import cv2

        from lora_data.colour import to_linear
        from lora_data.matte import interior, tight_crop

        rgb, alpha = tight_crop(instance.rgb, instance.alpha)
        step = max(1, max(alpha.shape) // _SAMPLED)
        rgb, alpha = np.ascontiguousarray(rgb[::step, ::step]), np.ascontiguousarray(alpha[::step, ::step])
        inside = interior(alpha, erode=1)
        if not inside.any():
            inside = alpha > 127
        if not inside.any():
            return instance.replace(colour_grid=None)
        weight = inside.astype(np.float32)
        stack = np.dstack([to_linear(rgb) * weight[..., None], weight])
        grid = cv2.resize(stack, (GRID, GRID), interpolation=cv2.INTER_AREA)
        return instance.replace(colour_grid=grid.astype(np.float32).ravel())


@dataclass(frozen=True, slots=True, kw_only=True)
class WhiteBalance(CorpusStage):
    """Give an instance with a cast the gains that bring it back to the same subject in the neighbouring frames.

    For every neighbour the chromatic part of the cells' log ratios is taken: their weighted median is the pair's gain,
    what remains of them its residual. A pair says something only where one gain per channel explains it (small
    residual) and the shapes coincide. Then the neighbours vote: an instance is corrected towards the largest group of
    neighbours that agree with each other, where that group is larger than the group that agrees with the instance. A
    run of frames that agree is corrected only where its neighbours on both sides agree too. So a graded shot, a change
    of light that lasts and a pair of frames without a third leave everything as it is. Where the source names no scene,
    consecutive frame numbers become one (`Record.scene`).

    Args:
        enabled: Decide gains. Scenes are assigned either way.
        scene_gap: Largest step of frame numbers within a scene: half a second of film at 24 frames per second.
        neighbours: Nearest frames of the scene, on both sides together, that are asked.
        min_neighbours: Neighbours that must agree with each other.
        threshold: Smallest cast, as the length of the three chromatic log gains. Measured on 1266 undamaged pairs of
            neighbouring frames: 99 % lie below .11, casts above .45. .2 is a gain of about 1.15 in one channel.
        tolerance: How far neighbours may lie apart to agree, in the same unit (the same measurement).
        max_residual: Largest mean chromatic residual of a pair; a cast must also be twice its pair's residual. Measured
            on casts laid over 123 instances, one at a time: .35 finds 86 %, .25 82 %, no false correction at either.
        min_overlap: Smallest overlap (IoU) of the two coverage grids (same measurement: .5 finds 4 % more than .6).
        max_gain: No channel changes by more than this factor or its inverse; a larger cast is corrected in part.

    Raises:
        ValueError: A field is out of range.

    Source: diagonal (per-channel gain) model of illumination change, von Kries 1902; Finlayson, Drew and Funt, Spectral
        sharpening, JOSA A 1994.
    """

    name: ClassVar[str] = "white_balance"

    enabled: bool = True
    scene_gap: int = 12
    neighbours: int = 6
    min_neighbours: int = 2
    threshold: float = 0.2
    tolerance: float = 0.12
    max_residual: float = 0.35
    min_overlap: float = 0.5
    max_gain: float = 2.0

    def __post_init__(self) -> None:
        for field, low in (("scene_gap", 1), ("min_neighbours", 2), ("neighbours", self.min_neighbours)):
            if getattr(self, field) < low:
                raise ValueError(f"{field} must be at least {low}, got {getattr(self, field)}")
        for field in ("threshold", "tolerance", "max_residual"):
            if not 0 < getattr(self, field) <= 2:
                raise ValueError(f"{field} must be in (0, 2], got {getattr(self, field)}")
        if not 0 <= self.min_overlap <= 1:
            raise ValueError(f"min_overlap must be in [0, 1], got {self.min_overlap}")
        if not 1 <= self.max_gain <= 4:
            raise ValueError(f"max_gain must be in [1, 4], got {self.max_gain}")

    def apply(self, records: Sequence[Record]) -> list[Record]:
        """Assign scenes, then gains (``wb_red``, ``wb_green``, ``wb_blue``) where a cast is certain. The grids go: they
        were measured for this."""
        result = [
            record.replace(scene=scene, wb_red=None, wb_green=None, wb_blue=None)
            for record, scene in zip(records, assign_scenes(records, self.scene_gap), strict=True)
        ]
        if self.enabled:
            self._balance(result)
        return [record.replace(colour_grid=None) for record in result]

    def _balance(self, records: list[Record]) -> None:
        """Write the gains."""
        scenes: dict[str, list[int]] = defaultdict(list)
        for index, record in enumerate(records):
            if record.active and record.scene and record.frame is not None and record.colour_grid is not None:
                scenes[record.scene].append(index)
        for members in scenes.values():
            scene = Scene([records[i] for i in members])
            found = [self._gains(k, scene) for k in range(len(members))]
            for index, gains in zip(members, found, strict=True):
                if gains is not None:
                    records[index] = records[index].replace(wb_red=gains[0], wb_green=gains[1], wb_blue=gains[2])

    def _gains(self, index: int, scene: Scene) -> tuple[float, float, float] | None:
        """The gains of one member of a scene, or None."""
        mine = scene.members[index].frame
        frames, deviations = self._deviations(index, scene)
        if mine is None or len(frames) < self.min_neighbours:
            return None
        apart = np.linalg.norm(deviations[:, None] - deviations[None], axis=2)
        groups = apart <= self.tolerance
        best = groups[int(np.argmax(groups.sum(1)))]
        cast = deviations[best].mean(0)
        with_me = np.linalg.norm(deviations, axis=1) < self.threshold
        if best.sum() < self.min_neighbours or np.linalg.norm(cast) < self.threshold or best.sum() <= with_me.sum():
            return None
        if with_me.any():  # a run of frames: only where the picture comes back to what it was before
            run = [mine, *frames[with_me].tolist()]
            if not frames[best].min() < min(run) <= max(run) < frames[best].max():
                return None
        return self._capped(cast, scene.grids[index])

    def _deviations(self, index: int, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
        """The nearest frames with a good match ``[N]`` and the chromatic log gains ``[N, 3]`` of a member over it."""
        nearest = list(islice(scene.nearest(index), self.neighbours))
        candidates = [other for _, others in nearest for other in others]
        if not candidates:
            return np.empty(0, np.int64), np.empty((0, 3))
        gains, residuals, overlaps = compare_grids(scene.grids[index], scene.grids[candidates])
        kept: list[tuple[int, int]] = []
        position = 0
        for f, others in nearest:
            span = slice(position, position + len(others))
            position = span.stop
            best = span.start + int(np.argmin(residuals[span]))
            size = float(np.linalg.norm(gains[best]))
            clear = size < self.threshold or size >= 2 * residuals[best]
            if residuals[best] <= self.max_residual and overlaps[best] >= self.min_overlap and clear:
                kept.append((f, best))
        return np.array([f for f, _ in kept], np.int64), gains[[best for _, best in kept]]

    def _capped(self, cast: np.ndarray, grid: np.ndarray) -> tuple[float, float, float]:
        """Gains against a cast (log): within ``max_gain``, and such that the instance's mean luminance stays."""
        from lora_data.colour import LUMINANCE

        limit = math.log(self.max_gain)
        correction = -cast * min(1.0, limit / float(np.abs(cast).max()))
        mean = grid[..., :3].sum((0, 1)) @ np.diag(LUMINANCE)
        gains = np.exp(correction)
        gains = np.clip(gains * mean.sum() / max(float(mean @ gains), 1e-9), 1 / self.max_gain, self.max_gain)
        return float(gains[0]), float(gains[1]), float(gains[2])


def assign_scenes(records: Sequence[Record], gap: int) -> list[str | None]:
    """The scene of each record: its own, or the run of frame numbers that it lies in, named by folder and first frame.

    Frames of different folders are different films, except where the folder is the frame's own (its name holds the
    frame number).
    """
    scenes = [record.scene for record in records]
    films: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for index, record in enumerate(records):
        if record.scene is None and record.frame is not None:
            films[_film(record.source, record.frame)].append((record.frame, index))
    for film, frames in films.items():
        first = last = -gap - 1
        for frame, index in sorted(frames):
            if frame - last > gap:
                first = frame
            last = frame
            scenes[index] = f"{film}{first:06d}"
    return scenes


def compare_grids(grid: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare one subject's grid with others.

    Args:
        grid: ``[GRID, GRID, 4]``, see `MeasureCast`.
        others: ``[N, GRID, GRID, 4]``.

    Returns:
        The chromatic log gains ``[N, 3]`` of ``grid`` over each other (they sum to zero), the mean length ``[N]`` of
        what one gain per channel leaves unexplained (infinite where too little can be compared), and the overlap
        ``[N]`` of the coverages.
    """
    mine = grid.reshape(1, -1, 4).astype(np.float64)
    theirs = others.reshape(len(others), -1, 4).astype(np.float64)
    smaller, larger = np.minimum(mine[..., 3], theirs[..., 3]), np.maximum(mine[..., 3], theirs[..., 3])
    overlap = smaller.sum(1) / np.maximum(larger.sum(1), 1e-9)
    colours = [x[..., :3] / np.maximum(x[..., 3:], 1e-6) for x in (mine, theirs)]
    usable = (smaller > 0.25) & (colours[0].max(-1) < _CLIPPED) & (colours[1].max(-1) < _CLIPPED)
    weight = np.where(usable, smaller, 0)
    ratio = np.log((colours[0] + _SHADOW) / (colours[1] + _SHADOW))
    ratio -= ratio.mean(-1, keepdims=True)
    gain = _weighted_median(ratio, weight)
    gain -= gain.mean(-1, keepdims=True)
    left = np.linalg.norm(ratio - gain[:, None], axis=-1)
    residual = (left * weight).sum(1) / np.maximum(weight.sum(1), 1e-9)
    few = usable.sum(1) < GRID
    return np.where(few[:, None], 0, gain), np.where(few, np.inf, residual), overlap


def _weighted_median(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Median over axis 1 of ``[N, M, C]``, weighted by ``[N, M]``."""
    order = np.argsort(values, axis=1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=1)
    mass = np.cumsum(np.take_along_axis(np.broadcast_to(weight[..., None], values.shape), order, axis=1), axis=1)
    middle = (mass < mass[:, -1:] / 2).sum(1, keepdims=True)
    return np.take_along_axis(ranked, np.minimum(middle, values.shape[1] - 1), axis=1)[:, 0]


class Scene:
    """The members of a scene, each with a frame and a grid, by their frames."""

    def __init__(self, members: Sequence[Record]) -> None:
        self.members = members
        self.grids = np.stack([_grid(record) for record in members])
        self._by_frame: dict[int, list[int]] = defaultdict(list)
        for index, record in enumerate(members):
            assert record.frame is not None
            self._by_frame[record.frame].append(index)
        self._frames = sorted(self._by_frame)

    def nearest(self, index: int) -> Iterator[tuple[int, list[int]]]:
        """The other frames that hold what may be the same subject, the nearest first, and who it is there."""
        frame, mine = self.members[index].frame, self.members[index].track
        assert frame is not None
        at = bisect_left(self._frames, frame)
        # as they are asked for: a long scene has many more than anybody looks at
        before = (self._frames[i] for i in range(at - 1, -1, -1))
        after = (self._frames[i] for i in range(at + 1, len(self._frames)))
        for near in merge(before, after, key=lambda f: abs(f - frame)):
            tracks = ((other, self.members[other].track) for other in self._by_frame[near])
            others = [other for other, track in tracks if mine is None or track is None or track == mine]
            if others:
                yield near, others


def _grid(record: Record) -> np.ndarray:
    assert record.colour_grid is not None
    return np.asarray(record.colour_grid, np.float32).reshape(GRID, GRID, 4)


def _film(source: str, frame: int) -> str:
    """The folder of a source, without the part that is the frame's number."""
    folder = source.rpartition("/")[0]
    folder = re.sub(r"\d+", lambda m: "" if int(m.group()) == frame else m.group(), folder)
    return f"{folder}/" if folder else ""
