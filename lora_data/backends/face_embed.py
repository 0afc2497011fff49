"""Whose face it is: an ArcFace embedding through insightface."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lora_data.backends.onnx import open_insightface
from lora_data.errors import ModelError
from lora_data.faces import ARCFACE, ARCFACE_SIZE, similarity, warp


class ArcFace:
    """Any recognition network of insightface's kind.

    Args:
        path: An ONNX file that turns a square of 112 px into a vector (``w600k_r50.onnx``).

    Raises:
        ModelError: It cannot be opened, or is no such network.
        MissingExtraError: insightface is not installed.
    """

    def __init__(self, path: Path) -> None:
        found = open_insightface(path, "ArcFace")
        from insightface.model_zoo.arcface_onnx import ArcFaceONNX

        if not isinstance(found, ArcFaceONNX) or tuple(found.input_size) != (ARCFACE_SIZE, ARCFACE_SIZE):
            raise ModelError(f"{path} is no face recognition network of {ARCFACE_SIZE} px")
        self._model: Any = found

    def embed(self, rgb: np.ndarray, points: np.ndarray, zooms: Sequence[float] = (1.0,)) -> np.ndarray:
        """Describe one face.

        The mean over crops of the aligned face and their mirror images, as ArcFace's own evaluation takes it.

        Args:
            rgb: uint8 ``[H, W, 3]``, colour filled under the matte.
            points: ``[5, 2]``, see `lora_data.faces.Face`.
            zooms: The crops: how much larger the face is in each than ArcFace wants it.

        Returns:
            float32 ``[D]``, unit length; the cosine compares two.

        Source: Deng et al., ArcFace, CVPR 2019.
        """
        middle = ARCFACE.mean(0)
        vectors: list[np.ndarray] = []
        for zoom in zooms:
            template = (middle + zoom * (ARCFACE - middle)).astype(np.float32)
            bgr = cv2.cvtColor(warp(rgb, similarity(points, template), ARCFACE_SIZE), cv2.COLOR_RGB2BGR)
            # one after the other: many exports take exactly one picture
            vectors += [self._model.get_feat(picture)[0] for picture in (bgr, np.ascontiguousarray(bgr[:, ::-1]))]
        mean = np.asarray(vectors, np.float32).sum(0)
        return mean / max(float(np.linalg.norm(mean)), 1e-9)
