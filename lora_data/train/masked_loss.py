"""The matte as a loss mask: the background counts little, and a small character counts as much as a large one.

`weigh` is what ``data.masked_loss`` and ``data.background_weight`` mean; every integration uses it. `masked_mse_loss`
is the loss for people who write their own loop.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

from lora_data.errors import BatchError
from lora_data.train.settings import DataSettings


def weigh(mask: Tensor, data: DataSettings) -> tuple[Tensor, Tensor]:
    """The loss mask and the samples' weights, as a configuration wants them; ones where it wants no masked loss.

    Args:
        mask: The matte, as `loss_mask` takes it.
        data: ``masked_loss`` and ``background_weight``.

    Returns:
        As `loss_mask`.
    """
    return loss_mask(mask, data.background_weight if data.masked_loss else 1.0)


def masked_mse_loss(prediction: Tensor, target: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error under a mask.

    Args:
        prediction: ``[B, C, h, w]``, of latents or pixels.
        target: The same shape.
        mask: Loss mask, ``[B, 1, H, W]``, of any size: averaged over the area that each latent covers.
        weights: ``[B]``, what `loss_mask` gave with the mask.

    Returns:
        A scalar, float32.
    """
    small = F.interpolate(mask.float(), prediction.shape[-2:], mode="area")
    error = (prediction.float() - target.float()).square() * small
    return (error.mean(dim=(1, 2, 3)) * weights).mean()


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
