"""One row of float32 numbers per sample: everything the pixel paths (eager, numba, Triton) need to know.

The row is computed in float64 once, so that all paths sample the same places; it is the only thing that a step sends to
the device besides the pictures.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_data.augment.params import AugmentParams, Crop

PIVOT = 0.5
"""Value that contrast leaves as it is (strategy 3.3 gives none): the middle of the range, so that no picture's own
statistics are needed and the same factor does the same to every sample."""

COLUMNS = 28
X_J, X_I, X_0, Y_J, Y_I, Y_0 = range(6)
"""Source position of output pixel (i, j): x = X_J * j + X_I * i + X_0, y likewise; pixel centres are whole numbers."""
STRETCH, WIDTH, HEIGHT = 6, 7, 8
"""How much wider than one source pixel the kernel is (antialiasing); the picture's own size within its canvas."""
GAIN, LIFT = 9, 10
"""Value' = GAIN * value + LIFT: brightness, then contrast around the pivot."""
NOISE_STD, NOISE_EVERYWHERE, SEED_HIGH, SEED_LOW = 11, 12, 13, 14
"""The seed in two halves of 16 bits, which float32 holds exactly."""
COLOUR, SPAN = 15, 18
"""Background's first colour (3), and the way from it to the second (3)."""
SLOPE_J, SLOPE_I, SLOPE_0, BACKGROUND_STD = 21, 22, 23, 24
"""Share of the way at (i, j), before it is cut to [0, 1]; deviation of the background's noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of a batch and what the host knows of them.

    Args:
        rows: float32 ``[B, COLUMNS]``.
        stretch: The largest STRETCH that a row can have.
        noise: Whether a row may have noise on its pixels.
        backdrop: Whether a row may have a background that is more than one colour.
        padded: Whether a picture may be smaller than the canvas.
    """

    rows: Tensor
    stretch: float
    noise: bool
    backdrop: bool
    padded: bool

    def to(self, device: torch.device) -> Table:
        """The rows on another device; from pinned memory, so that a CUDA device need not be waited for."""
        if self.rows.device == device:
            return self
        rows = self.rows.pin_memory() if device.type == "cuda" and self.rows.device.type == "cpu" else self.rows
        return dataclasses.replace(self, rows=rows.to(device, non_blocking=True))


def sampling_matrix(crop: Crop, rotation: Tensor, flip: Tensor, target: tuple[int, int]) -> Tensor:
    """The affine map from output to source pixel centres, float64 ``[B, 2, 3]``: (x, y) = matrix @ (j, i, 1).

    Computed in pixels with half-pixel centres, so that the whole picture at its own size is the identity, exactly.
    """
    height, width = target
    angle = torch.deg2rad(rotation)
    zoom = crop.size[:, 1] / width
    mirror = torch.where(flip, -1.0, 1.0).to(torch.float64)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    left, top = 0.5 - width / 2, 0.5 - height / 2
    x_0 = crop.centre[:, 0] + cos * mirror * left - sin * top - 0.5
    y_0 = crop.centre[:, 1] + sin * mirror * left + cos * top - 0.5
    return torch.stack([cos * mirror, -sin, x_0, sin * mirror, cos, y_0], dim=1).view(-1, 2, 3)


def make_table(params: AugmentParams, sizes: Tensor, canvas: tuple[int, int], target: tuple[int, int]) -> Table:
    """Rows from parameters whose crop is known.

    Args:
        params: With ``crop``; on the same device as ``sizes``.
        sizes: ``[B, 2]``: (height, width) of each picture within the canvas, px.
        canvas: (height, width) of the batch's tensor, px.
        target: (height, width) of the output, px.
    """
    crop = params.crop
    assert crop is not None
    height, width = target
    rows = torch.zeros(len(params), COLUMNS, dtype=torch.float64, device=crop.size.device)
    rows[:, X_J : Y_0 + 1] = sampling_matrix(crop, params.rotation, params.flip, target).flatten(1)
    rows[:, STRETCH] = (crop.size[:, 1] / width).clamp(min=1)
    rows[:, WIDTH], rows[:, HEIGHT] = sizes[:, 1].to(torch.float64), sizes[:, 0].to(torch.float64)
    rows[:, GAIN] = params.brightness * params.contrast
    rows[:, LIFT] = (1 - params.contrast) * PIVOT
    rows[:, NOISE_STD], rows[:, NOISE_EVERYWHERE] = params.noise_std, params.noise_everywhere.to(torch.float64)
    rows[:, SEED_HIGH], rows[:, SEED_LOW] = (
        (params.noise_seed >> 16).to(torch.float64),
        (params.noise_seed & 0xFFFF).to(torch.float64),
    )
    first, second = params.background[:, 0:3], params.background[:, 3:6]
    rows[:, COLOUR : COLOUR + 3], rows[:, SPAN : SPAN + 3] = first, second - first
    direction = torch.deg2rad(params.background[:, 6])
    x, y = direction.cos(), -direction.sin()
    length = width * x.abs() + height * y.abs()
    rows[:, SLOPE_J], rows[:, SLOPE_I] = x / length, y / length
    rows[:, SLOPE_0] = 0.5 + (x * (0.5 - width / 2) + y * (0.5 - height / 2)) / length
    rows[:, BACKGROUND_STD] = params.background[:, 7]
    if rows.device.type == "cpu":
        stretch = float(rows[:, STRETCH].max())
        noise = bool((rows[:, NOISE_STD] > 0).any())
        backdrop = bool((rows[:, [SPAN, SPAN + 1, SPAN + 2, BACKGROUND_STD]] != 0).any())
        padded = bool((sizes != torch.tensor(canvas)).any())
    else:  # asking the device would wait for it: take what the shapes allow
        stretch = max(1.0, min(canvas[0] / height, canvas[1] / width))
        noise = backdrop = padded = True
    return Table(rows=rows.to(torch.float32), stretch=stretch, noise=noise, backdrop=backdrop, padded=padded)
