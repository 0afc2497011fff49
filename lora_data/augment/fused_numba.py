"""The fused path on the CPU: one pass over each picture, compiled by numba.

The same arithmetic as `geometry` and `photometry`. It is compiled in each process that uses it (some 4 s): a compiled
kernel on disk would not notice a changed constant in another file.
"""

# numba compiles the jitted functions itself and fills in the intrinsic's first argument.
# pyright: reportCallIssue=false

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

import lora_data.augment.table as t
from lora_data.augment.crop import VISIBLE
from lora_data.augment.geometry import SLOPE, Output
from lora_data.augment.numba_block import sum_block
from lora_data.augment.photometry import NOISE_SIZE, TINY, TOE
from lora_data.augment.table import Table
from lora_data.threads import side_by_side

_F = np.float32
_A, _ZERO, _HALF, _ONE, _TWO = _F(SLOPE), _F(0), _F(0.5), _F(1), _F(2)
_A2, _A3, _A4, _A5, _A8 = _F(SLOPE + 2), _F(SLOPE + 3), _F(4 * SLOPE), _F(5 * SLOPE), _F(8 * SLOPE)
_UNIT = _F(1 / (255 * 255))
_TOE, _TINY = _F(TOE), _F(TINY)
_NOISE_MASK = NOISE_SIZE - 1
_WORD, _FAR = 0xFFFFFFFF, _F(1e6)
_TILE = 192
"""Columns computed together: a turned row of more would read more source rows than the first cache holds; of 96 to 1024
this was the fastest at 768 px."""
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "arcp", "nsz", "reassoc", "nnan", "ninf"},
}


@njit(inline="always", **_OPTIONS)
def _kernel(distance: Any, linear: Any) -> Any:
    d = abs(distance)
    if linear:
        return max(_ONE - d, _ZERO)
    if d <= _ONE:
        return (_A2 * d - _A3) * d * d + _ONE
    if d < _TWO:
        return ((_A * d - _A5) * d + _A8) * d - _A4
    return _ZERO


