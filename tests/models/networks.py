"""Random weights in the official layouts, small where the layout allows it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def architecture(name: str, package: str = "spandrel") -> Any:
    """A network class of spandrel's."""
    return getattr(importlib.import_module(f"{package}.architectures.{name}"), name)


def compact(*, features: int = 16, convolutions: int = 4, scale: int = 4) -> dict[str, Tensor]:
    """realesr-animevideov3's kind, by its authors' names; official: 64 features, 16 convolutions, scale 4."""
    layers: dict[str, tuple[int, ...]] = {"body.0": (features, 3, 3, 3), "body.1": (features,)}
    for i in range(convolutions):
        layers[f"body.{2 * i + 2}"] = (features, features, 3, 3)
        layers[f"body.{2 * i + 3}"] = (features,)
    layers[f"body.{2 * convolutions + 2}"] = (3 * scale**2, features, 3, 3)
    return _random(layers)


def esrgan(*, blocks: int = 2, features: int = 16, scale: int = 4) -> dict[str, Tensor]:
    """Real-ESRGAN's kind, by its authors' names; official: 23 blocks (anime: 6), 64 features, scale 4 or 2.

    At scale 2 pictures are folded to half their sides first, twelve channels instead of three.
    """
    f, g = features, 32
    layers: dict[str, tuple[int, ...]] = {"conv_first": (f, 12 if scale == 2 else 3, 3, 3), "conv_body": (f, f, 3, 3)}
    for i in range(blocks):
        for j in (1, 2, 3):
            for k in range(1, 6):
                layers[f"body.{i}.rdb{j}.conv{k}"] = (g if k < 5 else f, f + (k - 1) * g, 3, 3)
    layers |= dict.fromkeys(("conv_up1", "conv_up2", "conv_hr"), (f, f, 3, 3))
    return _random({**layers, "conv_last": (3, f, 3, 3)})


def _random(layers: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Random weights (and biases, of convolutions) of these shapes."""
    generator = torch.Generator().manual_seed(1)
    state: dict[str, Tensor] = {}
    for name, shape in layers.items():
        fan = max(1, int(torch.tensor(shape[1:]).prod())) if len(shape) > 1 else 16
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / fan**0.5
        if len(shape) > 1:
            state[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
    return state


def nafnet(*, width: int = 8) -> nn.Module:
    """NAFNet-GoPro's kind; official: width 32 or 64, encoders 1, 1, 1, 28."""
    torch.manual_seed(1)
    network = architecture("NAFNet")(
        img_channel=3, width=width, middle_blk_num=1, enc_blk_nums=[1, 1, 1, 2], dec_blk_nums=[1, 1, 1, 1]
    )
    for name, value in network.named_parameters():
        if name.endswith(("beta", "gamma")):  # zero at the start of a training: then nothing would be tested
            nn.init.normal_(value, 0, 0.3)
    return network


def gfpgan() -> nn.Module:
    """GFPGAN 1.3 and 1.4, whole: spandrel knows one size."""
    torch.manual_seed(1)
    network = architecture("GFPGAN")(
        out_size=512, num_style_feat=512, channel_multiplier=2, decoder_load_path=None, fix_decoder=False, num_mlp=8,
        input_is_latent=True, different_w=True, narrow=1, sft_half=True,
    )  # fmt: skip
    for module in network.modules():
        if type(module).__name__ == "StyleConv":
            nn.init.constant_(module.weight, 0.3)  # pyright: ignore  # the strength of the noise, zero at the start
    return network


def restoreformer() -> nn.Module:
    """RestoreFormer with fewer channels."""
    torch.manual_seed(1)
    return architecture("RestoreFormer")(
        n_embed=64, embed_dim=32, ch=32, out_ch=3, ch_mult=(1, 1, 1, 1, 1, 2), num_res_blocks=1, attn_resolutions=(16,),
        dropout=0.0, in_channels=3, resolution=512, z_channels=32, double_z=False, enable_mid=True, head_size=8,
    )  # fmt: skip


def codeformer() -> nn.Module:
    """CodeFormer, whole: spandrel knows one size."""
    torch.manual_seed(1)
    return architecture("CodeFormer", "spandrel_extra_arches")(
        dim_embd=512, n_head=8, n_layers=9, codebook_size=1024, latent_size=256,
        connect_list=["32", "64", "128", "256"], fix_modules=[],
    )  # fmt: skip


def save(network: nn.Module | dict[str, Tensor], path: Path, *, key: str | None = None) -> Path:
    """Save weights as their authors do: a dictionary under ``params_ema``, ``params`` or nothing."""
    state = network.state_dict() if isinstance(network, nn.Module) else network
    torch.save(state if key is None else {key: state}, path)
    return path


def sharpening(path: Path) -> Path:
    """NAFNet's official layout with weights that add a Laplacian: every block passes its input on."""
    network = nafnet()
    state = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    for channel in range(3):
        kernel = torch.full((3, 3), -0.25)
        kernel[1, 1] = 2.0
        state["intro.weight"][channel, channel] = kernel
        state["ending.weight"][channel, channel, 1, 1] = 1.0
    return save(state, path, key="params")
