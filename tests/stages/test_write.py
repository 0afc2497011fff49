from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lora_data.decisions import Settings
from lora_data.manifest import Record
from lora_data.shards import read_index
from lora_data.stages.write import Write, caption_of, lineage
from lora_data.train.settings import CharacterSettings


def record(key: str, **fields: object) -> Record:
    return Record(source=f"{key}.png", key=key, width=4, height=3, **fields)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("own", "settings", "expected"),
    [
        ("a boy on a pier", None, "a boy on a pier"),
        ("a boy on a pier", CharacterSettings(token="luca"), "a boy on a pier"),
        (None, None, "a 3d render of character_00"),
        (None, CharacterSettings(token="luca", caption="{token}, 3d, {token}"), "luca, 3d, luca"),
        (None, CharacterSettings(caption="no token"), "no token"),
    ],
)
def test_a_caption_is_the_images_own_or_the_characters(
    own: str | None, settings: CharacterSettings | None, expected: str
):
    assert caption_of(record("a", caption=own, character="character_00"), settings) == expected


def test_lineage_holds_numbers_and_decisions_but_no_arrays():
    content = json.loads(
        lineage(record("a", brightness=3.5, embedding=np.ones(4, np.float32), phash_mirror=7, caption="é\n"))
    )
    assert content == {
        **dict.fromkeys(("face_restore", "upscale", "deblur", "colour", "matte"), "no"),
        "key": "a",
        "source": "a.png",
        "width": 4,
        "height": 3,
        "status": "kept",
        "character": "unknown",
        "brightness": 3.5,
        "caption": "é\n",
    }


def test_only_what_is_kept_is_written_sorted_by_character_and_key(tmp_path: Path):
    records = [
        record("b", character="mina"),
        record("a", character="mina"),
        record("c", character="bruno"),
        record("d", character="bruno").decide("rejected", "filter", "blur", 1.0, 2.0),
    ]
    Write().write(tmp_path / "shards", records, lambda key: key.encode(), {"mina": CharacterSettings(token="mna")})
    index = read_index(tmp_path / "shards")
    assert [(s.character, s.key) for s in index.samples] == [("bruno", "c"), ("mina", "a"), ("mina", "b")]
    entry = index.samples[1]
    data = (tmp_path / "shards" / entry.shard).read_bytes()
    offset, size = entry.files["txt"]
    assert data[offset : offset + size] == b"a 3d render of mna"


def test_the_index_carries_what_training_was_told(tmp_path: Path):
    told = {"mina": Settings(True, {"horizontal_flip": 0.5}), "bruno": Settings(None, None), "gone": Settings(False)}
    Write().write(tmp_path / "shards", [record("a", character="mina")], lambda key: key.encode(), {}, told)
    assert read_index(tmp_path / "shards").characters == {
        "mina": {"symmetric": True, "augment": {"horizontal_flip": 0.5}}
    }


def test_a_shard_size_below_zero_is_refused():
    with pytest.raises(ValueError, match=r"^shard_megabytes must be"):
        Write(shard_megabytes=0)


@pytest.mark.parametrize(("scale", "face"), [(None, (1.0, 0.5, 3.0, 2.25)), (2, (2.0, 1.0, 6.0, 4.5))])
def test_the_face_is_given_in_px_of_what_is_written(
    tmp_path: Path, scale: int | None, face: tuple[float, float, float, float]
):
    box = np.array([1, 0.5, 3, 2.25], np.float32)
    records = [record("a", character="mina", face_box=box, upscale_scale=scale), record("b", character="mina")]
    Write().write(tmp_path / "shards", records, lambda key: key.encode(), {})
    first, second = read_index(tmp_path / "shards").samples
    assert (first.face, second.face) == (face, None)
    assert first.width == 4 * (scale or 1)
