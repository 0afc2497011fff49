"""The mask-aware crop: where, among all positions of the drawn scale, the crop keeps the character.

Everything happens in the picture as it will be turned: the matte's bounding box, its area and the face are measured in
the frame of the rotated picture, in which a crop is an upright rectangle. So what is promised holds for the output, not
for the picture before its rotation. Positions are a grid over all that fit into the picture; one of those that hold is
drawn uniformly by its rank, without rejection and without a wait for the device.

The matte's area comes from a summed-area table of the matte at 1/8 (Crow, Summed-area tables for texture mapping,
SIGGRAPH 1984); its bounding box from the outermost pixels of each row, which give the exact box at any angle.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lora_data.augment.params import EMPTY, FACE, HOLDS, RATIO, AugmentParams, Crop

CELL = 8
"""Side of a cell of the coarse matte, px. At 1/8 the table costs about 2 % of the warp, at full size 25 %."""
POSITIONS = 33
"""Positions along each side. At 1024 px and scale 0.8 they are 6.4 px apart; odd, so that one is the middle."""
VISIBLE = 128
"""Alpha from which a pixel belongs to the character's bounding box: half covered."""
MATTE_MARGIN = 0.005
"""What the area ratio must exceed the policy's by, since a cell's inside is not known and the matte is turned at 1/8.
Measured on film mattes and random blobs at any angle up to 5 degrees, it is overestimated by at most .0008 from 200 px
on and .0038 below; it is underestimated by at most .0053 and, below 200 px, .06, which only costs positions."""
_BIG = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class MatteShape:
    """What the crop needs of a batch's mattes; it depends on the pictures only, so a loader may compute and keep it.

    Args:
        rows: int32 ``[B, H, 2]``: first visible column of each row and one past the last; (0, 0) where none is.
        coverage: float32 ``[B, ceil(H / 8), ceil(W / 8)]``: mean alpha of each cell in [0, 1], or None where no policy
            counts the area.
    """

    rows: Tensor
    coverage: Tensor | None = None

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> MatteShape:
        """The same on another device."""
        coverage = None if self.coverage is None else self.coverage.to(device, non_blocking=non_blocking)
        return MatteShape(rows=self.rows.to(device, non_blocking=non_blocking), coverage=coverage)


def measure_mattes(alpha: Tensor, *, coverage: bool) -> MatteShape:
    """Measure mattes, on the device where they are.

    Args:
        alpha: uint8 ``[B, H, W]``; 0 outside each picture where a batch is padded.
        coverage: Whether to measure the coarse coverage too.
    """
    batch, height, width = alpha.shape
    # Whole words of 8 pixels are searched first: an eighth of the work, and no index tensor of the picture's size.
    visible = F.pad(alpha >= VISIBLE, (0, -width % 8)).view(batch, height, -1, 8)
    words = visible.view(torch.int64)[..., 0].ne(0)
    there = words.any(dim=2)

    def within(word: Tensor) -> Tensor:
        return visible.gather(2, word[..., None, None].expand(-1, -1, 1, 8))[:, :, 0].to(torch.uint8)

    first_word = words.to(torch.uint8).argmax(dim=2)
    last_word = words.shape[2] - 1 - words.flip(2).to(torch.uint8).argmax(dim=2)
    first = first_word * 8 + within(first_word).argmax(dim=2)
    end = last_word * 8 + 8 - within(last_word).flip(2).argmax(dim=2)
    rows = torch.stack([first * there, end * there], dim=2).to(torch.int32)
    if not coverage:
        return MatteShape(rows=rows)
    padded = F.pad(alpha, (0, -width % CELL, 0, -height % CELL))
    strips = padded.view(batch, -1, CELL, padded.shape[2]).sum(dim=2, dtype=torch.int32)
    cells = strips.view(batch, strips.shape[1], -1, CELL).sum(dim=3, dtype=torch.int32)
    return MatteShape(rows=rows, coverage=cells / (255.0 * CELL * CELL))


