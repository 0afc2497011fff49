"""Embed: one vector per instance that says whose appearance it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lora_data.sample import Instance
from lora_data.stage import MapStage


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed(MapStage):
    """Write ``embedding``: the appearance of the character inside the matte.

    Without weights: `lora_data.backends.appearance.embed_appearance`, which needs no download and no GPU (18 ms at
    1024 px on one core).
    """

    name: ClassVar[str] = "embed"
    version: ClassVar[int] = 1

    def apply(self, instance: Instance) -> Instance:
        """Return the instance with its embedding; the pixels stay."""
        from lora_data.backends.appearance import embed_appearance

        return instance.replace(embedding=embed_appearance(instance.rgb, instance.alpha))
