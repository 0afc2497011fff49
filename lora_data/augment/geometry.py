"""The one warp, in plain torch: premultiplied colour and matte are sampled together, once.

Crop, scale and rotation are one affine map, so a picture is interpolated once (bicubic leaves .94 of the contrast at
0.3 cycles/px, bilinear .75, and each further pass takes its share again). Where the output is smaller than the source
the kernel is stretched by the factor, which keeps what the output cannot show from folding into it. Beyond the picture
its border continues.

Source of the kernels: Keys, Cubic convolution interpolation for digital image processing, IEEE TASSP 1981, with the
slope -0.75 of OpenCV and torch; stretching as in Pillow and in torch's ``interpolate(antialias=True)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lora_data.augment.table import HEIGHT, STRETCH, WIDTH, X_0, X_I, X_J, Y_0, Y_I, Y_J, Table

Interpolation = Literal["bicubic", "bilinear"]
SLOPE = -0.75
"""Keys' a: -0.75 as in OpenCV and torch, so that all of them can stand in for each other."""
RADIUS: dict[Interpolation, int] = {"bicubic": 2, "bilinear": 1}
"""Half the kernel's support, in source px, before it is stretched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a pixel path is to make.

    Args:
        target: (height, width), px.
        interpolation: The kernel.
        dtype: Of the pixels.
        mask_dtype: Of the mask; uint8 means 0 to 255.
    """

    target: tuple[int, int]
    interpolation: Interpolation = "bicubic"
    dtype: torch.dtype = torch.float32
    mask_dtype: torch.dtype = torch.float32


def premultiply(images: Tensor) -> Tensor:
    """uint8 RGBA ``[B, 4, H, W]`` with straight alpha to float32 in [0, 1] with premultiplied colour."""
    pixels = images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    pixels[:, :3].mul_(pixels[:, 3:])
    return pixels


def source_positions(rows: Tensor, target: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where each output pixel lies in its source: x and y, float32 ``[B, h, w]``; pixel centres are whole numbers."""
    j = torch.arange(target[1], dtype=torch.float32, device=rows.device)
    i = torch.arange(target[0], dtype=torch.float32, device=rows.device)[:, None]
    column = rows[:, :, None, None]
    x = column[:, X_J] * j + (column[:, X_I] * i + column[:, X_0])
    y = column[:, Y_J] * j + (column[:, Y_I] * i + column[:, Y_0])
    return x, y


def warp(pixels: Tensor, table: Table, target: tuple[int, int], interpolation: Interpolation) -> tuple[Tensor, Tensor]:
    """Sample a batch.

    Args:
        pixels: Premultiplied, float32 ``[B, C, H, W]`` in [0, 1].
        table: On the same device.
        target: (height, width) of the output.
        interpolation: The kernel.

    Returns:
        float32 ``[B, C, h, w]``, cut to [0, 1]; and bool ``[B, 1, h, w]``: in the picture, not its border continued.
    """
    x, y = source_positions(table.rows, target)
    column = table.rows[:, :, None, None]
    width, height = column[:, WIDTH], column[:, HEIGHT]
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    if table.stretch > 1:
        sampled = _warp_stretched(pixels, x, y, table, interpolation)
    else:
        sampled = _warp_plain(pixels, x, y, table, interpolation)
    return sampled.clamp_(0, 1), inside[:, None]


def kernel(distance: Tensor, interpolation: Interpolation) -> Tensor:
    """The kernel's weight at a distance in (stretched) source px."""
    t = distance.abs()
    if interpolation == "bilinear":
        return (1 - t).clamp(min=0)
    near = ((SLOPE + 2) * t - (SLOPE + 3)) * t * t + 1
    far = ((SLOPE * t - 5 * SLOPE) * t + 8 * SLOPE) * t - 4 * SLOPE
    return torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


def _warp_plain(pixels: Tensor, x: Tensor, y: Tensor, table: Table, interpolation: Interpolation) -> Tensor:
    """Kernel of its own width: torch's sampler, and the source itself where nothing was drawn."""
    canvas_height, canvas_width = pixels.shape[2:]
    if table.padded:
        pixels = _continue_border(pixels, table)
    grid = torch.stack([(2 * x + 1) / canvas_width - 1, (2 * y + 1) / canvas_height - 1], dim=-1)
    sampled = F.grid_sample(pixels, grid, mode=interpolation, padding_mode="border", align_corners=False)
    if sampled.shape == pixels.shape:
        # torch's sampler takes positions in [-1, 1], which rounds them by some 1e-5 px: exact is exact only this way.
        rows = table.rows
        still = (rows[:, X_J] == 1) & (rows[:, X_I] == 0) & (rows[:, X_0] == 0)
        still = still & (rows[:, Y_J] == 0) & (rows[:, Y_I] == 1) & (rows[:, Y_0] == 0)
        if still.device.type == "cpu":
            sampled[still] = pixels[still]
        else:  # without a look at what is still, which would wait for the device
            sampled = torch.where(still[:, None, None, None], pixels, sampled)
    return sampled


def _continue_border(pixels: Tensor, table: Table) -> Tensor:
    """Continue each picture's border over the rest of its canvas."""
    height, width = pixels.shape[2:]
    rows, columns = _clamped(height, table.rows[:, HEIGHT]), _clamped(width, table.rows[:, WIDTH])
    flat = pixels.flatten(2)
    index = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    return flat.gather(2, index[:, None].expand(-1, flat.shape[1], -1)).view_as(pixels)


def _clamped(count: int, limit: Tensor) -> Tensor:
    line = torch.arange(count, device=limit.device)
    return torch.minimum(line, limit[:, None].long() - 1)


def _warp_stretched(pixels: Tensor, x: Tensor, y: Tensor, table: Table, interpolation: Interpolation) -> Tensor:
    """Kernel as wide as each sample needs; one gather for each of its taps."""
    width = pixels.shape[3]
    column = table.rows[:, :, None, None]
    stretch, last_x, last_y = column[:, STRETCH], column[:, WIDTH] - 1, column[:, HEIGHT] - 1
    reach = math.ceil(RADIUS[interpolation] * table.stretch)
    offsets = range(1 - reach, reach + 1)
    x0, y0 = x.floor(), y.floor()
    weights_x = [kernel((x0 + k - x) / stretch, interpolation) for k in offsets]
    weights_y = [kernel((y0 + k - y) / stretch, interpolation) for k in offsets]
    columns = [torch.minimum((x0 + k).clamp(min=0), last_x).long() for k in offsets]
    flat = pixels.flatten(2)
    total = torch.zeros(*pixels.shape[:2], *x.shape[1:], dtype=torch.float32, device=pixels.device)
    for k, weight_y in zip(offsets, weights_y, strict=True):
        row = torch.minimum((y0 + k).clamp(min=0), last_y).long() * width
        for at, weight_x in zip(columns, weights_x, strict=True):
            index = (row + at).flatten(1)[:, None].expand(-1, flat.shape[1], -1)
            total += flat.gather(2, index).view_as(total) * (weight_x * weight_y)[:, None]
    norm = torch.stack(weights_x).sum(0) * torch.stack(weights_y).sum(0)
    return total / norm[:, None]
