"""lora_data for kohya-ss/sd-scripts (0.10.0 and later), whose trainers stay as they are.

    LORA_DATA_CONFIG=luca.toml accelerate launch sdxl_train_network.py --dataset_class lora_data_kohya.Dataset ...

or, which is the same, ``accelerate launch -m lora_data_kohya sdxl_train_network.py --lora_data luca.toml ...``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["Dataset"]

if TYPE_CHECKING:
    from lora_data_kohya.dataset import Dataset as Dataset


def __getattr__(name: str) -> object:
    """Import the dataset when it is first used: its base class is found only from within sd-scripts."""
    if name != "Dataset":
        raise AttributeError(f"module 'lora_data_kohya' has no attribute {name!r}")
    from lora_data_kohya.dataset import Dataset

    return Dataset
