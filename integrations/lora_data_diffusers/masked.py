"""A masked loss for scripts that have none: the gradient is masked where it leaves the denoiser.

The scripts' losses are means of squared errors, weighed per sample. Under a mask m the gradient of such a loss with
respect to the prediction is m times that of the plain one, element by element. So a hook on the denoiser's output that
multiplies the gradient by the mask trains exactly as the masked loss would; only the loss that a script prints is still
that of the whole picture.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lora_data.errors import BatchError


class GradientMask:
    """Masks the gradient of a denoiser's output by the current batch's loss mask."""

    def __init__(self) -> None:
        self._mask: Tensor | None = None
        self._weights: Tensor | None = None

    def use(self, mask: Tensor, weights: Tensor) -> None:
        """Take a batch's loss mask ``[B, 1, H, W]`` and weights ``[B]``."""
        self._mask, self._weights = mask, weights

    def attach(self, denoiser: nn.Module) -> None:
        """Mask what a module puts out from now on, where a gradient will come back."""
        denoiser.register_forward_hook(lambda _module, _inputs, output: self._hook(output))

    def _hook(self, output: Any) -> None:
        if self._mask is None or self._weights is None:
            return
        values = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
        tensors = list(values) if isinstance(values, list) else [values]  # one tensor a sample, or one for all
        for place, tensor in enumerate(tensors):
            if tensor.requires_grad:
                one = slice(place, place + 1) if isinstance(values, list) else slice(None)
                factor = mask_like(tensor, self._mask[one], single=isinstance(values, list))
                weights = self._weights[one].to(factor).reshape(-1, *[1] * (factor.ndim - 1))
                factor = (factor * weights).reshape(factor.shape[1:] if isinstance(values, list) else factor.shape)
                tensor.register_hook(lambda gradient, factor=factor: gradient * factor.to(gradient.dtype))


def mask_like(output: Tensor, mask: Tensor, *, single: bool = False) -> Tensor:
    """A loss mask in the shape of a denoiser's output, ready to be multiplied with it.

    Args:
        output: ``[B, C, h, w]``; ``[B, C, 1, h, w]``; or tokens ``[B, N, C * 4]``, each of 2 x 2 latents with the
            channel outermost, row by row (Flux, Flux.2, Qwen-Image). Without ``B`` where ``single``.
        mask: ``[B, 1, H, W]``.
        single: The output is that of one sample, without a batch.

    Returns:
        float32 with ``B`` first and as many further sides as the output's sample has.

    Raises:
        BatchError: The output's shape is none of these for this mask.
    """
    shape = (1, *output.shape) if single else tuple(output.shape)
    height, width = mask.shape[-2:]
    if shape[0] != len(mask):
        raise BatchError(f"the denoiser was given {shape[0]} samples, the batch has {len(mask)}")
    if len(shape) in (4, 5):
        small = F.interpolate(mask.float(), shape[-2:], mode="area")
        return small if len(shape) == 4 else small[:, :, None]
    if len(shape) == 3 and shape[2] % 4 == 0:
        rows = round((shape[1] * height / width) ** 0.5)
        if rows and shape[1] % rows == 0:
            columns = shape[1] // rows
            if abs(rows * width - columns * height) < max(width, height):
                small = F.interpolate(mask.float(), (2 * rows, 2 * columns), mode="area")
                cells = small.reshape(len(mask), rows, 2, columns, 2).permute(0, 1, 3, 2, 4)
                return cells.reshape(len(mask), shape[1], 4).repeat(1, 1, shape[2] // 4)
    raise BatchError(f"a denoiser's output of shape {list(output.shape)} does not fit a mask of {height} x {width} px")


def denoiser_in(modules: list[nn.Module]) -> nn.Module:
    """The denoiser among the modules that a script prepares: the one that diffusers made.

    Raises:
        BatchError: There is none, or more than one.
    """
    from diffusers import ModelMixin  # pyright: ignore[reportPrivateImportUsage]

    found = [module for module in modules if isinstance(module, ModelMixin)]
    if len(found) != 1:
        names = ", ".join(type(m).__name__ for m in modules) or "none"
        raise BatchError(f"the script prepares {len(found)} models of diffusers, expected 1; its modules are: {names}")
    return found[0]
