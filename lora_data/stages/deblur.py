"""Deblurring of proved motion blur with a network, gated, and never without a person where `review` asks for one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lora_data.limits import Limits, MotionLimits
from lora_data.manifest import Answer, Record
from lora_data.sample import Instance
from lora_data.stage import CorpusStage, MapStage, NetworkStage, Resources
from lora_data.stages.enhancement import (
    Part,
    attempt,
    by_person,
    declined,
    part_of,
    refused,
    run,
    same_face,
    to_levels,
    to_picture,
)
from lora_data.stages.faces import Enabled

if TYPE_CHECKING:
    from torch import Tensor

    from lora_data.models.tiles import Refused

_KEY = "precompute.deblur.model"
MARGIN = 32
"""px around the character that the network sees too: colour continued under the matte. NAFNet turns a constant dark
background into garbage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureMotion(MapStage):
    """Measure whether a picture is blurred by motion (see `lora_data.motion`); the pixels stay.

    Args:
        below: As for `Deblur`.
        limits: From where which witness speaks.
    """

    name: ClassVar[str] = "motion"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"face_box", "matte_reason"})

    below: float = 80.0
    limits: MotionLimits = field(default_factory=MotionLimits)

    def apply(self, instance: Instance) -> Instance:
        """Return the instance with the record's section on motion."""
        from lora_data.motion import measure, motion_verdict

        box = instance.record.face_box
        # matting gave the contour its width where the matte came hard: it is no witness then
        refined = (instance.record.matte_reason or "").startswith(("knn", "geometric"))
        found = measure(instance.rgb, instance.alpha, box, refined=refined)
        proved, reason = motion_verdict(found, self.limits)
        if found is None:
            return instance.replace(motion=reason)
        if proved and found.score is not None and found.score >= self.below:
            reason = "score"  # blurred, but not by as much as the strategy asks for
        return instance.replace(
            motion=reason,
            motion_score=found.score,
            motion_softness=found.softness,
            motion_direction=found.direction,
            motion_coherence=found.coherence,
            motion_agreement=found.agreement,
            motion_silhouette=found.silhouette,
            motion_face_focus=found.face_focus,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChooseBlurred(CorpusStage):
    """Decide which pictures are deblurred: those with proved motion blur that have no sharp neighbour.

    A sharp picture of the same track a frame or two away shows the same, as it was rendered: then the blurred one is
    surplus, and nothing is invented.

    Args:
        frames: How far away a neighbour may be.
    """

    name: ClassVar[str] = "deblur"
    version: ClassVar[int] = 1

    frames: int = 2

    def apply(self, records: Sequence[Record]) -> list[Record]:
        """Return the records: with ``deblur`` "proposed", or surplus with "sharp_neighbour", or as they were."""
        sharp: dict[tuple[str, str | None, str], list[tuple[int, str]]] = defaultdict(list)
        for record in records:
            if record.active and record.motion == "sharp" and record.track_key is not None and record.frame is not None:
                sharp[record.track_key].append((record.frame, record.key))
        return [self._decided(record, sharp) for record in records]

    def _decided(self, record: Record, sharp: dict[tuple[str, str | None, str], list[tuple[int, str]]]) -> Record:
        if not record.active or record.motion is None:
            return record
        if record.motion != "motion":
            return record.replace(deblur_reason=record.motion)
        if record.track_key is not None and record.frame is not None and record.reviewed != "restore":
            at = record.frame
            near = min(((abs(frame - at), key) for frame, key in sharp.get(record.track_key, [])), default=None)
            if near is not None and near[0] <= self.frames:
                return record.replace(deblur_reason=f"sharp_neighbour {near[1]}").decide(
                    "surplus", self.name, "sharp_neighbour", float(near[0]), float(self.frames)
                )
        return record.replace(deblur="proposed", deblur_reason="motion")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deblur(NetworkStage):
    """Deblur what is proved to be blurred by motion (strategy 1.2), and nothing else.

    Depth of field and a soft render are what the film's makers wanted: never touched. The result is held against the
    limits; with ``review`` it waits for a person, and the picture stays as it was until the person has accepted it.

    Args:
        enabled: "auto" (with the preset "full"), or always, or never.
        model: A name from ``lora-data models list``, or the path of a network that spandrel recognises.
        below: Blur score, taken along the direction of the blur, under which a picture may be deblurred; the strategy's
            80 (see `lora_data.metrics.laplacian_variance`).
        review: Whether a person decides. The strategy: manual review before batch processing.
        neighbour_frames: How many frames away a sharp picture of the same track may be to make this one surplus; 0:
            only this frame's own.
        tile: px: side of the tiles in which large pictures run; 256 fits 8 GB cards.
        motion: From where which witness of motion speaks.
        limits: What must hold. Low frequencies are those below a 64th of the character's longer side. Measured on 15
            rendered characters, ideally deblurred (motion over 9 to 25 px): PSNR 37 to 47 dB there, and 26 to 36 at 2
            px; gain 2.6 to 14.

    Raises:
        ValueError: A field is out of range.
    """

    name: ClassVar[str] = "deblur"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"deblur", "deblur_review", "face_points", "upscale_scale"})
    foreign: ClassVar[frozenset[str]] = frozenset({"enabled", "below", "neighbour_frames", "motion"})

    enabled: Enabled = "auto"
    model: str = "nafnet-gopro-64"
    below: float = 80.0
    review: bool = True
    neighbour_frames: int = 2
    tile: int = 256
    motion: MotionLimits = field(default_factory=MotionLimits)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.below >= 0:
            raise ValueError(f"below must be at least 0, got {self.below}")
        if not 0 <= self.neighbour_frames <= 100:
            raise ValueError(f"neighbour_frames must be in [0, 100], got {self.neighbour_frames}")
        if not 96 <= self.tile <= 2048:
            raise ValueError(f"tile must be in [96, 2048], got {self.tile}")

    def prepare(self, resources: Resources) -> None:
        """See `NetworkStage`."""
        from lora_data.models.loaded import network

        network(self.model, "deblur", _KEY, resources.device)

    def apply_many(self, instances: Sequence[Instance], resources: Resources) -> list[Instance]:
        """Deblur those whose ``deblur`` is "proposed"; write ``deblur``, its reason, value, limit, hue shift and gain.

        Reasons for "taken_back": "hue", "low_frequencies", "no_gain", "identity", "landmarks", "network" (its output
        was no picture), "memory", "person".
        """
        from lora_data.models.loaded import network

        def part(instance: Instance) -> Part | None:
            wanted = instance.record.deblur == "proposed" and not declined(instance, "deblur")
            return part_of(instance, MARGIN) if wanted else None

        parts = resources.each(part, instances)
        pictures = [None if seen is None else seen.rgb for seen in parts]
        made = run(network(self.model, "deblur", _KEY, resources.device), pictures, resources, tile=self.tile)
        work = list(zip(instances, parts, made, strict=True))
        return resources.each(lambda item: self._finished(*item, resources), work)

    def _finished(
        self, instance: Instance, part: Part | None, made: Tensor | Refused | None, resources: Resources
    ) -> Instance:
        from lora_data.gate import judge, keep_low_frequencies
        from lora_data.matte import bounding_box, interior
        from lora_data.models.tiles import Refused

        if instance.record.deblur == "proposed" and declined(instance, "deblur"):
            return by_person(instance, "deblur")
        if part is None or made is None:
            return instance
        if isinstance(made, Refused):
            return refused(instance, "deblur", made)
        box = bounding_box(part.alpha)
        assert box is not None
        low = max(4.0, max(box[2:]) / 64)
        raw = to_levels(made)
        final = to_picture(keep_low_frequencies(part.rgb, raw, low, low))
        face = same_face(instance.record, part, final, resources)
        verdict = judge(part.rgb, raw, final, interior(part.alpha), self.limits, low=low, face=face)
        if verdict.reason is not None:
            return attempt(refused(instance, "deblur", verdict), "deblur", part.rgb, final, part.alpha)
        whole = instance.rgb.copy()
        area = (slice(part.top, part.top + final.shape[0]), slice(part.left, part.left + final.shape[1]))
        whole[area] = np.where((part.alpha > 0)[..., None], final, whole[area])
        proposal = instance.replace(proposed=whole, deblur_hue_shift=verdict.hue_shift, deblur_gain=verdict.gain)
        if self.review and instance.record.deblur_review != "accept":
            return proposal
        return answered(proposal)["accept"]


def answered(instance: Instance) -> dict[Answer, Instance]:
    """What `Deblur` makes of an instance whose deblurring waits for a person, once the person has answered; empty where
    none waits."""
    if instance.proposed is None:
        return {}
    plain = Instance(instance.record, instance.rgb, instance.alpha, instance.face, attempts=instance.attempts)
    back = by_person(plain, "deblur").replace(deblur_hue_shift=None, deblur_gain=None)
    return {"accept": plain.replace(rgb=instance.proposed, deblur="applied"), "refuse": back}
