"""The demo film: equal bytes from equal seeds, truthful truth, every damage, straight mattes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from lora_data.demo import make_film
from lora_data.demo.damage import DAMAGE, resize_cut
from lora_data.demo.oddities import BROKEN, JUNK, ODD
from lora_data.demo.plan import counts

INSTANCES = 20


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    make_film(folder, instances=INSTANCES, size=96, seed=3)
    return folder


@pytest.fixture(scope="module")
def truth(film: Path) -> list[dict]:
    return [json.loads(line) for line in (film / "truth.jsonl").read_text(encoding="utf-8").splitlines()]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def rgba(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGBA"))


def test_equal_arguments_write_equal_bytes_whatever_the_workers_and_the_seed_matters(tmp_path: Path) -> None:
    for name, seed, workers in (("a", 1, 1), ("b", 1, 2), ("c", 2, 1)):
        make_film(tmp_path / name, instances=4, size=64, seed=seed, workers=workers)
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c


def test_every_file_has_one_row_and_every_row_its_file(film: Path, truth: list[dict]) -> None:
    written = {f"instances/{p.name}" for p in (film / "instances").iterdir() if p.suffix not in {".txt", ".json"}}
    assert Counter(row["file"] for row in truth if row["kind"] != "frame") == dict.fromkeys(written, 1)
    assert {row["master"] for row in truth if row.get("master")} == {
        f"masters/{p.name}" for p in (film / "masters").iterdir()
    }


def test_counts_leave_out_duplicates_and_junk(truth: list[dict]) -> None:
    people = [r for r in truth if r["kind"] == "instance"]
    copies = [r for r in people if r.get("dup_of") or r.get("near_dup_of")]
    assert len(people) - len(copies) == INSTANCES
    assert {r["identity"] for r in people} == {"pip", "bruno", "mina", "otto"}
    assert {r.get("near_dup", {}).get("how") for r in copies} == {None, "shift", "resize", "reencode"}


def test_every_damage_and_every_oddity_is_there(truth: list[dict]) -> None:
    assert {d["type"] for r in truth for d in r.get("degradations", ())} == set(DAMAGE)
    assert {r["what"] for r in truth if "what" in r} == {*JUNK, *BROKEN, *ODD}
    assert any(r["clean"] and not r["dof"] for r in truth if r["kind"] == "instance")


def test_mattes_are_straight_and_hide_nothing_unless_the_truth_says_so(film: Path, truth: list[dict]) -> None:
    for row in truth:
        if row["kind"] != "instance":
            continue
        hidden = any(d.get("hidden_rgb_is_background") for d in row["degradations"])
        pixels = rgba(film / row["file"])
        assert [pixels.shape[1], pixels.shape[0]] == row["size"]
        under = pixels[pixels[..., 3] == 0][:, :3]
        assert bool(under.any()) == (hidden and len(under) > 0), row["file"]
    for path in (film / "masters").iterdir():
        pixels = rgba(path)
        soft = (pixels[..., 3] > 0) & (pixels[..., 3] < 255)
        assert soft.any()
        assert not pixels[pixels[..., 3] == 0].any()
        # premultiplied colour would darken the soft edge in proportion to alpha
        edge, inside = pixels[soft][:, :3].mean(), pixels[pixels[..., 3] == 255][:, :3].mean()
        assert edge > 0.6 * inside


def test_the_master_moved_by_align_is_the_clean_instance(film: Path, truth: list[dict]) -> None:
    clean = [r for r in truth if r["kind"] == "instance" and r["clean"] and not r["dof"] and not r.get("near_dup")]
    assert clean
    for row in clean:
        master, pixels = rgba(film / row["master"]), rgba(film / row["file"])
        rgb, alpha = resize_cut(master[..., :3], master[..., 3], tuple(row["align"]["resize_to"]))
        np.testing.assert_array_equal(pixels, np.dstack([rgb, alpha]))


def test_align_lands_on_the_canvas_of_every_damage(film: Path, truth: list[dict]) -> None:
    for row in truth:
        if row["kind"] != "instance" or {d["type"] for d in row["degradations"]} & {"tiny", "rough_mask"}:
            continue
        master, alpha = rgba(film / row["master"]), rgba(film / row["file"])[..., 3]
        align = row["align"]
        moved = resize_cut(master[..., :3], master[..., 3], tuple(align["resize_to"]))[1]
        if align["crop_xywh"]:
            x, y, w, h = align["crop_xywh"]
            moved = moved[y : y + h, x : x + w]
        if align["pad_or_shift"]:
            dx, dy = align["pad_or_shift"]
            moved = cv2.warpAffine(moved, np.array([[1, 0, dx], [0, 1, dy]], np.float32), alpha.shape[::-1])
        assert moved.shape == alpha.shape
        both, either = ((moved > 127) & (alpha > 127)).sum(), ((moved > 127) | (alpha > 127)).sum()
        assert both / either > 0.85, (row["file"], row["degradations"])


def test_exposure_damage_is_beyond_the_limits_and_clean_is_within(truth: list[dict]) -> None:
    for row in truth:
        if row["kind"] != "instance":
            continue
        kinds = {d["type"] for d in row["degradations"]}
        if "underexposed" in kinds:
            assert row["mean_luma"] < 30
        elif "overexposed" in kinds:
            assert row["mean_luma"] > 220
        elif row["clean"]:
            assert 35 < row["mean_luma"] < 210


def test_broken_files_break_and_odd_files_open(film: Path, truth: list[dict]) -> None:
    for row in truth:
        if row["kind"] == "odd_format":
            assert rgba(film / row["file"]).any(), row["what"]
        if row["kind"] == "corrupt":
            with pytest.raises((OSError, SyntaxError)):
                rgba(film / row["file"])


def test_exact_duplicates_are_equal_bytes(film: Path, truth: list[dict]) -> None:
    copies = [r for r in truth if r.get("dup_of")]
    assert copies
    for row in copies:
        assert (film / row["file"]).read_bytes() == (film / row["dup_of"]).read_bytes()


def test_shots_are_consecutive_frames_and_some_hold_two_characters(truth: list[dict]) -> None:
    people = [r for r in truth if r["kind"] == "instance" and not r.get("dup_of") and not r.get("near_dup_of")]
    tracks: dict[tuple[str, str], list[int]] = {}
    for row in people:
        tracks.setdefault((row["shot_id"], row["identity"]), []).append(row["frame"])
    for frames in tracks.values():
        assert sorted(frames) == list(range(min(frames), min(frames) + len(frames)))
    assert max(Counter(r["frame"] for r in people).values()) == 2


def test_frames_are_in_the_form_of_sam2(film: Path, truth: list[dict]) -> None:
    rows = [r for r in truth if r["kind"] == "frame"]
    assert {r["rle"] for r in rows} == {"compressed", "uncompressed"}
    roles: Counter[str] = Counter()
    for row in rows:
        masks = json.loads((film / row["masks"]).read_text(encoding="utf-8"))
        height, width = rgba(film / row["file"]).shape[:2]
        assert len(masks) == len(row["annotations"])
        for mask, note in zip(masks, row["annotations"], strict=True):
            code = mask["segmentation"]
            if isinstance(code["counts"], list):
                code = coco.frPyObjects(code, height, width)
            decoded = coco.decode(code)
            assert decoded.shape == (height, width)
            assert int(decoded.sum()) == mask["area"] > 0
            roles[note["role"]] += 1
    assert set(roles) == {"instance", "part_head", "background", "background_blob"}


def test_balance_is_kept_to_the_largest_remainder() -> None:
    assert counts(120, [50, 1, 1, 1]) == [111, 3, 3, 3]
    assert counts(4, [1, 1, 1, 1]) == [1, 1, 1, 1]
    assert sum(counts(37, [3, 1, 2])) == 37


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"characters": 13}, "characters"),
        ({"characters": 1}, "characters"),
        ({"instances": 3}, "instances"),
        ({"size": 32}, "size"),
        ({"workers": 0}, "workers"),
        ({"balance": [1, 2]}, "balance"),
        ({"balance": [1, 1, 1, 0]}, "balance"),
    ],
)
def test_arguments_out_of_range_say_which(tmp_path: Path, wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_film(tmp_path / "film", **wrong)
    assert not (tmp_path / "film").exists()
