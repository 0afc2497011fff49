"""What a trainer must be given: every planned sample of an epoch, made apart from any loader."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lora_data import CharacterAugment, Config, ShardDataset
from lora_data.train.loader import Assembler, make_plan
from lora_data.train.masked_loss import weigh


@dataclass
class Made:
    """One sample as it must arrive: pixels, loss mask, weight, (original, top left, target) sizes, caption."""

    key: str
    pixels: Tensor
    mask: Tensor
    weight: float
    sizes: list[list[int]]
    caption: str


def made_in(config: Config, epoch: int, *, frozen: bool = False) -> list[list[Made]]:
    """The batches of an epoch in the plan's order, in plain torch (a trainer's environment may have no numba).

    Frozen: the samples, order and captions of the first epoch with the augmentation of this one.
    """
    dataset = ShardDataset(config.data.shards)
    augment = CharacterAugment(config, backend="eager")
    assemble = Assembler(dataset, config)
    found: list[list[Made]] = []
    for one in make_plan(dataset, config).batches(0 if frozen else epoch):
        batch, wrong = assemble(one, draw_round=epoch if frozen else None)
        assert batch is not None
        assert not wrong
        out = augment(batch)
        masks, weights = weigh(out.mask, config.data)
        sizes = torch.stack([out.original_sizes, out.crop_top_lefts, out.target_sizes], dim=1).tolist()
        captions = batch.captions or []
        found.append(
            [
                Made(key, out.pixel_values[i], masks[i, 0], float(weights[i]), sizes[i], captions[i])
                for i, key in enumerate(batch.sample_keys)
            ]
        )
    return found


def find(made: list[list[Made]], pixels: Tensor) -> Made:
    """The sample that a picture is; exactly, but for another build's rounding."""
    for one in (m for batch in made for m in batch):
        if one.pixels.shape == pixels.shape and float((one.pixels - pixels.float()).abs().max()) < 1e-4:
            return one
    raise AssertionError("a picture reached the trainer that is not in the plan of this epoch")
