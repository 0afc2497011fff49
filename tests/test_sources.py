from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.errors import ConfigError, ImageError
from lora_data.sources import Numbers, discover, key_of, numbers_of, read_sidecar


@given(source=st.text(min_size=1, max_size=300))
@settings(max_examples=200, deadline=None)
def test_a_key_is_always_a_legal_member_name(source: str):
    key = key_of(source)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,90}", key)
    assert key == key_of(source)


@given(names=st.sets(st.text(alphabet="ab/._-#é", min_size=1, max_size=8), min_size=2, max_size=40))
@settings(max_examples=100, deadline=None)
def test_different_sources_have_different_keys(names: set[str]):
    assert len({key_of(n) for n in names}) == len(names)


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("film_000123_i2.png", r"film_000123_i2"),
        ("luca/a.png", r"luca-a-[0-9a-f]{8}"),
        ("a.webp", r"a-[0-9a-f]{8}"),
        ("f.jpg#7", r"f-m7-[0-9a-f]{8}"),
    ],
)
def test_a_plain_name_stays_readable(source: str, key: str):
    assert re.fullmatch(key, key_of(source))


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("film_000123_i2.png", Numbers(123, 2)),
        ("luca_s02_000123_t4_i2.png", Numbers(123, 2, "4", "02")),
        ("a/b/frame00451.jpg", Numbers(451)),
        ("shot7_frame_0012_inst3.webp", Numbers(12, 3, None, "7")),
        ("portrait.png", Numbers()),
        ("frame_000626.png#5", Numbers(626)),
    ],
)
def test_names_tell_frame_instance_track_and_scene(name: str, numbers: Numbers):
    assert numbers_of(name) == numbers


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_masks_captions_and_sidecars_belong_to_their_image(tmp_path: Path):
    touch(
        tmp_path,
        "a.png",
        "a_mask.png",
        "b.jpg",
        "b.txt",
        "masks/b.png",
        "sub/images/c.png",
        "sub/masks/c.png",
        "notes.md",
    )
    (tmp_path / "a.json").write_text('{"track": 3}')
    found = discover(tmp_path)
    by_name = {s.source: s for s in found.sources}
    assert set(by_name) == {"a.png", "b.jpg", "sub/images/c.png"}
    assert by_name["a.png"].mask == tmp_path / "a_mask.png"
    assert by_name["a.png"].sidecar == tmp_path / "a.json"
    assert by_name["b.jpg"].mask == tmp_path / "masks/b.png"
    assert by_name["b.jpg"].caption == tmp_path / "b.txt"
    assert by_name["sub/images/c.png"].mask == tmp_path / "sub/masks/c.png"
    assert found.ignored == ("notes.md",)


def test_a_mask_without_an_image_is_an_input_of_its_own(tmp_path: Path):
    touch(tmp_path, "lonely_mask.png")
    assert [s.source for s in discover(tmp_path).sources] == ["lonely_mask.png"]


def test_each_sam2_mask_is_an_input_and_an_empty_list_keeps_its_row(tmp_path: Path):
    touch(tmp_path, "frame_000001.jpg", "frame_000002.jpg")
    (tmp_path / "frame_000001.json").write_text(json.dumps([{}, {}, {}]))
    (tmp_path / "frame_000002.json").write_text(json.dumps({"annotations": []}))
    found = discover(tmp_path).sources
    assert sorted(s.source for s in found) == [
        "frame_000001.jpg#0",
        "frame_000001.jpg#1",
        "frame_000001.jpg#2",
        "frame_000002.jpg",
    ]


def test_hidden_files_links_to_folders_and_out_are_left_alone(tmp_path: Path):
    touch(tmp_path, "a.png", ".hidden.png", ".git/b.png", "out/c.png")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert [s.source for s in discover(tmp_path, exclude=tmp_path / "out").sources] == ["a.png"]
    same = tmp_path / "out" / ".." / "out"
    assert [s.source for s in discover(tmp_path, exclude=same).sources] == ["a.png"]


def test_sources_come_sorted_by_key(tmp_path: Path):
    touch(tmp_path, "b.png", "a.png", "sub/a.png")
    keys = [s.key for s in discover(tmp_path).sources]
    assert keys == sorted(keys)


def test_no_folder_and_no_image_are_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="must be a folder"):
        discover(tmp_path / "none")
    with pytest.raises(ConfigError, match="holds no image"):
        discover(tmp_path)


@pytest.mark.parametrize("content", ["[1]", "nonsense", '{"frame": "x"}', '{"track": [1]}', '{"frame": true}'])
def test_a_sidecar_of_the_wrong_shape_is_named(tmp_path: Path, content: str):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(ImageError) as caught:
        read_sidecar(path.read_bytes(), path.name)
    assert caught.value.reason == "bad_sidecar"
    assert "a.json" in caught.value.message


def test_a_sidecar_is_read(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text('{"track_id": 3, "frame": 12, "shot": "beach", "other": {}}')
    assert read_sidecar(path.read_bytes(), path.name) == Numbers(12, None, "3", "beach")
