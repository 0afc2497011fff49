"""Histogram equalisation of one channel with statistics from inside a mask, and the smooth gain that it stands for.

Neither OpenCV's nor scikit-image's CLAHE knows a mask. Here every tile is filled, outside the mask, with the tile's own
inside values in their own proportions, so the histogram that the library sees is the inside's.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

Engine = Literal["opencv", "skimage"]

_BINS = 256
_MIN_TILE = 16
"""Smallest side of a tile, px: 256 samples for 256 bins; smaller tiles equalise noise."""
_MIN_SHARE = 0.25
"""A tile with a smaller share of inside pixels borrows its neighbours': a sliver's histogram is one colour."""


def clahe(channel: np.ndarray, inside: np.ndarray, *, clip_limit: float, tiles: int, engine: Engine) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation with statistics from inside a mask.

    Args:
        channel: uint8 ``[H, W]``.
        inside: bool ``[H, W]``, not empty. Values outside are never looked at.
        clip_limit: Highest bin of a tile's histogram, in multiples of its mean bin.
        tiles: Tiles a side; fewer where a tile would be smaller than 16 px.
        engine: The library that equalises. They differ in how they spread the clipped part.

    Returns:
        float32 ``[H, W]``, 0..255. Defined inside the mask only.

    Source: Zuiderveld, Contrast limited adaptive histogram equalization, Graphics Gems IV, 1994.
    """
    height, width = channel.shape
    rows, columns = min(tiles, max(1, height // _MIN_TILE)), min(tiles, max(1, width // _MIN_TILE))
    tile = (-(-height // rows), -(-width // columns))
    shape = (tile[0] * rows, tile[1] * columns)
    values, known = np.zeros(shape, np.uint8), np.zeros(shape, bool)
    values[:height, :width], known[:height, :width] = channel, inside
    filled = _fill_tiles(values, known, (rows, columns))
    if engine == "opencv":
        result = cv2.createCLAHE(clip_limit, (columns, rows)).apply(filled).astype(np.float32)
    else:
        from skimage.exposure import equalize_adapthist

        limit = min(1.0, clip_limit / _BINS)  # scikit-image counts in shares of the tile's pixels
        equalised = np.asarray(equalize_adapthist(filled, kernel_size=tile, clip_limit=limit, nbins=_BINS))
        low, high = float(filled.min()), float(filled.max())
        result = (low + equalised * (high - low)).astype(np.float32)  # it stretches to the full range: put back
    return result[:height, :width]


def equalise(channel: np.ndarray, inside: np.ndarray, *, engine: Engine) -> np.ndarray:
    """Global histogram equalisation with statistics from inside a mask.

    Args:
        channel: uint8 ``[H, W]``.
        inside: bool ``[H, W]``, not empty.
        engine: The library that equalises.

    Returns:
        float32 ``[H, W]``, 0..255; outside the mask, the channel unchanged.

    Source: Gonzalez and Woods, Digital Image Processing, section 3.3.
    """
    result = channel.astype(np.float32)
    values = channel[inside]
    if engine == "opencv":
        result[inside] = cv2.equalizeHist(values[:, None])[:, 0]
    else:
        from skimage.exposure import equalize_hist

        result[inside] = np.asarray(equalize_hist(values, nbins=_BINS)) * 255
    return result


def smooth_gain(
    target: np.ndarray, guide: np.ndarray, inside: np.ndarray, *, radius: int, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a map by locally affine functions of a guide, inside a mask: the guided filter's two coefficients.

    Args:
        target: float32 ``[H, W]``, what to fit.
        guide: float32 ``[H, W]``, 0..1.
        inside: bool ``[H, W]``. Nothing outside is looked at.
        radius: Half the window's side, px.
        epsilon: Variance of the guide below which a window counts as flat.

    Returns:
        Slope and offset, float32 ``[H, W]``: ``slope * guide + offset`` is the smoothed target. They reach ``radius``
        beyond the mask and are zero where no window touches it.

    Source: He, Sun and Tang, Guided image filtering, PAMI 2013, eq. 5, 6 and 8, with windows weighted by the mask.
    """
    mask = inside.astype(np.float32)
    count = _window_sum(mask, radius)
    some = count > 0.5

    def mean(x: np.ndarray) -> np.ndarray:
        return np.where(some, _window_sum(x * mask, radius) / np.maximum(count, 1), 0)

    guide_mean, target_mean = mean(guide), mean(target)
    together = mean(guide * target) - guide_mean * target_mean
    variance = np.maximum(mean(guide * guide) - guide_mean * guide_mean, 0)
    slope = together / (variance + epsilon)
    offset = target_mean - slope * guide_mean
    return mean(slope), mean(offset)


def _window_sum(x: np.ndarray, radius: int) -> np.ndarray:
    window = (2 * radius + 1, 2 * radius + 1)
    return cv2.boxFilter(x, cv2.CV_32F, window, normalize=False, borderType=cv2.BORDER_CONSTANT)


def _fill_tiles(values: np.ndarray, known: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Fill each tile's unknown pixels with known values of the tile (or the tiles around it) in their proportions."""
    rows, columns = grid
    height, width = values.shape[0] // rows, values.shape[1] // columns
    tiles = values.reshape(rows, height, columns, width)
    masks = known.reshape(rows, height, columns, width)
    count = masks.sum((1, 3))
    needed = min(_MIN_SHARE * height * width, int(count.sum()))
    filled = np.empty_like(tiles)
    for row in range(rows):
        for column in range(columns):
            reach = 0
            while True:
                near = (
                    slice(max(0, row - reach), row + reach + 1),
                    slice(max(0, column - reach), column + reach + 1),
                )
                if count[near].sum() >= needed:
                    break
                reach += 1
            mask = masks[row, :, column]
            sample = np.sort(tiles[near[0], :, near[1]][masks[near[0], :, near[1]]])
            block = tiles[row, :, column].copy()
            block[~mask] = _stretch(sample, mask.size - int(mask.sum()))
            filled[row, :, column] = block
    return filled.reshape(values.shape)


def _stretch(ranked: np.ndarray, number: int) -> np.ndarray:
    """``number`` values with the distribution of a sorted sample: its evenly spaced ranks."""
    return ranked[((np.arange(number) + 0.5) * len(ranked) / max(number, 1)).astype(np.int64)]
