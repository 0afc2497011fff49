"""Restoration of small faces with a network, gated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lora_data.limits import Limits
from lora_data.sample import FacePatch, Instance
from lora_data.stage import NetworkStage, Resources
from lora_data.stages.enhancement import attempt, by_person, declined, face_points, refused, run, to_levels, to_picture
from lora_data.stages.faces import Enabled, embedder, witness

if TYPE_CHECKING:
    from torch import Tensor

    from lora_data.models.tiles import Refused

_KEY = "precompute.face_restore.model"


@dataclass(frozen=True, slots=True, eq=False)
class _Aligned:
    """A face on the template's square of 512 px."""

    rgb: np.ndarray
    inside: np.ndarray
    points: np.ndarray
    matrix: np.ndarray
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceRestore(NetworkStage):
    """Restore every face that was found (strategy 1.3).

    The face is turned, by its five points, onto the square of 512 px that these networks are trained on, restored,
    given back its own low frequencies, and held against the limits: it must be the same person (embedding before and
    after), no feature may move, hue and light must stay, sharpness must gain. Then it is pasted back through a soft
    mask inside the matte; and where the canvas is enlarged later, once more at the larger size, so that nothing of it
    is lost. These networks know photographs of people: what they make of a stylised face is refused often, and rightly.

    Args:
        enabled: "auto" (with the preset "full"), or always, or never.
        model: A name from ``lora-data models list``, or the path of a network that spandrel recognises.
        fidelity: CodeFormer's weight between its codebook (0) and the picture (1); the strategy's 0.7. Other networks
            have none.
        min_eye_distance: px of the original. Source: GFPGAN skips faces whose eyes are less than 5 px apart.
        limits: What must hold.

    Raises:
        ValueError: A field is out of range.
    """

    name: ClassVar[str] = "face_restore"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"face_points", "face_restore_review", "upscale_scale"})
    foreign: ClassVar[frozenset[str]] = frozenset({"enabled"})

    enabled: Enabled = "auto"
    model: str = "codeformer"
    fidelity: float = 0.7
    min_eye_distance: float = 5.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.fidelity <= 1:
            raise ValueError(f"fidelity must be in [0, 1], got {self.fidelity}")
        if not self.min_eye_distance >= 1:
            raise ValueError(f"min_eye_distance must be at least 1, got {self.min_eye_distance}")

    def prepare(self, resources: Resources) -> None:
        """See `NetworkStage`."""
        from lora_data.errors import ConfigError
        from lora_data.faces import FFHQ_SIZE
        from lora_data.models.loaded import network

        found = network(self.model, "face_restore", _KEY, resources.device, self.fidelity)
        if found.square and found.least != FFHQ_SIZE:
            raise ConfigError(f"{_KEY}: {self.model} takes {found.least} px, expected {FFHQ_SIZE}")

    def apply_many(self, instances: Sequence[Instance], resources: Resources) -> list[Instance]:
        """Restore, measure; write ``face_restore``, its reason, value, limit, hue shift and gain.

        Reasons for "no": "no_face", "small_face" (the eyes are too close to each other), "full_resolution" (the face is
        at least as large as the network's). For "taken_back": "hue", "low_frequencies", "no_gain", "identity",
        "landmarks", "network" (its output was no picture), "memory", "person".
        """
        from lora_data.faces import FFHQ_SIZE
        from lora_data.models.loaded import network

        faces = resources.each(self._aligned, instances)
        pictures = [face.rgb if isinstance(face, _Aligned) else None for face in faces]
        found = network(self.model, "face_restore", _KEY, resources.device, self.fidelity)
        batch = max(1, resources.batch // 2)  # four times the area of a tile of 256
        made = run(found, pictures, resources, tile=FFHQ_SIZE, batch=batch)
        work = list(zip(instances, faces, made, strict=True))
        return resources.each(lambda item: self._finished(*item, resources), work)

    def _aligned(self, instance: Instance) -> _Aligned | str:
        """The face on its square, or why nothing is restored."""
        from lora_data.faces import FFHQ, FFHQ_SIZE, eye_distance, magnification, placed, similarity, warp
        from lora_data.matte import fill_hidden, interior

        if declined(instance, "face_restore"):
            return "person"
        points = face_points(instance.record)
        if points is None:
            return "no_face"
        if eye_distance(points) < self.min_eye_distance:
            return "small_face"
        matrix = similarity(points, FFHQ)
        scale = magnification(matrix)
        if scale <= 1:
            return "full_resolution"
        square = warp(fill_hidden(instance.rgb, instance.alpha), matrix, FFHQ_SIZE)
        inside = warp(interior(instance.alpha, 2).astype(np.uint8) * np.uint8(255), matrix, FFHQ_SIZE) > 127
        return _Aligned(square, inside, placed(points, matrix), matrix, scale)

    def _finished(
        self, instance: Instance, aligned: _Aligned | str, made: Tensor | Refused | None, resources: Resources
    ) -> Instance:
        """Held against the limits; pasted back where they hold."""
        from lora_data.faces import paste
        from lora_data.gate import LOW, STEP, judge, keep_low_frequencies
        from lora_data.models.tiles import Refused

        if aligned == "person":
            return by_person(instance, "face_restore")
        if isinstance(aligned, str) or made is None:
            return instance.replace(face_restore_reason=aligned)
        if isinstance(made, Refused):
            return refused(instance, "face_restore", made)
        name = resources.embedder
        assert name is not None
        levels = to_levels(made)
        final = to_picture(keep_low_frequencies(aligned.rgb, levels, STEP * aligned.scale, 0.5 * aligned.scale))
        verdict = judge(
            aligned.rgb,
            levels,
            final,
            aligned.inside,
            self.limits,
            low=LOW * aligned.scale,
            face=lambda: witness(name).compare(aligned.rgb, final, aligned.points),
        )
        if verdict.reason is not None:
            back = refused(instance, "face_restore", verdict)
            whole = np.full(aligned.rgb.shape[:2], 255, np.uint8)
            return attempt(back, "face_restore", aligned.rgb, final, whole)
        patch = FacePatch(final, aligned.matrix)
        return instance.replace(
            rgb=paste(instance.rgb, instance.alpha, patch),
            face=patch,
            face_restore="applied",
            face_restore_hue_shift=verdict.hue_shift,
            face_restore_gain=verdict.gain,
            face_embedding=embedder(name).embed(final, aligned.points),
        )
