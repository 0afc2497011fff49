"""Small random pipelines of diffusers, saved as folders; nothing is downloaded, about a megabyte each."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch

from examples.tiny_model import (
    clip_vocabulary,
    noise_schedule,
    tiny_clip,
    tiny_stable_diffusion,
    tiny_unet,
    tiny_vae,
    write_clip_tokenizer,
)

# Their packages export by lazy modules that type checkers do not follow.
diffusers: Any = importlib.import_module("diffusers")
transformers: Any = importlib.import_module("transformers")


def clip_tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer of single bytes."""
    if not folder.exists():
        write_clip_tokenizer(folder)
    return transformers.CLIPTokenizer.from_pretrained(str(folder))


def sd15(scratch: Path) -> Any:
    """Stable Diffusion 1.5 in small."""
    return tiny_stable_diffusion()


def sdxl(scratch: Path) -> Any:
    """SDXL in small."""
    return diffusers.StableDiffusionXLPipeline(
        vae=tiny_vae(), text_encoder=tiny_clip(), text_encoder_2=tiny_clip("CLIPTextModelWithProjection"),
        tokenizer=clip_tokenizer(scratch), tokenizer_2=clip_tokenizer(scratch), scheduler=noise_schedule(),
        unet=tiny_unet(
            attention_head_dim=(2, 4), use_linear_projection=True, transformer_layers_per_block=(1, 1),
            cross_attention_dim=64, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 32,
        ),
    )  # fmt: skip


def flux(scratch: Path) -> Any:
    """Flux.1 in small."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    pieces += [(chr(code), -3.0) for code in range(ord("!"), ord("~") + 1)]
    t5 = transformers.T5Config(
        vocab_size=len(pieces), d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), text_encoder=tiny_clip(),
        tokenizer=clip_tokenizer(scratch), text_encoder_2=transformers.T5EncoderModel(t5),
        tokenizer_2=transformers.T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=512),
        vae=tiny_vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5),
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        ),
    )  # fmt: skip


def save(name: str, folder: Path) -> Path:
    """Save one by its function's name; its folder."""
    torch.manual_seed(0)
    globals()[name](folder / "clip").save_pretrained(folder / name)
    return folder / name


def qwen(cls: str, **changes: Any) -> tuple[Any, Any]:
    """A Qwen 3 text encoder, 16 wide, two layers, and a tokenizer of single bytes."""
    vocabulary = {token: i for i, token in enumerate([*clip_vocabulary()][:256])}
    tokenizer = transformers.Qwen2Tokenizer(vocab=vocabulary, merges=[], model_max_length=512)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    config = transformers.Qwen3Config(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=len(tokenizer), max_position_embeddings=512, **changes,
    )  # fmt: skip
    return getattr(transformers, cls)(config), tokenizer


def z_image(scratch: Path) -> Any:
    """Z-Image in small."""
    encoder, tokenizer = qwen("Qwen3Model")
    transformer = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=16, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2,
        n_kv_heads=2, qk_norm=True, cap_feat_dim=16, rope_theta=256.0, t_scale=1000.0, axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )  # fmt: skip
    with torch.no_grad():  # these are made with torch.empty
        transformer.x_pad_token.fill_(1.0)
        transformer.cap_pad_token.fill_(1.0)
    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), text_encoder=encoder, tokenizer=tokenizer,
        vae=tiny_vae(latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159), transformer=transformer,
    )  # fmt: skip


def flux2_klein(scratch: Path) -> Any:
    """Flux.2 klein in small."""
    encoder, tokenizer = qwen("Qwen3ForCausalLM")
    return diffusers.Flux2KleinPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), text_encoder=encoder, tokenizer=tokenizer,
        vae=diffusers.AutoencoderKLFlux2(
            sample_size=32, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 8), layers_per_block=1, latent_channels=4, norm_num_groups=1,
            use_quant_conv=False, use_post_quant_conv=False,
        ),
        transformer=diffusers.Flux2Transformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=16, timestep_guidance_channels=256,
            axes_dims_rope=[4, 4, 4, 4], guidance_embeds=False,
        ),
    )  # fmt: skip
