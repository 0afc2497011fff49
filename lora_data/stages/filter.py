"""Filter: reject what cannot teach a character, from numbers alone, with reason, value and limit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import ClassVar, NamedTuple, TypeVar

from lora_data.manifest import UNKNOWN, Record
from lora_data.stage import CorpusStage

_PEERS = 3
"""Members, itself included, from which a track or scene has a median that one bad picture cannot move."""
_CHARACTER = 5
"""The same for a character over all its scenes, whose light differs."""
_FALLEN = 0.35
"""Share of its neighbours' luma: two and a half stops. Measured: underexposed .09 to .39, undamaged .93 to 1.11."""
_BURNT = 0.25
"""Share of the character without colour. Measured: overexposed (1.6 to 8 stops) .30 to .71, undamaged 0."""

_Value = TypeVar("_Value")


class Verdict(NamedTuple):
    """Why a record is rejected."""

    reason: str
    value: float
    limit: float


class _Light(NamedTuple):
    """Exposure of a record, or the medians of a group."""

    brightness: float
    p95: float
    clipped: float
    burnt: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter(CorpusStage):
    """Reject by size, matte, exposure, sharpness and saturation. The first reason found is written down.

    Exposure is judged as it came (``source_*``) where that was measured, because colour correction lifts what was
    never exposed; otherwise on the enhanced numbers. Absolute limits are blind for black clothes and night scenes, so
    below the range the neighbours (same track, else the character in the same scene, else the same instance number in
    the same scene) and the highlights have a say: light that fell scales all of a picture, a dark costume keeps its
    lit face. Nothing is rejected for a number that was not measured.

    Args:
        min_face_size: Longest side of the face, px of the original. Judged only where the picture is about the face
            (framing "close-up" or "half"); a full-length view with a small face is wanted, and no face never rejects.
            Source: strategy 4.1.
        blur_threshold: Lowest `lora_data.metrics.laplacian_variance`: even the sharpest parts are blurred by a sigma
            of 1.3 px at 512 px height. Source: strategy 4.1; the curve is at the function.
        brightness_range: Mean luma, 0..255. Source: strategy 4.1.
        saturation_range: Saturation relative to the character's median (a gray knight has a gray median), written to
            ``saturation_ratio``. Rejects only what is outside for the character *and* for its scene where that is
            known: measured, light moves a gray character's ratio to 2.9 between scenes, and to .7 at most within one.
            Source: strategy 4.1.
        edge_score: Lowest `lora_data.metrics.edge_score`. Source: strategy 4.1; the curve is at the function.
        min_size: Longest side of the matte's box as decoded, px. Source: half of 256, the smallest bucket of kohya's
            trainers (``min_bucket_reso``), which the strategy's upscaling by 2 reaches.
        min_coverage: Matte over canvas: 64 x 64 px in a Full HD frame; less is a speck.
        max_coverage: From here a canvas has no matte, it is an opaque rectangle. Measured: characters .15 to .79.
        max_components: More connected parts than this, on a matte that runs off the canvas, are shreds of background.
            Measured: backgrounds 4 and 6, characters 1, behind an obstacle 3. A body of floating parts that stays
            inside the canvas is flagged instead.
        min_contrast: 95th minus 5th percentile of luma, levels; less is a flat colour. Measured: flat colours 0,
            underexposed characters 23 and more.

    Raises:
        ValueError: A field is out of range.
    """

    name: ClassVar[str] = "filter"
    version: ClassVar[int] = 1

    min_face_size: int = 64
    blur_threshold: float = 80.0
    brightness_range: tuple[float, float] = (30.0, 220.0)
    saturation_range: tuple[float, float] = (0.3, 2.0)
    edge_score: float = 0.3
    min_size: int = 128
    min_coverage: float = 0.002
    max_coverage: float = 0.995
    max_components: int = 3
    min_contrast: float = 8.0

    def __post_init__(self) -> None:
        for field, highest in (("brightness_range", 255.0), ("saturation_range", float("inf"))):
            low, high = getattr(self, field)
            if not 0 <= low < high <= highest:
                raise ValueError(
                    f"{field} must be (low, high) with 0 <= low < high <= {highest:g}, got ({low}, {high})"
                )
        for field in ("edge_score", "min_coverage", "max_coverage"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} must be in [0, 1], got {getattr(self, field)}")
        if self.min_coverage >= self.max_coverage:
            raise ValueError(
                f"min_coverage must be below max_coverage, got {self.min_coverage} and {self.max_coverage}"
            )
        for field in ("min_face_size", "blur_threshold", "min_size", "min_contrast"):
            if not getattr(self, field) >= 0:
                raise ValueError(f"{field} must be at least 0, got {getattr(self, field)}")
        if self.max_components < 1:
            raise ValueError(f"max_components must be at least 1, got {self.max_components}")

    def apply(self, records: Sequence[Record]) -> list[Record]:
        """Return the records: active ones with their ``saturation_ratio``, rejected where a limit is broken.

        Those that a person restored pass.
        """
        groups = _Groups(records)
        return [self._judged(record, groups) if record.active else record for record in records]

    def _judged(self, record: Record, groups: _Groups) -> Record:
        reference = groups.saturation(record)
        if record.saturation is not None and reference is not None:
            record = record.replace(saturation_ratio=record.saturation / reference)
        if record.reviewed == "restore":  # a person looked
            return record
        verdict = (
            self._shape(record)
            or self._exposure(record, groups)
            or self._sharpness(record)
            or self._saturation(record, groups)
            or self._face(record)
        )
        if verdict is not None:
            return record.decide("rejected", self.name, verdict.reason, float(verdict.value), float(verdict.limit))
        if record.flagged is None and (record.matte_components or 0) > self.max_components:
            return record.replace(flagged="fragments")
        return record

    def _shape(self, record: Record) -> Verdict | None:
        coverage = record.coverage
        if coverage is not None and coverage >= self.max_coverage:
            return Verdict("no_matte", coverage, self.max_coverage)
        size = max(record.box_width or 0, record.box_height or 0)
        if record.box_width is not None and size < self.min_size:
            return Verdict("small", size, self.min_size)
        if coverage is not None and coverage < self.min_coverage:
            return Verdict("speck", coverage, self.min_coverage)
        parts, off = record.matte_components, record.touches_edge
        # measured: shreds of background cover .25 and .47 of the canvas border
        if parts is not None and parts > self.max_components and (off is None or off >= 0.1):
            return Verdict("fragments", parts, self.max_components)
        if record.brightness_p95 is not None and record.brightness_p05 is not None:
            contrast = record.brightness_p95 - record.brightness_p05
            if contrast < self.min_contrast:
                return Verdict("flat", contrast, self.min_contrast)
        return None

    def _exposure(self, record: Record, groups: _Groups) -> Verdict | None:
        light = _light(record)
        if light is None:
            return None
        low, high = self.brightness_range
        peers, character = groups.scene_light(record), groups.character_light(record)
        if light.brightness < low and not _low_key(light, peers, character, low):
            return Verdict("dark", light.brightness, low)
        # a white character whose shading is intact may be brighter than the range
        if light.brightness > high and (light.burnt >= 0.1 or light.clipped >= 0.5):
            return Verdict("bright", light.brightness, high)
        if peers is not None and light.brightness < 2 * low and _fallen(light, peers):
            return Verdict("darker_than_scene", light.brightness / peers.brightness, _FALLEN)
        # a quarter of a bright picture has lost all colour, and nothing says that it was white to begin with
        reference = peers or character
        if light.burnt >= _BURNT and light.brightness > 180 and (reference is None or reference.burnt < 0.1):
            return Verdict("burnt", light.burnt, _BURNT)
        return None

    def _sharpness(self, record: Record) -> Verdict | None:
        if record.laplacian_variance is not None and record.laplacian_variance < self.blur_threshold:
            return Verdict("blur", record.laplacian_variance, self.blur_threshold)
        if record.edge_score is not None and record.edge_score < self.edge_score:
            return Verdict("detail", record.edge_score, self.edge_score)
        return None

    def _saturation(self, record: Record, groups: _Groups) -> Verdict | None:
        ratio, scene = record.saturation_ratio, groups.scene_saturation(record)
        if ratio is None or record.saturation is None or not groups.comparable(record):
            return None
        low, high = self.saturation_range
        within = record.saturation / scene if scene is not None else ratio
        if ratio < low and within < low:
            return Verdict("unsaturated", ratio, low)
        # neutral surfaces under coloured light stay below .5; above .6 the colour is the picture's own
        if ratio > high and within > high and record.saturation > 0.6:
            return Verdict("oversaturated", ratio, high)
        return None

    def _face(self, record: Record) -> Verdict | None:
        face = record.face_size
        if not face or face >= self.min_face_size or record.framing not in ("close-up", "half"):
            return None
        # a head is a quarter of a half-length figure; under an eighth, the face found is not this character's
        if record.box_height is not None and 8 * face < record.box_height:
            return None
        return Verdict("small_face", face, self.min_face_size)


