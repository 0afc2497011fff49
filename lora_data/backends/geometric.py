"""Refine a matte by its shape alone, for cut-outs whose background is gone: no colour could support matting there."""

from __future__ import annotations

import cv2
import numpy as np

PINHOLE_AREA = 0.0025
"""Largest hole that is closed, as a share of the matte's area. True gaps (an arm against the body) start at .005 of the
area or are narrow; see `PINHOLE_FILL`."""
PINHOLE_FILL = 0.5
"""Least share of its enclosing circle that a hole must fill to count as a pinhole: gaps between limbs are slits (.1 to
.4 measured), holes that a segmentation leaves are blobs (.6 to 1)."""
SPECK_AREA = 0.0025
"""Largest separate piece that is dropped, as a share of the matte's area."""


def without_specks(alpha: np.ndarray) -> np.ndarray:
    """Drop separate pieces of at most `SPECK_AREA` of the matte; the largest piece always stays."""
    mask = (alpha > 0).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if len(areas) < 2:
        return alpha
    small = np.flatnonzero(areas <= SPECK_AREA * areas.sum()) + 1
    small = small[small != 1 + int(areas.argmax())]
    return np.where(np.isin(labels, small), 0, alpha).astype(np.uint8) if len(small) else alpha


def pinholes(alpha: np.ndarray) -> np.ndarray:
    """Where the matte has holes too small and too round to be gaps of the design: bool ``[H, W]``."""
    hole = (alpha <= 127).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(hole, connectivity=4)
    height, width = alpha.shape
    limit = PINHOLE_AREA * int(np.count_nonzero(alpha > 127))
    chosen: list[int] = []
    for label, (x, y, w, h, area) in enumerate(stats.tolist()):
        inside = x > 0 and y > 0 and x + w < width and y + h < height
        if label and inside and area <= limit and area >= PINHOLE_FILL * np.pi / 4 * max(w, h) ** 2:
            chosen.append(label)
    return np.isin(labels, chosen) if chosen else np.zeros(alpha.shape, bool)


def stair(mask: np.ndarray) -> int:
    """How coarse a hard contour's steps are, px: 1 for a mask drawn at this size, 3 for one enlarged threefold.

    The most frequent non-zero move of the outline from one row (column) to the next: a curve moves mostly by one.
    """
    moves: list[np.ndarray] = []
    for rows in (mask, mask.T):
        used = rows[rows.any(axis=1)]
        first, last = used.argmax(axis=1), used.shape[1] - used[:, ::-1].argmax(axis=1)
        moves += [np.abs(np.diff(first)), np.abs(np.diff(last))]
    steps = np.concatenate(moves) if moves else np.zeros(0, int)
    steps = steps[(steps > 0) & (steps <= 8)]
    return int(np.bincount(steps).argmax()) if len(steps) else 1


def antialias(mask: np.ndarray) -> np.ndarray:
    """Give a hard contour the soft edge, one px wide, that a renderer would have drawn.

    The mask is blurred just enough to take its steps away and steepened again, so that the contour stays where it was.
    Parts thinner than three px would fade and stay as they are, and so does everything away from the contour.

    Args:
        mask: bool ``[H, W]``.

    Returns:
        Alpha, uint8 ``[H, W]``. Measured on discs and turned boxes against 16-fold supersampling: a third of the
        hard mask's squared error.
    """
    sigma = max(1.0, 0.7 * stair(mask))
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    # A step blurred by sigma rises by 1 / (sigma sqrt(2 pi)) per px at its middle; this makes it 1 per px.
    alpha = np.clip((soft - 0.5) * sigma * np.sqrt(2 * np.pi) + 0.5, 0, 1)
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    alpha[mask & (opened == 0)] = 1
    return np.rint(alpha * 255).astype(np.uint8)
