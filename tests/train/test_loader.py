from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_data import CharacterAugment
from lora_data.augment import Batch
from lora_data.config import Config, parse_config
from lora_data.errors import BatchError, ConfigError, ShardError
from lora_data.train.loader import Loader, make_loader
from tests.train.pictures import write_small


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "shards"
    write_small(folder, {"luca": 11, "zoe": 4}, caption="{token}, a, b, c, d")
    return folder


def config(shards: Path, **data: Any) -> Config:
    tree: dict[str, Any] = {
        "data": {
            "shards": str(shards),
            "resolution": 64,
            "bucket_step": 8,
            "batch_size": 3,
            "captions": {"shuffle": True},
        },
        "characters": {"luca": {"token": "lvca", "repeats": 1.5}},
    }
    tree["data"].update({"captions": {"shuffle": True}, **data})
    return parse_config(tree)


def same(first: Batch, second: Batch) -> bool:
    return (
        torch.equal(first.images, second.images)
        and list(first.sample_keys) == list(second.sample_keys)
        and first.captions == second.captions
        and first.variants == second.variants
        and first.target == second.target
        and first.epoch == second.epoch
        and first.mattes is not None
        and second.mattes is not None
        and torch.equal(first.mattes.rows, second.mattes.rows)
    )


def test_workers_of_any_kind_and_number_give_the_same_epochs(shards: Path):
    kinds: list[dict[str, Any]] = [
        *({"num_workers": n} for n in (0, 1, 2, 4)),
        *({"num_workers": n, "processes": True} for n in (1, 2)),
    ]
    loaders = [make_loader(config(shards), **kind) for kind in kinds]
    epochs = [[list(loader) for _ in range(2)] for loader in loaders]
    for other in epochs[1:]:
        for ours, theirs in zip(epochs[0], other, strict=True):
            assert len(ours) == len(theirs)
            assert all(same(a, b) for a, b in zip(ours, theirs, strict=True))
    assert len(epochs[0][0]) == len(loaders[0])
    assert [b.captions for b in epochs[0][0]] != [b.captions for b in epochs[0][1]]


def test_an_epoch_holds_each_image_as_often_as_configured(shards: Path):
    batches = list(make_loader(config(shards), num_workers=2))
    found: dict[str, int] = {}
    for batch in batches:
        assert len(batch.images) <= 3
        for key in batch.sample_keys:
            found[key] = found.get(key, 0) + 1
    assert sorted(found.values()) == [1] * 5 + [2] * 6 + [3] * 4  # luca 1.5 times, zoe "auto": three times
    assert all(c.split(", ") != [""] and ("lvca" in c or "zoe" in c) for b in batches for c in b.captions or ())


@pytest.mark.parametrize("workers", [0, 2])
def test_it_stops_after_every_batch_and_goes_on_the_same(shards: Path, workers: int):
    whole = list(make_loader(config(shards), num_workers=workers))
    following = make_loader(config(shards), num_workers=workers)
    following.set_epoch(1)
    second = list(following)
    for done in range(1, len(whole) + 1):
        loader = make_loader(config(shards), num_workers=workers)
        for number, _ in enumerate(loader, start=1):
            if number == done:
                break
        resumed = make_loader(config(shards), num_workers=workers)
        resumed.load_state_dict(loader.state_dict())
        rest = list(resumed)
        expected = whole[done:] if done < len(whole) else second
        assert len(rest) == len(expected)
        assert all(same(a, b) for a, b in zip(rest, expected, strict=True))
    with pytest.raises(BatchError, match="other samples or settings"):
        make_loader(config(shards, seed=9)).load_state_dict(make_loader(config(shards)).state_dict())


def test_its_batches_go_through_the_augmentation(shards: Path):
    settings = config(shards)
    augment = CharacterAugment(settings, backend="eager")
    for batch in make_loader(settings, num_workers=2):
        made = augment(batch)
        assert batch.target is not None
        assert made.pixel_values.shape == (len(batch.images), 3, *batch.target)
        assert made.captions == batch.captions
        measured = dataclasses.replace(batch, mattes=None)
        assert torch.equal(augment(measured).pixel_values, made.pixel_values)


def test_ranks_see_different_batches(shards: Path):
    parts = [list(make_loader(config(shards), rank=rank, world=2)) for rank in range(2)]
    assert len(parts[0]) == len(parts[1])
    assert not any(same(a, b) for a in parts[0] for b in parts[1][:-1])


def test_a_damaged_sample_stops_or_is_skipped_and_counted(tmp_path: Path):
    write_small(tmp_path / "shards", {"luca": 6})
    loader = make_loader(config(tmp_path / "shards", batch_size=2), num_workers=2)
    entry = loader.dataset.samples[2]
    tar = tmp_path / "shards" / entry.shard
    data = bytearray(tar.read_bytes())
    offset, size = entry.files["webp"]
    data[offset : offset + size] = bytes(size)
    tar.write_bytes(data)
    with pytest.raises(ShardError, match=r"luca_002.webp in shard"):
        list(loader)
    for workers, processes in ((2, False), (1, True)):
        settings = config(tmp_path / "shards", batch_size=1, on_error="skip")
        skipping = make_loader(settings, num_workers=workers, processes=processes)
        keys = [key for batch in skipping for key in batch.sample_keys]
        assert "luca_002" not in keys
        assert len(set(keys)) == 5
        ((message, count),) = skipping.skipped.items()
        assert "luca_002.webp" in message
        assert count in (1, 2)


def test_what_does_not_fit_the_data_is_named(shards: Path, tmp_path: Path):
    tree = {"data": {"shards": str(shards)}, "characters": {"lucca": {}}}
    with pytest.raises(ConfigError, match=r"\[characters.lucca\].*it has: luca, zoe"):
        make_loader(parse_config(tree))
    with pytest.raises(ShardError, match=r"no index.json"):
        make_loader(config(tmp_path))
    with pytest.raises(ConfigError, match="num_workers"):
        make_loader(config(shards), num_workers=-1)
    assert isinstance(make_loader(config(shards)), Loader)


def test_a_face_is_kept_whole_where_one_was_found(tmp_path: Path):
    """Faces in a corner, which a crop of .8 would often cut; the samples without one say so by NaN."""
    faces = {f"luca_{i:03d}": (2.0, 3.0, 14.0, 17.0) for i in range(0, 8, 2)}
    write_small(tmp_path / "shards", {"luca": 8}, caption="a", faces=faces)
    settings = config(tmp_path / "shards", batch_size=4)
    augment = CharacterAugment(settings)
    seen = moved = 0
    for batch in make_loader(settings):
        assert batch.faces is not None
        for row, key in enumerate(batch.sample_keys):
            known = torch.tensor(faces.get(key, (torch.nan,) * 4))
            assert torch.equal(batch.faces[row].nan_to_num(-1), known.nan_to_num(-1))
            seen += key in faces
        plain = augment(dataclasses.replace(batch, faces=None))
        moved += not torch.equal(augment(batch).crop_top_lefts, plain.crop_top_lefts)
    assert seen > 0
    assert moved > 0  # the crop made room for a face that it would have cut
    write_small(tmp_path / "none", {"luca": 2}, caption="a")
    assert all(batch.faces is None for batch in make_loader(config(tmp_path / "none")))
