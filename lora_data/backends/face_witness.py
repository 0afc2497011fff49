"""Whether a face is still the same after an enhancement: who it is, and where its features are."""

from __future__ import annotations

import cv2
import numpy as np

from lora_data.backends.face_embed import ArcFace
from lora_data.colour import luma
from lora_data.faces import FFHQ, FFHQ_SIZE, eye_distance, scaled, similarity, warp
from lora_data.gate import FaceChange

SIZE = 256
"""Side of the square, px, on which features are compared: the networks' template at half its size."""
TEMPLATE = FFHQ * np.float32(SIZE / FFHQ_SIZE)
PATCH, REACH = 20, 16
"""Half the side of the patch about a feature, and how far it is looked for, px: a third and a quarter of the distance
of the eyes."""
SMOOTH = 2.0
"""Sigma, px, of the blur before: features are compared, not the detail that an enhancement adds."""
FLAT = 6.0
"""Standard deviation of luma, levels, below which a patch has nothing to follow (see `lora_data.metrics.TEXTURE`)."""


class FaceWitness:
    """Looks at a face before and after.

    The features are followed by normalised cross-correlation of the patches about the five points. A detector run twice
    cannot say it: on 62 rendered faces its points moved by up to .43 of the distance of the eyes (95th percentile)
    through a JPEG of quality 75 alone, and seven faces were lost by mild sharpening.

    Args:
        embedder: Says who it is.
    """

    def __init__(self, embedder: ArcFace) -> None:
        self.embedder = embedder

    def compare(self, before: np.ndarray, after: np.ndarray, points: np.ndarray, scale: float = 1.0) -> FaceChange:
        """Hold a face against itself.

        Args:
            before: uint8 ``[h, w, 3]``, colour filled under the matte.
            after: uint8 ``[scale * h, scale * w, 3]``.
            points: ``[5, 2]``, px of ``before``.
            scale: Of ``after`` over ``before``.

        Source: Lewis, Fast normalized cross-correlation, Vision Interface 1995 (OpenCV's TM_CCOEFF_NORMED).
        """
        enlarged = scaled(points, scale)
        alike = float(self.embedder.embed(before, points) @ self.embedder.embed(after, enlarged))
        was, now = _square(before, points), _square(after, enlarged)
        moves = [move for point in TEMPLATE if (move := _followed(was, now, point)) is not None]
        return FaceChange(alike, max(moves) / eye_distance(TEMPLATE) if moves else None)


def _square(rgb: np.ndarray, points: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(luma(warp(rgb, similarity(points, TEMPLATE), SIZE)), (0, 0), SMOOTH)


def _followed(was: np.ndarray, now: np.ndarray, point: np.ndarray) -> float | None:
    """How far the patch about a point moved, px; None where it holds nothing to follow."""
    x, y = (round(float(v)) for v in point)
    patch = was[y - PATCH : y + PATCH + 1, x - PATCH : x + PATCH + 1]
    if patch.std() < FLAT:
        return None
    far = PATCH + REACH
    likeness = cv2.matchTemplate(
        now[y - far : y + far + 1, x - far : x + far + 1], np.ascontiguousarray(patch), cv2.TM_CCOEFF_NORMED
    )
    row, column = np.unravel_index(int(likeness.argmax()), likeness.shape)
    return float(np.hypot(row - REACH, column - REACH))
