"""What training reads: the ``[data]`` table and one ``[characters.<name>]`` table per character."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from lora_data.augment.policy import AugmentPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionSettings:
    """The ``[data.captions]`` table: what a kohya user expects, under kohya's names; the defaults change nothing.

    Args:
        shuffle: Whether the tags come in another order at each draw.
        separator: Between tags; they are joined again with it and a space.
        keep_tokens: So many tags at the start keep their place and are never dropped.
        keep_tokens_separator: What stands before it (and after a second one) keeps its place; "" for none.
        secondary_separator: Glues tags that stay together; becomes ``separator`` at the end; "" for none.
        tag_dropout: Share of the tags that are dropped, in [0, 1].
        dropout: Share of the samples whose caption is empty, in [0, 1].
        wildcard: Whether ``{a|b}`` means one of them and a caption of several lines one of its lines; else its first.
        prefix: Before each caption.
        suffix: After each caption.

    Raises:
        ValueError: A field is out of range; the message starts with the field's name.
    """

    shuffle: bool = False
    separator: str = ","
    keep_tokens: int = 0
    keep_tokens_separator: str = ""
    secondary_separator: str = ""
    tag_dropout: float = 0.0
    dropout: float = 0.0
    wildcard: bool = False
    prefix: str = ""
    suffix: str = ""

    def __post_init__(self) -> None:
        if not self.separator.strip():
            raise ValueError(f"separator must not be empty, got {self.separator!r}")
        if self.keep_tokens < 0:
            raise ValueError(f"keep_tokens must be at least 0, got {self.keep_tokens}")
        for name in ("tag_dropout", "dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """The ``[data]`` table.

    Args:
        shards: Folder or URL of the shards.
        resolution: Side of the square whose area every bucket has, px; a multiple of ``bucket_step``.
        bucket_step: Bucket sides are multiples of this, px; a multiple of 8 (the VAE's).
        batch_size: Samples per batch and rank, at least 1.
        short_batches: A bucket's last batch is kept short ("keep") or filled with further variants ("fill").
        max_upscale: A picture enlarged beyond this goes to a smaller bucket, at least 1.
        enable_bucket: Whether pictures go to the bucket nearest in aspect ratio; else all are cropped to the square.
        cache_gb: Memory for decoded pictures, GB; after the first epoch what fits is not decoded again.
        on_error: Whether a sample that cannot be read stops the training ("raise") or is left out and counted ("skip").
        captions: What happens to captions.
        seed: Decides, with the epoch and the sample's key, every draw.
        background: "gray", "white", "black", "random" or "#rrggbb": what lies behind the character.
        interpolation: "bicubic", or "bilinear", which is softer.
        masked_loss: Whether the matte weighs the loss.
        background_weight: What a pixel of the background counts in a masked loss, in [0, 1]; OneTrainer's default.

    Raises:
        ValueError: A field is out of range; the message starts with the field's name.
    """

    shards: str = "out/shards"
    resolution: int = 1024
    bucket_step: int = 64
    batch_size: int = 4
    short_batches: Literal["keep", "fill"] = "keep"
    max_upscale: float = 2.0
    enable_bucket: bool = True
    cache_gb: float = 2.0
    on_error: Literal["raise", "skip"] = "raise"
    captions: CaptionSettings = field(default_factory=CaptionSettings)
    seed: int = 0
    background: str = "gray"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    masked_loss: bool = True
    background_weight: float = 0.1

    def __post_init__(self) -> None:
        if self.bucket_step < 8 or self.bucket_step % 8:
            raise ValueError(f"bucket_step must be a multiple of 8, got {self.bucket_step}")
        if self.resolution < self.bucket_step or self.resolution % self.bucket_step:
            raise ValueError(f"resolution must be a multiple of bucket_step {self.bucket_step}, got {self.resolution}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if not self.max_upscale >= 1:
            raise ValueError(f"max_upscale must be at least 1, got {self.max_upscale}")
        if not 0 <= self.background_weight <= 1:
            raise ValueError(f"background_weight must be in [0, 1], got {self.background_weight}")
        if not self.cache_gb >= 0:
            raise ValueError(f"cache_gb must be at least 0, got {self.cache_gb}")
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

    def token_of(self, character: str) -> str:
        """The trigger word: the token, or the character's name."""
        return self.token or character

    def caption_of(self, own: str | None, character: str) -> str:
        """A sample's own caption, or the template; "{token}" filled in."""
        return (own or self.caption).replace("{token}", self.token_of(character))
