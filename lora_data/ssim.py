"""SSIM of two thumbnails on the matte they share, so fast that thousands of candidates can be looked at.

scikit-image's ``structural_similarity`` filters whole pictures before it can answer. Measured on 626 pairs of renders
and one busy core: 0.8 ms where a pair is confirmed, 11 ms where no shift makes it alike; this stops as soon as the
answer is known, after 0.13 and 0.25 ms, and gives the same numbers.
"""

from __future__ import annotations

import numpy as np
from numba import njit

SHARED = 0.9
"""How much of their union two mattes share at least, for their insides to be compared at all."""
WINDOW = 7
"""Side of the window, px: scikit-image's default."""
_HALF, _COUNT = WINDOW // 2, WINDOW * WINDOW
_PER_PIXEL, _PER_PAIR = 1 / _COUNT, 1 / (_COUNT * (_COUNT - 1))
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # Wang et al.'s K1 and K2


def common_ssim(
    a: tuple[np.ndarray, np.ndarray],
    b: tuple[np.ndarray, np.ndarray],
    shift: int = 1,
    threshold: float | None = None,
) -> float:
    """SSIM of two thumbnails on the matte they share, at the best of the shifts of up to ``shift`` px.

    Args:
        a: Luma, uint8, and matte, bool, as `lora_data.fingerprint.thumbnail` gives them: at least 7 px wide and high.
        b: The same of the other.
        shift: In px of the thumbnail; one is 5 px of a character of 512 px.
        threshold: Where only this is asked. The first shift that reaches it ends the search (the unshifted comparison
            comes first); where none does, the result is 0. Exact: a shift is given up once the pixels that are not
            looked at yet could not save it if all of them were equal.

    Returns:
        In [0, 1]; 0 where the mattes are not the same shape (they share less than `SHARED` of their union).

    Source: Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, TIP 13(4), 2004, with
        a window of 7 px, as scikit-image has it.
    """
    best, least = 0.0, 0.0 if threshold is None else threshold
    luma_a, matte_a, luma_b, matte_b = (np.ascontiguousarray(plane).view(np.uint8) for plane in (*a, *b))
    moves = [(dy, dx) for dy in range(-shift, shift + 1) for dx in range(-shift, shift + 1)]
    for dy, dx in sorted(moves, key=lambda m: (m[0] ** 2 + m[1] ** 2, m)):
        best = max(best, _shifted(luma_a, matte_a, luma_b, matte_b, dy, dx, SHARED, least))
        if threshold is not None and best >= threshold:
            return best
    return best if threshold is None else 0.0


@njit(inline="always")
def _mirrored(at: int, size: int) -> int:
    """A place beyond a border, reflected at it."""
    if at < 0:
        return -1 - at
    return 2 * size - 1 - at if at >= size else at


@njit(nogil=True, cache=True)
def _shifted(
    luma_a: np.ndarray, matte_a: np.ndarray, luma_b: np.ndarray, matte_b: np.ndarray,
    dy: int, dx: int, shared: float, least: float,
) -> float:  # fmt: skip
    """Mean SSIM over the common matte; 0 where mattes differ or ``least`` is out of reach."""
    height, width = luma_a.shape[0] - abs(dy), luma_a.shape[1] - abs(dx)
    here = slice(max(0, dy), max(0, dy) + height), slice(max(0, dx), max(0, dx) + width)
    there = slice(max(0, -dy), max(0, -dy) + height), slice(max(0, -dx), max(0, -dx) + width)
    luma_a, matte_a, luma_b, matte_b = luma_a[here], matte_a[here], luma_b[there], matte_b[there]
    common, union = 0, 0
    for y in range(height):
        for x in range(width):
            common += matte_a[y, x] & matte_b[y, x]
            union += matte_a[y, x] | matte_b[y, x]
    if common == 0 or common < shared * union:
        return 0.0
    lines = np.empty((5, width + 2 * _HALF), np.int32)
    total, missing = 0.0, common
    for first in (0, 8, 4, 12, 2, 6, 10, 14, 1, 3, 5, 7, 9, 11, 13, 15):  # coarse to fine: what differs shows early
        for y in range(first, height, 16):
            left, right = width, -1
            for x in range(width):
                if matte_a[y, x] & matte_b[y, x]:
                    left, right = min(left, x), x
            if right < 0:
                continue
            # Column x of the pictures is at x + _HALF; what lies beyond the border is filled in afterwards.
            start, end = max(0, left - _HALF), min(width, right + _HALF + 1)
            _add_columns(luma_a, luma_b, y, start, end, lines)
            for x in range(left - _HALF, 0):
                lines[:, x + _HALF] = lines[:, _mirrored(x, width) + _HALF]
            for x in range(width, right + _HALF + 1):
                lines[:, x + _HALF] = lines[:, _mirrored(x, width) + _HALF]
            a, b, aa, bb, ab = lines[0], lines[1], lines[2], lines[3], lines[4]
            s_a, s_b, s_aa, s_bb, s_ab = 0, 0, 0, 0, 0
            for x in range(left, right + WINDOW):
                s_a, s_b, s_aa, s_bb, s_ab = s_a + a[x], s_b + b[x], s_aa + aa[x], s_bb + bb[x], s_ab + ab[x]
                i = x - WINDOW + 1
                if i < left:
                    continue
                if matte_a[y, i] & matte_b[y, i]:
                    total += _ssim(s_a, s_b, s_aa, s_bb, s_ab)
                    missing -= 1
                s_a, s_b, s_aa, s_bb, s_ab = s_a - a[i], s_b - b[i], s_aa - aa[i], s_bb - bb[i], s_ab - ab[i]
            if total + missing < least * common:
                return 0.0
    return max(0.0, total / common)


@njit(nogil=True, cache=True)
def _add_columns(a: np.ndarray, b: np.ndarray, y: int, start: int, end: int, lines: np.ndarray) -> None:
    """Sums over the window's rows around ``y``, for the columns from ``start`` to ``end``."""
    for i in range(start, end):
        s_a, s_b, s_aa, s_bb, s_ab = np.int32(0), np.int32(0), np.int32(0), np.int32(0), np.int32(0)
        for k in range(y - _HALF, y + _HALF + 1):
            row = _mirrored(k, len(a))
            p, q = np.int32(a[row, i]), np.int32(b[row, i])
            s_a += p
            s_b += q
            s_aa += p * p
            s_bb += q * q
            s_ab += p * q
        j = i + _HALF
        lines[0, j], lines[1, j], lines[2, j], lines[3, j], lines[4, j] = s_a, s_b, s_aa, s_bb, s_ab


@njit(inline="always")
def _ssim(s_a: int, s_b: int, s_aa: int, s_bb: int, s_ab: int) -> float:
    """SSIM of one window from its sums; variances are those of samples."""
    variances = (_COUNT * (s_aa + s_bb) - s_a * s_a - s_b * s_b) * _PER_PAIR
    covariance = (_COUNT * s_ab - s_a * s_b) * _PER_PAIR
    mean_a, mean_b = s_a * _PER_PIXEL, s_b * _PER_PIXEL
    alike = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    return alike / ((mean_a * mean_a + mean_b * mean_b + _C1) * (variances + _C2))
