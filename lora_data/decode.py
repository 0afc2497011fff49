"""Decode whatever a film folder contains to one form: sRGB uint8 RGB and a straight uint8 matte.

Palette, grey, grey + alpha, 16 bit, CMYK, EXIF rotation, embedded colour profiles; by the bytes, whatever the name
says.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from lora_data.errors import ImageError

FORMATS = ("PNG", "WEBP", "JPEG", "BMP", "TIFF", "GIF", "TGA", "PPM", "AVIF")
"""Pillow decoders that may be tried. A closed list: exotic decoders are attack surface, not film formats."""

_FAILURES = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, RuntimeError),
    *(struct.error, zlib.error, Image.DecompressionBombError, ImageCms.PyCMSError),
)
"""What Pillow raises on bytes that somebody damaged: found by changing bytes of every format. RuntimeError is AVIF's,
TypeError and struct.error are those of EXIF tags of a wrong type."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded image.

    Args:
        rgb: uint8 ``[H, W, 3]``, sRGB.
        alpha: uint8 ``[H, W]``, straight; all 255 where the file has none.
        has_alpha: Whether the file carries a matte of its own.
        file_format: What the bytes are: "PNG", "WEBP", ...
    """

    rgb: np.ndarray
    alpha: np.ndarray
    has_alpha: bool
    file_format: str


def decode(data: bytes, max_pixels: int) -> Decoded:
    """Decode image bytes.

    Args:
        data: The file's content.
        max_pixels: Refuse a canvas of more pixels than this, before anything is decompressed.

    Raises:
        ImageError: ``empty_file``, ``not_an_image``, ``too_large`` or ``damaged`` (truncated, bad checksum).
    """
    if not data:
        raise ImageError("empty_file", "the file has 0 bytes")
    try:
        with warnings.catch_warnings():
            # Our own limit below is the one that holds; Pillow's warning would only repeat it.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # about tags that nobody here reads
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError("not_an_image", f"the bytes are no image: they start with {data[:12]!r}") from None
    except Image.DecompressionBombError as error:
        raise ImageError("too_large", f"{error}; at most {max_pixels} pixels are decoded") from None
    except _FAILURES as error:
        raise ImageError("damaged", f"the header cannot be read: {error}") from None
    if image.width * image.height > max_pixels:
        raise ImageError(
            "too_large",
            f"{image.width} x {image.height} = {image.width * image.height} pixels, at most {max_pixels} are decoded "
            "(precompute.ingest.max_pixels)",
        )
    file_format = str(image.format)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            image.load()
            image = ImageOps.exif_transpose(image)
    except _FAILURES as error:
        raise ImageError("damaged", f"{file_format} of {len(data)} bytes cannot be decoded: {error}") from None
    try:
        rgb, alpha, has_alpha = _split(image)
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, ImageCms.PyCMSError) as error:
        raise ImageError("damaged", f"{file_format} of {len(data)} bytes cannot be decoded: {error}") from None
    return Decoded(np.ascontiguousarray(rgb), np.ascontiguousarray(alpha), has_alpha, file_format)


def decode_mask(data: bytes, max_pixels: int) -> np.ndarray:
    """Decode a mask file to uint8 ``[H, W]``: its alpha where it has one, otherwise its brightness.

    Raises:
        ImageError: As `decode`.
    """
    decoded = decode(data, max_pixels)
    if decoded.has_alpha:
        return decoded.alpha
    return decoded.rgb.max(axis=2)


def _split(image: Image.Image) -> tuple[np.ndarray, np.ndarray, bool]:
    """Split a loaded image into rgb, alpha, and whether the alpha is its own."""
    if image.mode in ("I;16", "I;16L", "I;16B", "I"):
        grey = np.rint(np.clip(np.asarray(image, np.float64), 0, 65535) / 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2), np.full(grey.shape, 255, np.uint8), False
    if image.mode == "F":
        raise ValueError("floating-point images have no defined white: convert to 8 or 16 bit first")
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    profile = image.info.get("icc_profile")
    alpha = np.asarray(image.convert("RGBA").getchannel("A")) if has_alpha else None
    if profile and image.mode in ("RGB", "RGBA", "CMYK"):
        image = _to_srgb(image.convert("RGB") if image.mode == "RGBA" else image, profile)
    rgb = np.asarray(
        image.convert("RGBA").convert("RGB") if image.mode in ("P", "PA", "LA", "La") else image.convert("RGB")
    )
    return rgb, (np.full(rgb.shape[:2], 255, np.uint8) if alpha is None else alpha), has_alpha


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Bring an image with an embedded profile to sRGB; one whose profile is unreadable is taken as sRGB."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image
    return image if converted is None else converted
