"""Faces as values: five points, and the similarity that brings them onto a network's template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from lora_data.sample import FacePatch

FFHQ = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ],
    np.float32,
)
"""Where the restoration networks want eyes, nose and corners of the mouth, px of a square of 512.

Source: the FFHQ template of CodeFormer's and GFPGAN's face helper (facexlib)."""
FFHQ_SIZE = 512
ARCFACE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""The same for ArcFace, px of a square of 112. Source: insightface, ``utils/face_align.py``."""
ARCFACE_SIZE = 112

View = Literal["front", "left", "right"]
"""Where a head is turned: at the camera, or to the left or right side of the picture."""
FRONT = 22.5
"""Degrees up to which a head counts as seen from the front: half way from full face (0) to three-quarter view (45)."""
_NOSE = 0.6 * float(np.hypot(*(ARCFACE[3:].mean(0) - ARCFACE[:2].mean(0))) / np.hypot(*(ARCFACE[1] - ARCFACE[0])))
"""How far the tip of the nose stands out, as a share of the eyes' distance: .69. Gee and Cipolla have .6 of the
distance from eyes to mouth; the template says how long that is."""


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face that was found.

    Args:
        box: float32 ``[4]``: left, top, right, bottom, px.
        points: float32 ``[5, 2]``: the eye on the left of the picture, the one on the right, nose, the corner of the
            mouth on the left, on the right; (x, y), px.
        score: How sure the detectors are together, 0..1.
    """

    box: np.ndarray
    points: np.ndarray
    score: float

    @property
    def size(self) -> float:
        """Longest side of the box, px."""
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))


def eye_distance(points: np.ndarray) -> float:
    """Distance of the eyes, px."""
    return float(np.hypot(*(points[1] - points[0])))


def head_yaw(points: np.ndarray) -> float:
    """How far a head is turned about its own axis, from where the nose lies between the eyes.

    Seen from afar, a turn by y brings the eyes, a distance E apart, to E cos(y), and moves the tip of the nose, which
    stands out by P, to P sin(y) from the middle between them, both along the line of the eyes. So the nose's place over
    the eyes' distance is (P / E) tan(y); a head that is tilted in the picture tilts the line with it.

    Measured on the 119 faces of rendered characters that were found with a score of .8, against the camera's place
    around the body (the head may turn on it): correlation .76, median difference 14 degrees; at 0 / 15 / 30 / 45 / 75
    degrees the medians are 0 / 1 / 20 / 43 / 57. `view_of` says the same of both for 81 % of the 84 faces that the
    camera sees from less than 10 or more than 35 degrees, and the opposite side for one of 119.

    Args:
        points: ``[5, 2]``, as of `Face`.

    Returns:
        Degrees in [-90, 90]: 0 at the camera, positive to the right side of the picture.

    Source: weak perspective and the face's proportions of Gee and Cipolla, Determining the gaze of faces in images,
        Image and Vision Computing 12(10), 1994; the formula follows from them as above.
    """
    left, right, nose = points[:3].astype(np.float64)
    apart = float(np.hypot(*(right - left)))
    # eyes in one point: a profile, and the picture's rows are the line
    along = (right - left) / apart if apart else np.array([1.0, 0.0])
    return float(np.degrees(np.arctan2((nose - (left + right) / 2) @ along, _NOSE * apart)))


def view_of(yaw: float) -> View:
    """What a head's turn in degrees shows: "front" up to 22.5, beyond it the picture's side that it is turned to."""
    if abs(yaw) <= FRONT:
        return "front"
    return "right" if yaw > 0 else "left"


def similarity(points: np.ndarray, template: np.ndarray) -> np.ndarray:
    """The turn, scale and shift that bring points closest to a template.

    Args:
        points: ``[5, 2]``, px of the picture.
        template: ``[5, 2]``, px of the aligned square.

    Returns:
        float64 ``[2, 3]``, for ``cv2.warpAffine``; never a mirror image.

    Source: least squares (Umeyama, PAMI 13(4), 1991), as insightface does. facexlib takes the least median of squares,
        which leaves points out: on stylised proportions any two of five then decide.
    """
    x, y = points.astype(np.float64).T
    one, none = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate([np.stack([x, -y, one, none], 1), np.stack([y, x, none, one], 1)])
    a, b, dx, dy = np.linalg.lstsq(rows, template.astype(np.float64).T.ravel(), rcond=None)[0]
    return np.array([[a, -b, dx], [b, a, dy]])


def magnification(matrix: np.ndarray) -> float:
    """How many px of the aligned square a px of the picture becomes."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def warp(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Bring a picture onto an aligned square; what lies outside continues its border.

    Args:
        image: ``[h, w]`` or ``[h, w, 3]``.
        matrix: As `similarity` gives it.
        size: Side of the square, px.
    """
    scale = magnification(matrix)
    if scale < 1:  # a blur of what one px of the square stands for: no moiré
        sigma = 0.5 / scale - 0.5
        image = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE) if sigma > 0.1 else image
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def scaled(points: np.ndarray, scale: float) -> np.ndarray:
    """Points on a picture ``scale`` times as large: px centres are at whole numbers."""
    return (points + 0.5) * scale - 0.5


def placed(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points ``[5, 2]`` on the aligned square."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def paste(rgb: np.ndarray, alpha: np.ndarray, patch: FacePatch, scale: int = 1) -> np.ndarray:
    """Put a restored face back where it was, through a soft mask that stays inside the matte.

    Args:
        rgb: uint8 ``[H, W, 3]``: the canvas, ``scale`` times as large as the decoded one.
        alpha: uint8 ``[H, W]``.
        patch: The face.
        scale: See ``rgb``.

    Returns:
        uint8, as ``rgb``; unchanged where the matte is not opaque.

    Source: the flow of facexlib's ``face_restoration_helper`` (a square whose rim is eroded and blurred), with the
        matte in place of its face parser.
    """
    side = len(patch.rgb)
    # px of the canvas to px of the square: px centres are at whole numbers
    linear = patch.matrix[:, :2] / scale
    matrix = np.concatenate(
        [linear, (patch.matrix[:, 2:] + patch.matrix[:, :2] @ np.full((2, 1), 0.5 / scale - 0.5))], 1
    )
    corners = np.array([[0, 0], [side, 0], [0, side], [side, side]], np.float64) - matrix[:, 2]
    there = corners @ np.linalg.inv(matrix[:, :2]).T
    low = np.maximum(0, np.floor(there.min(0)).astype(int))
    high = np.minimum(alpha.shape[::-1], np.ceil(there.max(0)).astype(int) + 1)
    if (low >= high).any():
        return rgb
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    local = np.concatenate([matrix[:, :2], matrix[:, :2] @ low[:, None] + matrix[:, 2:]], 1)
    picture = patch.rgb
    shrinking = magnification(matrix)
    if shrinking > 1:
        picture = cv2.GaussianBlur(picture, (0, 0), max(0.5 * shrinking - 0.5, 0.1), borderType=cv2.BORDER_REPLICATE)
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_CUBIC
    face = cv2.warpAffine(picture, local, size, flags=flags, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    soft = cv2.warpAffine(_rim(side), local, size, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR)
    area = (slice(low[1], high[1]), slice(low[0], high[0]))
    opaque = cv2.erode((alpha[area] > 250).astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1)
    inside = np.minimum(cv2.GaussianBlur(opaque.astype(np.float32), (0, 0), 1.0), opaque)
    weight = (soft * inside)[..., None]
    made = rgb.copy()
    made[area] = np.rint(rgb[area] * (1 - weight) + face * weight).clip(0, 255).astype(np.uint8)
    return made


def _rim(side: int) -> np.ndarray:
    """1 inside the square, falling smoothly to 0 over the outer tenth of it, float32."""
    away = np.minimum(np.arange(side), np.arange(side)[::-1]) / (0.1 * side)
    ramp = np.clip(away, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.outer(ramp, ramp).astype(np.float32)
