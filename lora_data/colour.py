"""Pure functions on colour: transfer curves, lightness, hue. Images are sRGB ``[H, W, 3]`` in RGB order."""

from __future__ import annotations

import cv2
import numpy as np

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Weights of linear red, green and blue in luminance (ITU-R BT.709, sRGB's primaries)."""


def to_linear(rgb: np.ndarray) -> np.ndarray:
    """sRGB uint8 ``[..., 3]`` to linear light float32 in [0, 1] (IEC 61966-2-1)."""
    if not rgb.size:
        return rgb.astype(np.float32)
    return cv2.LUT(rgb.reshape(-1, 3), _LINEAR).reshape(rgb.shape)  # a fifth of the time of indexing


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light float in [0, 1] to sRGB uint8, clipped and rounded to nearest (IEC 61966-2-1).

    Read from a table of 65,536 steps: at most .03 levels off before rounding, and ten times as fast as the power.
    """
    steps = linear * np.float32(65535)
    steps += np.float32(0.5)
    return np.take(_SRGB, np.clip(steps, 0, 65535, out=steps).astype(np.uint16))


def luma(rgb: np.ndarray) -> np.ndarray:
    """Rec. 601 luma of sRGB uint8, float32 ``[H, W]`` in 0..255 (OpenCV's RGB2GRAY weights)."""
    return cv2.transform(rgb.astype(np.float32), np.array([[0.299, 0.587, 0.114]], np.float32))


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of sRGB uint8, float32 ``[H, W, 3]``: L 0..100, a and b signed."""
    return cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)


def hue_shift(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> float | None:
    """How far hue moved: the 95th percentile of the CIELAB hue-angle difference, in degrees.

    Taken where hue is defined: chroma above 16 and lightness in (20, 97) in both images. 8-bit rounding alone gives
    about 1.2 degrees; CLAHE through 8-bit Lab 5.7.

    Args:
        before: uint8 ``[H, W, 3]``.
        after: uint8, the same shape.
        mask: bool ``[H, W]``, where to look.

    Returns:
        Degrees in [0, 180], or None where fewer than 50 pixels have a hue.
    """
    inside = np.flatnonzero(mask)
    if len(inside) < 50:
        return None
    seen = [lab(np.take(image.reshape(-1, 3), inside, axis=0)[None]) for image in (before, after)]
    pixels = [np.ascontiguousarray(image[0].T) for image in seen]
    keep = np.ones(len(inside), bool)
    for level, a, b in pixels:
        keep &= (a * a + b * b > 16 * 16) & (level > 20) & (level < 97)
    if int(keep.sum()) < 50:
        return None
    angles = [np.degrees(np.arctan2(b[keep], a[keep])) for _, a, b in pixels]
    return float(np.percentile(np.abs((angles[0] - angles[1] + 180) % 360 - 180), 95))


def luminance(linear: np.ndarray) -> np.ndarray:
    """Relative luminance Y of linear light ``[H, W, 3]``, float32 ``[H, W]`` in [0, 1]."""
    return cv2.transform(linear, LUMINANCE[None])


def lightness(y: np.ndarray) -> np.ndarray:
    """CIE lightness L* (0..100) of relative luminance in [0, 1] (CIE 15: piecewise cube root)."""
    return np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * (24389 / 27))


def from_lightness(level: np.ndarray) -> np.ndarray:
    """Relative luminance of CIE lightness L* (0..100): the inverse of `lightness`."""
    return np.where(level > 8, ((level + 16) / 116) ** 3, level * (27 / 24389))


def structure(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> float | None:
    """How alike two images are in local structure: 1 the same, 0 unrelated; blind to local brightness and contrast.

    Mean local correlation of luma, SSIM's structure term with its usual window and constant.

    Args:
        before: uint8 ``[H, W, 3]``.
        after: uint8, the same shape.
        mask: bool ``[H, W]``, where to look.

    Returns:
        The mean in [-1, 1], or None where the mask is empty.

    Source: Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE TIP 2004,
        section III.B (11 px Gaussian of 1.5 px; C3 = (0.03 * 255)^2 / 2).
    """
    if not mask.any():
        return None

    def blur(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x, (11, 11), 1.5)

    x, y = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (before, after))
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x * mean_x, blur(y * y) - mean_y * mean_y
    together = blur(x * y) - mean_x * mean_y
    c = (0.03 * 255) ** 2 / 2
    value = (together + c) / (np.sqrt(np.maximum(var_x, 0) * np.maximum(var_y, 0)) + c)
    return float(value[mask].mean())


def _linear_table() -> np.ndarray:
    x = np.arange(256, dtype=np.float64) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)[None]


def _srgb_table() -> np.ndarray:
    x = np.arange(65536, dtype=np.float64) / 65535
    return np.rint(255 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.power(x, 1 / 2.4) - 0.055)).astype(np.uint8)


_LINEAR = _linear_table()
_SRGB = _srgb_table()
