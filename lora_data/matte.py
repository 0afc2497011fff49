"""Pure functions on mattes: boxes, erosion, colour under the matte. Alpha is straight uint8 ``[H, W]``."""

from __future__ import annotations

import cv2
import numpy as np


def bounding_box(alpha: np.ndarray, threshold: int = 127) -> tuple[int, int, int, int] | None:
    """The tight box ``(x, y, width, height)`` of ``alpha > threshold``, or None where nothing is that opaque."""
    mask = alpha > threshold
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1


def interior(alpha: np.ndarray, erode: int = 4, threshold: int = 250) -> np.ndarray:
    """The matte's inside, bool ``[H, W]``: ``alpha > threshold`` eroded by ``erode`` px.

    The canvas border counts as inside, so that a character cut by the frame keeps its pixels there.
    """
    mask = (alpha > threshold).astype(np.uint8)
    if erode == 0:
        return mask.astype(bool)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * erode + 1, 2 * erode + 1))
    return cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1).astype(bool)


def fill_hidden(rgb: np.ndarray, alpha: np.ndarray, threshold: int = 250) -> np.ndarray:
    """Continue the colour of the opaque inside smoothly under the rest of the canvas (push-pull).

    Every network, hash and metric gets this instead of hidden colour: no silhouette edge, no stranger's pixels.

    Args:
        rgb: uint8 ``[H, W, 3]``.
        alpha: uint8 ``[H, W]``.
        threshold: Pixels with ``alpha > threshold`` are known and returned unchanged.

    Returns:
        uint8 ``[H, W, 3]``. Where nothing is known, mid-gray.

    Source: Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.4 (push-pull).
    """
    known = (alpha > threshold).astype(np.uint8)
    count = cv2.countNonZero(known)
    if count == alpha.size:
        return rgb
    if count == 0:
        return np.full_like(rgb, 128)
    # What is made up is smooth: half the resolution is enough for it, at a quarter of the work.
    height, width = alpha.shape
    half = ((width + 1) // 2, (height + 1) // 2)
    seen = cv2.bitwise_and(rgb, rgb, mask=known)
    weight = cv2.resize(known.astype(np.float32), half, interpolation=cv2.INTER_AREA)
    # 16 bit: a single known pixel weighs little in a coarser one, and eight would round it away.
    colour = cv2.resize(seen.astype(np.uint16) * np.uint16(257), half, interpolation=cv2.INTER_AREA) / np.float32(257)
    full = np.minimum(weight * 4, 1)
    smooth = _push_pull(colour * (full / np.maximum(weight, 1e-6))[..., None], full)
    made_up = cv2.resize(cv2.convertScaleAbs(smooth), (width, height), interpolation=cv2.INTER_LINEAR)
    cv2.copyTo(rgb, known, made_up)
    return made_up


def shrink(rgb: np.ndarray, known: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Bring a picture down to at most ``longest`` px, every pixel the mean of the known ones that it stands for.

    Args:
        rgb: uint8 ``[H, W, 3]``.
        known: bool ``[H, W]``.
        longest: px; a smaller picture is left as it is.

    Returns:
        uint8 ``[h, w, 3]`` (black where nothing is known) and the known share, float32 ``[h, w]``, 0..1.
    """
    weight = known.astype(np.float32)
    scale = longest / max(known.shape)
    if scale >= 1:
        return rgb, weight
    size = max(1, round(known.shape[1] * scale)), max(1, round(known.shape[0] * scale))
    seen = cv2.bitwise_and(rgb, rgb, mask=known.astype(np.uint8)).astype(np.float32)
    colour = cv2.resize(seen, size, interpolation=cv2.INTER_AREA)
    weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    return np.rint(colour / np.maximum(weight, 1e-6)[..., None]).clip(0, 255).astype(np.uint8), weight


def enlarge(alpha: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge a matte so that averaging it down gives the original again, to a level or two.

    Cubic interpolation alone is off by up to 45 levels at sharp edges (measured on 14 rendered mattes); after the
    corrections by 1, in one of them 3, and the edge is as sharp as the original says.

    Args:
        alpha: uint8 ``[h, w]``.
        scale: At least 1.

    Returns:
        uint8 ``[scale * h, scale * w]``.

    Source: Irani and Peleg, Improving resolution by image registration, CVGIP 1991 (iterative back-projection).
    """
    height, width = alpha.shape
    size = (scale * width, scale * height)
    made = cv2.resize(alpha.astype(np.float32), size, interpolation=cv2.INTER_CUBIC).clip(0, 255)
    for mode in [cv2.INTER_LINEAR] * 4 + [cv2.INTER_NEAREST] * 8:
        missing = alpha - cv2.resize(made, (width, height), interpolation=cv2.INTER_AREA)
        made = (made + cv2.resize(missing, size, interpolation=mode)).clip(0, 255)
    return np.rint(made).astype(np.uint8)


def _push_pull(colour: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Fill a float picture, premultiplied by ``weight`` in [0, 1], from coarser and coarser versions of itself."""
    levels = [(colour, weight)]
    while min(weight.shape) > 1 and not (weight > 0).all():
        size = ((weight.shape[1] + 1) // 2, (weight.shape[0] + 1) // 2)
        colour = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
        weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
        full = np.minimum(weight * 4, 1)
        colour, weight = colour * (full / np.maximum(weight, 1e-6))[..., None], full
        levels.append((colour, weight))
    result = colour / np.maximum(weight, 1e-6)[..., None]
    if not (weight > 0).all():
        result[weight == 0] = colour.reshape(-1, 3).sum(axis=0) / weight.sum()
    for finer, weight in reversed(levels[:-1]):
        up = cv2.resize(result, (weight.shape[1], weight.shape[0]), interpolation=cv2.INTER_LINEAR)
        result = finer + up * (1 - weight)[..., None]
    return result


def composite(rgb: np.ndarray, alpha: np.ndarray, background: tuple[int, int, int] = (128, 128, 128)) -> np.ndarray:
    """Put the cut-out on a uniform colour: uint8 ``[H, W, 3]``, straight-alpha over, rounded to nearest."""
    a = alpha[..., None].astype(np.float32) / 255
    back = np.asarray(background, np.float32)
    return np.rint(rgb.astype(np.float32) * a + back * (1 - a)).astype(np.uint8)


def tight_crop(rgb: np.ndarray, alpha: np.ndarray, margin: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Crop both to the matte's box plus ``margin`` px (clipped to the canvas); unchanged where the matte is empty."""
    area = surrounding(alpha, margin)
    return (rgb, alpha) if area is None else (rgb[area], alpha[area])


def surrounding(alpha: np.ndarray, margin: int = 0) -> tuple[slice, slice] | None:
    """Rows and columns of the matte's box plus ``margin`` px, clipped to the canvas; None where the matte is empty."""
    box = bounding_box(alpha)
    if box is None:
        return None
    x, y, w, h = box
    rows = slice(max(0, y - margin), min(alpha.shape[0], y + h + margin))
    return rows, slice(max(0, x - margin), min(alpha.shape[1], x + w + margin))


def resize(rgb: np.ndarray, alpha: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Resize colour filled under the matte, and the matte apart; ``size`` is (height, width).

    Area averaging down, cubic up. ``rgb`` must already be filled (see `fill_hidden`): hidden colour would bleed in.
    """
    height, width = size
    down = height < alpha.shape[0]
    mode = cv2.INTER_AREA if down else cv2.INTER_CUBIC
    if (height, width) == alpha.shape:
        return rgb, alpha
    return cv2.resize(rgb, (width, height), interpolation=mode), cv2.resize(alpha, (width, height), interpolation=mode)
