"""Limits as they are configured: what an enhancement must hold (`lora_data.gate`), and from where a witness speaks for
motion (`lora_data.motion`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FLOOR, CEILING = 0.5, 3.0
"""Sharpness of edges is kept within these (see `lora_data.motion`). Lines thinner than its coarse scale are sharper
than a step, and say nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an enhancement must hold.

    Args:
        hue: Most that hue may move, degrees, 95th percentile inside the matte.
        low_psnr: Least that the network's own low frequencies must agree with the original's, dB.
        gain: Least Laplacian variance over that of the original enlarged without a network.
        identity: Least cosine of the face embeddings before and after. Measured with a small ArcFace network on 62
            rendered faces (1st percentile / median): gamma .99 / 1.0, JPEG of quality 75 .74 / 1.0, super-resolution
            .76 / 1.0; another character's face .30 / .69.
        moved: Most that a feature of the face may move, over the distance of the eyes. Measured on the same faces
            (median / 99th percentile): JPEG 0 / .067, super-resolution 0 / .038; a face 10 % wider .065 (5th
            percentile .064), an eye moved by a tenth .064, another character's face .36.

    Raises:
        ValueError: A field is out of range.
    """

    hue: float = 1.0
    low_psnr: float = 30.0
    gain: float = 1.1
    identity: float = 0.75
    moved: float = 0.05

    def __post_init__(self) -> None:
        ranges = {"hue": (0, 180), "low_psnr": (0, 100), "gain": (0, 10), "identity": (-1, 1), "moved": (0, 1)}
        _check(self, ranges)


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionLimits:
    """From where each witness speaks for motion.

    Measured on 48 masters, half of third-party characters and half of the demo film, 220 to 700 px high, blurred
    premultiplied. Touched: 2 of 4464 that were clean, out of focus (disc of 2 to 8 px, Gaussian of 1 to 4 px), of
    graded depth of field (1 of 1152), noisy, compressed or enlarged. Found of smears over 5 / 7 / 9 / 11 / 13 to 21 /
    25 px: .10 / .55 / .79 / .90 / .93 / .85, of curved ones .90; from 360 px height .93 of all from 9 px.
    On 48 others, looked at once the limits stood (six had helped to choose `lora_data.motion.SHARPER`; half show the
    same third-party characters): 2 of 2976 touched, both depth of field, of 768.

    Args:
        softness: Most, in [0.5, 3]. Clean: 2.09 and more, 99 % above 2.4; discs of 3 px 2.1; smears over 7 / 9 / 11 /
            17 / 25 px (median) 1.95 / 1.78 / 1.65 / 1.53 / 1.46; depth of field as its makers render it, 24 pictures,
            2.0 and more. An anamorphic enlargement by three, which is a smear, ends here as well: 1.97.
        coherence: Least. Discs and Gaussians, median / 99 %: 1.07 / 1.33; smears from 9 px 1.56, 95 % above 1.28.
        agreement: Least, in [0, 1]. Discs and Gaussians, median / 95 %: .34 / .66; smears .73, 95 % above .43. It
            catches only what is plainly against motion.
        silhouette: Least. Discs 1.0; depth of field, 99 %: 1.07; smears 1.64, 95 % above 1.22.
        coherence_alone: As ``coherence``, where the silhouette is not seen. Graded depth of field reaches 1.55 (99 % of
            the soft ones); 4 of 1152 pass here, of the smears .55.
        agreement_alone: As ``agreement``, where the silhouette is not seen.
        face_focus: Most. Smeared renders, median / 95 % / 99 %: 1.0 / 1.25 / 1.7; a sharp head on a body out of focus
            1.5 to 1.75 (median).

    Raises:
        ValueError: A field is out of range.
    """

    softness: float = 2.0
    coherence: float = 1.2
    agreement: float = 0.35
    silhouette: float = 1.15
    coherence_alone: float = 1.5
    agreement_alone: float = 0.5
    face_focus: float = 1.4

    def __post_init__(self) -> None:
        ranges = {"softness": (FLOOR, CEILING), "agreement": (0, 1), "agreement_alone": (0, 1)}
        ranges |= dict.fromkeys(("coherence", "coherence_alone", "silhouette", "face_focus"), (1, 10))
        _check(self, ranges)


def _check(limits: Limits | MotionLimits, ranges: Mapping[str, tuple[float, float]]) -> None:
    for field, (low, high) in ranges.items():
        if not low <= getattr(limits, field) <= high:
            raise ValueError(f"{field} must be in [{low}, {high}], got {getattr(limits, field)}")
