from __future__ import annotations

import io
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lora_data.cli import main
from lora_data.config import parse_config
from lora_data.errors import ConfigError, ShardError
from lora_data.export import FORMATS, Format, export
from lora_data.shards import ShardSample, write_shards
from tests.train.pictures import write_small

CHARACTERS: dict[str, Any] = {"luca": {"token": "lvca boy", "repeats": 2.4}, "zoe": {"caption": "render of {token}"}}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("small") / "shards"
    return folder, write_small(folder, {"luca": 3, "zoe": 2})


def settings(**data: Any):
    return parse_config({"data": {"resolution": 64, "bucket_step": 8, **data}, "characters": CHARACTERS})


def on_gray(picture: np.ndarray) -> np.ndarray:
    alpha = picture[..., 3:] / 255
    return picture[..., :3] * alpha + 127.5 * (1 - alpha)


def test_kohya_gets_folders_with_repeats_and_the_matte_as_alpha(
    shards: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
):
    folder, pixels = shards
    assert export(folder, settings(), tmp_path / "out", "kohya") == 5
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"2_lvca boy", "3_zoe"}
    for key, picture in pixels.items():
        (path,) = (tmp_path / "out").rglob(f"{key}.png")
        written = np.asarray(Image.open(path)).astype(float)
        assert np.array_equal(written[..., 3], picture[..., 3])
        assert np.abs(written[..., :3] - on_gray(picture)).max() <= 1
    assert (tmp_path / "out" / "2_lvca boy" / "luca_000.txt").read_text() == "a 3d render of lvca boy\n"
    assert (tmp_path / "out" / "3_zoe" / "zoe_000.txt").read_text() == "render of zoe\n"


def test_an_imagefolder_has_its_metadata(shards: tuple[Path, dict[str, np.ndarray]], tmp_path: Path):
    folder, pixels = shards
    export(folder, settings(background="white"), tmp_path / "out", "imagefolder")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert {line["file_name"] for line in lines} == {f"{key}.png" for key in pixels}
    assert {line["text"] for line in lines} == {"a 3d render of lvca boy", "render of zoe"}
    image = Image.open(tmp_path / "out" / lines[0]["file_name"])
    assert image.mode == "RGB"
    clear = pixels[lines[0]["file_name"].removesuffix(".png")][..., 3] == 0
    assert (np.asarray(image)[clear] == 255).all()


def test_onetrainer_gets_concepts_with_masks(shards: tuple[Path, dict[str, np.ndarray]], tmp_path: Path):
    folder, pixels = shards
    export(folder, settings(), tmp_path / "out", "onetrainer")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"luca", "zoe"}
    mask = np.asarray(Image.open(tmp_path / "out" / "zoe" / "zoe_001-masklabel.png"))
    assert np.array_equal(mask, pixels["zoe_001"][..., 3])
    assert (tmp_path / "out" / "zoe" / "zoe_001.txt").is_file()


@pytest.mark.parametrize("layout", FORMATS)
def test_variants_are_different_draws_at_bucket_size_and_the_same_each_time(
    shards: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, layout: Format
):
    folder, _ = shards
    assert export(folder, settings(), tmp_path / "one", layout, variants=3) == 15
    export(folder, settings(), tmp_path / "two", layout, variants=3)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert files
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)
    pictures = [np.asarray(Image.open(p)) for p in sorted((tmp_path / "one").rglob("luca_001_v?.png"))]
    assert len(pictures) == 3
    assert len({p.tobytes() for p in pictures}) == 3
    assert all(p.shape[0] % 8 == 0 and p.shape[0] * p.shape[1] <= 64 * 64 for p in pictures)
    if layout == "kohya":
        assert {p.name for p in (tmp_path / "one").iterdir()} == {"1_lvca boy", "1_zoe"}


