"""Super-resolution of small cut-outs, with a network, gated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from lora_data.limits import Limits
from lora_data.sample import Instance
from lora_data.stage import NetworkStage, Resources
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

_KEY = "precompute.upscale.model"


MARGIN = 16
"""px around the character that the network sees too: colour continued under the matte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upscale(NetworkStage):
    """Enlarge small characters twice with a super-resolution network (strategy 1.1).

    The network sees colour continued under the matte, so no edge of the silhouette and no hidden colour; the matte is
    resampled apart. A network that enlarges four times is averaged down. The picture's own low frequencies are put
    back, and the result is held against limits (`lora_data.gate`): where one breaks, the picture stays as it was.

    Args:
        enabled: "auto" (with the preset "full"), or always, or never.
        model: A name from ``lora-data models list``, or the path of a network that spandrel recognises.
        below: px: characters whose longest side is smaller are enlarged; the strategy's 512.
        tile: px: side of the tiles in which large pictures run; 256 fits 8 GB cards.
        limits: What must hold.

    Raises:
        ValueError: A field is out of range.
    """

    name: ClassVar[str] = "upscale"
    version: ClassVar[int] = 2
    reads: ClassVar[frozenset[str]] = frozenset({"face_points", "upscale_review", "upscale_scale"})
    foreign: ClassVar[frozenset[str]] = frozenset({"enabled"})

    enabled: Enabled = "auto"
    model: str = "realesrgan-x2plus"
    below: int = 512
    scale: Literal[2] = 2
    tile: int = 256
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 1 <= self.below <= 4096:
            raise ValueError(f"below must be in [1, 4096], got {self.below}")
        if not 96 <= self.tile <= 2048:
            raise ValueError(f"tile must be in [96, 2048], got {self.tile}")

    def prepare(self, resources: Resources) -> None:
        """See `NetworkStage`."""
        from lora_data.models.loaded import network

        network(self.model, "upscale", _KEY, resources.device)

    def apply_many(self, instances: Sequence[Instance], resources: Resources) -> list[Instance]:
        """Enlarge, measure; write ``upscale``, its reason, value, limit, hue shift and gain, and
        ``upscale_scale``.

        Reasons for "no": "large". For "taken_back": "hue", "low_frequencies", "no_gain", "identity", "landmarks",
        "network" (its output was no picture), "memory", "person".
        """
        from lora_data.models.loaded import network

        parts = resources.each(self._part, instances)
        pictures = [None if part is None else part.rgb for part in parts]
        found = network(self.model, "upscale", _KEY, resources.device)
        made = run(found, pictures, resources, tile=self.tile, scale=self.scale)
        work = list(zip(instances, parts, made, strict=True))
        return resources.each(lambda item: self._finished(*item, resources), work)

    def _part(self, instance: Instance) -> Part | None:
        """What the network is to see, or None where the character is large enough."""
        from lora_data.matte import bounding_box

        if declined(instance, "upscale"):
            return None
        box = bounding_box(instance.alpha)
        return None if box is None or max(box[2:]) >= self.below else part_of(instance, MARGIN)

    def _finished(
        self, instance: Instance, part: Part | None, made: Tensor | Refused | None, resources: Resources
    ) -> Instance:
        """Held against the limits; on a canvas of twice the size where they hold."""
        import cv2

        from lora_data.faces import paste
        from lora_data.gate import judge, keep_low_frequencies
        from lora_data.matte import enlarge, interior
        from lora_data.models.tiles import Refused

        if declined(instance, "upscale"):
            return by_person(instance, "upscale")
        if part is None or made is None:
            return instance.replace(upscale_reason="large")
        if isinstance(made, Refused):
            return refused(instance, "upscale", made)
        raw = to_levels(made)
        final = to_picture(keep_low_frequencies(part.rgb, raw))
        face = same_face(instance.record, part, final, resources, self.scale)
        verdict = judge(part.rgb, raw, final, interior(part.alpha), self.limits, face=face)
        if verdict.reason is not None:
            return attempt(refused(instance, "upscale", verdict), "upscale", part.rgb, final, part.alpha)
        alpha = enlarge(instance.alpha, self.scale)
        canvas = np.zeros((*alpha.shape, 3), np.uint8)
        top, left = self.scale * part.top, self.scale * part.left
        canvas[top : top + final.shape[0], left : left + final.shape[1]] = final
        if instance.face is not None:  # at the canvas's new resolution, as it came out of its own network
            canvas = paste(canvas, alpha, instance.face, self.scale)
        return instance.replace(
            rgb=cv2.bitwise_and(canvas, canvas, mask=(alpha > 0).astype(np.uint8)),
            alpha=alpha,
            upscale="applied",
            upscale_scale=self.scale,
            upscale_hue_shift=verdict.hue_shift,
            upscale_gain=verdict.gain,
        )
