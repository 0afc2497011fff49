from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_data import CharacterAugment, ShardDataset, load_config, make_loader
from lora_data.download import CACHE
from lora_data.errors import ShardError
from lora_data.remote import local_shards
from tests.train.pictures import write_small
from tests.web import Faults, served


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path, dict[str, Any], Faults]]:
    """Shards over a local web server, as a studio would serve them: URL, folder, pixels, what was asked for."""
    pixels = write_small(tmp_path / "shards", {"luca": 5, "zoe": 3})
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    faults = Faults()
    with served(tmp_path, faults) as url:
        yield f"{url}/shards", tmp_path / "shards", pixels, faults


def test_remote_shards_are_copied_once_and_read_like_others(shop: tuple[str, Path, dict[str, Any], Faults]):
    url, folder, pixels, faults = shop
    dataset = ShardDataset(url)
    assert {s.key: s.image.tolist() for s in (dataset[i] for i in range(len(dataset)))} == {
        key: image.tolist() for key, image in pixels.items()
    }
    first = faults.names
    assert sorted(first) == sorted(["index.json", *(p.name for p in folder.glob("*.tar"))])
    configs = [load_config(overrides=[f"data.shards={where}", "data.resolution=64"]) for where in (f"{url}/", folder)]
    remote, local = (make_loader(config, num_workers=1) for config in configs)
    for ours, theirs in zip(remote, local, strict=True):
        assert list(ours.sample_keys) == list(theirs.sample_keys)
        assert np.array_equal(ours.images.numpy(), theirs.images.numpy())
    CharacterAugment(configs[0])
    assert {*faults.names[len(first) :]} == {"index.json"}


def test_a_copy_that_was_cut_off_is_completed(shop: tuple[str, Path, dict[str, Any], Faults]):
    url, folder, _, faults = shop
    copy = local_shards(url)
    damaged = copy / next(folder.glob("*.tar")).name
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    faults.asked.clear()
    assert local_shards(url) == copy
    assert faults.names == ["index.json", damaged.name]
    assert damaged.read_bytes() == (folder / damaged.name).read_bytes()
    assert [p.name for p in copy.iterdir() if p.name.startswith(".")] == []


def test_what_does_not_match_the_index_is_not_kept(shop: tuple[str, Path, dict[str, Any], Faults]):
    url, folder, _, _ = shop
    shard = min(folder.glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(ShardError, match=rf"{shard.name} has SHA-256"):
        local_shards(url)
    shard.unlink()
    with pytest.raises(ShardError, match=rf"{shard.name} cannot be fetched.*404"):
        local_shards(url)


def test_without_a_network_the_copy_is_used_and_that_is_said(shop: tuple[str, Path, dict[str, Any], Faults]):
    url, folder, _, _ = shop
    gone = url.replace("/shards", "/elsewhere")
    with pytest.raises(ShardError, match=r"elsewhere/index.json cannot be fetched"):
        local_shards(gone)
    copy = local_shards(url)
    (folder / "index.json").unlink()
    with pytest.warns(UserWarning, match="its copy in"):
        assert local_shards(url) == copy


def test_an_index_cannot_name_a_file_outside(shop: tuple[str, Path, dict[str, Any], Faults]):
    url, folder, _, _ = shop
    index = json.loads((folder / "index.json").read_text())
    index["shards"][0]["name"] = "../../escaped.tar"
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(ShardError, match=r"names a shard '\.\./\.\./escaped"):
        local_shards(url)


def test_a_file_url_works_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    write_small(tmp_path / "shards", {"luca": 2})
    assert len(ShardDataset((tmp_path / "shards").as_uri())) == 2
