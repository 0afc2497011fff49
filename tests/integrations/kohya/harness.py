"""Runs an unmodified script of sd-scripts with small random models and writes down what reaches them.

    python harness.py SD_SCRIPTS RECORD.pt launcher|class SCRIPT.py arguments...

It runs with the Python of an sd-scripts environment. Only what loads the models is replaced; the VAE's input, the loss
before and after its mask, and SDXL's sizes are written down on their way.
"""

from __future__ import annotations

import atexit
import importlib
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import torch

diffusers: Any = importlib.import_module("diffusers")
RECORD: dict[str, list[Any]] = {"encoded": [], "masked": [], "sizes": [], "conditions": []}


def small_text_model(hidden: int, cls: Any) -> Any:
    """A CLIP text model of twelve layers (the eleventh is read) for the tests' tokenizer."""
    from transformers import CLIPTextConfig

    return cls(
        CLIPTextConfig(
            vocab_size=514, hidden_size=hidden, intermediate_size=64, num_hidden_layers=12, num_attention_heads=2,
            max_position_embeddings=77, projection_dim=hidden, bos_token_id=512, eos_token_id=513, pad_token_id=513,
        )
    )  # fmt: skip


def small_vae() -> Any:
    """A VAE that shrinks by 8, as the real ones do."""
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, norm_num_groups=4,
    )  # fmt: skip


def small_sd15(*_: object) -> Any:
    """In place of `library.train_util.load_target_model`."""
    from library import original_unet  # pyright: ignore
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    original_unet.BLOCK_OUT_CHANNELS = (32, 32, 64, 64)
    original_unet.TIMESTEP_INPUT_DIM, original_unet.TIME_EMBED_DIM = 32, 128
    unet = original_unet.UNet2DConditionModel(sample_size=8, attention_head_dim=2, cross_attention_dim=64)
    return small_text_model(64, CLIPTextModel), small_vae(), unet, True


def small_sdxl(*_: object) -> Any:
    """In place of `library.sdxl_train_util.load_target_model`; its context is 768 + 1280 wide in the code."""
    from library import sdxl_original_unet  # pyright: ignore
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    sdxl_original_unet.MODEL_CHANNELS, sdxl_original_unet.TIME_EMBED_DIM = 64, 256
    unet = sdxl_original_unet.SdxlUNet2DConditionModel()
    first, second = small_text_model(768, CLIPTextModel), small_text_model(1280, CLIPTextModelWithProjection)
    return True, first, second, small_vae(), unet, None, None


def watch() -> None:
    """Write down what reaches the VAE, the loss and SDXL's conditioning."""
    from library import custom_train_functions, sdxl_train_util, train_util  # pyright: ignore

    encode, masked = diffusers.AutoencoderKL.encode, custom_train_functions.apply_masked_loss
    sizes = sdxl_train_util.get_size_embeddings

    def seen_encode(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        RECORD["encoded"] += list(x.detach().clone())
        return encode(self, x, *args, **kwargs)

    def seen_masked(loss: torch.Tensor, batch: Any) -> torch.Tensor:
        after = masked(loss, batch)
        outputs = batch.get("text_encoder_outputs_list")
        entry = {name: batch[name] for name in ("alpha_masks", "loss_weights", "captions", "image_keys")}
        RECORD["masked"].append(
            {**entry, "names": [*batch], "before": loss.detach().clone(), "after": after.detach().clone()}
        )
        RECORD["conditions"].append(None if outputs is None else [o.shape for o in outputs])
        return after

    def seen_sizes(*args: Any) -> Any:
        RECORD["sizes"].append([a.clone() for a in args[:3]])
        return sizes(*args)

    diffusers.AutoencoderKL.encode = seen_encode
    custom_train_functions.apply_masked_loss = seen_masked
    sdxl_train_util.get_size_embeddings = seen_sizes
    train_util.load_target_model, sdxl_train_util.load_target_model = small_sd15, small_sdxl


def main() -> None:
    start = os.environ.get("HARNESS_START", "fork")
    if torch.multiprocessing.get_start_method(allow_none=True) != start:
        torch.multiprocessing.set_start_method(start)  # "spawn" is how workers start on Windows and macOS
    root, record, way, script, *arguments = sys.argv[1:]
    sys.path.insert(0, root)
    watch()
    if not torch.multiprocessing.parent_process():
        atexit.register(lambda: torch.save(RECORD, record))
    path = str(Path(root) / script)
    if way == "launcher":
        from lora_data_kohya.__main__ import main as launch

        sys.exit(launch([path, *arguments]))
    sys.argv = [path, *arguments, "--dataset_class", "lora_data_kohya.Dataset"]
    runpy.run_path(path, run_name="__main__")


if __name__ == "__main__":
    main()
