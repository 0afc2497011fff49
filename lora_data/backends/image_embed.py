"""What a network says a whole character looks like: any ONNX image embedder (OSNet, CCIP, DINOv2, ...)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np

from lora_data.backends.onnx import errors, open_session
from lora_data.errors import ModelError
from lora_data.evidence import units
from lora_data.matte import composite, tight_crop

Normalisation = Literal["imagenet", "clip", "none"]
"""By which mean and deviation a network wants its colours: ImageNet's (OSNet, DINOv2), CLIP's (CCIP), or [0, 1]."""
SIDE = 224
"""Side of the input, px, where a network takes any: DINOv2's and most others' training size."""

_STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


class ImageEmbedder:
    """A network that turns a picture into a vector.

    Args:
        path: An ONNX file with one input ``[N, 3, H, W]``, float32, RGB. Its vector is the first output of two axes;
            where there is none, the first token of the first output of three axes (vision transformers).
        normalisation: See `Normalisation`.

    Raises:
        ModelError: It cannot be opened, or is no such network.
        MissingExtraError: onnxruntime is not installed.
        ValueError: ``normalisation`` is none of those there are.
    """

    def __init__(self, path: Path, normalisation: Normalisation = "imagenet") -> None:
        if normalisation not in get_args(Normalisation):
            raise ValueError(f"normalisation must be one of {', '.join(_STATISTICS)}, got {normalisation!r}")
        mean, deviation = _STATISTICS[normalisation]
        self._mean, self._deviation = np.array(mean, np.float32), np.array(deviation, np.float32)
        self._session: Any = open_session(path)
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        if len(shape) != 4 or shape[1] not in (3, None) or inputs[0].type != "tensor(float)":
            what = ", ".join(f"{i.name} {i.shape} {i.type}" for i in inputs)
            raise ModelError(f"{path} is no image embedder: expected one input [N, 3, H, W] of float, found {what}")
        self._input = inputs[0].name
        self._size = tuple(side if isinstance(side, int) and side > 0 else SIDE for side in shape[2:])
        try:
            self._vector(np.zeros((*self._size, 3), np.float32))
        except errors() as error:
            raise ModelError(f"{path} is no image embedder: {type(error).__name__}: {str(error)[:300]}") from None

    def embed(self, rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """Describe the character inside the matte.

        It is cropped tightly, laid on mid-gray and stretched to the network's size (as OSNet and CCIP were trained;
        measured for OSNet: stretched .913 of pairs in the right order, padded to its shape .886). The mean over the
        picture and its mirror image, as re-identification takes it.

        Args:
            rgb: uint8 ``[H, W, 3]``, sRGB.
            alpha: uint8 ``[H, W]``, straight.

        Returns:
            float32 ``[D]``, unit length; the cosine compares two.
        """
        picture = composite(*tight_crop(rgb, alpha))
        height, width = self._size
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        pixels = (picture.astype(np.float32) / 255 - self._mean) / self._deviation
        total = self._vector(pixels) + self._vector(pixels[:, ::-1])
        return units(total)

    def _vector(self, pixels: np.ndarray) -> np.ndarray:
        """One picture at a time: many exports take exactly one."""
        batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
        outputs = [np.asarray(o, np.float32) for o in self._session.run(None, {self._input: batch})]
        flat = [o[0] for o in outputs if o.ndim == 2]
        tokens = [o[0, 0] for o in outputs if o.ndim == 3]
        if not flat and not tokens:
            raise ValueError(f"outputs have shapes {[o.shape for o in outputs]}, expected [N, D] or [N, T, D]")
        vector = (flat or tokens)[0]
        if not np.isfinite(vector).all():
            raise ValueError("the network gave a value that is not finite")
        return units(vector)
