"""What the enhancing stages share: pictures to tensors and back, and what the row says afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lora_data.sample import Instance

if TYPE_CHECKING:
    from torch import Tensor

    from lora_data.gate import Verdict
    from lora_data.models.tiles import Refused

Name = Literal["face_restore", "upscale", "deblur"]
Enabled = Literal["auto"] | bool
"""Of an enhancement: "auto" follows the preset ("full": on)."""


def to_tensor(rgb: np.ndarray) -> Tensor:
    """uint8 ``[h, w, 3]`` as float32 ``[3, h, w]`` in [0, 1]."""
    import torch

    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).float() / 255


def to_levels(picture: Tensor) -> np.ndarray:
    """``[3, h, w]`` in [0, 1] as float32 ``[h, w, 3]`` in 0..255."""
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy()) * np.float32(255)


def to_picture(levels: np.ndarray) -> np.ndarray:
    """Levels 0..255 as uint8, clipped and rounded."""
    return np.rint(levels).clip(0, 255).astype(np.uint8)


def refused(instance: Instance, name: Name, why: Verdict | Refused) -> Instance:
    """The instance as it was, with the limit that was broken and the value, or what went wrong."""
    fields: dict[str, Any] = {name: "taken_back", f"{name}_reason": why.reason}
    for field in ("value", "limit", "hue_shift"):
        fields[f"{name}_{field}"] = getattr(why, field, None)
    return instance.replace(**fields)
