"""The table: one typed record per input file, the contract between every stage, the shards, the report and a person.

A `Record` is frozen; a stage returns a changed copy. Its fields *are* the columns of ``instances.parquet``. Numbers are
written by map stages (which see pixels); ``status``, ``stage``, ``reason``, ``value`` and ``limit`` are written by the
corpus stages (which see only records). ``None`` means "not measured" or "does not apply", never zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Status = Literal["kept", "rejected", "duplicate", "surplus", "error"]
"""What became of an input. ``kept`` is also the state of everything that is still in the running."""

Outcome = Literal["no", "applied", "proposed", "taken_back"]
"""What an enhancement did: nothing, applied, waits for a person, or was measured and undone."""

Word = Literal["reject", "restore"]
"""What a person said about an input: not this one, or this one whatever the stages think."""

Answer = Literal["accept", "refuse"]
"""What a person said about an enhancement of one picture."""

UNKNOWN = "unknown"
"""The character of an instance that nobody could name."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Record:
    """One input and everything known about it. Lengths are in px of the named image, fractions in [0, 1]."""

    # -- where it comes from
    source: str  # path relative to INPUT, with "/" (for a SAM2 mask: "frame.json#7")
    key: str  # the sample's name in the shards: [A-Za-z0-9_-]+, a pure function of source
    digest: str | None = None  # SHA-256 of the input bytes
    frame: int | None = None  # frame number in the film
    instance: int | None = None  # number of the instance within its frame
    track: str | None = None  # consecutive frames of one instance, where the name or sidecar says so
    tracklet: int | None = None  # number of the track that identity built or took; within one run
    scene: str | None = None  # shot; from the sidecar, or a run of consecutive frame numbers
    caption: str | None = None  # from the sidecar .txt
    file_format: str | None = None  # what the bytes are ("PNG", "WEBP", ...), whatever the name says
    width: int | None = None  # canvas of the instance as decoded
    height: int | None = None
    box_x: int | None = None  # bounding box of alpha > 127, on the decoded canvas
    box_y: int | None = None
    box_width: int | None = None
    box_height: int | None = None

    # -- what became of it
    status: Status = "kept"
    stage: str | None = None  # the stage that decided
    reason: str | None = None  # a short stable word ("blur", "dark", "truncated", ...)
    value: float | None = None  # the number that decided
    limit: float | None = None  # what it was held against
    message: str | None = None  # for errors: what was found, what was expected
    reviewed: Word | None = None  # what a person said about it
    character: str = UNKNOWN
    cluster: int | None = None  # -1: in no cluster
    look: str | None = None  # of the character, where its references show several
    found_character: str | None = None  # the same three as the run found them, before a person's decisions
    found_cluster: int | None = None
    found_look: str | None = None
    core_similarity: float | None = None  # cosine to the mean of its character without its own track
    core_margin: float | None = None  # how much nearer that is than any other character's
    nearest_character: str | None = None  # of the nearest reference, where there are references
    nearest_similarity: float | None = None  # cosine to it
    duplicate_of: str | None = None  # key of the one that was kept
    mirror_of: str | None = None  # no duplicate, but a mirror image: key of the better one
    surplus_to: str | None = None  # key of the kept one that shows most nearly the same
    flagged: str | None = None  # kept, but a person should look: why

    # -- enhancements (each: outcome, reason, p95 hue shift in degrees)
    face_restore: Outcome = "no"
    face_restore_reason: str | None = None
    face_restore_review: Answer | None = None  # what a person said about it
    face_restore_hue_shift: float | None = None
    face_restore_gain: float | None = None  # Laplacian variance over the original's; None: not judged
    face_restore_value: float | None = None  # what was measured where it was taken back
    face_restore_limit: float | None = None  # what it was held against
    upscale: Outcome = "no"
    upscale_reason: str | None = None
    upscale_review: Answer | None = None
    upscale_hue_shift: float | None = None
    upscale_gain: float | None = None
    upscale_value: float | None = None
    upscale_limit: float | None = None
    upscale_scale: int | None = None  # how much larger the finished canvas is than the decoded one; None: not
    deblur: Outcome = "no"
    deblur_reason: str | None = None
    deblur_review: Answer | None = None
    deblur_hue_shift: float | None = None
    deblur_gain: float | None = None
    deblur_value: float | None = None
    deblur_limit: float | None = None
    colour: Outcome = "no"
    colour_reason: str | None = None
    colour_review: Answer | None = None
    colour_hue_shift: float | None = None
    matte: Outcome = "no"
    matte_reason: str | None = None
    matte_review: Answer | None = None
    matte_hue_shift: float | None = None

    # -- matte
    matte_soft: float | None = None  # share of partly transparent pixels in the one-pixel boundary band
    coverage: float | None = None  # matte area over canvas area
    matte_components: int | None = None  # connected parts of at least 1 % of the matte
    touches_edge: float | None = None  # share of the canvas border that the matte covers
    background: float | None = None  # std (levels) of the colour hidden under alpha 0; near 0: nothing hidden there

    # -- cast evidence, measured before the colour stage (see stages/white_balance.py)
    colour_grid: np.ndarray | None = None  # float32, flat; linear-light colour of the character on a coarse grid
    wb_red: float | None = None  # gains in linear light decided for this instance; None: no correction
    wb_green: float | None = None
    wb_blue: float | None = None

    # -- exposure as it came, measured before any colour change (see stages/metrics.py)
    source_brightness: float | None = None  # mean luma, 0..255
    source_brightness_p95: float | None = None
    source_clipped_bright: float | None = None  # share of pixels with a channel > 250
    source_burnt: float | None = None  # share of pixels with every channel > 250: no colour is left

    # -- metrics, inside the matte eroded by 4 px at a character height of 512 px
    brightness: float | None = None  # mean luma, 0..255
    brightness_p05: float | None = None
    brightness_p95: float | None = None
    saturation: float | None = None  # mean HSV saturation weighted by V, 0..1
    saturation_ratio: float | None = None  # saturation over the character's median
    clipped_dark: float | None = None  # share of pixels with luma < 8
    clipped_bright: float | None = None  # share of pixels with a channel > 250
    laplacian_variance: float | None = None
    sharpness: float | None = None  # re-blur ratio
    blur_direction: float | None = None  # degrees counter-clockwise, [0, 180)
    blur_coherence: float | None = None  # 0 isotropic .. 1 one direction
    edge_score: float | None = None  # detail preservation, see metrics.py
    framing: str | None = None  # "close-up", "half", "full"

    # -- the face, where one was found (see stages/faces.py); px of the canvas as decoded
    face_size: float | None = None  # longest side of its box; None: no face known
    face_score: float | None = None  # how sure the detectors are together, 0..1
    face_box: np.ndarray | None = None  # float32 [4]: left, top, right, bottom
    face_points: np.ndarray | None = None  # float32, flat 5 x 2: eyes, nose, corners of the mouth; (x, y)
    face_yaw: float | None = None  # degrees that the head is turned, 0: at the camera; positive: to the picture's right
    view: str | None = None  # "front", "left", "right": where that is, on the picture's sides; None: no face known
    faces: int | None = None  # how many were found; None: nobody looked

    # -- whether motion blurred it, measured before any network (see motion.py)
    motion: str | None = None  # "motion", or which witness speaks against it; None: nobody looked
    motion_score: float | None = None  # blur score along that direction, see metrics.py
    motion_softness: float | None = None
    motion_direction: float | None = None  # degrees counter-clockwise, [0, 180)
    motion_coherence: float | None = None
    motion_agreement: float | None = None
    motion_silhouette: float | None = None
    motion_face_focus: float | None = None

    # -- fingerprints and embeddings
    phash: int | None = None  # 64 bit, of the matte-filled tight composite; bit order: see fingerprint.py
    phash_mirror: int | None = None  # the same of the mirror image
    thumb_luma: np.ndarray | None = None  # uint8, deflated 96 x 96: luma of the tight crop, aspect kept, centred
    thumb_matte: np.ndarray | None = None  # uint8, 96 x 96 bits packed (np.packbits): where its alpha is above 127
    embedding: np.ndarray | None = None  # float32, unit length: appearance of the masked body
    image_embedding: np.ndarray | None = None  # the same by a network, where one is configured
    face_embedding: np.ndarray | None = None  # float32, unit length: whose face it is
    quality: float | None = None  # one number to order near-equals by, see stages/deduplicate.py

    @property
    def active(self) -> bool:
        """Still in the running (or, at the end, kept)."""
        return self.status == "kept"

    @property
    def folder(self) -> str:
        """Where it lies below INPUT, with "/"; frame numbers of two folders may be of two films."""
        return self.source.rpartition("/")[0]

    @property
    def track_key(self) -> tuple[str, str | None, str] | None:
        """Its track as no other film or scene has it; None where none is known."""
        return None if self.track is None else (self.folder, self.scene, self.track)

    def replace(self, **changes: Any) -> Record:
        """Return a copy with these fields changed.

        Raises:
            TypeError: A name is not a field.
        """
        return dataclasses.replace(self, **changes)

    def decide(
        self,
        status: Status,
        stage: str,
        reason: str,
        value: float | None = None,
        limit: float | None = None,
        **changes: Any,
    ) -> Record:
        """Return a copy that left the running, with who decided, why, on what value and against which limit.

        Raises:
            TypeError: A name in ``changes`` is not a field.
        """
        return dataclasses.replace(self, status=status, stage=stage, reason=reason, value=value, limit=limit, **changes)


def mirrors(records: Sequence[Record]) -> list[Record]:
    """Those in the running that are mirror images of another one in the running."""
    keys = {r.key for r in records if r.active}
    return [r for r in records if r.active and r.mirror_of in keys]
