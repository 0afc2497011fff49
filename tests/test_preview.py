from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lora_data.augment import CharacterAugment
from lora_data.cli import main
from lora_data.config import parse_config
from lora_data.errors import ConfigError, ShardError
from lora_data.preview import CELL, GAP, HEADER, TEXT, write_preview
from lora_data.shards import ShardSample, read_index, write_shards
from lora_data.train.dataset import ShardDataset
from tests.augment.pictures import blob


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    samples: list[ShardSample] = []
    for character, count in (("luca", 7), ("machiavelli", 2)):
        for i in range(count):
            picture = blob(120, 80 + 10 * i, (8, 6, 70, 110), i)[0].permute(1, 2, 0).numpy()
            data = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(picture)).save(data, "WEBP", lossless=True)
            samples.append(
                ShardSample(
                    f"{character}_{i}", character, picture.shape[1], 120, {"webp": data.getvalue(), "txt": b"x"}
                )
            )
    write_shards(tmp_path / "shards", samples, max_bytes=10**9)
    return tmp_path / "shards"


def cell(page: np.ndarray, row_top: int, place: int) -> np.ndarray:
    left = GAP + place * (CELL + GAP)
    return page[row_top : row_top + CELL, left : left + CELL]


def test_the_grid_has_a_row_per_sample_and_shows_what_training_draws(shards: Path, tmp_path: Path):
    out = tmp_path / "deep" / "grid.png"
    summary = write_preview(shards, parse_config({}), out, samples=3, draws=4)
    page = np.asarray(Image.open(out))
    row = CELL + TEXT + GAP
    assert page.shape == (2 * HEADER + (3 + 2) * row + GAP, GAP + 5 * (CELL + GAP), 3)
    assert {name: sum(counts.values()) for name, counts in summary.counts().items()} == {"luca": 12, "machiavelli": 8}
    cells = [cell(page, HEADER, place) for place in range(5)]
    assert all(c.std() > 10 for c in cells)
    assert all(np.abs(cells[1].astype(int) - c).mean() > 2 for c in cells[2:])
    # Another epoch, other draws; the same again, the same bytes.
    again, other = tmp_path / "again.png", tmp_path / "other.png"
    write_preview(shards, parse_config({}), again, samples=3, draws=4)
    write_preview(shards, parse_config({}), other, samples=3, draws=4, epoch=1)
    assert again.read_bytes() == out.read_bytes()
    assert other.read_bytes() != out.read_bytes()


def test_the_matte_is_outlined_and_a_switched_off_character_is_not_changed(shards: Path, tmp_path: Path):
    out = tmp_path / "grid.png"
    write_preview(shards, parse_config({"augment": {"enabled": False}}), out, samples=1, draws=1)
    page = np.asarray(Image.open(out)).astype(int)
    original, drawn = cell(page, HEADER, 0), cell(page, HEADER, 1)
    outline = (drawn == (0, 200, 120)).all(axis=2)
    assert outline.sum() > 100
    assert np.array_equal(original[~outline], drawn[~outline])


def test_the_command_writes_it_and_names_it(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "luca.toml").write_text(
        '[characters.luca.augment]\nrotation = [-3, 3]\n[data]\nbackground = "random"\n'
    )
    arguments = ["preview", str(shards), "--config", "luca.toml", "--out", "grid.png", "--samples", "2", "--draws", "2"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "luca: 4 crops" in text
    assert "preview: grid.png" in text
    assert (tmp_path / "grid.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (["--set", "characters.lucca.symmetric=true"], "[characters.lucca] names a character that is not in the data"),
        (["--set", "augment.hue=0.1"], "forbidden"),
        (["--out", "grid.tiff"], "--out must be"),
        (["--epoch", "-1"], "--epoch"),
    ],
)
def test_wrong_configurations_exit_2(
    shards: Path, arguments: list[str], needle: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    given = [] if "--out" in arguments else ["--out", str(tmp_path / "x.png")]
    assert main(["preview", str(shards), *given, *arguments]) == 2
    assert needle in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_damage_is_named(shards: Path, tmp_path: Path):
    index = read_index(shards)
    tar = shards / index.samples[0].shard
    data = bytearray(tar.read_bytes())
    offset, size = index.samples[0].files["webp"]
    data[offset : offset + size] = b"\0" * size
    tar.write_bytes(data)
    with pytest.raises(ShardError, match=r"luca_0.webp in shard .*luca-000000.tar does not decode"):
        write_preview(shards, parse_config({}), tmp_path / "x.png")
    write_shards(tmp_path / "empty", [], max_bytes=10)
    with pytest.raises(ShardError, match="holds no sample"):
        write_preview(tmp_path / "empty", parse_config({}), tmp_path / "x.png")
    with pytest.raises(ConfigError, match="nobody"):
        write_preview(tmp_path / "shards", parse_config({"characters": {"nobody": {}}}), tmp_path / "x.png")


def test_the_preview_is_the_trainings_own_draw(shards: Path, tmp_path: Path):
    """The first drawn cell is what `CharacterAugment` gives for that key at that size."""
    out = tmp_path / "grid.png"
    write_preview(shards, parse_config({}), out, samples=1, draws=1)
    augment = CharacterAugment(parse_config({}), counts={"luca": 7, "machiavelli": 2})
    dataset = ShardDataset(shards)
    assert dataset.samples[0].key == "luca_0"
    picture = dataset.image(0).copy()
    from lora_data.augment import Batch

    batch = Batch(
        images=torch.from_numpy(picture)[None].permute(0, 3, 1, 2),
        sample_keys=["luca_0"],
        characters=["luca"],
        target=(CELL, round(CELL * picture.shape[1] / picture.shape[0])),
    )
    pixels = ((augment(batch).pixel_values[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    drawn = cell(np.asarray(Image.open(out)), HEADER, 1)
    left = (CELL - pixels.shape[1]) // 2
    shown = drawn[: pixels.shape[0], left : left + pixels.shape[1]]
    outline = (shown == (0, 200, 120)).all(axis=2)
    assert np.array_equal(shown[~outline], pixels[~outline])