def _light(record: Record) -> _Light | None:
    if record.source_brightness is not None and record.source_brightness_p95 is not None:
        clipped, burnt = record.source_clipped_bright or 0.0, record.source_burnt or 0.0
        return _Light(record.source_brightness, record.source_brightness_p95, clipped, burnt)
    if record.brightness is not None and record.brightness_p95 is not None:
        return _Light(record.brightness, record.brightness_p95, record.clipped_bright or 0.0, 0.0)
    return None


def _low_key(light: _Light, peers: _Light | None, character: _Light | None, low: float) -> bool:
    """Whether a picture below the range is dark by intent: its neighbours are alike, or parts of it are well lit.

    Measured: underexposed characters (2.5 to 5.8 stops) have a 95th percentile of 23 to 52, those of night scenes 99
    and more; against their neighbours .1 to .4 of the brightness. The limits stand between: 40 and 60, and half.
    """
    enough = light.p95 >= 4 / 3 * low
    if peers is not None:
        return enough and light.brightness >= 0.5 * peers.brightness
    if character is not None and _fallen(light, character, highlights=_FALLEN):
        return False
    alike = character is not None and light.brightness >= 0.5 * character.brightness
    return light.p95 >= 2 * low or (alike and enough)


def _fallen(light: _Light, reference: _Light, highlights: float = 0.5) -> bool:
    """Two and a half stops under the reference (luma .35), where costume cannot explain it: highlights fell too."""
    return light.brightness < _FALLEN * reference.brightness and light.p95 < highlights * reference.p95


