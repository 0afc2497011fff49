"""Which scripts of diffusers' examples there are, and what each can do with our batches.

Read in huggingface/diffusers at 58eb52c0803e (2026-08-23), folder examples/dreambooth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lora_data import ConfigError


@dataclass(frozen=True)
class Family:
    """One script.

    Args:
        script: Its file's name without suffix.
        models: What it trains.
        prompts: When captions are encoded: "each step"; "once": each caption once before the training, looked up by
            its number (captions must be finitely many); "frozen": once for each batch of the first epoch, looked up by
            the batch's place in the epoch (captions and order are the same in every epoch; one GPU).
        buckets: Whether it takes pictures of other shapes than the square.
        tokens: Whether it reads token ids instead of texts.
    """

    script: str
    models: str
    prompts: Literal["each step", "once", "frozen"]
    buckets: bool = True
    tokens: bool = False


FAMILIES = (
    Family("train_dreambooth_lora", "SD 1.x, 2.x", "each step", tokens=True),
    # Its target size is a constant of the script, so a bucket would be told to SDXL as a square.
    Family("train_dreambooth_lora_sdxl", "SDXL", "each step", buckets=False),
    Family("train_dreambooth_lora_sd3", "SD 3, 3.5", "each step"),
    Family("train_dreambooth_lora_flux", "Flux.1", "each step"),
    Family("train_dreambooth_lora_flux2", "Flux.2", "once"),
    Family("train_dreambooth_lora_flux2_klein", "Flux.2 klein", "once"),
    Family("train_dreambooth_lora_qwen_image", "Qwen-Image", "once"),
    Family("train_dreambooth_lora_krea2", "Krea 2", "once"),
    Family("train_dreambooth_lora_z_image", "Z-Image", "frozen"),
)


def family_of(script: str) -> Family:
    """The family of a script.

    Args:
        script: The file's name without suffix.

    Raises:
        ConfigError: It is none of those that are known.
    """
    for family in FAMILIES:
        if family.script == script:
            return family
    known = ", ".join(f"{f.script}.py" for f in FAMILIES)
    raise ConfigError(f"{script}.py is not one of the scripts that lora_data knows: {known}")
