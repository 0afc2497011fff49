"""Fingerprints: what is kept of an image's pixels so that near-duplicates can be found without them.

Two copies of one cut-out differ by a re-encoding, a small resize or a shift of a pixel or two. The hash proposes pairs
(fast, some by accident; see `lora_data.hash_index`); the thumbnail confirms them (see `lora_data.ssim`).
"""

from __future__ import annotations

import zlib

import cv2
import imagehash
import numpy as np
from PIL import Image, ImageOps

from lora_data.colour import luma
from lora_data.matte import composite, fill_hidden, shrink, tight_crop

THUMBNAIL = 96
"""Side of the thumbnail, px.

Measured on 39 near-duplicate pairs (re-encoded at quality 86 to 93, scaled by 0.97 to 1.03, shifted by up to 2 px) and
569 pairs of near neighbours within a shot, all within 10 bits of pHash: at 64 px the lowest near-duplicate is at SSIM
.993 and 205 natural neighbours pass .95; at 96 px .991 and 158. Larger ones would cost more than 6 kB a record.
"""
_SIZE = 4 * THUMBNAIL
"""Longest side, px, of what a fingerprint is taken from."""


def bounded(rgb: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the fingerprints are taken from: a tight crop of at most 384 px, colour filled under the matte, so that
    position on the canvas and colour under transparency leave no trace.

    Args:
        rgb: uint8 ``[H, W, 3]``, sRGB.
        alpha: uint8 ``[H, W]``, straight.

    Returns:
        uint8 ``[h, w, 3]``, every pixel the mean of those in the matte that it stands for, and uint8 ``[h, w]``.
    """
    rgb, alpha = tight_crop(rgb, alpha)
    if max(alpha.shape) <= _SIZE:
        return fill_hidden(rgb, alpha), alpha
    rgb, weight = shrink(rgb, alpha > 250, _SIZE)
    alpha = cv2.resize(alpha, weight.shape[::-1], interpolation=cv2.INTER_AREA)
    return fill_hidden(rgb, (weight > 0.01).astype(np.uint8) * 255), alpha


def perceptual_hashes(rgb: np.ndarray, alpha: np.ndarray) -> tuple[int, int]:
    """The 64-bit pHash of the character alone, and that of its mirror image.

    On mid-gray. The aspect ratio is not in the hash (it stretches to a square); the thumbnail has it.

    The mirror image is hashed as well: mirroring changes the sign of every other column of coefficients, and so the
    median that all bits stand on. It takes a tenth of the time of the first.

    Args:
        rgb: uint8 ``[h, w, 3]``, as `bounded` gives it.
        alpha: uint8 ``[h, w]``.

    Returns:
        Both in [0, 2**64). The coefficient matrix is read row by row from the lowest frequency; the first is the most
        significant bit, as in ``str(imagehash.ImageHash)``. The Hamming distance of two is ``(a ^ b).bit_count()``.

    Source: ImageHash's ``phash`` (32 x 32 luma, type-II DCT, lowest 8 x 8 against their median); C. Zauner,
        Implementation and Benchmarking of Perceptual Image Hash Functions, 2010. Mean instead of median loses most
        matches, so the algorithm is part of the value.
    """
    picture = Image.fromarray(composite(rgb, alpha))
    plain, mirrored = (int(str(imagehash.phash(p)), 16) for p in (picture, ImageOps.mirror(picture)))
    return plain, mirrored


def thumbnail(rgb: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Luma and matte, the longest side scaled to `THUMBNAIL` px, centred on a square.

    Args:
        rgb: uint8 ``[h, w, 3]``, as `bounded` gives it.
        alpha: uint8 ``[h, w]``.

    Returns:
        Luma (Rec. 601), uint8, and matte (alpha above 127), bool, both ``[THUMBNAIL, THUMBNAIL]``.
    """
    height, width = alpha.shape
    scale = THUMBNAIL / max(height, width)
    # One similarity about the crop's centre instead of a resize to whole px: copies of slightly other size then land on
    # the same place to a fraction of a pixel. Blurring first is what area averaging would have done.
    sigma = 0.5 / scale - 0.5
    planes = [np.rint(luma(rgb)).astype(np.uint8), alpha]
    if sigma > 0:
        planes = [cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE) for plane in planes]
    shift_x, shift_y = (THUMBNAIL / 2 - 0.5 - scale * (side / 2 - 0.5) for side in (width, height))
    move = np.array([[scale, 0, shift_x], [0, scale, shift_y]], np.float64)
    size = THUMBNAIL, THUMBNAIL
    small_luma = cv2.warpAffine(planes[0], move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    small_alpha = cv2.warpAffine(planes[1], move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return small_luma, small_alpha > 127


def pack_luma(luma: np.ndarray) -> np.ndarray:
    """A thumbnail's luma as a record holds it, deflated: uint8 ``[bytes]``, 5.3 kB of 9.2 on average of renders."""
    return np.frombuffer(zlib.compress(luma.tobytes(), 1), np.uint8)


def unpack_luma(packed: np.ndarray) -> np.ndarray:
    """The reverse of `pack_luma`: uint8 ``[THUMBNAIL, THUMBNAIL]``."""
    return np.frombuffer(zlib.decompress(packed.tobytes()), np.uint8).reshape(THUMBNAIL, THUMBNAIL)


def pack_matte(matte: np.ndarray) -> np.ndarray:
    """A thumbnail's matte as a record holds it: uint8, eight px a byte."""
    return np.packbits(matte)


def unpack_matte(packed: np.ndarray) -> np.ndarray:
    """The reverse of `pack_matte`: bool ``[THUMBNAIL, THUMBNAIL]``."""
    return np.unpackbits(packed, count=THUMBNAIL**2).reshape(THUMBNAIL, THUMBNAIL).astype(bool)
