from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lora_data.augment import CharacterAugment
from lora_data.config import as_tree, parse_config
from lora_data.draws import drawn
from lora_data.manifest import Record
from lora_data.report import augmentation as module
from lora_data.report.augmentation import DRAWS, SAMPLES, SIDE, augmentation
from lora_data.report.kept import Kept
from lora_data.report.pictures import Pictures
from lora_data.shards import INDEX, ShardSample, write_shards
from lora_data.train.dataset import ShardDataset
from tests.augment.pictures import blob
from tests.report.outs import measured


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Shards of two characters: five pictures of one, one of the other."""
    samples: list[ShardSample] = []
    for character, count in (("luca", 5), ("zoe", 1)):
        for i in range(count):
            picture = np.ascontiguousarray(blob(300, 200, (20, 16, 170, 280), i)[0].permute(1, 2, 0).numpy())
            data = io.BytesIO()
            Image.fromarray(picture).save(data, "WEBP", lossless=True)
            files = {"webp": data.getvalue(), "txt": b"x"}
            samples.append(ShardSample(f"{character}_{i}", character, 200, 300, files, (60.0, 30.0, 120.0, 90.0)))
    write_shards(tmp_path / "shards", samples, max_bytes=10**9)
    return tmp_path


def rows() -> list[Record]:
    return [*(measured(f"luca_{i}", character="luca") for i in range(5)), measured("zoe_0", character="zoe")]


def preview(out: Path, config: dict[str, Any] | None = None, records: list[Record] | None = None):
    pictures = Pictures(out / "cache")
    tree = as_tree(parse_config({})) if config is None else config
    made = augmentation(out / "shards", tree, rows() if records is None else records, ["luca", "zoe"], pictures)
    pictures.write(out / "written")
    return made


def test_a_few_pictures_of_each_character_are_drawn_as_training_draws(out: Path):
    made = preview(out)
    assert made.remark == ""
    assert (made.background, made.resolution) == ("gray", 1024)
    assert [(c.name, c.images, [r.key for r in c.rows]) for c in made.characters] == [
        ("luca", 5, ["luca_0", "luca_2", "luca_4"]),
        ("zoe", 1, ["zoe_0"]),
    ]
    assert SAMPLES == 3
    draws = [d for c in made.characters for r in c.rows for d in r.draws]
    assert len(draws) == 4 * DRAWS
    for draw in draws:
        with Image.open(out / "written" / draw.url.removeprefix("thumbs/")) as picture:
            assert max(picture.size) == SIDE
    # the numbers are those of training: drawn from seed, epoch and key alone
    augment = CharacterAugment(parse_config({}), counts={"luca": 5, "zoe": 1})
    params = augment.draw(["luca_2"] * DRAWS, 0, characters=["luca"] * DRAWS, variants=range(DRAWS)).rows()
    shown = made.characters[0].rows[1].draws
    assert [d.numbers[:2] for d in shown] == [[f"crop {p['scale']:.2f}", f"turn {p['rotation']:+.1f}°"] for p in params]
    assert "at least 60% of it the character’s box" in made.policy


def test_the_same_shards_give_the_same_bytes(out: Path):
    preview(out)
    first = {p.name: p.read_bytes() for p in (out / "written" / "drawn").iterdir()}
    (out / "written").rename(out / "before")
    preview(out)
    assert {p.name: p.read_bytes() for p in (out / "written" / "drawn").iterdir()} == first


def test_the_runs_own_configuration_counts(out: Path):
    config = {
        "data": {"background": "#ff0000", "resolution": 512},
        "characters": {"luca": {"augment": {"enabled": False}}},
        "precompute": {"a later version": "knows more"},
    }
    made = preview(out, config)
    assert (made.background, made.resolution) == ("#ff0000", 512)
    assert made.characters[0].policy == "not augmented, as configured"
    assert made.policy == "", "they differ"
    assert all(d.numbers[:2] == ["crop 1.00", "turn +0.0°"] for d in made.characters[0].rows[0].draws)


@pytest.mark.parametrize(
    ("damage", "remark"),
    [
        ("no shards", "there are no shards beside this report"),
        ("no configuration", "run.json does not say the configuration"),
        ("other pictures", "the shards do not hold what the table says was kept"),
        ("nothing kept", "nothing was kept"),
        ("bad configuration", "augment.rotation must be"),
        ("a stranger", "nobody"),
        ("cut off", "OUT/shards/luca-000000.tar has 100 bytes"),
    ],
)
def test_why_there_is_no_preview_is_said(out: Path, damage: str, remark: str):
    config: dict[str, Any] | None = None
    records = rows()
    if damage == "no shards":
        (out / "shards" / INDEX).unlink()
    elif damage == "no configuration":
        config = {}
    elif damage == "other pictures":
        records = records[1:]
    elif damage == "nothing kept":
        records = [r.decide("rejected", "filter", "dark") for r in records]
    elif damage == "bad configuration":
        config = {"augment": {"rotation": [-90, 90]}}
    elif damage == "a stranger":
        config = {"characters": {"nobody": {}}}
    else:
        tar = out / "shards" / "luca-000000.tar"
        tar.write_bytes(tar.read_bytes()[:100])
    made = preview(out, config, records)
    assert remark in made.remark
    assert str(out) not in made.remark, "the page must not depend on where it lies"
    assert made.characters == []


def test_a_smaller_copy_is_drawn_alike(out: Path):
    """Crop and face are meant on the picture, whatever its size: half the size gives nearly the same."""
    dataset = ShardDataset(out / "shards")
    augment = CharacterAugment(parse_config({"augment": {"noise_probability": 0}}), counts={"luca": 5, "zoe": 1})
    picture = dataset.image(0)
    half = np.asarray(Image.fromarray(picture).resize((100, 150), Image.Resampling.BOX))
    whole, small = (drawn(dataset.samples[0], p, augment, draws=3, side=100) for p in (picture, half))
    for a, b in zip(whole, small, strict=True):
        assert (a.crop, a.turn, a.light, a.missed) == (b.crop, b.turn, b.light, b.missed)
        assert a.fills == pytest.approx(b.fills, abs=0.02)
        assert float(np.abs(a.picture.astype(int) - b.picture).mean()) < 6


def test_a_kept_preview_is_the_drawn_one_until_a_picture_changes(out: Path, monkeypatch: pytest.MonkeyPatch):
    (out / "cache").mkdir()
    tree = as_tree(parse_config({}))

    def shown(records: list[Record], config: dict[str, Any] = tree):
        pictures = Pictures(out / "cache")
        made = augmentation(out / "shards", config, records, ["luca", "zoe"], pictures, Kept(out / "cache"))
        return made, pictures.drawn()

    first = shown(rows())
    assert first == (preview(out), {p.name: p.read_bytes() for p in (out / "written" / "drawn").iterdir()})
    with monkeypatch.context() as without:
        without.setattr(module, "_draw", None)
        assert shown(rows()) == first, "nothing is drawn"
    other = as_tree(parse_config({"augment": {"crop_scales": [0.8]}}))
    assert shown(rows(), other)[0].policy != first[0].policy
    shard = next((out / "shards").glob("luca*.tar"))
    data = bytearray(shard.read_bytes())
    at = data.index(b"RIFF")
    data[at : at + 4] = b"JUNK"
    shard.write_bytes(data)
    assert "does not decode" in shown(rows())[0].remark, "a damaged shard is not passed over"
