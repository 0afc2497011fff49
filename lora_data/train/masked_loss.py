"""The matte as a loss mask: the background counts little, and a small character counts as much as a large one."""

from __future__ import annotations

import torch
from torch import Tensor

from lora_data.errors import BatchError


def loss_mask(mask: Tensor, background_weight: float) -> tuple[Tensor, Tensor]:
    """A mask for the loss, and a weight for each sample that makes up for its area.

    A trainer that averages the masked loss over all pixels, as kohya's sd-scripts does, gives a character on a quarter
    of the picture a quarter of the weight; the weights 1 / mean(mask) compensate exactly.

    Args:
        mask: The matte, ``[B, 1, h, w]``: floats in [0, 1], or uint8 in 0 to 255.
        background_weight: What a pixel of the background counts, in [0, 1], where the character counts 1.

    Returns:
        The mask as float32 ``[B, 1, h, w]`` in [background_weight, 1], and weights float32 ``[B]``. Where the mask is
        zero everywhere the weight is 0: there is nothing to learn from.

    Raises:
        BatchError: The weight is out of range, or the mask is not ``[B, 1, h, w]``.
    """
    if not 0 <= background_weight <= 1:
        raise BatchError(f"background_weight must be in [0, 1], got {background_weight}")
    if mask.ndim != 4 or mask.shape[1] != 1:
        raise BatchError(f"mask must be [B, 1, h, w], got {list(mask.shape)}")
    matte = mask.to(torch.float32) / 255 if mask.dtype == torch.uint8 else mask.to(torch.float32)
    weighed = background_weight + (1 - background_weight) * matte
    mean = weighed.mean(dim=(1, 2, 3))
    return weighed, torch.where(mean > 0, 1 / mean.clamp(min=1e-6), torch.zeros_like(mean))
