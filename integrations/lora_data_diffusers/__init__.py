"""lora_data for diffusers' DreamBooth LoRA scripts, which stay as they are.

    accelerate launch -m lora_data_diffusers path/to/train_dreambooth_lora_sdxl.py --lora_data luca.toml ...

Who keeps a script of their own changes three lines (`CharacterDataset`)::

    from lora_data_diffusers import CharacterDataset
    train_dataset = CharacterDataset("luca.toml", "train_dreambooth_lora_sdxl")
    train_dataloader = train_dataset.loader(accelerator, args.dataloader_num_workers)

and for the masked loss one more, after the denoiser is there: ``train_dataloader.gradients.attach(unet)``.
"""

from __future__ import annotations

from lora_data_diffusers.dataset import CharacterDataset as CharacterDataset
from lora_data_diffusers.dataset import CharacterLoader as CharacterLoader
from lora_data_diffusers.families import FAMILIES as FAMILIES
from lora_data_diffusers.families import Family as Family
from lora_data_diffusers.masked import GradientMask as GradientMask

__all__ = ["FAMILIES", "CharacterDataset", "CharacterLoader", "Family", "GradientMask"]
