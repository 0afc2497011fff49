"""A Stable Diffusion of random weights, small enough for a CPU: the examples run without downloading anything.

Its pictures are noise; what it is good for is to see that a training loop works.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

# Both packages export by lazy modules that type checkers do not follow.
diffusers: Any = importlib.import_module("diffusers")
transformers: Any = importlib.import_module("transformers")
START, END = "<|startoftext|>", "<|endoftext|>"


def tiny_stable_diffusion() -> Any:
    """A ``StableDiffusionPipeline`` of less than a megabyte; its VAE halves the sides."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        write_clip_tokenizer(Path(folder) / "clip")
        tokenizer = transformers.CLIPTokenizer.from_pretrained(f"{folder}/clip")
    return diffusers.StableDiffusionPipeline(
        vae=tiny_vae(), text_encoder=tiny_clip(), tokenizer=tokenizer, scheduler=noise_schedule(),
        unet=tiny_unet(attention_head_dim=4, cross_attention_dim=32), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip


def tiny_clip(cls: str = "CLIPTextModel") -> Any:
    """A CLIP text model, 32 wide, two layers."""
    words = len(clip_vocabulary())
    config = transformers.CLIPTextConfig(
        vocab_size=words, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=77, projection_dim=32, bos_token_id=words - 2, eos_token_id=words - 1,
        pad_token_id=words - 1,
    )  # fmt: skip
    return getattr(transformers, cls)(config)


def tiny_vae(**changes: Any) -> Any:
    """A VAE that halves the sides."""
    settings = {
        "block_out_channels": (8, 16), "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2, "latent_channels": 4, "norm_num_groups": 4, "sample_size": 32,
    }  # fmt: skip
    return diffusers.AutoencoderKL(**{**settings, **changes})


def tiny_unet(**changes: Any) -> Any:
    """A UNet of two levels, 8 and 16 channels."""
    return diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=16, in_channels=4, out_channels=4,
        norm_num_groups=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **changes,
    )  # fmt: skip


def noise_schedule() -> Any:
    """Stable Diffusion's own."""
    return diffusers.DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000,
        clip_sample=False, steps_offset=1,
    )  # fmt: skip


def clip_vocabulary() -> dict[str, int]:
    """CLIP's 256 byte symbols, the same at a word's end, and the two special tokens: 514 entries."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    symbols = [chr(byte if byte in plain else next(others)) for byte in range(256)]
    return {token: i for i, token in enumerate([*symbols, *(s + "</w>" for s in symbols), START, END])}


def write_clip_tokenizer(folder: Path) -> None:
    """Write a tokenizer of single bytes as the files that transformers 4 and 5 both read; 77 tokens at most."""
    folder.mkdir(parents=True)
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "vocab.json").write_text(json.dumps(clip_vocabulary()), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")
    settings = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
