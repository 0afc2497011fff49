"""The online half: 3D-safe augmentation of batches on the GPU.

`CharacterAugment` is the module; `Batch` goes in, `AugmentedBatch` comes out. ``lora_data.augment.kornia_ops`` has the
same operations for people who compose their own Kornia chain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "AugmentParams",
    "AugmentPolicy",
    "AugmentSummary",
    "AugmentedBatch",
    "Batch",
    "CharacterAugment",
    "Crop",
    "MatteShape",
    "measure_mattes",
]

if TYPE_CHECKING:
    from lora_data.augment.batch import AugmentedBatch as AugmentedBatch
    from lora_data.augment.batch import Batch as Batch
    from lora_data.augment.crop import MatteShape as MatteShape
    from lora_data.augment.crop import measure_mattes as measure_mattes
    from lora_data.augment.module import CharacterAugment as CharacterAugment
    from lora_data.augment.params import AugmentParams as AugmentParams
    from lora_data.augment.params import Crop as Crop
    from lora_data.augment.policy import AugmentPolicy as AugmentPolicy
    from lora_data.augment.summary import AugmentSummary as AugmentSummary

_HOMES = {
    "AugmentParams": "params",
    "AugmentPolicy": "policy",
    "AugmentSummary": "summary",
    "AugmentedBatch": "batch",
    "Batch": "batch",
    "CharacterAugment": "module",
    "Crop": "params",
    "MatteShape": "crop",
    "measure_mattes": "crop",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: reading a configuration needs the policy and no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lora_data.augment' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"lora_data.augment.{_HOMES[name]}"), name)
