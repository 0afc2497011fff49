"""Read the mask files of SAM2's automatic mask generator and tell characters from background and from parts.

A file is a JSON list (or an object with ``annotations``); each entry has ``segmentation`` as COCO run-length encoding,
compressed (a string) or not (a list), with ``size`` [height, width], and perhaps ``predicted_iou``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as untyped_coco

from lora_data.errors import ImageError
from lora_data.sources import MAX_MASKS, annotations_in

coco: Any = untyped_coco  # its type stubs describe single masks only; it takes and returns lists of them


@dataclass(frozen=True, slots=True)
class Masks:
    """The masks of one frame.

    Args:
        size: (height, width) that every mask has.
        encoded: COCO run-length encodings, compressed.
        scores: ``predicted_iou`` of each, 0 where the file has none.
    """

    size: tuple[int, int]
    encoded: list[Any]
    scores: list[float]

    def decode(self, index: int) -> np.ndarray:
        """One mask as bool ``[H, W]``."""
        return np.asarray(coco.decode(self.encoded[index])).astype(bool)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a mask is no instance of its own."""

    reason: str
    value: float
    limit: float


def read_masks(data: bytes, name: str, size: tuple[int, int]) -> Masks:
    """Read the content of a mask file; every mask must have the frame's ``size`` (height, width).

    Args:
        data: The file's bytes.
        name: Its name, for messages.
        size: (height, width).

    Raises:
        ImageError: ``bad_masks``: an entry is not as SAM2 writes it, or has another size.
    """
    try:
        entries = annotations_in(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise ImageError("bad_masks", f"{name} is not JSON: {error}") from None
    if entries is None:
        raise ImageError("bad_masks", f"{name} holds no list of masks")
    if len(entries) > MAX_MASKS:
        raise ImageError("bad_masks", f"{name} lists {len(entries)} masks, at most {MAX_MASKS} are read")
    encoded: list[Any] = []
    scores: list[float] = []
    for i, entry in enumerate(entries):
        where = f"{name}, mask {i}"
        rle = entry.get("segmentation") if isinstance(entry, dict) else None
        if not isinstance(rle, dict) or "counts" not in rle or rle.get("size") != list(size):
            got = rle.get("size") if isinstance(rle, dict) else type(rle).__name__
            raise ImageError("bad_masks", f"{where}: expected COCO RLE of size {list(size)} (the frame's), got {got}")
        counts = rle["counts"]
        if isinstance(counts, list):
            sound = len(counts) <= size[0] * size[1] + 1 and all(isinstance(c, int) and c >= 0 for c in counts)
            if not sound or sum(counts) != size[0] * size[1]:
                raise ImageError("bad_masks", f"{where}: run lengths must add up to {size[0] * size[1]}")
            encoded.append(coco.frPyObjects({"size": list(size), "counts": counts}, *size))
        elif isinstance(counts, str):
            encoded.append({"size": list(size), "counts": counts.encode("ascii", "replace")})
            if not _compressed_is_sound(encoded[-1]["counts"], size[0] * size[1]):
                raise ImageError("bad_masks", f"{where}: the compressed run lengths do not add up to the frame")
        else:
            raise ImageError("bad_masks", f"{where}: counts must be a list or a string, got {type(counts).__name__}")
        score = entry.get("predicted_iou", 0.0)
        known = isinstance(score, float) and math.isfinite(score)
        scores.append(score if known or (isinstance(score, int) and score in (0, 1)) else 0.0)
    return Masks(size, encoded, scores)


def _compressed_is_sound(counts: bytes, pixels: int) -> bool:
    """Whether a compressed encoding decodes to exactly ``pixels`` (pycocotools trusts it and writes past the end).

    A number has six groups of five bits at most: pycocotools shifts 32-bit integers, so that a longer one means another
    number there than here, and six hold every run of a picture that is decoded.
    """
    runs: list[int] = []
    i = total = 0
    while i < len(counts):
        value, shift, more = 0, 0, True
        while more:
            if i >= len(counts) or shift > 25:
                return False
            c = counts[i] - 48
            if not 0 <= c < 64:
                return False
            value |= (c & 0x1F) << shift
            more = bool(c & 0x20)
            i, shift = i + 1, shift + 5
            if not more and c & 0x10:
                value |= -1 << shift
        if len(runs) > 2:
            value += runs[-2]
        total += value
        if value < 0 or total > pixels or len(runs) > pixels:
            return False
        runs.append(value)
    return total == pixels


def judge(masks: Masks, *, background_border: float, part_overlap: float, same_overlap: float) -> list[Verdict | None]:
    """Tell which masks are instances (None) and why the others are not.

    - ``background_mask``: touches at least three sides of the frame and covers ``background_border`` of its border;
    - ``same_object``: overlaps a better mask (predicted IoU, then area, then order) by ``same_overlap`` (IoU);
    - ``part``: lies to ``part_overlap`` inside a larger mask that is neither.
    """
    count = len(masks.encoded)
    verdicts: list[Verdict | None] = [None] * count
    if not count:
        return verdicts
    areas = np.asarray(coco.area(masks.encoded), np.float64)
    boxes = np.asarray(coco.toBbox(masks.encoded), np.float64)
    height, width = masks.size
    for i, (x, y, w, h) in enumerate(boxes):
        if areas[i] == 0:
            verdicts[i] = Verdict("empty_mask", 0.0, 1.0)
        elif sum((x <= 0, y <= 0, x + w >= width, y + h >= height)) >= 3:
            share = border_share(masks.decode(i))
            if share >= background_border:
                verdicts[i] = Verdict("background_mask", share, background_border)
    iou = np.asarray(coco.iou(masks.encoded, masks.encoded, [0] * count))
    inside = np.asarray(coco.iou(masks.encoded, masks.encoded, [1] * count))  # of row i, the share within column j
    rank = sorted(range(count), key=lambda i: (-masks.scores[i], -areas[i], i))
    for place, i in enumerate(rank):
        if verdicts[i] is not None:
            continue
        for better in rank[:place]:
            if verdicts[better] is None and iou[i, better] >= same_overlap:
                verdicts[i] = Verdict("same_object", float(iou[i, better]), same_overlap)
                break
    for i in sorted(range(count), key=lambda i: (-areas[i], i)):
        if verdicts[i] is not None:
            continue
        for j in range(count):
            if areas[j] > areas[i] and verdicts[j] is None and inside[i, j] >= part_overlap:
                verdicts[i] = Verdict("part", float(inside[i, j]), part_overlap)
                break
    return verdicts


def border_share(mask: np.ndarray) -> float:
    """The share of the frame's border that a bool mask covers."""
    edge = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return float(edge.mean())
