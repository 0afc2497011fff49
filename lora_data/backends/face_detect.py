"""Find faces on a cut-out: SCRFD through insightface, YuNet through OpenCV, each at several scales.

Detectors are trained on photographs and find stylised faces badly: at one scale, only where the proportions happen to
look like a photographed face of that size. So every detector sees the character at several sizes, and what is found in
the same place supports each other.

Measured on 248 rendered faces turned to the camera (ten stylised characters, two of them robots), share found / share
found in the wrong place::

    SCRFD 2.5G at 640 px, score of at least .5              .117 / 0
    the same on colour continued under the matte            .065 / 0
    six sizes, best score at least .5                       .246 / 0
    six sizes, joined score at least .7                     .323 / 0
    YuNet at 640 px, .6                                     .157 / .008
    YuNet, six sizes, joined .8                             .395 / .012
    both, six sizes, joined .8                              .419 / .012

The character stands on mid-gray: colour continued under the matte makes faces where there are none (three times as
many wrong ones).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from lora_data.backends.onnx import open_insightface, output_names
from lora_data.errors import ModelError
from lora_data.faces import Face
from lora_data.matte import bounding_box, composite, surrounding

SIDES = (128, 192, 256, 384, 512, 640)
"""Longest side of the character, px, at which detectors look."""
LEAST = 0.1
"""Lowest score of a candidate: weak ones count only together."""
SAME = 0.4
"""Intersection over union from which two candidates are the same face."""
MARGIN = 0.1
"""Gray around the character, as a share of its longer side: a face at the very border is not found."""


class Detector(Protocol):
    """One network."""

    def candidates(self, bgr: np.ndarray) -> np.ndarray:
        """Candidates in one picture: float32 ``[n, 15]``: left, top, right, bottom, score, five points (x, y)."""
        ...


class Scrfd:
    """SCRFD (and RetinaFace exports of insightface).

    Args:
        path: An ONNX file with landmarks (``det_10g.onnx``, ``scrfd_2.5g_bnkps.onnx``).

    Raises:
        ModelError: It cannot be opened, or is no such network.
        MissingExtraError: insightface is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._model: Any = open_insightface(path, "SCRFD")
        if not getattr(self._model, "use_kps", False):
            raise ModelError(f"{path} finds no faces with landmarks; a detector with landmarks is needed")

    def candidates(self, bgr: np.ndarray) -> np.ndarray:
        """See `Detector`."""
        side = -(-max(bgr.shape[:2]) // 32) * 32
        boxes, points = self._model.detect(bgr, input_size=(side, side), det_thresh=LEAST)
        return np.concatenate([boxes, points.reshape(len(boxes), 10)], 1).astype(np.float32)


class YuNet:
    """YuNet.

    Args:
        path: Its ONNX file.

    Raises:
        ModelError: OpenCV cannot open it.
    """

    def __init__(self, path: Path) -> None:
        log = cv2.utils.logging
        level = log.setLogLevel(log.LOG_LEVEL_ERROR)  # OpenCV 5 warns of a target that nobody asked for
        try:
            self._model = cv2.FaceDetectorYN.create(str(path), "", (SIDES[0], SIDES[0]), LEAST, 0.3, 500)
        except cv2.error as error:
            raise ModelError(f"{path} cannot be opened as YuNet: {str(error)[:300]}") from None
        finally:
            log.setLogLevel(level)

    def candidates(self, bgr: np.ndarray) -> np.ndarray:
        """See `Detector`."""
        self._model.setInputSize((bgr.shape[1], bgr.shape[0]))
        found: Any = self._model.detect(bgr)[1]
        if found is None:
            return np.zeros((0, 15), np.float32)
        corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], 1)
        return np.concatenate([corners, found[:, 14:15], found[:, 4:14]], 1).astype(np.float32)


def open_detector(path: Path) -> Detector:
    """The detector in an ONNX file, by the names of its outputs.

    Raises:
        ModelError: It is neither SCRFD nor YuNet.
        MissingExtraError: onnxruntime or insightface is not installed.
    """
    names = output_names(path)
    if any(name.startswith("obj_") for name in names):
        return YuNet(path)
    if len(names) in (9, 15):
        return Scrfd(path)
    raise ModelError(f"{path} is no face detector that lora_data knows (YuNet, or SCRFD with landmarks)")


def find_faces(
    rgb: np.ndarray, alpha: np.ndarray, detectors: Sequence[Detector], sides: Sequence[int] = SIDES
) -> list[Face]:
    """Faces on a cut-out, the surest first.

    Args:
        rgb: uint8 ``[H, W, 3]``.
        alpha: uint8 ``[H, W]``.
        detectors: At least one.
        sides: Longest side of the character, px, at which they look.

    Returns:
        Faces with their joined scores, in px of the canvas. Nothing below ``LEAST`` is among them; what counts as
        found is for the caller to say.
    """
    box = bounding_box(alpha)
    if box is None:
        return []
    part = surrounding(alpha, round(MARGIN * max(box[2:])))
    assert part is not None
    picture = cv2.cvtColor(composite(rgb[part], alpha[part]), cv2.COLOR_RGB2BGR)
    found: list[np.ndarray] = []
    looks: list[int] = []
    for side in sides:
        scale = side / max(picture.shape[:2])
        size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
        mode = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        sized = cv2.resize(picture, size, interpolation=mode)
        back = np.tile([picture.shape[1] / size[0], picture.shape[0] / size[1]], 7)
        for detector in detectors:
            rows = detector.candidates(sized)
            rows[:, :4] *= back[:4]
            rows[:, 5:] *= back[4:]
            found.append(rows)
            looks += [len(found)] * len(rows)
    return _joined(np.concatenate(found), np.array(looks), np.array([part[1].start, part[0].start]))


def _joined(rows: np.ndarray, looks: np.ndarray, offset: np.ndarray) -> list[Face]:
    """Candidates in the same place become one face.

    Its score is the probability that at least one look is right, were looks independent; each look (a detector at a
    size) counts once. Its place is the mean of its candidates, weighted by their scores.
    """
    faces: list[Face] = []
    order = np.argsort(-rows[:, 4], kind="stable")
    rows, looks = rows[order], looks[order]
    free = np.ones(len(rows), bool)
    for first in range(len(rows)):
        if not free[first]:
            continue
        member = free & (_overlap(rows[first], rows) >= SAME)
        member[first] = True
        free &= ~member
        _, once = np.unique(looks[member], return_index=True)
        chosen = rows[member][once]
        weight = chosen[:, 4:5] / chosen[:, 4].sum()
        place = (chosen * weight).sum(0)
        shift = np.tile(offset, 2).astype(np.float32)
        score = 1 - float(np.prod(1 - np.minimum(chosen[:, 4], 1)))
        points = place[5:].reshape(5, 2) + offset.astype(np.float32)
        faces.append(Face((place[:4] + shift).astype(np.float32), points.astype(np.float32), score))
    return sorted(faces, key=lambda f: -f.score)


def _overlap(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Intersection over union of a box with many: ``[n]``."""
    low, high = np.maximum(one[:2], many[:, :2]), np.minimum(one[2:4], many[:, 2:4])
    both = np.clip(high - low, 0, None).prod(1)
    areas = [np.clip(b[..., 2:4] - b[..., :2], 0, None).prod(-1) for b in (one, many)]
    return both / np.maximum(areas[0] + areas[1] - both, 1e-9)
