"""What training reads: the ``[data]`` table and one ``[characters.<name>]`` table per character."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from lora_data.augment.policy import AugmentPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """The ``[data]`` table.

    Args:
        shards: Folder or URL of the shards.
        resolution: Side of the square whose area every bucket has, px; a multiple of ``bucket_step``.
        bucket_step: Bucket sides are multiples of this, px; a multiple of 8 (the VAE's).
        batch_size: Samples per batch and rank, at least 1.
        seed: Decides, with the epoch and the sample's key, every draw.
        background: "gray", "white", "black", "random" or "#rrggbb": what lies behind the character.
        interpolation: "bicubic", or "bilinear", which is softer.
        masked_loss: Whether the matte weighs the loss.

    Raises:
        ValueError: A field is out of range; the message starts with the field's name.
    """

    shards: str = "out/shards"
    resolution: int = 1024
    bucket_step: int = 64
    batch_size: int = 4
    seed: int = 0
    background: str = "gray"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    masked_loss: bool = True

    def __post_init__(self) -> None:
        if self.bucket_step < 8 or self.bucket_step % 8:
            raise ValueError(f"bucket_step must be a multiple of 8, got {self.bucket_step}")
        if self.resolution < self.bucket_step or self.resolution % self.bucket_step:
            raise ValueError(f"resolution must be a multiple of bucket_step {self.bucket_step}, got {self.resolution}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        names = ("gray", "white", "black", "random")
        if self.background not in names and not re.fullmatch(r"#[0-9a-fA-F]{6}", self.background):
            raise ValueError(f"background must be one of {', '.join(names)} or '#rrggbb', got {self.background!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CharacterSettings:
    """One ``[characters.<name>]`` table.

    Args:
        token: The trigger word; None: the character's name.
        caption: Template for samples without a caption of their own; "{token}" stands for the token.
        repeats: How often each image appears in an epoch, or "auto".
        symmetric: Declares that the design has no left and right, so that a flip is allowed.
        augment: The character's policy, already merged with ``[augment]``.

    Raises:
        ValueError: A field is out of range; the message starts with the field's name.
    """

    token: str | None = None
    caption: str = "a 3d render of {token}"
    repeats: float | Literal["auto"] = "auto"
    symmetric: bool = False
    augment: AugmentPolicy = field(default_factory=AugmentPolicy)

    def __post_init__(self) -> None:
        if isinstance(self.repeats, float | int) and not 0 < self.repeats <= 1000:
            raise ValueError(f'repeats must be in (0, 1000] or "auto", got {self.repeats}')
        if not self.caption.strip():
            raise ValueError("caption must not be empty")
