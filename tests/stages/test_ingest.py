from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lora_data.errors import ImageError
from lora_data.manifest import Record
from lora_data.sample import Instance
from lora_data.sources import Source, discover
from lora_data.stages.ingest import Ingest
from tests.conftest import cutout, png
from tests.test_sam2 import compressed, uncompressed

RGB, ALPHA = cutout(64)


def only(folder: Path) -> Source:
    (source,) = discover(folder).sources
    return source


def read(folder: Path) -> Instance:
    found = Ingest().read(only(folder))
    assert isinstance(found, Instance)
    return found


def test_a_cut_out_keeps_its_pixels_and_says_where_it_is_from(tmp_path: Path):
    (tmp_path / "film_000123_i2.png").write_bytes(png(np.dstack([RGB, ALPHA])))
    (tmp_path / "film_000123_i2.txt").write_text("\ufeff a red ball \n", encoding="utf-8")
    (tmp_path / "film_000123_i2.json").write_text('{"track": "t9", "scene": "beach", "frame": 124}')
    instance = read(tmp_path)
    np.testing.assert_array_equal(instance.rgb, RGB)
    np.testing.assert_array_equal(instance.alpha, ALPHA)
    r = instance.record
    assert (r.key, r.source) == ("film_000123_i2", "film_000123_i2.png")
    assert (r.frame, r.instance, r.track, r.scene, r.caption) == (124, 2, "t9", "beach", "a red ball")
    assert (r.width, r.height, r.file_format) == (64, 64, "PNG")
    assert r.digest is not None
    assert len(r.digest) == 64


def test_rgb_and_mask_become_one_instance(tmp_path: Path):
    Image.fromarray(RGB).save(tmp_path / "a.jpg", quality=95)
    (tmp_path / "a_mask.png").write_bytes(png(ALPHA))
    np.testing.assert_array_equal(read(tmp_path).alpha, ALPHA)


def test_a_mask_of_another_size_is_named(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png(RGB))
    (tmp_path / "a_mask.png").write_bytes(png(ALPHA[:32]))
    with pytest.raises(ImageError, match=r"a_mask.png is 64 x 32, the image 64 x 64"):
        Ingest().read(only(tmp_path))


def test_an_empty_matte_is_named(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png(np.dstack([RGB, ALPHA // 3])))
    with pytest.raises(ImageError) as caught:
        Ingest().read(only(tmp_path))
    assert caught.value.reason == "empty_matte"


def frame_with(tmp_path: Path, masks: list[np.ndarray], encode: Any) -> np.ndarray:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 255, (60, 80, 3), np.uint8)
    (tmp_path / "frame_000007.png").write_bytes(png(frame))
    (tmp_path / "frame_000007.json").write_text(json.dumps([{"segmentation": encode(m)} for m in masks]))
    return frame


@pytest.mark.parametrize("encode", [compressed, uncompressed])
def test_a_sam2_mask_is_cut_out_with_the_frame_around_and_under_it(tmp_path: Path, encode: Any):
    mask = np.zeros((60, 80), bool)
    mask[10:52, 30:50] = True
    frame = frame_with(tmp_path, [mask], encode)
    instance = read(tmp_path)
    np.testing.assert_array_equal(instance.rgb, frame[0:60, 14:66])  # 16 px of margin, clipped to the frame
    np.testing.assert_array_equal(instance.alpha > 0, mask[0:60, 14:66])
    assert (instance.record.frame, instance.record.instance) == (7, 0)


def test_background_parts_and_specks_are_rows_not_instances(tmp_path: Path):
    body, head, sky, speck = (np.zeros((60, 80), bool) for _ in range(4))
    body[10:60, 30:64] = True
    head[12:46, 31:63] = True
    sky[:9] = True
    sky[:40, :20] = True
    sky[:40, 70:] = True
    speck[50:54, 2:6] = True
    frame_with(tmp_path, [body, head, sky, speck], compressed)
    found = {s.index: Ingest().read(s) for s in discover(tmp_path).sources}
    assert isinstance(found[0], Instance)
    reasons = {i: (r.status, r.reason) for i, r in found.items() if isinstance(r, Record)}
    assert reasons == {1: ("rejected", "part"), 2: ("rejected", "background_mask"), 3: ("rejected", "small_mask")}
    assert all(r.value is not None and r.limit is not None for r in found.values() if isinstance(r, Record))


def test_a_frame_without_masks_is_an_error_row(tmp_path: Path):
    frame_with(tmp_path, [], compressed)
    with pytest.raises(ImageError) as caught:
        Ingest().read(only(tmp_path))
    assert caught.value.reason == "no_masks"


def test_the_renders_masks_give_every_character_and_nothing_else_large(dev: Path):
    truth = {}
    for line in (dev / "truth.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["kind"] == "frame":
            truth[Path(entry["file"]).name] = entry["annotations"]
    seen: dict[tuple[str, str], int] = {}
    for source in discover(dev / "frames").sources:
        found = Ingest().read(source)
        assert source.index is not None
        role = truth[source.path.name][source.index]["role"]
        outcome = found.reason if isinstance(found, Record) else "instance"
        seen[role, str(outcome)] = seen.get((role, str(outcome)), 0) + 1
    assert seen["instance", "instance"] == sum(n for (role, _), n in seen.items() if role == "instance")
    assert ("background", "instance") not in seen
    assert ("part_head", "instance") not in seen
