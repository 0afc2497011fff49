"""The fused path on CUDA: one kernel that reads each uint8 RGBA pixel once and writes pixels and mask once.

The same arithmetic as `geometry` and `photometry`, in float32 registers whatever the autocast. A program makes a tile
of one sample's output; what differs between samples (noise, stretch) branches per program, not per pixel.
"""

# Triton compiles the jitted functions itself and knows no Python type in them.
# pyright: reportMissingParameterType=false, reportGeneralTypeIssues=false
# pyright: reportArgumentType=false, reportCallIssue=false
# ruff: noqa: N803

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

import lora_data.augment.table as t
from lora_data.augment.geometry import RADIUS, SLOPE, Output
from lora_data.augment.photometry import NOISE_SIZE, TINY, TOE
from lora_data.augment.table import Table

BLOCK_H, BLOCK_W = 4, 64
"""A tile of 4 x 64 and 4 warps: two pixels a thread, which for bicubic is 96 registers and no spill (four pixels: 255
registers on sm_90, spills on sm_80, by ptxas); whole 128-byte lines to write, few source rows to read at 5 degrees."""

_X_J, _X_I, _X_0 = tl.constexpr(t.X_J), tl.constexpr(t.X_I), tl.constexpr(t.X_0)
_Y_J, _Y_I, _Y_0 = tl.constexpr(t.Y_J), tl.constexpr(t.Y_I), tl.constexpr(t.Y_0)
_STRETCH, _WIDTH, _HEIGHT = tl.constexpr(t.STRETCH), tl.constexpr(t.WIDTH), tl.constexpr(t.HEIGHT)
_GAIN, _LIFT = tl.constexpr(t.GAIN), tl.constexpr(t.LIFT)
_NOISE_STD, _NOISE_EVERYWHERE = tl.constexpr(t.NOISE_STD), tl.constexpr(t.NOISE_EVERYWHERE)
_SEED_HIGH, _SEED_LOW = tl.constexpr(t.SEED_HIGH), tl.constexpr(t.SEED_LOW)
_COLOUR, _SPAN = tl.constexpr(t.COLOUR), tl.constexpr(t.SPAN)
_SLOPE_J, _SLOPE_I, _SLOPE_0 = tl.constexpr(t.SLOPE_J), tl.constexpr(t.SLOPE_I), tl.constexpr(t.SLOPE_0)
_BACKGROUND_STD, _COLUMNS = tl.constexpr(t.BACKGROUND_STD), tl.constexpr(t.COLUMNS)
_A = tl.constexpr(SLOPE)
_UNIT = tl.constexpr(1 / (255 * 255))
_TOE, _TINY = tl.constexpr(TOE), tl.constexpr(TINY)
_NOISE_MASK = tl.constexpr(NOISE_SIZE - 1)


@triton.jit
def _kernel_weight(distance, LINEAR: tl.constexpr):
    d = tl.abs(distance)
    if LINEAR:
        return tl.maximum(1.0 - d, 0.0)
    near = (d * (_A + 2.0) - (_A + 3.0)) * d * d + 1.0
    far = ((d * _A - 5.0 * _A) * d + 8.0 * _A) * d - 4.0 * _A
    return tl.where(d <= 1.0, near, tl.where(d < 2.0, far, 0.0))


@triton.jit
def _plain_weight(f, TAP: tl.constexpr, LINEAR: tl.constexpr):
    """The weight of a tap of the kernel of its own width, ``f`` past the tap that lies at or before it."""
    if LINEAR:
        return f if TAP == 1 else 1.0 - f
    if TAP == 0:
        f = f + 1.0
    elif TAP == 2:
        f = 1.0 - f
    elif TAP == 3:
        f = 2.0 - f
    if TAP == 0 or TAP == 3:
        return ((f * _A - 5.0 * _A) * f + 8.0 * _A) * f - 4.0 * _A
    return (f * (_A + 2.0) - (_A + 3.0)) * f * f + 1.0


@triton.jit
def _tap(source, row, column, weight, stride_h, stride_w, stride_c,
         r, g, b, a, PACKED: tl.constexpr):  # fmt: skip
    """Add one premultiplied source pixel, in units of 1 / 65025."""
    if PACKED:
        word = tl.load(source + row * stride_h + column)
        red = (word & 0xFF).to(tl.float32)
        green = ((word >> 8) & 0xFF).to(tl.float32)
        blue = ((word >> 16) & 0xFF).to(tl.float32)
        alpha = ((word >> 24) & 0xFF).to(tl.float32)
    else:
        at = source + row * stride_h + column * stride_w
        red = tl.load(at).to(tl.float32)
        green = tl.load(at + stride_c).to(tl.float32)
        blue = tl.load(at + 2 * stride_c).to(tl.float32)
        alpha = tl.load(at + 3 * stride_c).to(tl.float32)
    shade = weight * alpha
    return r + shade * red, g + shade * green, b + shade * blue, a + shade * 255.0


