"""Run a network over many pictures in tiles whose seams cannot be seen, in as much memory as there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from lora_data.errors import ModelError
from lora_data.models.network import Network
from lora_data.threads import side_by_side

TILE, OVERLAP = 256, 32
"""px of the input. 256 fits every network of the strategy on an 8 GB card; the overlap is what NAFNet's users found to
be needed, and three times Real-ESRGAN's own ten."""
ROUND = 64
"""Sides of tiles are filled up to multiples of this, so that tiles of different pictures run in one batch."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A picture that the network could not do.

    Args:
        reason: "network" (what came out is no picture) or "memory" (one tile alone does not fit).
        message: What happened.
    """

    reason: Literal["network", "memory"]
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class _Tile:
    picture: int
    top: int
    left: int
    pixels: Tensor
    """Filled up to a multiple of `ROUND`."""


def run_tiled(
    network: Network,
    images: Sequence[Tensor],
    *,
    scale: int | None = None,
    tile: int = TILE,
    overlap: int = OVERLAP,
    batch: int = 1,
    workers: int = 1,
) -> list[Tensor | Refused]:
    """Enlarge or restore pictures, tiles of many in one forward pass.

    Where tiles overlap their outputs are blended linearly, so that a difference between two tiles is spread over the
    overlap. The grid depends on a picture's size alone. Where memory runs out, half as many tiles run at once. A tile
    that the network cannot do costs its own picture and no other.

    Args:
        network: Scale ``s``.
        images: float ``[3, h, w]`` in [0, 1] each, of any sizes.
        scale: Of the output; what the network enlarges more is averaged down. None: ``s``.
        tile: Side of a tile, px of the input.
        overlap: Of neighbouring tiles, px of the input; less than half a tile.
        batch: Tiles in one forward pass. More than one may change a result by the rounding of float sums.
        workers: Threads that run a forward pass each, for the CPU. The results do not depend on it where torch itself
            computes on one thread.

    Returns:
        Of each image float32 ``[3, scale * h, scale * w]`` in [0, 1], on the CPU, or why there is none.
    """
    scale = scale or network.scale
    tiles = [cut for number, image in enumerate(images) for cut in _cut(number, image, tile, overlap)]
    groups: dict[tuple[int, ...], list[_Tile]] = {}
    for cut in tiles:
        groups.setdefault(tuple(cut.pixels.shape), []).append(cut)
    work = [group[i : i + batch] for group in groups.values() for i in range(0, len(group), batch)]

    def run(part: list[_Tile]) -> list[Tensor | Refused]:
        return _run(network, torch.stack([cut.pixels for cut in part]), scale)

    made: dict[int, list[tuple[_Tile, Tensor | Refused]]] = {}
    for part, outputs in zip(work, side_by_side(run, work, workers), strict=True):
        for cut, output in zip(part, outputs, strict=True):
            made.setdefault(cut.picture, []).append((cut, output))
    return [_assembled(made[i], image, scale, tile, overlap) for i, image in enumerate(images)]


def _cut(number: int, image: Tensor, tile: int, overlap: int) -> list[_Tile]:
    height, width = image.shape[1:]
    rows, columns = min(tile, height), min(tile, width)
    found: list[_Tile] = []
    for top in _starts(height, tile, overlap):
        for left in _starts(width, tile, overlap):
            pixels = image[:, top : top + rows, left : left + columns]
            down, right = (-side % min(ROUND, tile) if side < tile else 0 for side in (rows, columns))
            if down or right:
                pixels = F.pad(pixels[None], (0, right, 0, down), "replicate")[0]
            found.append(_Tile(number, top, left, pixels))
    return found


def _run(network: Callable[[Tensor], Tensor], tiles: Tensor, scale: int) -> list[Tensor | Refused]:
    """Outputs of tiles of one size; half as many at once where memory runs out, one by one where one is bad."""
    size = (tiles.shape[2] * scale, tiles.shape[3] * scale)
    try:
        made = network(tiles)
        if tuple(made.shape[2:]) != size:
            made = F.interpolate(made, size, mode="area")
        return list(made.cpu())
    except torch.OutOfMemoryError as error:
        refused = Refused("memory", str(error)[:300])
    except ModelError as error:
        refused = Refused("network", str(error))
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(tiles) == 1:
        return [refused]
    half = len(tiles) // 2
    return _run(network, tiles[:half], scale) + _run(network, tiles[half:], scale)


def _assembled(
    parts: list[tuple[_Tile, Tensor | Refused]], image: Tensor, scale: int, tile: int, overlap: int
) -> Tensor | Refused:
    height, width = image.shape[1:]
    rows, columns = min(tile, height), min(tile, width)
    total = torch.zeros(3, height * scale, width * scale)
    weight = torch.zeros(1, height * scale, width * scale)
    for cut, made in parts:
        if isinstance(made, Refused):
            return made
        down = _ramp(rows, overlap, cut.top > 0, cut.top + rows < height, scale)
        across = _ramp(columns, overlap, cut.left > 0, cut.left + columns < width, scale)
        share = down[:, None] * across[None]
        top, left = cut.top * scale, cut.left * scale
        area = (slice(None), slice(top, top + rows * scale), slice(left, left + columns * scale))
        total[area] += made[:, : rows * scale, : columns * scale] * share
        weight[area] += share
    return total / weight


def _starts(side: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along a side: evenly spread, overlapping at least so much."""
    if side <= tile:
        return [0]
    count = -(-(side - overlap) // (tile - overlap))
    return [round(i * (side - tile) / (count - 1)) for i in range(count)]


def _ramp(length: int, overlap: int, before: bool, after: bool, scale: int) -> Tensor:
    """Weights along a tile's side: rising where a tile lies before it, falling where one lies after it."""
    reach = overlap * scale
    up = (torch.arange(length * scale) + 0.5) / reach
    weight = torch.ones(length * scale)
    if before:
        weight = torch.minimum(weight, up)
    if after:
        weight = torch.minimum(weight, up.flip(0))
    return weight
