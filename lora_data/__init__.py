"""From film cut-outs of 3D-animated characters to LoRA training batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
    "Batch",
    "CharacterAugment",
    "Config",
    "ConfigError",
    "LoraDataError",
    "ShardDataset",
    "__version__",
    "load_config",
    "make_loader",
]

if TYPE_CHECKING:
    from lora_data.augment import Batch as Batch
    from lora_data.augment import CharacterAugment as CharacterAugment
    from lora_data.config import Config as Config
    from lora_data.config import load_config as load_config
    from lora_data.errors import ConfigError as ConfigError
    from lora_data.errors import LoraDataError as LoraDataError
    from lora_data.train.dataset import ShardDataset as ShardDataset
    from lora_data.train.loader import make_loader as make_loader

_HOMES = {
    "Batch": "lora_data.augment.batch",
    "CharacterAugment": "lora_data.augment.module",
    "Config": "lora_data.config",
    "load_config": "lora_data.config",
    "ConfigError": "lora_data.errors",
    "LoraDataError": "lora_data.errors",
    "ShardDataset": "lora_data.train.dataset",
    "make_loader": "lora_data.train.loader",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that ``import lora_data`` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lora_data' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
