"""Draws to look at: what training's own augmentation makes of stored pictures, with the numbers that made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lora_data.augment import AugmentSummary, Batch, CharacterAugment
from lora_data.augment.params import HOLDS
from lora_data.augment.summary import OUTCOMES

if TYPE_CHECKING:
    from lora_data.shards import SampleEntry


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """One draw.

    Args:
        picture: uint8 RGB ``[h, w, 3]``, as training sees it.
        matte: bool ``[h, w]``: where the mask is at least one half.
        crop: Side of the crop as a share of the largest one.
        turn: Degrees, counter-clockwise.
        fills: Share of the crop that the character occupies, as the policy counts it.
        light: Factor.
        contrast: Factor.
        noise: Standard deviation, of a range of 1; 0: none.
        flipped: Whether it is mirrored.
        missed: Which of the crop's constraints could not be held, in a word; None: they hold.
    """

    picture: np.ndarray
    matte: np.ndarray
    crop: float
    turn: float
    fills: float
    light: float
    contrast: float
    noise: float
    flipped: bool
    missed: str | None


def drawn(
    sample: SampleEntry,
    picture: np.ndarray,
    augment: CharacterAugment,
    *,
    draws: int,
    side: int,
    epoch: int = 0,
    summary: AugmentSummary | None = None,
) -> list[Draw]:
    """Draw one stored picture several times.

    Args:
        sample: Whose key, character and face decide the draws; the face is in px of the stored picture.
        picture: uint8 RGBA ``[H, W, 4]``, straight alpha: the stored picture, or a smaller copy of it.
        augment: Training's.
        draws: How many.
        side: Longest side of the output, px; the picture's aspect ratio stays.
        epoch: Whose draws.
        summary: What is to count them too.
    """
    face = sample.face
    if face is not None:
        x, y = picture.shape[1] / sample.width, picture.shape[0] / sample.height
        face = (face[0] * x, face[1] * y, face[2] * x, face[3] * y)
    target = target_of(picture, side)
    batch = Batch.of_one(picture, sample.key, sample.character, variants=draws, epoch=epoch, target=target, face=face)
    made = augment(batch)
    if summary is not None:
        summary.add(made)
    return [
        Draw(
            picture=pixels,
            matte=mask[0].float().numpy() >= 0.5,
            crop=row["scale"],
            turn=row["rotation"],
            fills=row["crop.ratio"],
            light=row["brightness"],
            contrast=row["contrast"],
            noise=row["noise_std"],
            flipped=bool(row["flip"]),
            missed=None if int(row["crop.outcome"]) == HOLDS else OUTCOMES[int(row["crop.outcome"])],
        )
        for pixels, mask, row in zip(made.pictures(), made.mask, made.params.rows(), strict=True)
    ]


def target_of(picture: np.ndarray, side: int) -> tuple[int, int]:
    """(height, width) of a picture whose longest side becomes ``side`` px."""
    scale = side / max(picture.shape[:2])
    return max(8, round(picture.shape[0] * scale)), max(8, round(picture.shape[1] * scale))
