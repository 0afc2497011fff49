from __future__ import annotations

from pathlib import Path

import pytest

from lora_data import ConfigError, load_config
from lora_data.config import as_tree, parse_config
from lora_data.shards import ShardSample, write_shards


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(text)
    return path


def test_the_defaults_are_the_strategys():
    p = load_config().precompute
    assert (p.colour.clip_limit, p.colour.tiles, p.colour.preserve_hue) == (2.0, 8, True)
    assert (p.filter.min_face_size, p.filter.blur_threshold, p.filter.edge_score) == (64, 80, 0.3)
    assert (p.filter.brightness_range, p.filter.saturation_range) == ((30, 220), (0.3, 2.0))
    assert (p.deduplicate.phash_threshold, p.deduplicate.ssim_threshold) == (8, 0.95)
    assert p.select.target == (200, 300)
    assert load_config().preset == "light"


def test_a_file_overrides_and_the_command_line_overrides_the_file(tmp_path: Path):
    path = written(tmp_path, 'preset = "light"\n[precompute.filter]\nblur_threshold = 60\nmin_face_size = 32\n')
    config = load_config(path, overrides=["precompute.filter.blur_threshold=50", "data.background=white"])
    assert (config.precompute.filter.blur_threshold, config.precompute.filter.min_face_size) == (50, 32)
    assert config.data.background == "white"


def test_a_character_inherits_the_shared_policy():
    config = parse_config(
        {"augment": {"noise_std": 0.005}, "characters": {"luca": {"augment": {"rotation": [-3, 3]}}, "mina": {}}}
    )
    luca, mina = config.characters["luca"].augment, config.characters["mina"].augment
    assert (luca.noise_std, luca.rotation, mina.noise_std) == (0.005, (-3, 3), 0.005)


@pytest.mark.parametrize(
    ("text", "needles"),
    [
        ("[precompute.filter]\nblur_treshold = 3", ["precompute.filter.blur_treshold", "not a key", "blur_threshold"]),
        ("[precompte]\nx = 1", ["precompte", "not a key", "precompute"]),
        ("[data]\nbatch_size = '4'", ["data.batch_size", "integer", "'4'"]),
        ("[data]\nbatch_size = 0", ["data.batch_size must be at least 1", "got 0"]),
        ("[data]\nresolution = 1000", ["data.resolution", "multiple of", "1000"]),
        ("[precompute.ingest]\nmax_pixels = 0", ["precompute.ingest.max_pixels must be"]),
        ("preset = 'heavy'", ["preset", "'light'", "'full'", "heavy"]),
        ("[augment]\nrotation = [-30, 30]", ["augment.rotation", "[-5, 5]", "-30"]),
        ("[augment]\nrotation = 3", ["augment.rotation", "got 3"]),
        ("[augment]\nhue = 0.1", ["augment.hue", "forbidden", "PBR"]),
        ("[augment]\nelastic_alpha = 0.1", ["augment.elastic_alpha", "forbidden", "rigid"]),
        ("[augment]\nhorizontal_flip = 0.5", ["augment.horizontal_flip", "forbidden", "symmetric"]),
        ("[characters.luca.augment]\nhorizontal_flip = 0.5", ["characters.luca.augment.horizontal_flip", "symmetric"]),
        ("[characters.luca.augment]\nperspective = 0.5", ["characters.luca.augment.perspective", "camera"]),
        ("[characters.luca]\nrepeat = 3", ["characters.luca.repeat", "not a key", "repeats"]),
        ("[characters.luca]\nrepeats = -1", ["characters.luca.repeats"]),
        ("characters = 3", ["characters", "got 3"]),
        ("[characters]\nluca = 3", ["characters.luca", "got 3"]),
        ("x = 1979-05-27", ["dates"]),
        ("[data]\nseed = nan", ["nan"]),
        ("this is not toml", ["not TOML"]),
    ],
)
def test_what_is_wrong_is_named_with_its_path_and_what_is_allowed(tmp_path: Path, text: str, needles: list[str]):
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text))
    for needle in needles:
        assert needle in str(caught.value), str(caught.value)


def test_a_flip_is_allowed_for_a_symmetric_character():
    config = parse_config({"characters": {"egg": {"symmetric": True, "augment": {"horizontal_flip": 0.5}}}})
    assert config.characters["egg"].augment.horizontal_flip == 0.5


def test_every_finding_is_listed():
    with pytest.raises(ConfigError) as caught:
        parse_config({"data": {"batch_size": 0}, "preset": 3})
    assert "data.batch_size" in str(caught.value)
    assert "preset" in str(caught.value)


@pytest.mark.parametrize("override", ["nonsense", "=3", "preset.x=3"])
def test_a_malformed_override_is_named(override: str):
    with pytest.raises(ConfigError, match="--set"):
        load_config(overrides=["preset=light", override])


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.toml")


def test_the_tree_reads_back_to_the_same_configuration():
    config = load_config(overrides=["characters.luca.token=luca", "augment.noise_std=0.005"])
    assert parse_config(as_tree(config)) == config


def test_what_a_person_decided_is_taken_where_the_file_says_nothing(tmp_path: Path):
    sample = ShardSample("a", "luca", 4, 4, {"webp": b""})
    told = {"luca": {"symmetric": True, "augment": {"horizontal_flip": 0.5, "rotation": [-1, 1]}}}
    write_shards(tmp_path / "shards", [sample], max_bytes=10_000, characters=told)
    path = tmp_path / "train.toml"
    path.write_text(f'[data]\nshards = "{tmp_path / "shards"}"\n[characters.luca.augment]\nrotation = [-2, 2]\n')
    with pytest.warns(UserWarning, match=r"luca.augment.rotation: the configuration's \[-2, 2\] is used") as said:
        luca = load_config(path).characters["luca"]
    assert len(said) == 1
    assert (luca.symmetric, luca.augment.horizontal_flip, luca.augment.rotation) == (True, 0.5, (-2, 2))
    assert load_config(path, decided=False).characters["luca"].symmetric is False
    assert load_config(shards=tmp_path / "shards").characters["luca"].augment.rotation == (-1, 1)
    # who takes the symmetry back takes the flip back
    with pytest.warns(UserWarning, match="symmetric: the configuration's False is used"):
        luca = load_config(overrides=["characters.luca.symmetric=false"], shards=tmp_path / "shards").characters["luca"]
    assert luca.augment.horizontal_flip == 0
