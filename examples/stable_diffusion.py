"""What both training examples do with a Stable Diffusion pipeline: LoRA in, loss, LoRA out."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from tiny_model import tiny_stable_diffusion
from torch import Tensor

from lora_data.train.masked_loss import masked_mse_loss

diffusers: Any = importlib.import_module("diffusers")
peft: Any = importlib.import_module("peft")


def load_pipeline(model: str | None, device: str) -> Any:
    """A pipeline by path or hub name (Stable Diffusion 1.5 or 2), or the tiny one; with a fresh LoRA on its UNet."""
    cls = diffusers.StableDiffusionPipeline
    pipeline = cls.from_pretrained(model) if model else tiny_stable_diffusion()
    pipeline.to(device)
    for module in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        module.requires_grad_(False)
    targets = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]
    pipeline.unet.add_adapter(peft.LoraConfig(r=8, lora_alpha=8, target_modules=targets))
    return pipeline


def lora_parameters(pipeline: Any) -> list[Tensor]:
    """What is trained."""
    return [parameter for parameter in pipeline.unet.parameters() if parameter.requires_grad]


def loss_of(pipeline: Any, pixels: Tensor, captions: list[str], mask: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error of the predicted noise, under the mask.

    Args:
        pipeline: From `load_pipeline`.
        pixels: ``[B, 3, h, w]`` in [-1, 1].
        captions: One for each picture.
        mask: Loss mask, ``[B, 1, h, w]``.
        weights: ``[B]``, they make up for the mask's area.
    """
    with torch.no_grad():
        latents = pipeline.vae.encode(pixels).latent_dist.sample() * pipeline.vae.config.scaling_factor
        tokens = pipeline.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
        text = pipeline.text_encoder(tokens.input_ids.to(pixels.device))[0]
    noise = torch.randn_like(latents)
    steps = torch.randint(0, pipeline.scheduler.config.num_train_timesteps, (len(pixels),), device=pixels.device)
    noisy = pipeline.scheduler.add_noise(latents, noise, steps)
    predicted = pipeline.unet(noisy, steps, text).sample
    return masked_mse_loss(predicted, noise, mask, weights)


def save_lora(pipeline: Any, folder: Path) -> None:
    """Write ``pytorch_lora_weights.safetensors``, which ``pipeline.load_lora_weights`` reads."""
    layers = diffusers.utils.convert_state_dict_to_diffusers(peft.get_peft_model_state_dict(pipeline.unet))
    diffusers.StableDiffusionPipeline.save_lora_weights(str(folder), unet_lora_layers=layers)
