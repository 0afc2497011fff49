"""lora_data for Lightning: one data module, ``trainer.fit(model, datamodule=CharacterDataModule("luca.toml"))``."""

from __future__ import annotations

from lora_data_lightning.datamodule import CharacterDataModule as CharacterDataModule

__all__ = ["CharacterDataModule"]
