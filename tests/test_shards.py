from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import tarfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webdataset.compat import WebDataset

from lora_data.errors import ShardError
from lora_data.shards import Later, ShardSample, read_index, write_shards


def sample(character: str, key: str, size: int = 100) -> ShardSample:
    files = {"webp": key.encode() * size, "json": json.dumps({"key": key}).encode(), "txt": f"a {character}".encode()}
    return ShardSample(key, character, 10, 20, files)


SAMPLES = [sample("bruno", f"b{i}") for i in range(5)] + [sample("mina", f"m{i}") for i in range(3)]


def test_offsets_point_at_the_bytes(tmp_path: Path):
    index = write_shards(tmp_path / "shards", SAMPLES, max_bytes=10_000)
    assert read_index(tmp_path / "shards") == index
    by_key = {s.key: s for s in SAMPLES}
    assert len(index.samples) == len(SAMPLES)
    for entry in index.samples:
        data = (tmp_path / "shards" / entry.shard).read_bytes()
        for suffix, (offset, size) in entry.files.items():
            assert data[offset : offset + size] == by_key[entry.key].files[suffix]
    for shard in index.shards:
        data = (tmp_path / "shards" / shard.name).read_bytes()
        assert (shard.bytes, shard.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its files to the gc
def test_webdataset_opens_them(tmp_path: Path):
    write_shards(tmp_path / "shards", SAMPLES, max_bytes=10_000)
    urls = sorted(str(p) for p in (tmp_path / "shards").glob("*.tar"))
    found = {s["__key__"]: s for s in WebDataset(urls, shardshuffle=False, empty_check=False)}
    assert set(found) == {s.key for s in SAMPLES}
    assert found["m1"]["txt"] == b"a mina"
    gc.collect()


def test_a_shard_holds_one_character_and_is_closed_before_it_is_too_large(tmp_path: Path):
    index = write_shards(tmp_path / "shards", [sample("mina", f"m{i}", 2000) for i in range(6)], max_bytes=14_000)
    assert [s.name for s in index.shards] == ["mina-000000.tar", "mina-000001.tar", "mina-000002.tar"]
    index = write_shards(tmp_path / "shards", SAMPLES, max_bytes=10**9)
    assert [s.name for s in index.shards] == ["bruno-000000.tar", "mina-000000.tar"]
    assert sorted(p.name for p in (tmp_path / "shards").iterdir()) == [
        "bruno-000000.tar",
        "index.json",
        "mina-000000.tar",
    ]


@settings(max_examples=30, deadline=None)
@given(names=st.sets(st.text(min_size=1, max_size=60).filter(lambda t: t.isprintable()), min_size=1, max_size=5))
def test_any_character_name_becomes_a_file_of_its_own(tmp_path_factory: pytest.TempPathFactory, names: set[str]):
    folder = tmp_path_factory.mktemp("any") / "shards"
    index = write_shards(folder, [sample(n, f"k{i}") for i, n in enumerate(sorted(names))], max_bytes=10**6)
    assert len({s.name for s in index.shards}) == len(names)
    assert {s.character for s in index.shards} == names
    assert all((folder / s.name).parent == folder for s in index.shards)


def test_same_samples_same_bytes(tmp_path: Path):
    for name in ("a", "b"):
        write_shards(tmp_path / name, SAMPLES, max_bytes=10_000)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    with tarfile.open(tmp_path / "a" / "bruno-000000.tar") as tar:
        assert {(m.mtime, m.uid, m.uname) for m in tar} == {(0, 0, "")}


def test_no_sample_is_a_valid_index(tmp_path: Path):
    write_shards(tmp_path / "shards", [], max_bytes=10)
    assert read_index(tmp_path / "shards").samples == ()


def test_unsorted_samples_and_illegal_keys_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="sorted"):
        write_shards(tmp_path / "s", [sample("a", "k2"), sample("a", "k1")], max_bytes=10)
    with pytest.raises(ValueError, match=r"letters, digits"):
        write_shards(tmp_path / "s", [sample("a", "k.1")], max_bytes=10)


def test_what_is_missing_or_changed_is_named(tmp_path: Path):
    folder = tmp_path / "shards"
    with pytest.raises(ShardError, match=r"no index\.json"):
        read_index(folder)
    write_shards(folder, SAMPLES, max_bytes=10**6)
    with (folder / "mina-000000.tar").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ShardError, match=r"has .* bytes, the index says"):
        read_index(folder)
    (folder / "mina-000000.tar").unlink()
    with pytest.raises(ShardError, match="is missing"):
        read_index(folder)
    (folder / "index.json").write_text("{}")
    with pytest.raises(ShardError, match="cannot be read"):
        read_index(folder)
    (folder / "index.json").write_text('{"format": 99}')
    with pytest.raises(ShardError, match="has format 99"):
        read_index(folder)


def test_a_face_goes_into_the_index_and_an_index_without_faces_is_read(tmp_path: Path):
    faced = dataclasses.replace(SAMPLES[0], face=(1.5, 2.0, 7.25, 9.0))
    write_shards(tmp_path / "shards", [faced, *SAMPLES[1:]], max_bytes=10_000)
    index = read_index(tmp_path / "shards")
    assert [s.face for s in index.samples] == [(1.5, 2.0, 7.25, 9.0), *[None] * 7]
    path = tmp_path / "shards" / "index.json"
    content = json.loads(path.read_text())
    for entry in content["samples"]:
        del entry["face"]
    path.write_text(json.dumps(content))
    assert {s.face for s in read_index(tmp_path / "shards").samples} == {None}
    content["samples"][0]["face"] = [1, 2]
    path.write_text(json.dumps(content))
    with pytest.raises(ShardError, match="cannot be read"):
        read_index(tmp_path / "shards")


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=12),
    most=st.integers(1, 20_000),
    workers=st.integers(1, 4),
)
def test_content_read_later_in_any_thread_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], most: int, workers: int
):
    root = tmp_path_factory.mktemp("later")
    now: list[ShardSample] = []
    later: list[ShardSample] = []
    for i, size in sorted(enumerate(sizes), key=lambda pair: ("ab"[pair[0] % 2], pair[0])):
        files = {"webp": bytes([i]) * size, "txt": b"a caption"}
        now.append(ShardSample(f"k{i:02d}", "ab"[i % 2], 1, 1, files))
        promised = {suffix: Later(len(data), partial(bytes, data)) for suffix, data in files.items()}
        later.append(dataclasses.replace(now[-1], files=promised))
    written = write_shards(root / "now", now, max_bytes=most)
    assert write_shards(root / "later", later, max_bytes=most, workers=workers) == written
    for path in (root / "now").iterdir():
        assert path.read_bytes() == (root / "later" / path.name).read_bytes()


def test_content_of_another_size_than_it_was_said_ends_the_run(tmp_path: Path):
    files = {"webp": Later(5, lambda: b"four")}
    with pytest.raises(RuntimeError, match=r"k.webp has 4 bytes"):
        write_shards(tmp_path / "shards", [ShardSample("k", "a", 1, 1, files)], max_bytes=10_000)
