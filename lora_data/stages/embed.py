"""Embed: vectors that say whose appearance an instance is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

from lora_data.sample import Instance
from lora_data.stage import MapStage

if TYPE_CHECKING:
    from lora_data.backends.image_embed import ImageEmbedder, Normalisation

_NORMALISATION: dict[str, Normalisation] = {"ccip": "clip"}
"""Of the models by name that want another one than ImageNet's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed(MapStage):
    """Write ``embedding``: the appearance of the character inside the matte; and, where a network is configured, what
    it says of the whole picture as ``image_embedding``.

    Without weights: `lora_data.backends.appearance.embed_appearance`, which needs no download and no GPU (18 ms at
    1024 px on one core).

    Args:
        model: An image embedder: a name from ``lora-data models list``, or the path of an ONNX file; "": none.
        normalisation: How it wants its colours; "auto": as the table of models says, ImageNet's for a path.
    """

    name: ClassVar[str] = "embed"
    version: ClassVar[int] = 2

    model: str = ""
    normalisation: Literal["auto", "imagenet", "clip", "none"] = "auto"

    def apply(self, instance: Instance) -> Instance:
        """Return the instance with its embeddings; the pixels stay."""
        from lora_data.backends.appearance import embed_appearance

        seen = None
        if self.model:
            seen = image_embedder(self.model, self._normalisation).embed(instance.rgb, instance.alpha)
        return instance.replace(embedding=embed_appearance(instance.rgb, instance.alpha), image_embedding=seen)

    def prepare(self) -> None:
        """Open the network, so that what is missing is said before anything is touched.

        Raises:
            ConfigError: A name or path means no such network.
            ModelError: Weights cannot be used.
            MissingExtraError: onnxruntime is not installed.
        """
        if self.model:
            image_embedder(self.model, self._normalisation)

    @property
    def _normalisation(self) -> Normalisation:
        return _NORMALISATION.get(self.model, "imagenet") if self.normalisation == "auto" else self.normalisation


@cache
def image_embedder(name: str, normalisation: Normalisation) -> ImageEmbedder:
    """The embedder of this name or path, opened once in a process."""
    from lora_data.backends.image_embed import ImageEmbedder
    from lora_data.models.loaded import file_of

    return ImageEmbedder(file_of(name, "image_embed", "precompute.embed.model"), normalisation)
