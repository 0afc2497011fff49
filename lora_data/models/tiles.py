"""Run a network over large pictures in tiles whose seams cannot be seen, in as much memory as there is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lora_data.models.network import Network

TILE, OVERLAP = 256, 32
"""px of the input. 256 fits every network of the strategy on an 8 GB card; the overlap is what NAFNet's users found to
be needed, and three times Real-ESRGAN's own ten."""


def run_tiled(network: Network, image: Tensor, *, tile: int = TILE, overlap: int = OVERLAP, batch: int = 8) -> Tensor:
    """Enlarge or restore one picture.

    Where tiles overlap their outputs are blended linearly, so that a difference between two tiles is spread over the
    overlap. The grid depends on the picture's size alone. Where memory runs out, half as many tiles run at once.

    Args:
        network: Scale ``s``.
        image: float ``[3, h, w]`` in [0, 1].
        tile: Side of a tile, px of the input.
        overlap: Of neighbouring tiles, px of the input; less than half a tile.
        batch: Tiles in one forward pass.

    Returns:
        float32 ``[3, s * h, s * w]`` in [0, 1], on the CPU.

    Raises:
        ModelError: The network's output is not usable.
        torch.OutOfMemoryError: One tile alone does not fit.
    """
    height, width = image.shape[1:]
    tops, lefts = _starts(height, tile, overlap), _starts(width, tile, overlap)
    rows, columns = min(tile, height), min(tile, width)
    places = [(top, left) for top in tops for left in lefts]
    if len(places) == 1:
        return _run(network, image[None], batch)[0].cpu()
    scale = network.scale
    total = torch.zeros(3, height * scale, width * scale)
    weight = torch.zeros(1, height * scale, width * scale)
    vertical = {top: _ramp(rows, overlap, top > 0, top + rows < height, scale) for top in tops}
    across = {left: _ramp(columns, overlap, left > 0, left + columns < width, scale) for left in lefts}
    tiles = torch.stack([image[:, top : top + rows, left : left + columns] for top, left in places])
    for (top, left), made in zip(places, _run(network, tiles, batch), strict=True):
        share = vertical[top][:, None] * across[left][None]
        area = (slice(None), slice(top * scale, (top + rows) * scale), slice(left * scale, (left + columns) * scale))
        total[area] += made.cpu() * share
        weight[area] += share
    return total / weight


def _run(network: Callable[[Tensor], Tensor], tiles: Tensor, batch: int) -> list[Tensor]:
    """Outputs of all tiles; half as many at once where memory runs out."""
    made: list[Tensor] = []
    while len(made) < len(tiles):
        part = tiles[len(made) : len(made) + batch]
        try:
            made += list(network(part))
        except torch.OutOfMemoryError:
            if len(part) == 1:
                raise
            batch = len(part) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return made


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
