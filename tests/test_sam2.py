from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as untyped_coco

from lora_data.errors import ImageError
from lora_data.sam2 import Masks, judge, read_masks

coco: Any = untyped_coco
SIZE = (60, 80)
LIMITS = {"background_border": 0.4, "part_overlap": 0.9, "same_overlap": 0.95}


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def compressed(mask: np.ndarray) -> dict[str, Any]:
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(SIZE), "counts": rle["counts"].decode()}


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    flat = mask.ravel(order="F").astype(np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [-1]])))
    runs = np.diff(np.concatenate([[0], edges])).tolist()
    return {"size": list(SIZE), "counts": runs}


def written(path: Path, entries: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(entries))
    return path


def of(*masks: np.ndarray, scores: tuple[float, ...] | None = None) -> Masks:
    encoded = [coco.encode(np.asfortranarray(m.astype(np.uint8))) for m in masks]
    return Masks(SIZE, encoded, list(scores or [0.9] * len(masks)))


@pytest.mark.parametrize("form", [compressed, uncompressed])
def test_both_forms_of_run_lengths_decode_to_the_mask(tmp_path: Path, form: Any):
    mask = box(10, 20, 40, 50) | box(12, 60, 20, 70)
    masks = read_masks(written(tmp_path / "f.json", [{"segmentation": form(mask)}]).read_bytes(), "f.json", SIZE)
    np.testing.assert_array_equal(masks.decode(0), mask)


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        {"size": [60, 81], "counts": "x"},
        {"size": [60, 80], "counts": [5]},
        {"size": [60, 80], "counts": [-5, 4805]},
        {"size": [60, 80], "counts": "PPPPPP1"},
        {"size": [60, 80], "counts": "é"},
        {"size": [60, 80], "counts": 7},
    ],
)
def test_masks_of_the_wrong_shape_are_named(tmp_path: Path, segmentation: object):
    with pytest.raises(ImageError) as caught:
        read_masks(written(tmp_path / "f.json", [{"segmentation": segmentation}]).read_bytes(), "f.json", SIZE)
    assert caught.value.reason == "bad_masks"
    assert "mask 0" in caught.value.message


def test_the_character_stays_and_its_head_the_sky_and_a_second_copy_do_not():
    body, head, sky = box(20, 30, 60, 50), box(22, 33, 30, 47), box(0, 0, 18, 80)
    copy = body.copy()
    copy[59, 30] = False
    verdicts = judge(of(body, head, sky, copy, scores=(0.9, 0.99, 0.9, 0.8)), **LIMITS)
    assert [v.reason if v else None for v in verdicts] == [None, "part", "background_mask", "same_object"]
    assert all(v.value >= v.limit for v in verdicts if v)


def test_in_a_close_up_the_head_is_a_part_although_it_is_most_of_what_is_seen():
    body, head = box(5, 20, 60, 60), box(5, 20, 52, 60)
    assert [v.reason if v else None for v in judge(of(body, head, scores=(0.8, 0.99)), **LIMITS)] == [None, "part"]


def test_neighbours_that_overlap_a_little_are_two():
    assert judge(of(box(10, 10, 50, 40), box(10, 38, 50, 70)), **LIMITS) == [None, None]


def test_an_empty_mask_is_named():
    verdict = judge(of(box(0, 0, 0, 0)), **LIMITS)[0]
    assert verdict is not None
    assert verdict.reason == "empty_mask"