def resolve_crop(
    params: AugmentParams, shape: MatteShape, sizes: Tensor, target: tuple[int, int], faces: Tensor | None = None
) -> Crop:
    """Find each sample's crop.

    Args:
        params: Drawn; on the same device as the other tensors.
        shape: The mattes.
        sizes: ``[B, 2]``: (height, width) of each picture within its canvas, px.
        target: (height, width) of the output.
        faces: float ``[B, 4]``: (x0, y0, x1, y1) in source px, NaN where no face is known; never cut where a position
            allows it.
    """
    size = sizes.to(torch.float64)
    aspect = target[0] / target[1]
    # The largest rectangle of the target's aspect ratio inside the picture, times the drawn scale. Width decides and
    # height follows from it, so that the aspect ratio is exact.
    crop_width = params.scale * torch.minimum(size[:, 1], size[:, 0] / aspect)
    crop_size = torch.stack([crop_width * aspect, crop_width], dim=1)
    steps = torch.linspace(0, 1, POSITIONS, dtype=torch.float64, device=size.device)
    slack = size - crop_size
    ys = crop_size[:, :1] / 2 + slack[:, :1] * steps
    xs = crop_size[:, 1:] / 2 + slack[:, 1:] * steps
    count = POSITIONS * POSITIONS
    centre = torch.stack([xs[:, None].expand(-1, POSITIONS, -1), ys[..., None].expand(-1, -1, POSITIONS)], dim=-1)
    centre = centre.reshape(-1, count, 2)
    turn = _Turn(params.rotation, size)
    middle = turn.forward(centre)
    half = crop_size.flip(1)[:, None] / 2
    low, high = middle - half, middle + half

    box, there = _turned_box(shape.rows, turn)
    area = (crop_size[:, 0] * crop_size[:, 1])[:, None]
    by_box = _overlap(box, low, high) / area
    ratio, needed = by_box, params.min_ratio[:, None]
    if shape.coverage is not None:
        by_matte = _covered(shape.coverage, size, turn, low, high) / area
        ratio = torch.where(params.by_matte[:, None], by_matte, by_box)
        needed = torch.where(params.by_matte[:, None], needed + MATTE_MARGIN * (needed > 0), needed)
    face_kept = torch.ones_like(ratio)
    if faces is not None:
        face = _turned_face(faces.to(torch.float64), size, turn)
        known = ~torch.isnan(faces).any(dim=1, keepdim=True)
        face_area = ((face[:, 1] - face[:, 0]).clamp(min=1e-9)).prod(dim=1, keepdim=True)
        face_kept = torch.where(known, _overlap(face, low, high) / face_area, 1.0)
    kept = face_kept >= 1 - 1e-9
    valid = kept & (ratio >= needed)
    number = valid.sum(dim=1, keepdim=True)
    rank = (params.position[:, None] * number).floor().clamp(max=count - 1)
    drawn = (valid.cumsum(dim=1) > rank).to(torch.uint8).argmax(dim=1)
    # Where no position holds: first the face, then the ratio, then the nearest to the character's middle.
    away = ((middle - (box[:, 0] + box[:, 1])[:, None] / 2) / size.flip(1)[:, None]).pow(2).sum(dim=2)
    best = (1000 * face_kept + ratio - 1e-6 * away).argmax(dim=1)
    chosen = torch.where(number[:, 0] > 0, drawn, best)
    chosen = torch.where(there, chosen, torch.full_like(chosen, count // 2))
    outcome = torch.where(kept.any(dim=1), torch.full_like(chosen, RATIO), torch.full_like(chosen, FACE))
    outcome = torch.where(number[:, 0] > 0, torch.full_like(chosen, HOLDS), outcome)
    outcome = torch.where(there, outcome, torch.full_like(chosen, EMPTY))
    row = torch.arange(len(chosen), device=chosen.device)
    return Crop(centre=centre[row, chosen], size=crop_size, ratio=ratio[row, chosen], outcome=outcome)


class _Turn:
    """From the picture's frame to that of the picture turned counter-clockwise about its middle (y points down)."""

    def __init__(self, degrees: Tensor, size: Tensor) -> None:
        angle = torch.deg2rad(degrees)
        self.cos, self.sin = angle.cos(), angle.sin()
        self.middle = size.flip(1) / 2

    def forward(self, points: Tensor) -> Tensor:
        """Turn points ``[B, N, 2]``, (x, y)."""
        x, y = (points - self.middle[:, None]).unbind(dim=2)
        cos, sin = self.cos[:, None], self.sin[:, None]
        return torch.stack([cos * x + sin * y, cos * y - sin * x], dim=2)

    def backward(self, points: Tensor) -> Tensor:
        """Turn points ``[B, N, 2]`` back."""
        u, v = points.unbind(dim=2)
        cos, sin = self.cos[:, None], self.sin[:, None]
        return torch.stack([cos * u - sin * v, cos * v + sin * u], dim=2) + self.middle[:, None]


def _turned_box(rows: Tensor, turn: _Turn) -> tuple[Tensor, Tensor]:
    """The bounding box of the turned matte: ``[B, 2, 2]`` (low and high corner, x and y), and whether there is one."""
    first, end = rows[..., 0].to(torch.float64), rows[..., 1].to(torch.float64)
    top = torch.arange(rows.shape[1], dtype=torch.float64, device=rows.device).expand_as(first)
    corners = [torch.stack([x, y], dim=2) for x in (first, end) for y in (top, top + 1)]
    points = turn.forward(torch.cat(corners, dim=1))
    outside = (end <= first).repeat(1, 4)[..., None]
    low = points.masked_fill(outside, float(_BIG)).amin(dim=1)
    high = points.masked_fill(outside, -float(_BIG)).amax(dim=1)
    there = high[:, 0] > low[:, 0]
    box = torch.stack([low, high], dim=1)
    return torch.where(there[:, None, None], box, torch.zeros_like(box)), there


def _turned_face(faces: Tensor, size: Tensor, turn: _Turn) -> Tensor:
    """The bounding box of the turned face, cut to the picture: ``[B, 2, 2]``."""
    limit = size.flip(1)
    zero = torch.zeros_like(limit)
    low = torch.minimum(torch.maximum(faces[:, :2], zero), limit)
    high = torch.minimum(torch.maximum(faces[:, 2:], zero), limit)
    corners = torch.stack([torch.stack([x[:, 0], y[:, 1]], dim=1) for x in (low, high) for y in (low, high)], dim=1)
    points = turn.forward(corners)
    return torch.stack([points.amin(dim=1), points.amax(dim=1)], dim=1)


def _overlap(box: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Area that a box ``[B, 2, 2]`` shares with each crop ``[B, N, 2]``: ``[B, N]``."""
    inner = torch.minimum(high, box[:, 1:]) - torch.maximum(low, box[:, :1])
    return inner.clamp(min=0).prod(dim=2)


def _inside(end: Tensor, start: Tensor) -> Tensor:
    """Which part of each cell lies before the picture's end: ``[B, N]`` in [1/8, 1]."""
    return ((end[:, None] - start) / CELL).clamp(1 / CELL, 1)


def _covered(coverage: Tensor, size: Tensor, turn: _Turn, low: Tensor, high: Tensor) -> Tensor:
    """Matte area inside each crop, px: the coarse matte is turned, summed up, and read at the crop's four corners."""
    batch, height, width = coverage.shape
    side = int(1.42 * max(height, width)) + 2
    # A cell that sticks out of its picture is as full as its part inside.
    parts = [
        _inside(size[:, axis], torch.arange(n, device=size.device) * CELL) for axis, n in ((0, height), (1, width))
    ]
    full = coverage / (parts[0][:, :, None] * parts[1][:, None, :])
    grid = (torch.arange(side, dtype=torch.float64, device=coverage.device) + 0.5 - side / 2) * CELL
    points = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), dim=-1).reshape(1, -1, 2).expand(batch, -1, -1)
    source = turn.backward(points)
    normal: list[Tensor] = []
    share = torch.ones(batch, side * side, dtype=torch.float64, device=coverage.device)
    for axis, n in ((1, width), (0, height)):
        at, end = source[..., 1 - axis], size[:, axis : axis + 1]
        share = share * (at / CELL + 0.5).clamp(0, 1) * ((end - at) / CELL + 0.5).clamp(0, 1)
        last = (end / CELL).ceil() - 0.5
        normal.append(2 * torch.minimum((at / CELL).clamp(min=0.5), last) / n - 1)
    places = torch.stack(normal, dim=2).reshape(batch, side, side, 2).float()
    turned = F.grid_sample(full[:, None].float(), places, align_corners=False)[:, 0] * share.view(batch, side, side)
    table = F.pad(turned.to(torch.float64).cumsum(1).cumsum(2), (1, 0, 1, 0)).flatten(1)
    table = table * (CELL * CELL)

    def read(x: Tensor, y: Tensor) -> Tensor:
        x, y = (x / CELL + side / 2).clamp(0, side), (y / CELL + side / 2).clamp(0, side)
        x0, y0 = x.floor().clamp(max=side - 1), y.floor().clamp(max=side - 1)
        fx, fy = x - x0, y - y0
        at = (y0 * (side + 1) + x0).long()
        top = table.gather(1, at) * (1 - fx) + table.gather(1, at + 1) * fx
        bottom = table.gather(1, at + side + 1) * (1 - fx) + table.gather(1, at + side + 2) * fx
        return top * (1 - fy) + bottom * fy

    x0, y0, x1, y1 = low[..., 0], low[..., 1], high[..., 0], high[..., 1]
    return read(x1, y1) - read(x0, y1) - read(x1, y0) + read(x0, y0)
