from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lora_data_diffusers import GradientMask
from lora_data_diffusers.masked import denoiser_in, mask_like
from torch import Tensor, nn

from examples.tiny_model import tiny_unet
from lora_data.errors import BatchError
from lora_data.train.masked_loss import loss_mask, masked_mse_loss


def pack(latents: Tensor) -> Tensor:
    """Latents to tokens of 2 x 2, by diffusers itself."""
    pipeline: Any = importlib.import_module("diffusers").FluxPipeline
    return pipeline._pack_latents(latents, *latents.shape)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The reverse, written out."""
    batch, _, channels = tokens.shape
    cells = tokens.reshape(batch, height // 2, width // 2, channels // 4, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels // 4, height, width)


class Denoiser(nn.Module):
    """A convolution that puts its prediction out as one of the scripts' models does."""

    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.convolution = nn.Conv2d(4, 4, 3, padding=1)
        self.form = form

    def forward(self, latents: Tensor) -> Any:
        made = self.convolution(latents)
        forms: dict[str, Callable[[], Any]] = {
            "tuple": lambda: (made,),
            "object": lambda: importlib.import_module("types").SimpleNamespace(sample=made),
            "tokens": lambda: (pack(made),),
            "video": lambda: (made[:, :, None],),
            "list": lambda: ([*made[:, :, None].unbind(0)],),
        }
        return forms[self.form]()

    def prediction(self, latents: Tensor) -> Tensor:
        """What the script makes of it: latents again."""
        output = self(latents)
        value: Any = output[0] if isinstance(output, tuple) else output.sample
        if self.form == "tokens":
            return unpack(value, *latents.shape[2:])
        if self.form == "list":
            value = torch.stack(value)
        return value.squeeze(2) if self.form in ("list", "video") else value


@pytest.mark.parametrize("form", ["tuple", "object", "tokens", "video", "list"])
@pytest.mark.parametrize("shape", [(8, 8), (6, 12), (14, 4)])
def test_the_gradient_is_that_of_the_masked_loss(form: str, shape: tuple[int, int]):
    generator = torch.Generator().manual_seed(1)
    latents, target = (torch.randn(3, 4, *shape, generator=generator) for _ in range(2))
    matte = (torch.rand(3, 1, 8 * shape[0], 8 * shape[1], generator=generator) > 0.6).float()
    mask, weights = loss_mask(matte, 0.1)
    plain, hooked = Denoiser(form), Denoiser(form)
    masked_mse_loss(plain.prediction(latents), target, mask, weights).backward()
    gradients = GradientMask()
    gradients.attach(hooked)
    gradients.use(mask, weights)
    # As the scripts write it: the mean of each sample's squared errors, then of all.
    ((hooked.prediction(latents) - target) ** 2).reshape(3, -1).mean(1).mean().backward()
    for ours, theirs in zip(hooked.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_nothing_is_masked_without_a_gradient_or_a_mask():
    model, gradients = Denoiser("tuple"), GradientMask()
    gradients.attach(model)
    latents = torch.ones(2, 4, 8, 8)
    model(latents)[0].sum().backward()  # before the first batch
    gradients.use(torch.ones(5, 1, 64, 64), torch.ones(5))
    with torch.no_grad():  # a validation picture: another number of samples does not matter
        model(latents)
    with pytest.raises(BatchError, match="was given 2 samples, the batch has 5"):
        model(latents)


def test_tokens_are_masked_as_their_latents_are():
    mask = torch.rand(2, 1, 12 * 16, 10 * 16, generator=torch.Generator().manual_seed(0))
    small = torch.nn.functional.interpolate(mask, (24, 20), mode="area").expand(-1, 16, -1, -1)
    assert torch.allclose(mask_like(torch.zeros(2, 12 * 10, 64), mask), pack(small.contiguous()))


def test_a_shape_that_is_not_understood_is_an_error():
    mask = torch.ones(2, 1, 64, 64)
    for shape in [(2, 7), (2, 17, 64), (2, 16, 63)]:
        with pytest.raises(BatchError, match="does not fit a mask of 64 x 64"):
            mask_like(torch.zeros(*shape), mask)


def test_the_denoiser_is_the_one_that_diffusers_made():
    unet = tiny_unet(attention_head_dim=4, cross_attention_dim=32)
    assert denoiser_in([nn.Linear(1, 1), unet]) is unet
    with pytest.raises(BatchError, match=r"prepares 0 models.*Linear"):
        denoiser_in([nn.Linear(1, 1)])
    with pytest.raises(BatchError, match="prepares 2 models"):
        denoiser_in([unet, unet])