class _Groups:
    """Medians of the active records' tracks, scenes and characters."""

    def __init__(self, records: Sequence[Record]) -> None:
        light: dict[tuple[str, ...], list[_Light]] = defaultdict(list)
        saturation: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for record in records:
            if not record.active:
                continue
            found = _light(record)
            for key in (*_scene_keys(record), *_character_keys(record), ("all",)):
                if found is not None:
                    light[key].append(found)
                if record.saturation is not None:
                    saturation[key].append(record.saturation)
        self._light = {
            key: (len(group), _Light(*(median(column) for column in zip(*group, strict=True))))
            for key, group in light.items()
        }
        self._saturation = {key: (len(group), median(group)) for key, group in saturation.items()}

    def scene_light(self, record: Record) -> _Light | None:
        return _first(self._light, _scene_keys(record), _PEERS)

    def character_light(self, record: Record) -> _Light | None:
        return _first(self._light, _character_keys(record), _CHARACTER)

    def scene_saturation(self, record: Record) -> float | None:
        return _first(self._saturation, _scene_keys(record), _PEERS) or None

    def comparable(self, record: Record) -> bool:
        """Whether anything is known of the same character: a stranger's saturation never rejects."""
        known = _first(self._saturation, _character_keys(record), _CHARACTER)
        return known is not None or self.scene_saturation(record) is not None

    def saturation(self, record: Record) -> float | None:
        """What a saturation is relative to: the character's median, else its scene's, else everybody's."""
        reference = _first(self._saturation, _character_keys(record), _CHARACTER)
        reference = self.scene_saturation(record) if reference is None else reference
        reference = _first(self._saturation, [("all",)], 1) if reference is None else reference
        return reference if reference else None


def _first(
    groups: dict[tuple[str, ...], tuple[int, _Value]], keys: Sequence[tuple[str, ...]], least: int
) -> _Value | None:
    """The median of the first group that has enough members."""
    for key in keys:
        if key in groups and groups[key][0] >= least:
            return groups[key][1]
    return None


def _character_keys(record: Record) -> list[tuple[str, ...]]:
    if record.character != UNKNOWN:
        return [("character", record.character)]
    if record.cluster is not None and record.cluster >= 0:
        return [("cluster", str(record.cluster))]
    return []


def _scene_keys(record: Record) -> list[tuple[str, ...]]:
    """Groups in which the light is the same and so is the character, closest first."""
    keys: list[tuple[str, ...]] = []
    if record.track is not None:
        keys.append(("track", record.track))
    if record.scene is not None:
        keys.extend(("scene", record.scene, *key) for key in _character_keys(record))
        if record.instance is not None:
            keys.append(("scene", record.scene, "instance", str(record.instance)))
    return keys
