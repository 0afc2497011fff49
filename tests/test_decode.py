from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, features

from lora_data.decode import decode, decode_mask
from lora_data.errors import ImageError
from tests.conftest import cutout, png

LIMIT = 1_000_000
RGB, ALPHA = cutout(48)
RGBA = np.dstack([RGB, ALPHA])


def saved(image: Image.Image, fmt: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def png16(pixels: np.ndarray) -> bytes:
    """A 16-bit RGBA PNG, written by hand: Pillow cannot."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


WHOLE = (
    *(png(RGBA), saved(Image.fromarray(RGB), "JPEG"), saved(Image.fromarray(RGBA), "WEBP")),
    *(saved(Image.fromarray(RGBA), "TIFF"), saved(Image.fromarray(RGB), "TIFF", compression="tiff_lzw")),
    *(saved(Image.fromarray(RGB), "BMP"), saved(Image.fromarray(RGB).quantize(8), "GIF")),
    *(saved(Image.fromarray(RGBA), "TGA", compression="tga_rle"), saved(Image.fromarray(RGB), "PPM")),
    *((saved(Image.fromarray(RGBA), "AVIF"),) if features.check("avif") else ()),
)
"""One picture of every format."""


def test_rgba_png_comes_back_as_it_is():
    decoded = decode(png(RGBA), LIMIT)
    assert decoded.has_alpha
    assert decoded.file_format == "PNG"
    np.testing.assert_array_equal(decoded.rgb, RGB)
    np.testing.assert_array_equal(decoded.alpha, ALPHA)


def test_lossless_webp_is_read_whatever_its_name_would_say():
    data = saved(Image.fromarray(RGBA), "WEBP", lossless=True, exact=True)
    decoded = decode(data, LIMIT)
    assert decoded.file_format == "WEBP"
    np.testing.assert_array_equal(decoded.rgb, RGB)


def test_16_bit_is_divided_by_257():
    decoded = decode(png16(RGBA.astype(np.uint16) * 257), LIMIT)
    np.testing.assert_array_equal(np.dstack([decoded.rgb, decoded.alpha]), RGBA)


def test_16_bit_grey_is_not_clipped():
    grey = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    decoded = decode(png(grey), LIMIT)
    np.testing.assert_array_equal(decoded.rgb[..., 0], np.rint(grey / 257).astype(np.uint8))


def test_grey_and_alpha():
    merged = Image.merge("LA", [Image.fromarray(RGB[..., 0]), Image.fromarray(ALPHA)])
    decoded = decode(saved(merged, "PNG"), LIMIT)
    np.testing.assert_array_equal(decoded.rgb[..., 2], RGB[..., 0])
    np.testing.assert_array_equal(decoded.alpha, ALPHA)


def test_palette_with_transparency_keeps_its_matte():
    palette = Image.fromarray(RGBA).quantize(64)
    decoded = decode(saved(palette, "PNG"), LIMIT)
    assert decoded.has_alpha
    assert np.abs(decoded.alpha.astype(int) - ALPHA).mean() < 8


def test_cmyk_jpeg_becomes_rgb():
    decoded = decode(saved(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", quality=95), LIMIT)
    assert decoded.rgb.shape == (32, 32, 3)
    assert decoded.rgb[16, 16, 0] > 200
    assert decoded.rgb[16, 16, 1] < 80
    assert not decoded.has_alpha
    assert (decoded.alpha == 255).all()


def test_exif_rotation_is_applied():
    image = Image.fromarray(RGB[:, :24])
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(saved(image, "JPEG", exif=exif), LIMIT).rgb.shape == (24, 48, 3)


def test_a_mask_is_brightness_or_alpha():
    np.testing.assert_array_equal(decode_mask(png(ALPHA), LIMIT), ALPHA)
    np.testing.assert_array_equal(decode_mask(png(RGBA), LIMIT), ALPHA)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty_file"),
        (b"<!doctype html><html>", "not_an_image"),
        (b"this is not a picture at all", "not_an_image"),
        (png(RGBA)[:400], "damaged"),
        (png(RGBA)[:60] + b"\xff" * 40 + png(RGBA)[100:], "damaged"),
        (png(RGBA)[:20], "damaged"),
    ],
)
def test_what_cannot_be_used_says_why(data: bytes, reason: str):
    with pytest.raises(ImageError) as caught:
        decode(data, LIMIT)
    assert caught.value.reason == reason
    assert caught.value.message


def test_the_pixel_limit_holds_before_decompression():
    with pytest.raises(ImageError) as caught:
        decode(png(RGBA), 48 * 48 - 1)
    assert caught.value.reason == "too_large"
    assert "48 x 48 = 2304" in caught.value.message
    assert decode(png(RGBA), 48 * 48).rgb.shape == (48, 48, 3)


def test_a_header_that_claims_billions_of_pixels_is_refused():
    data = bytearray(png(RGBA))
    data[16:24] = struct.pack(">II", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    with pytest.raises(ImageError) as caught:
        decode(bytes(data), LIMIT)
    assert caught.value.reason == "too_large"


def claimed(fmt: str) -> bytes:
    """A small picture of a format whose header says that it is 30,000 px wide and high."""
    side = 30_000
    if fmt == "PPM":
        return b"P6 30000 30000 255\n" + bytes(100)
    data = bytearray(saved(Image.fromarray(RGB).quantize(8) if fmt == "GIF" else Image.fromarray(RGB), fmt))
    little, big = struct.pack("<HH", side, side), struct.pack(">HH", side, side)
    if fmt == "GIF":
        data[6:10] = little
    elif fmt == "BMP":
        data[18:26] = struct.pack("<ii", side, side)
    elif fmt == "TGA":
        data[12:16] = little
    elif fmt == "JPEG":
        start = data.index(b"\xff\xc0") + 5
        data[start : start + 4] = big
    else:
        for tag in (256, 257):
            start = data.index(struct.pack("<HHI", tag, 4, 1)) + 8
            data[start : start + 4] = struct.pack("<I", side)
    return bytes(data)


@pytest.mark.parametrize("fmt", ["PPM", "GIF", "BMP", "TGA", "JPEG", "TIFF"])
def test_no_format_decodes_what_claims_to_be_too_large(fmt: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("it was decoded"))
    for limit in (LIMIT, 178_956_970):
        with pytest.raises(ImageError) as caught:
            decode(claimed(fmt), limit)
        assert caught.value.reason == "too_large"


@pytest.mark.parametrize("kind", ["iCCP", "zTXt", "iTXt"])
def test_a_bomb_in_a_chunk_beside_the_pixels_is_refused(kind: str):
    packed = zlib.compress(bytes(100 << 20))
    body = {"iCCP": b"p\0\0", "zTXt": b"c\0\0", "iTXt": b"c\0\1\0\0\0"}[kind] + packed
    chunk = struct.pack(">I", len(body)) + kind.encode() + body + struct.pack(">I", zlib.crc32(kind.encode() + body))
    whole = png(RGBA)
    try:
        decoded = decode(whole[:33] + chunk + whole[33:], LIMIT)
    except ImageError as error:
        found = error.reason
    else:
        found = "decoded" if np.array_equal(decoded.alpha, ALPHA) else "other"
    assert found in ("damaged", "decoded")  # Pillow refuses some and leaves others out; none costs 100 MB


def test_a_tag_of_a_wrong_type_is_damage_not_a_crash():
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0
    data = saved(Image.fromarray(RGB), "JPEG", exif=exif)
    for place in range(data.index(b"Exif"), data.index(b"Exif") + 60):
        for value in (0, 2, 12, 255):
            broken = bytearray(data)
            broken[place] = value
            with suppress(ImageError):
                decode(bytes(broken), LIMIT)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_is_an_image_error_or_an_image(data: st.DataObject):
    whole = data.draw(st.sampled_from(WHOLE))
    broken = bytearray(whole)
    head = min(len(broken), data.draw(st.sampled_from([64, 400, 100_000])))  # where the structure is
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, head - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(broken)))
    try:
        decoded = decode(bytes(broken[:cut]), LIMIT)
    except ImageError:
        return
    assert decoded.rgb.shape[:2] == decoded.alpha.shape