@njit(inline="always", **_OPTIONS)
def _weights(position: Any, taps: Any, stretch: Any, linear: Any, first: Any, weights: Any) -> None:
    """First tap and weights (their sum is 1) of each position."""
    if stretch == _ONE:  # the same formulas without branches, which the compiler turns into vectors
        w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
        for j in range(position.shape[0]):
            floor = np.floor(position[j])
            first[j] = np.int32(floor) - np.int32(1)
            f = position[j] - floor
            e = _ONE - f
            if linear:
                a, b, c = _ZERO, e, f
            else:
                g = _ONE + f
                a = ((_A * g - _A5) * g + _A8) * g - _A4
                b = (_A2 * f - _A3) * f * f + _ONE
                c = (_A2 * e - _A3) * e * e + _ONE
            w0[j], w1[j], w2[j], w3[j] = a, b, c, _ONE - a - b - c
    else:
        for j in range(position.shape[0]):
            base = np.int32(math.floor(position[j])) - np.int32(taps // 2 - 1)
            first[j] = base
            total = _ZERO
            for k in range(taps):
                weight = _kernel((_F(base + k) - position[j]) / stretch, linear)
                weights[k, j] = weight
                total += weight
            scale = _ONE / total
            for k in range(taps):
                weights[k, j] *= scale


@njit(inline="always", **_OPTIONS)
def _sample(
    pixels: Any,
    flat: Any,
    patch: Any,
    patch_bytes: Any,
    size: Any,
    x0: Any,
    y0: Any,
    taps: Any,
    wx: Any,
    wy: Any,
    out: Any,
) -> None:
    """Sample a run of positions: by blocks of the picture, at its border by blocks that continue it (``patch``)."""
    stride = np.int64(pixels.shape[1] * 4)
    bottom, right = size
    last_x, last_y = right - taps, bottom - taps
    u0, u1, u2, u3, v0, v1, v2, v3 = wx[0], wx[1], wx[2], wx[3], wy[0], wy[1], wy[2], wy[3]
    for j in range(out.shape[0]):
        x, y = np.int64(x0[j]), np.int64(y0[j])
        if 0 <= x <= last_x and 0 <= y <= last_y:
            corner = y * stride + x * 4
            r, g, b, a = sum_block(flat, corner, stride, u0[j], u1[j], u2[j], u3[j], v0[j], v1[j], v2[j], v3[j])
            for block in range(1, (taps // 4) ** 2):
                m, n = 4 * (block // (taps // 4)), 4 * (block % (taps // 4))
                dr, dg, db, da = sum_block(
                    flat, corner + m * stride + n * 4, stride,
                    wx[n, j], wx[n + 1, j], wx[n + 2, j], wx[n + 3, j],
                    wy[m, j], wy[m + 1, j], wy[m + 2, j], wy[m + 3, j],
                )  # fmt: skip
                r, g, b, a = r + dr, g + dg, b + db, a + da
        else:
            r, g, b, a = _ZERO, _ZERO, _ZERO, _ZERO
            for m in range(0, taps, 4):
                for n in range(0, taps, 4):
                    for k in range(16):
                        row = min(max(y + m + k // 4, 0), bottom - 1)
                        patch[k] = pixels[row, min(max(x + n + k % 4, 0), right - 1)]
                    dr, dg, db, da = sum_block(
                        patch_bytes, np.int64(0), np.int64(16),
                        wx[n, j], wx[n + 1, j], wx[n + 2, j], wx[n + 3, j],
                        wy[m, j], wy[m + 1, j], wy[m + 2, j], wy[m + 3, j],
                    )  # fmt: skip
                    r, g, b, a = r + dr, g + dg, b + db, a + da
        out[j, 0], out[j, 1], out[j, 2], out[j, 3] = r, g, b, a


@njit(inline="always", **_OPTIONS)
def _mix(word: Any) -> Any:
    word = ((word ^ (word >> np.uint64(16))) * np.uint64(0x85EBCA6B)) & np.uint64(_WORD)
    word = ((word ^ (word >> np.uint64(13))) * np.uint64(0xC2B2AE35)) & np.uint64(_WORD)
    return word ^ (word >> np.uint64(16))


@njit(inline="always", **_OPTIONS)
def _noise_start(seed: Any, channel: Any, row: Any) -> Any:
    step = np.uint64(channel * 65536 + row + 1) * np.uint64(0x9E3779B9)
    return np.int64(_mix((seed + step) & np.uint64(_WORD)) & np.uint64(_NOISE_MASK))


@njit(inline="always", **_OPTIONS)
def _shade(row: Any, i: Any, left: Any, width: Any, colour: Any, opaque: Any, out: Any) -> None:
    """Light, and the background behind it, for one row of a tile."""
    # Numbers of the row are read before the loops: the compiler cannot know that what is written is not the row.
    gain, lift = row[t.GAIN], row[t.LIFT]
    slope, base = row[t.SLOPE_J], row[t.SLOPE_J] * _F(left) + (row[t.SLOPE_I] * _F(i) + row[t.SLOPE_0])
    c0, c1, c2 = row[t.COLOUR], row[t.COLOUR + 1], row[t.COLOUR + 2]
    s0, s1, s2 = row[t.SPAN], row[t.SPAN + 1], row[t.SPAN + 2]
    # Slices, since an index that is a sum might be negative and is then checked at each step.
    red, green, blue = (out[0, i, left : left + width], out[1, i, left : left + width], out[2, i, left : left + width])
    for j in range(width):
        alpha = min(max(colour[j, 3] * _UNIT, _ZERO), _ONE)
        r = min(max(colour[j, 0] * _UNIT, _ZERO), alpha)
        g = min(max(colour[j, 1] * _UNIT, _ZERO), alpha)
        b = min(max(colour[j, 2] * _UNIT, _ZERO), alpha)
        value = max(r, max(g, b))
        scale = gain + lift * alpha / max(max(value, _TOE * alpha), _TINY)
        scale = min(scale, alpha / max(value, _TINY)) * _TWO
        share = min(max(slope * _F(j) + base, _ZERO), _ONE)
        behind = (_ONE - alpha) * _TWO
        red[j] = min(max(r * scale + behind * (c0 + s0 * share) - _ONE, -_ONE), _ONE)
        green[j] = min(max(g * scale + behind * (c1 + s1 * share) - _ONE, -_ONE), _ONE)
        blue[j] = min(max(b * scale + behind * (c2 + s2 * share) - _ONE, -_ONE), _ONE)
        opaque[j] = alpha


@njit(inline="always", **_OPTIONS)
def _add_noise(row: Any, i: Any, left: Any, width: Any, gaussian: Any, opaque: Any, out: Any) -> None:
    """The background's noise and the sensor's, for one row of a tile."""
    seed = np.uint64(row[t.SEED_HIGH]) * np.uint64(65536) + np.uint64(row[t.SEED_LOW])
    noise_std, background_std, everywhere = row[t.NOISE_STD], row[t.BACKGROUND_STD], row[t.NOISE_EVERYWHERE]
    slope, base = row[t.SLOPE_J], row[t.SLOPE_J] * _F(left) + (row[t.SLOPE_I] * _F(i) + row[t.SLOPE_0])
    for c in range(3):
        line = out[c, i, left : left + width]
        first, span = row[t.COLOUR + c], row[t.SPAN + c]
        behind_start = _noise_start(seed, 3 + c, i) + left
        start = _noise_start(seed, c, i) + left
        for j in range(width):
            value = _ZERO
            if background_std > _ZERO:
                plain = first + span * min(max(slope * _F(j) + base, _ZERO), _ONE)
                noisy = plain + background_std * gaussian[(behind_start + j) & _NOISE_MASK]
                value = (_ONE - opaque[j]) * (min(max(noisy, _ZERO), _ONE) - plain)
            if noise_std > _ZERO:
                value += noise_std * max(opaque[j], everywhere) * gaussian[(start + j) & _NOISE_MASK]
            line[j] = min(max(line[j] + _TWO * value, -_ONE), _ONE)


@njit(**_OPTIONS)
def _outline(pixels: Any, height: Any, width: Any, visible: Any, rows: Any) -> None:
    """First visible column of each row and one past the last; (0, 0) where none is."""
    for i in range(height):
        first, end = 0, width
        while first < width and (pixels[i, first] >> np.uint32(24)) < visible:
            first += 1
        while end > first and (pixels[i, end - 1] >> np.uint32(24)) < visible:
            end -= 1
        if first < end:
            rows[i, 0], rows[i, 1] = first, end


@njit(inline="always", **_OPTIONS)
def _filled_span(filled: Any, right: Any, x_start: Any, x_step: Any, y_start: Any, y_end: Any, width: Any, taps: Any):
    """Which positions of a tile's row may see anything but transparent pixels: from start to end, both 0 where none."""
    last = filled.shape[0] - 1
    top = min(max(np.int64(math.floor(min(y_start, y_end))) - taps, 0), last)
    bottom = min(max(np.int64(math.floor(max(y_start, y_end))) + taps, 0), last)
    low, high = right + 1, 0
    for row in range(top, bottom + 1):
        if filled[row, 0] < filled[row, 1]:
            low, high = min(low, filled[row, 0]), max(high, filled[row, 1])
    if low >= high:
        return 0, 0
    # At the picture's border what is there continues without end.
    x_low = _F(low - taps) if low > 0 else -_FAR
    x_high = _F(high + taps) if high <= right else _FAR
    near, far = (x_low - x_start) / x_step, (x_high - x_start) / x_step
    start = max(min(near, far), _ZERO)
    end = min(max(near, far), _F(width - 1))
    return (np.int64(start), np.int64(end) + 1) if start <= end else (0, 0)


@njit(**_OPTIONS)
def _warp(pixels: Any, row: Any, gaussian: Any, linear: Any, out: Any, mask: Any) -> None:
    """One picture: RGBA as uint32 ``[H, W]`` to float32 ``[3, h, w]`` in [-1, 1] and ``[h, w]`` in [0, 1]."""
    source_width, source_height = np.int64(row[t.WIDTH]), np.int64(row[t.HEIGHT])
    right, bottom = _F(source_width) - _HALF, _F(source_height) - _HALF
    stretch = row[t.STRETCH]
    taps = 4 * np.int64(math.ceil(stretch))
    x, y = np.empty(_TILE, np.float32), np.empty(_TILE, np.float32)
    x0, y0 = np.empty(_TILE, np.int32), np.empty(_TILE, np.int32)
    wx, wy = np.empty((taps, _TILE), np.float32), np.empty((taps, _TILE), np.float32)
    colour, opaque = np.empty((_TILE, 4), np.float32), np.empty(_TILE, np.float32)
    size = (source_height, source_width)
    flat = pixels.reshape(-1).view(np.uint8)
    patch = np.empty(16, np.uint32)
    patch_bytes = patch.view(np.uint8)
    filled = np.zeros((source_height, 2), np.int32)
    _outline(pixels, source_height, source_width, 1, filled)
    x_j, y_j = row[t.X_J], row[t.Y_J]
    for left in range(0, mask.shape[1], _TILE):
        width = min(_TILE, mask.shape[1] - left)
        for i in range(mask.shape[0]):
            x_0 = x_j * _F(left) + (row[t.X_I] * _F(i) + row[t.X_0])
            y_0 = y_j * _F(left) + (row[t.Y_I] * _F(i) + row[t.Y_0])
            for j in range(width):
                x[j] = x_j * _F(j) + x_0
                y[j] = y_j * _F(j) + y_0
            start, end = _filled_span(filled, source_width - 1, x_0, x_j, y[0], y[width - 1], width, taps)
            colour[:start] = _ZERO
            colour[end:width] = _ZERO
            if start < end:
                seen = slice(start, end)
                _weights(x[seen], taps, stretch, linear, x0, wx)
                _weights(y[seen], taps, stretch, linear, y0, wy)
                _sample(pixels, flat, patch, patch_bytes, size, x0, y0, taps, wx, wy, colour[seen])
            _shade(row, i, left, width, colour, opaque, out)
            if row[t.NOISE_STD] > _ZERO or row[t.BACKGROUND_STD] > _ZERO:
                _add_noise(row, i, left, width, gaussian, opaque, out)
            line = mask[i, left : left + width]
            for j in range(width):
                inside = (x[j] >= -_HALF) & (x[j] <= right) & (y[j] >= -_HALF) & (y[j] <= bottom)
                line[j] = opaque[j] if inside else _ZERO


def outline(images: Tensor) -> Tensor:
    """The rows of `crop.MatteShape`, for images on the CPU."""
    pixels = _packed(images)
    rows = torch.zeros(len(images), images.shape[2], 2, dtype=torch.int32)
    for picture, found in zip(pixels, rows.numpy(), strict=True):
        _outline(picture, picture.shape[0], picture.shape[1], VISIBLE, found)
    return rows


def _packed(images: Tensor) -> np.ndarray:
    """One uint32 a pixel, ``[B, H, W]``, alpha in the highest byte; a copy only where the layout is planar."""
    return images.permute(0, 2, 3, 1).contiguous().numpy().view("<u4")[..., 0]


def run(images: Tensor, table: Table, gaussian: Tensor, output: Output) -> tuple[Tensor, Tensor]:
    """The fused path: as `module.run_eager`, for images on the CPU.

    Samples are spread over ``torch.get_num_threads()`` threads; each is computed by one, so the number changes nothing.
    """
    pixels, linear = _packed(images), output.interpolation == "bilinear"
    rows, values = table.rows.numpy(), gaussian.numpy()
    # numpy asks the system for huge pages where torch does not: fresh outputs are then not faulted in 4 KB at a time.
    outs = np.empty((len(images), 3, *output.target), np.float32)
    masks = np.empty((len(images), 1, *output.target), np.float32)

    def work(sample: int) -> None:
        _warp(pixels[sample], rows[sample], values, linear, outs[sample], masks[sample, 0])

    side_by_side(work, range(len(images)), torch.get_num_threads())
    out, mask = torch.from_numpy(outs), torch.from_numpy(masks)
    if output.mask_dtype == torch.uint8:
        mask = torch.round(mask * 255)
    return out.to(output.dtype), mask.to(output.mask_dtype)
