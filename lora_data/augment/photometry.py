"""Light, noise and background in plain torch, on premultiplied colour.

Brightness and contrast act on the value V = max(R, G, B) and scale the three channels together by V'/V, so hue and
saturation (HSV) stay exactly; a channel that would clip limits the scale. Stock brightness and contrast move hue by up
to 180 degrees at the corners of the same ranges.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from lora_data.augment.table import (
    BACKGROUND_STD,
    COLOUR,
    GAIN,
    LIFT,
    NOISE_EVERYWHERE,
    NOISE_STD,
    SEED_HIGH,
    SEED_LOW,
    SLOPE_0,
    SLOPE_I,
    SLOPE_J,
    SPAN,
    Table,
)
from lora_data.rng import gaussian_table

TOE = 16 / 255
"""Value below which the scale stays what it is there. It bounds the scale to .55 ... 1.44 over the strategy's ranges:
without it a contrast below 1 would lift black to grey and multiply the noise of dark pixels without limit, and one
above 1 would crush them."""
NOISE_SIZE = 1 << 18
NOISE_KEY = 0x6C6F7261
"""Length of the table of Gaussian numbers (1 MB: stays in a GPU's cache) and the seed that made it. Each row of each
channel of each sample starts to read at a place of its own; drawing afresh costs more than the whole warp."""
TINY = 1e-8


@cache
def noise_table(device: torch.device | None = None) -> Tensor:
    """The table of standard normal numbers, float32 ``[NOISE_SIZE]``: the same everywhere, made once, not to change.

    It belongs to no module, so that ``.half()`` and the like cannot round it and no checkpoint holds it.

    Args:
        device: Where; the CPU where None.
    """
    if device is None:
        return torch.from_numpy(gaussian_table(NOISE_SIZE, NOISE_KEY))
    return noise_table().to(device)


def light(rgb: Tensor, alpha: Tensor, gain: Tensor, lift: Tensor) -> Tensor:
    """Brightness and contrast on the value alone.

    Args:
        rgb: Premultiplied, ``[B, 3, H, W]`` in [0, alpha].
        alpha: ``[B, 1, H, W]`` in [0, 1].
        gain: Factor of the value, broadcast.
        lift: What is added to it, broadcast.

    Returns:
        Premultiplied, in [0, alpha]; channels in the same proportions as before.
    """
    value = rgb.amax(dim=1, keepdim=True)
    scale = lift * alpha / torch.maximum(value, TOE * alpha).clamp_(min=TINY) + gain
    return rgb * torch.minimum(scale, alpha / value.clamp_(min=TINY))


def noise_rows(seed: Tensor, channel: int, height: int) -> Tensor:
    """Where in the table each row starts, int64 ``[B, height]``.

    Source of the mixing: Appleby, MurmurHash3, the 32-bit finaliser (public domain).
    """
    row = torch.arange(height, dtype=torch.int64, device=seed.device)
    start = seed[:, None] + (channel * 65536 + row + 1) * 0x9E3779B9
    word = start & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        word = ((word ^ (word >> shift)) * factor) & 0xFFFFFFFF
    return (word ^ (word >> 16)) & (NOISE_SIZE - 1)


def noise(table: Tensor, seed: Tensor, first_channel: int, size: tuple[int, int]) -> Tensor:
    """Three channels of standard normal noise, float32 ``[B, 3, h, w]``, from the samples' seeds (int64 ``[B]``)."""
    starts = torch.stack([noise_rows(seed, first_channel + c, size[0]) for c in range(3)], dim=1)
    # A view of every run of the table: whole rows are copied, which is 6 times as fast as an index for each pixel.
    runs = torch.cat([table, table[: size[1]]]).unfold(0, size[1], 1)
    return runs[starts]


def _seeds(rows: Tensor) -> Tensor:
    return rows[:, SEED_HIGH].long() * 65536 + rows[:, SEED_LOW].long()


def backdrop(table: Table, gaussian: Tensor, size: tuple[int, int]) -> Tensor:
    """The backgrounds in [0, 1], float32 ``[B, 3, h, w]``, or ``[B, 3, 1, 1]`` where each is one colour."""
    rows = table.rows[:, :, None, None]
    colour = rows[:, COLOUR : COLOUR + 3]
    if not table.backdrop:
        return colour
    j = torch.arange(size[1], dtype=torch.float32, device=rows.device)
    i = torch.arange(size[0], dtype=torch.float32, device=rows.device)[:, None]
    share = (rows[:, SLOPE_J] * j + (rows[:, SLOPE_I] * i + rows[:, SLOPE_0])).clamp_(0, 1)[:, None]
    colour = colour + rows[:, SPAN : SPAN + 3] * share
    return (colour + rows[:, BACKGROUND_STD, None] * noise(gaussian, _seeds(table.rows), 3, size)).clamp_(0, 1)


def finish(
    sampled: Tensor, inside: Tensor, table: Table, gaussian: Tensor, dtype: torch.dtype, mask_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Light, background and noise, then the one rounding.

    Args:
        sampled: Premultiplied RGBA, float32 ``[B, 4, h, w]`` in [0, 1].
        inside: bool ``[B, 1, h, w]``.
        table: On the same device.
        gaussian: `noise_table`, on the same device.
        dtype: Of the pixels.
        mask_dtype: Of the mask; uint8 means 0 to 255.

    Returns:
        Pixels ``[B, 3, h, w]`` in [-1, 1] and mask ``[B, 1, h, w]``, zero where the border was continued.
    """
    size = (sampled.shape[2], sampled.shape[3])
    rows = table.rows[:, :, None, None]
    alpha = sampled[:, 3:]
    rgb = torch.minimum(sampled[:, :3], alpha)
    rgb = light(rgb, alpha, rows[:, GAIN, None], rows[:, LIFT, None])
    rgb += (1 - alpha) * backdrop(table, gaussian, size)
    if table.noise:
        strength = rows[:, NOISE_STD, None] * torch.maximum(alpha, rows[:, NOISE_EVERYWHERE, None])
        rgb += strength * noise(gaussian, _seeds(table.rows), 0, size)
    mask = alpha * inside
    if mask_dtype == torch.uint8:
        mask = torch.round(mask * 255)
    return rgb.clamp_(0, 1).mul_(2).sub_(1).to(dtype), mask.to(mask_dtype)