@triton.jit
def _noise(gaussian, seed, i, j, CHANNEL: tl.constexpr):
    """Standard normal numbers of a channel, from the row's own place in the table."""
    word = seed + (i + (CHANNEL * 65536 + 1)).to(tl.uint32) * 0x9E3779B9
    word = (word ^ (word >> 16)) * 0x85EBCA6B
    word = (word ^ (word >> 13)) * 0xC2B2AE35
    start = ((word ^ (word >> 16)) & _NOISE_MASK).to(tl.int32)
    return tl.load(gaussian + ((start + j) & _NOISE_MASK))


@triton.jit
def _augment(source, rows, gaussian, out, mask,
             stride_b, stride_h, stride_w, stride_c, height, width,
             TAPS: tl.constexpr, LINEAR: tl.constexpr, PACKED: tl.constexpr, STRETCHED: tl.constexpr,
             NOISE: tl.constexpr, BYTE_MASK: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr):  # fmt: skip
    sample = tl.program_id(2).to(tl.int64)
    i = tl.program_id(1) * TILE_H + tl.arange(0, TILE_H)[:, None]
    j = tl.program_id(0) * TILE_W + tl.arange(0, TILE_W)[None, :]
    row = rows + sample * _COLUMNS
    source += sample * stride_b
    fi, fj = i.to(tl.float32), j.to(tl.float32)
    x = tl.load(row + _X_J) * fj + (tl.load(row + _X_I) * fi + tl.load(row + _X_0))
    y = tl.load(row + _Y_J) * fj + (tl.load(row + _Y_I) * fi + tl.load(row + _Y_0))
    source_width, source_height = tl.load(row + _WIDTH), tl.load(row + _HEIGHT)
    last_x, last_y = source_width.to(tl.int32) - 1, source_height.to(tl.int32) - 1
    x_floor, y_floor = tl.floor(x), tl.floor(y)
    x0, y0 = x_floor.to(tl.int32), y_floor.to(tl.int32)
    zero = tl.zeros([TILE_H, TILE_W], tl.float32)
    r, g, b, a = zero, zero, zero, zero
    # Positions are exact in float32 relative to their floor, so the weights are taken from that.
    fx, fy = x - x_floor, y - y_floor
    if STRETCHED:
        stretch = tl.load(row + _STRETCH)
        total_x, total_y = zero, zero
        for n in range(TAPS):
            offset = n - (TAPS // 2 - 1)
            total_x += _kernel_weight((offset - fx) / stretch, LINEAR)
            total_y += _kernel_weight((offset - fy) / stretch, LINEAR)
        norm = 1.0 / (total_x * total_y)
        for m in range(TAPS):
            offset_y = m - (TAPS // 2 - 1)
            weight_y = _kernel_weight((offset_y - fy) / stretch, LINEAR) * norm
            at_y = tl.minimum(tl.maximum(y0 + offset_y, 0), last_y)
            for n in range(TAPS):
                offset_x = n - (TAPS // 2 - 1)
                weight = weight_y * _kernel_weight((offset_x - fx) / stretch, LINEAR)
                at_x = tl.minimum(tl.maximum(x0 + offset_x, 0), last_x)
                r, g, b, a = _tap(source, at_y, at_x, weight, stride_h, stride_w, stride_c, r, g, b, a, PACKED)
    else:
        for m in tl.static_range(TAPS):
            weight_y = _plain_weight(fy, m, LINEAR)
            at_y = tl.minimum(tl.maximum(y0 + (m - (TAPS // 2 - 1)), 0), last_y)
            for n in tl.static_range(TAPS):
                weight = weight_y * _plain_weight(fx, n, LINEAR)
                at_x = tl.minimum(tl.maximum(x0 + (n - (TAPS // 2 - 1)), 0), last_x)
                r, g, b, a = _tap(source, at_y, at_x, weight, stride_h, stride_w, stride_c, r, g, b, a, PACKED)

    a = tl.minimum(tl.maximum(a * _UNIT, 0.0), 1.0)
    r = tl.minimum(tl.maximum(r * _UNIT, 0.0), a)
    g = tl.minimum(tl.maximum(g * _UNIT, 0.0), a)
    b = tl.minimum(tl.maximum(b * _UNIT, 0.0), a)
    value = tl.maximum(r, tl.maximum(g, b))
    scale = tl.load(row + _GAIN) + tl.load(row + _LIFT) * a / tl.maximum(tl.maximum(value, a * _TOE), _TINY)
    scale = tl.minimum(scale, a / tl.maximum(value, _TINY))

    share = tl.load(row + _SLOPE_J) * fj + (tl.load(row + _SLOPE_I) * fi + tl.load(row + _SLOPE_0))
    share = tl.minimum(tl.maximum(share, 0.0), 1.0)
    back_r = tl.load(row + _COLOUR) + tl.load(row + _SPAN) * share
    back_g = tl.load(row + (_COLOUR + 1)) + tl.load(row + (_SPAN + 1)) * share
    back_b = tl.load(row + (_COLOUR + 2)) + tl.load(row + (_SPAN + 2)) * share
    noise_r, noise_g, noise_b = zero, zero, zero
    if NOISE:
        seed = tl.load(row + _SEED_HIGH).to(tl.uint32) * 65536 + tl.load(row + _SEED_LOW).to(tl.uint32)
        background_std = tl.load(row + _BACKGROUND_STD)
        if background_std > 0.0:
            back_r = tl.minimum(tl.maximum(back_r + background_std * _noise(gaussian, seed, i, j, 3), 0.0), 1.0)
            back_g = tl.minimum(tl.maximum(back_g + background_std * _noise(gaussian, seed, i, j, 4), 0.0), 1.0)
            back_b = tl.minimum(tl.maximum(back_b + background_std * _noise(gaussian, seed, i, j, 5), 0.0), 1.0)
        noise_std = tl.load(row + _NOISE_STD)
        if noise_std > 0.0:
            strength = noise_std * tl.maximum(a, tl.load(row + _NOISE_EVERYWHERE))
            noise_r = strength * _noise(gaussian, seed, i, j, 0)
            noise_g = strength * _noise(gaussian, seed, i, j, 1)
            noise_b = strength * _noise(gaussian, seed, i, j, 2)
    r = r * scale + (1.0 - a) * back_r + noise_r
    g = g * scale + (1.0 - a) * back_g + noise_g
    b = b * scale + (1.0 - a) * back_b + noise_b

    inside = (x >= -0.5) & (x <= source_width - 0.5) & (y >= -0.5) & (y <= source_height - 0.5)
    matte = tl.where(inside, a, 0.0)
    if BYTE_MASK:
        matte = tl.floor(matte * 255.0 + 0.5)
    within = (i < height) & (j < width)
    plane = height * width
    at = i * width + j
    pixels = out + sample * 3 * plane
    kind = out.dtype.element_ty
    tl.store(pixels + at, (tl.minimum(tl.maximum(r, 0.0), 1.0) * 2.0 - 1.0).to(kind), mask=within)
    tl.store(pixels + plane + at, (tl.minimum(tl.maximum(g, 0.0), 1.0) * 2.0 - 1.0).to(kind), mask=within)
    tl.store(pixels + 2 * plane + at, (tl.minimum(tl.maximum(b, 0.0), 1.0) * 2.0 - 1.0).to(kind), mask=within)
    tl.store(mask + sample * plane + at, matte.to(mask.dtype.element_ty), mask=within)


def run(images: Tensor, table: Table, gaussian: Tensor, output: Output) -> tuple[Tensor, Tensor]:
    """The fused path: as `module.run_eager`, one launch. Channels-last images are read a whole pixel at a time."""
    batch, _, _, width = images.shape
    height, wide = output.target
    out = torch.empty(batch, 3, height, wide, dtype=output.dtype, device=images.device)
    mask = torch.empty(batch, 1, height, wide, dtype=output.mask_dtype, device=images.device)
    packed = images.stride()[1:] == (1, 4 * width, 4) and images.stride(0) % 4 == 0 and images.data_ptr() % 4 == 0
    stride_b, stride_c, stride_h, stride_w = images.stride()
    source = images
    if packed:  # one 32-bit word a pixel; strides count words
        source = images.permute(0, 2, 3, 1).view(torch.int32)
        stride_b, stride_h, stride_w, stride_c = stride_b // 4, stride_h // 4, 1, 0
    stretched = table.stretch > 1
    taps = 2 * math.ceil(RADIUS[output.interpolation] * table.stretch)
    grid = (triton.cdiv(wide, BLOCK_W), triton.cdiv(height, BLOCK_H), batch)
    _augment[grid](
        source, table.rows, gaussian, out, mask,
        stride_b, stride_h, stride_w, stride_c, height, wide,
        TAPS=taps, LINEAR=output.interpolation == "bilinear", PACKED=packed, STRETCHED=stretched,
        NOISE=table.noise or table.backdrop, BYTE_MASK=output.mask_dtype == torch.uint8, TILE_H=BLOCK_H, TILE_W=BLOCK_W,
        num_warps=4,
    )  # fmt: skip
    return out, mask
