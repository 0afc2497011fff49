"""Files that no character should come of: junk cut-outs, broken files, unusual formats, a crate, backdrops."""

from __future__ import annotations

import io
from typing import cast

import cv2
import numpy as np
from PIL import Image

from lora_data.demo.damage import over
from lora_data.demo.lights import LIGHTS, LightName
from lora_data.demo.materials import linear
from lora_data.demo.render import Shot, render
from lora_data.demo.sdf import Material, Part, Prim, rotation

JUNK = ("background_opaque", "flat_colour", "speck", "empty_alpha", "object", "background_blob")
BROKEN = ("truncated_png", "zero_bytes", "html_as_png", "bad_crc_png")
ODD = ("palette_png", "png16_rgba", "gray_alpha_png", "webp_named_png", "exif_rotated_jpeg", "cmyk_jpeg")


def backdrop(width: int, height: int, light: LightName, rng: np.random.Generator) -> np.ndarray:
    """A scene out of focus in the light's colours, with hills and spots of light: uint8 ``[H, W, 3]``."""
    top, horizon, floor = (np.array(c, np.float32) for c in LIGHTS[light].backdrop)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    line = 0.62 + 0.05 * np.sin(x * rng.uniform(4, 9) + rng.uniform(0, 6)) + 0.02 * np.sin(x * rng.uniform(14, 25))
    sky = top + (horizon - top) * np.clip(y / 0.62, 0, 1)
    ground = floor * (0.75 + 0.5 * np.clip((y - 0.6) / 0.4, 0, 1))
    image = np.where(y < line, sky, ground).astype(np.float32)
    layer = image.copy()
    for _ in range(14):
        at = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        size = max(2, int(max(width, height) * rng.uniform(0.02, 0.09)))
        glow = np.clip(layer[min(at[1], height - 1), min(at[0], width - 1)] * rng.uniform(0.7, 1.5), 0, 1)
        cv2.circle(image, at, size, [float(c) for c in glow], -1, cv2.LINE_AA)
    image = cv2.GaussianBlur(image * 0.6 + layer * 0.4, (0, 0), max(width, height) / 110)
    image += rng.normal(0, 0.008, (height, width, 1)).astype(np.float32)
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def crate(light: LightName, azimuth: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A wooden crate, the kind of prop that a segmenter also returns."""
    wood, dark = (Material(linear(c), rough=0.75, weave=0.4) for c in ("#c08a4e", "#8a5a2e"))
    prims = [Prim("box", (0, 0.5, 0), (0.42, 0.42, 0.42, 0.02), wood)]
    for a in (-1, 1):
        for b in (-1, 1):
            prims += [
                Prim("box", (a * 0.42, 0.5, b * 0.42), (0.07, 0.49, 0.07, 0.015), dark),
                Prim("box", (0, 0.5 + a * 0.42, b * 0.42), (0.49, 0.07, 0.07, 0.015), dark),
                Prim("box", (a * 0.42, 0.5 + b * 0.42, 0), (0.07, 0.07, 0.49, 0.015), dark),
            ]
        prims.append(Prim("box", (0, 0.5, a * 0.43), (0.06, 0.5, 0.03, 0.015), dark, (0, 0, 45)))
    part = Part("crate", tuple(prims), np.zeros(3, np.float32), rotation())
    picture = render([part], Shot(azimuth=azimuth, elevation=18, framing="full", light=light), size)
    return picture.rgb, picture.alpha


def junk(what: str, light: LightName, size: int, rng: np.random.Generator) -> np.ndarray:
    """One of `JUNK` as RGBA uint8 ``[H, W, 4]``."""
    w, h = int(size * rng.uniform(0.6, 1)), int(size * rng.uniform(0.6, 1))
    rgb = backdrop(w, h, light, rng)
    alpha = np.zeros((h, w), np.uint8)
    if what == "object":
        return np.dstack(crate(light, float(rng.uniform(20, 70)), int(size * 0.75)))
    if what in ("background_opaque", "flat_colour"):
        alpha[...] = 255
        if what == "flat_colour":
            rgb[...] = rng.integers(40, 216, 3)
    elif what == "speck":
        cv2.circle(alpha, (w // 2, h // 3), max(2, size // 90), 255, -1)
    elif what == "background_blob":
        cv2.ellipse(alpha, (w // 2, h // 2), (w // 3, h // 4), float(rng.uniform(0, 90)), 0, 360, 255, -1)
    rgb[alpha == 0] = 0
    return np.dstack([rgb, alpha])


def png(rgba: np.ndarray) -> bytes:
    """Encode RGBA (or RGBA 16 bit) as PNG."""
    return cv2.imencode(".png", rgba[..., [2, 1, 0, 3]], [cv2.IMWRITE_PNG_COMPRESSION, 4])[1].tobytes()


def broken(what: str, rgba: np.ndarray) -> bytes:
    """One of `BROKEN`."""
    data = png(rgba)
    if what == "truncated_png":
        return data[: len(data) * 2 // 5]
    if what == "zero_bytes":
        return b""
    if what == "html_as_png":
        return b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>No such frame.</body></html>\n"
    half = len(data) // 2  # some decoders skip the checksum of image data, so the data are wrong as well
    return data[:half] + bytes(255 - b for b in data[half : half + 64]) + data[half + 64 :]


def odd(what: str, rgba: np.ndarray, scene: np.ndarray) -> tuple[bytes, str]:
    """One of `ODD`: the bytes and the suffix of the file's name (which may lie)."""
    rgb, alpha = rgba[..., :3], rgba[..., 3]
    if what == "png16_rgba":
        return png(rgba.astype(np.uint16) * 257), "png"
    image = Image.fromarray(rgba)
    options: dict[str, int | bool | Image.Exif] = {}
    kind, suffix = "PNG", "png"
    if what == "palette_png":
        image = image.quantize(128, method=Image.Quantize.FASTOCTREE)
    elif what == "gray_alpha_png":
        image = image.convert("LA")
    elif what == "webp_named_png":
        kind = "WEBP"
        options |= {"lossless": True, "exact": True}
    else:
        kind, suffix = "JPEG", "jpg"
        image = Image.fromarray(over(rgb, alpha, scene))
        options["quality"] = 95
        if what == "cmyk_jpeg":
            image = image.convert("CMYK")
        else:  # stored lying on its side; the orientation tag says so
            exif = Image.Exif()
            exif[0x0112] = 6
            image, options["exif"] = image.transpose(Image.Transpose.ROTATE_90), exif
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue(), suffix


def sam2_mask(mask: np.ndarray, compressed: bool, rng: np.random.Generator) -> dict[str, object]:
    """One entry of SAM2's automatic mask generator for a bool mask ``[H, W]`` that is not empty.

    Source: facebookresearch/sam2, automatic_mask_generator.py (fields), COCO run-length encoding (column-major).
    """
    from pycocotools import mask as coco

    h, w = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0]), int(rows[-1] - rows[0])]
    flat = mask.ravel(order="F").astype(np.int8)
    runs = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])).tolist()
    counts: object = ([0] if flat[0] else []) + runs
    if compressed:
        packed = cast("dict[str, bytes]", coco.encode(np.asfortranarray(mask.astype(np.uint8))))
        counts = packed["counts"].decode("ascii")
    places = np.argwhere(mask)
    y, x = places[rng.integers(len(places))].tolist()
    return {
        "segmentation": {"size": [h, w], "counts": counts},
        "area": int(mask.sum()),
        "bbox": box,
        "predicted_iou": round(float(rng.uniform(0.88, 0.99)), 4),
        "point_coords": [[float(x), float(y)]],
        "stability_score": round(float(rng.uniform(0.92, 0.99)), 4),
        "crop_box": [0, 0, w, h],
    }