def test_the_command_exports(
    shards: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    arguments = ["export", str(shards[0]), "--format", "kohya", "--out", str(out), "--set", "data.resolution=64"]
    assert main([*arguments, "--variants", "2"]) == 0
    assert f"10 pictures: {out}" in capsys.readouterr().out
    assert main(arguments) == 2
    assert "new or empty" in capsys.readouterr().err


def test_what_is_wrong_is_named_and_nothing_is_written(shards: tuple[Path, dict[str, np.ndarray]], tmp_path: Path):
    with pytest.raises(ConfigError, match="nobody"):
        export(shards[0], parse_config({"characters": {"nobody": {}}}), tmp_path / "out", "kohya")
    with pytest.raises(ConfigError, match="variants"):
        export(shards[0], settings(), tmp_path / "out", "kohya", variants=-1)
    with pytest.raises(ShardError, match=r"no index.json"):
        export(tmp_path, parse_config({}), tmp_path / "out", "kohya")
    assert not (tmp_path / "out").exists()
    write_shards(tmp_path / "empty", [], max_bytes=100)
    assert export(tmp_path / "empty", parse_config({}), tmp_path / "none", "imagefolder") == 0


def test_a_token_never_leaves_the_folder(shards: tuple[Path, dict[str, np.ndarray]], tmp_path: Path):
    config = parse_config({"characters": {"luca": {"token": "../../x"}, "zoe": {"token": "a/b"}}})
    export(shards[0], config, tmp_path / "out", "kohya")
    assert {p.name for p in tmp_path.iterdir()} == {"out"}
    assert all(p.is_dir() and p.parent == tmp_path / "out" for p in (tmp_path / "out").iterdir())
    assert len(list((tmp_path / "out").rglob("*.png"))) == 5


PLAIN = parse_config({"data": {"resolution": 64, "bucket_step": 8}})


def shards_of(folder: Path, keys: dict[str, list[str]]) -> Path:
    """Shards with these keys by character; no two pictures have the same colours."""
    samples: list[ShardSample] = []
    for character in sorted(keys):
        for key in sorted(keys[character]):
            picture = np.full((64, 64, 4), 255, np.uint8)
            picture[..., :3] = 10 * len(samples)
            data = io.BytesIO()
            Image.fromarray(picture).save(data, "WEBP", lossless=True)
            samples.append(ShardSample(key, character, 64, 64, {"webp": data.getvalue(), "txt": b"x"}))
    write_shards(folder, samples, max_bytes=10**9)
    return folder


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize(
    ("keys", "variants", "met"),
    [
        ({"luca": ["A", "a", "b"]}, 0, {"A", "a"}),
        ({"luca": ["A", "b"], "zoe": ["a", "c"]}, 2, {"A", "a"}),
        ({"luca": ["a", "a_v1"]}, 2, set()),
        ({"luca": ["a", "a_V1"]}, 0, set()),
        ({"luca": ["same", "b"], "zoe": ["same"]}, 0, {"same"}),
    ],
)
def test_no_two_pictures_have_one_name_where_case_is_ignored(
    tmp_path: Path, layout: Format, keys: dict[str, list[str]], variants: int, met: set[str]
):
    folder = shards_of(tmp_path / "shards", keys)
    count = sum(map(len, keys.values())) * max(1, variants)
    found: list[list[str]] = []
    for out in (tmp_path / "one", tmp_path / "two"):
        with pytest.warns(UserWarning, match="case is ignored") if met else nullcontext():
            assert export(folder, PLAIN, out, layout, variants=variants) == count
        found.append(sorted(p.name for p in out.rglob("*.png") if not p.stem.endswith("-masklabel")))
        every = [p.name.casefold() for p in out.rglob("*.png")]
        assert len(set(every)) == len(every) == count * (2 if layout == "onetrainer" else 1)
    assert found[0] == found[1]
    stems = [name.removesuffix(".png") for name in found[0]]
    plain = {stem.rpartition("_v")[0] if variants else stem for stem in stems}
    assert {key for own in keys.values() for key in own} - plain == met, "only those that meet have another name"


def test_a_mask_does_not_take_another_picture_s_place(tmp_path: Path):
    folder = shards_of(tmp_path / "shards", {"luca": ["a", "a-masklabel"]})
    with pytest.warns(UserWarning, match="a hash is added"):
        export(folder, PLAIN, tmp_path / "out", "onetrainer")
    assert len(list((tmp_path / "out").rglob("*.png"))) == 4
    export(folder, PLAIN, tmp_path / "kohya", "kohya")
    assert {p.stem for p in (tmp_path / "kohya").rglob("*.png")} == {"a", "a-masklabel"}


@pytest.mark.parametrize(("layout", "refused"), [("kohya", True), ("onetrainer", True), ("imagefolder", False)])
def test_characters_that_would_share_a_folder_are_refused(tmp_path: Path, layout: Format, refused: bool):
    folder = shards_of(tmp_path / "shards", {"Ann": ["a"], "ann": ["b"]})
    expected = pytest.raises(ConfigError, match="'Ann' and 'ann' would share a folder") if refused else nullcontext()
    with expected:
        export(folder, PLAIN, tmp_path / "out", layout)
    assert (tmp_path / "out").exists() != refused, "nothing is written"


def test_characters_with_one_token_share_its_folder(tmp_path: Path):
    folder = shards_of(tmp_path / "shards", {"Ann": ["a"], "ann": ["b"]})
    one = parse_config({"data": {"resolution": 64}, "characters": {n: {"token": "ann"} for n in ("Ann", "ann")}})
    export(folder, one, tmp_path / "out", "kohya")
    assert len(list((tmp_path / "out").iterdir())) == 1
