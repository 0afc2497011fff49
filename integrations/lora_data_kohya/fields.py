"""From augmented cut-outs to the entries that kohya's trainers read (SD 1.5, SDXL, Flux, SD3, Lumina)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lora_data import Batch, CharacterAugment
from lora_data.train.masked_loss import weigh
from lora_data.train.settings import DataSettings


class Fields:
    """Makes, where the cut-outs are, what the training step reads.

    Args:
        augment: The augmentation.
        data: Whether and how the loss is masked.
    """

    def __init__(self, augment: CharacterAugment, data: DataSettings) -> None:
        self.augment, self.data = augment, data

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """The pictures and what follows from them.

        Returns:
            ``images`` float32 ``[B, 3, h, w]`` in [-1, 1]; ``latents`` None (they would win over the images);
            ``alpha_masks`` float32 ``[B, h, w]`` or None where the loss is not masked; ``loss_weights`` ``[B]``, which
            make up for kohya's mean over all pixels; SDXL's ``original_sizes_hw``, ``crop_top_lefts`` and
            ``target_sizes_hw``, int64 ``[B, 2]``; ``flippeds``, one bool each.
        """
        made = self.augment(batch)
        mask, weights = weigh(made.mask, self.data)
        return {
            "images": made.pixel_values,
            "latents": None,
            "alpha_masks": mask[:, 0] if self.data.masked_loss else None,
            "loss_weights": weights,
            "original_sizes_hw": made.original_sizes,
            "crop_top_lefts": made.crop_top_lefts,
            "target_sizes_hw": made.target_sizes,
            "flippeds": made.params.flip.tolist(),
        }


def stack_outputs(rows: Sequence[Sequence[Any]]) -> list[Tensor]:
    """Cached outputs of text encoders, one list of arrays per sample, as one float32 tensor per output.

    Where samples have different lengths (their first side), the shorter ones are padded with zeros at the end.
    """
    stacked: list[Tensor] = []
    for values in zip(*rows, strict=True):
        tensors = [torch.as_tensor(v if isinstance(v, Tensor) else np.asarray(v)).float() for v in values]
        longest = max((len(t) for t in tensors if t.ndim), default=0)
        if any(t.ndim and len(t) < longest for t in tensors):
            padded = [t.new_zeros(longest, *t.shape[1:]) for t in tensors]
            for whole, part in zip(padded, tensors, strict=True):
                whole[: len(part)] = part
            tensors = padded
        stacked.append(torch.stack(tensors))
    return stacked
