"""Find the face, and say whose it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

from lora_data.sample import Instance
from lora_data.stage import MapStage

if TYPE_CHECKING:
    from lora_data.backends.face_detect import Detector
    from lora_data.backends.face_embed import ArcFace
    from lora_data.backends.face_witness import FaceWitness

Enabled = Literal["auto"] | bool
"""Of faces and what is done to them: "auto" follows the preset ("full": on)."""


_ZOOMS = (1.0, 0.94, 1.06)
"""Crops that a face is described from. Measured with a small ArcFace on 126 rendered faces: through a JPEG at 70 % size
and points moved by 3 % of the eye distance, the worst twentieth keeps a cosine of .667 (.634 with one crop); two more,
turned by 5 degrees, add nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces(MapStage):
    """Find the face of an instance with several detectors at several scales, and describe it.

    Stylised faces are found badly (`lora_data.backends.face_detect` has the figures): a missing face says nothing about
    a picture and never rejects it. How many were found is in the summary, per character.

    Args:
        enabled: "auto" (with the preset "full", or where faces are restored), or always, or never.
        detectors: Names from ``lora-data models list``, or paths of ONNX files (SCRFD with landmarks, YuNet).
        embedder: The same, of an ArcFace network.
        min_score: Joined score from which a face counts as found. Measured at .9 / .8 / .7 / .5: found .39 / .42 / .44
            / .53, in the wrong place .012 / .012 / .016 / .052, on backs of heads 0 / .02 / .02 / .10.

    Raises:
        ValueError: A field is out of range.
    """

    name: ClassVar[str] = "faces"
    version: ClassVar[int] = 2
    foreign: ClassVar[frozenset[str]] = frozenset({"enabled"})

    enabled: Enabled = "auto"
    detectors: tuple[str, ...] = ("insightface-buffalo-l", "yunet")
    embedder: str = "insightface-buffalo-l"
    min_score: float = 0.8

    def __post_init__(self) -> None:
        if not self.detectors:
            raise ValueError("detectors must name at least one")
        if not 0 < self.min_score <= 1:
            raise ValueError(f"min_score must be in (0, 1], got {self.min_score}")

    @property
    def models(self) -> tuple[str, ...]:
        """Its networks, each once."""
        return tuple(dict.fromkeys((*self.detectors, self.embedder)))

    def apply(self, instance: Instance) -> Instance:
        """Return the instance with the fields of the record's section on the face; the pixels stay."""
        from lora_data.backends.face_detect import find_faces
        from lora_data.faces import head_yaw, view_of
        from lora_data.matte import fill_hidden

        found = find_faces(instance.rgb, instance.alpha, detectors(self.detectors))
        found = [face for face in found if face.score >= self.min_score]
        if not found:
            return instance.replace(faces=0)
        face = found[0]
        filled = fill_hidden(instance.rgb, instance.alpha)
        yaw = head_yaw(face.points)
        return instance.replace(
            faces=len(found),
            face_size=face.size,
            face_score=face.score,
            face_box=face.box,
            face_points=face.points.ravel(),
            face_yaw=yaw,
            view=view_of(yaw),
            face_embedding=embedder(self.embedder).embed(filled, face.points, _ZOOMS),
        )

    def prepare(self) -> None:
        """Open the networks, so that what is missing is said before anything is touched.

        Raises:
            ConfigError: A name or path means no such network.
            ModelError: Weights cannot be used.
            MissingExtraError: insightface or onnxruntime is not installed.
        """
        detectors(self.detectors)
        embedder(self.embedder)


@cache
def detectors(names: tuple[str, ...]) -> tuple[Detector, ...]:
    """The detectors of these names or paths, opened once in a process."""
    from lora_data.backends.face_detect import open_detector
    from lora_data.models.loaded import file_of

    return tuple(open_detector(file_of(name, "face_detect", "precompute.faces.detectors")) for name in names)


@cache
def embedder(name: str) -> ArcFace:
    """The embedder of this name or path, opened once in a process."""
    from lora_data.backends.face_embed import ArcFace
    from lora_data.models.loaded import file_of

    return ArcFace(file_of(name, "face_embed", "precompute.faces.embedder"))


@cache
def witness(name: str) -> FaceWitness:
    """Who looks at faces before and after, with this embedder."""
    from lora_data.backends.face_witness import FaceWitness

    return FaceWitness(embedder(name))
