"""Runs a script of diffusers' examples through lora_data_diffusers and writes down what reaches its models.

python harness.py RECORD.pt SCRIPT.py arguments...
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch
from lora_data_diffusers.__main__ import main
from lora_data_diffusers.masked import GradientMask
from torch import Tensor

RECORD: dict[str, list[Any]] = {"encoded": [], "before": [], "after": [], "time_ids": [], "tokens": []}
diffusers: Any = importlib.import_module("diffusers")


def watch_encoder(cls: Any) -> None:
    encode = cls.encode

    def seen(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        RECORD["encoded"].append(x.detach().clone())
        return encode(self, x, *args, **kwargs)

    cls.encode = seen


def watch_gradients() -> None:
    """The gradient of the denoiser's output before and after its mask, gathered as one tensor per batch."""
    hook = GradientMask._hook

    def seen(self: GradientMask, output: Any) -> None:
        values = output[0] if isinstance(output, tuple) else output
        tensors: list[Tensor] = list(values) if isinstance(values, list) else [values]
        kept: dict[str, dict[int, Tensor]] = {"before": {}, "after": {}}

        def keep(name: str, place: int) -> None:
            def one(gradient: Tensor) -> None:
                kept[name][place] = gradient.detach().clone()  # they arrive in any order
                if len(kept[name]) == len(tensors):
                    ordered = [kept[name][i] for i in range(len(tensors))]
                    RECORD[name].append(torch.stack(ordered) if isinstance(values, list) else ordered[0])

            tensors[place].register_hook(one)

        for place in range(len(tensors)):
            keep("before", place)
        hook(self, output)
        for place in range(len(tensors)):
            keep("after", place)

    GradientMask._hook = seen


def watch_sizes() -> None:
    forward = diffusers.UNet2DConditionModel.forward

    def seen(self: Any, *args: Any, **kwargs: Any) -> Any:
        added = kwargs.get("added_cond_kwargs") or {}
        if "time_ids" in added:
            RECORD["time_ids"].append(added["time_ids"].clone())
        return forward(self, *args, **kwargs)

    diffusers.UNet2DConditionModel.forward = seen


if __name__ == "__main__":
    for encoder in (diffusers.AutoencoderKL, diffusers.AutoencoderKLFlux2):
        watch_encoder(encoder)
    watch_gradients()
    watch_sizes()
    code = main(sys.argv[2:])
    torch.save(RECORD, sys.argv[1])
    sys.exit(code)
