from __future__ import annotations

import io
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lora_data.errors import ShardError
from lora_data.shards import INDEX, ShardSample, write_shards
from lora_data.train.dataset import ShardDataset
from lora_data.train.decode import decode_rgba
from tests.train.pictures import write_small


def test_it_gives_what_was_written(tmp_path: Path):
    pixels = write_small(tmp_path / "shards", {"luca": 12, "zoe": 5}, caption="größe, {token}")
    dataset = ShardDataset(tmp_path / "shards")
    assert len(dataset) == 17
    assert len({s.shard for s in dataset.samples}) > 2
    for place in range(len(dataset)):
        sample = dataset[place]
        assert np.array_equal(sample.image, pixels[sample.key])
        assert sample.character == sample.key.partition("_")[0]
        assert sample.caption == "größe, {token}"


def test_streaming_gives_the_same_samples_through_webdataset(tmp_path: Path):
    pixels = write_small(tmp_path / "shards", {"luca": 6}, caption="x")
    urls = sorted(str(p) for p in (tmp_path / "shards").glob("*.tar"))
    streamed = list(ShardDataset.stream(urls))
    assert [s.key for s in streamed] == sorted(pixels)
    assert all(np.array_equal(s.image, pixels[s.key]) and s.character == "luca" and s.caption == "x" for s in streamed)


def test_the_cache_holds_what_fits_and_is_the_same(tmp_path: Path):
    pixels = write_small(tmp_path / "shards", {"luca": 9})
    one = sum(p.nbytes for p in list(pixels.values())[:4]) + 10
    dataset = ShardDataset(tmp_path / "shards", cache_gb=one / 1e9)
    first = [dataset.image(i) for i in range(9)]
    assert dataset._cached <= one
    assert 3 <= len(dataset._cache) <= 5
    again = [dataset.image(i) for i in range(9)]
    assert sum(a is b for a, b in zip(first, again, strict=True)) == len(dataset._cache)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    with pytest.raises(ValueError, match="read-only"):
        first[0][0, 0, 0] = 1
    assert ShardDataset(tmp_path / "shards").image(0) is not ShardDataset(tmp_path / "shards").image(0)


def test_threads_and_pickles_read_the_same(tmp_path: Path):
    pixels = write_small(tmp_path / "shards", {"luca": 10})
    dataset = ShardDataset(tmp_path / "shards", cache_gb=1)
    dataset.image(0)
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda i: dataset[i % 10], range(80)))
    assert all(np.array_equal(s.image, pixels[s.key]) for s in many)
    copied = pickle.loads(pickle.dumps(dataset))
    assert not copied._cache
    assert np.array_equal(copied.image(3), dataset.image(3))


def test_damage_names_shard_and_sample(tmp_path: Path):
    write_small(tmp_path / "shards", {"luca": 4})
    dataset = ShardDataset(tmp_path / "shards")
    tar = tmp_path / "shards" / dataset.samples[1].shard
    data = bytearray(tar.read_bytes())
    offset, size = dataset.samples[1].files["webp"]
    data[offset : offset + size] = bytes(size)
    tar.write_bytes(data)
    with pytest.raises(ShardError, match=r"luca_001.webp in shard .*luca-000000.tar does not decode"):
        ShardDataset(tmp_path / "shards").image(1)
    index = json.loads((tmp_path / "shards" / INDEX).read_text())
    index["samples"][0]["width"] += 1
    (tmp_path / "shards" / INDEX).write_text(json.dumps(index))
    with pytest.raises(ShardError, match=r"luca_000.webp .* is 30 x 40 px, the index says 31 x 40"):
        ShardDataset(tmp_path / "shards").image(0)
    late = ShardDataset(tmp_path / "shards")
    tar.unlink()
    with pytest.raises(ShardError, match=r"luca_000 cannot be read from shard .*luca-000000.tar"):
        late.image(0)
    with pytest.raises(ShardError, match="is missing"):
        ShardDataset(tmp_path / "shards")


def test_a_shard_that_is_cut_off_later_is_named(tmp_path: Path):
    write_small(tmp_path / "shards", {"luca": 4})
    dataset = ShardDataset(tmp_path / "shards")
    tar = tmp_path / "shards" / dataset.samples[-1].shard
    tar.write_bytes(tar.read_bytes()[: dataset.samples[-1].files["webp"][0] + 5])
    with pytest.raises(ShardError, match=r"ends inside luca_003.webp"):
        dataset.image(3)


def test_a_sample_without_a_picture_or_caption(tmp_path: Path):
    write_shards(tmp_path / "shards", [ShardSample("k", "c", 3, 3, {"txt": b"x"})], max_bytes=10**6)
    with pytest.raises(ShardError, match=r"has no .webp; it has: txt"):
        ShardDataset(tmp_path / "shards").image(0)
    with pytest.raises(ShardError, match="has no picture"):
        list(ShardDataset.stream(str(tmp_path / "shards" / "c-000000.tar")))
    write_small(tmp_path / "other", {"luca": 1})
    assert ShardDataset(tmp_path / "other").caption(0) == ""


@pytest.mark.parametrize(
    ("lineage", "expected"),
    [
        (b'{"source": "a.png", "caption": "mine"}', "text"),
        (b'{"source": "a.png"}', ""),  # the text was made from a template, which may have changed since
        (b'{"other": 1}', "text"),
        (b"no json", "text"),
        (b"[1]", "text"),
    ],
)
def test_only_a_samples_own_caption_counts(tmp_path: Path, lineage: bytes, expected: str):
    picture = io.BytesIO()
    Image.new("RGBA", (8, 8), (9, 9, 9, 255)).save(picture, "WEBP", lossless=True)
    files = {"webp": picture.getvalue(), "txt": b"text", "json": lineage}
    write_shards(tmp_path / "shards", [ShardSample("k", "c", 8, 8, files)], max_bytes=10**6)
    assert ShardDataset(tmp_path / "shards").caption(0) == expected
    (streamed,) = ShardDataset.stream(str(tmp_path / "shards" / "c-000000.tar"))
    assert streamed.caption == expected


@pytest.mark.parametrize("file_format", ["WEBP", "PNG"])
@pytest.mark.parametrize("mode", ["RGBA", "RGB", "LA", "P", "L"])
def test_any_picture_decodes_to_rgba_alike_with_and_without_opencv(
    file_format: str, mode: str, monkeypatch: pytest.MonkeyPatch
):
    random = np.random.default_rng(0).integers(0, 256, (20, 24, 4), dtype=np.uint8)
    random[..., 3] = np.where(random[..., 3] > 99, 255, random[..., 3])
    buffer = io.BytesIO()
    Image.fromarray(random).convert(mode).save(buffer, file_format, lossless=True, exact=True)
    with_opencv = decode_rgba(buffer.getvalue(), "here")
    monkeypatch.setattr("lora_data.train.decode._opencv", lambda: None)
    without = decode_rgba(buffer.getvalue(), "here")
    assert with_opencv.shape == without.shape == (20, 24, 4)
    assert np.array_equal(with_opencv, without)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"RIFF\0\0\0\0WEBP"])
def test_what_is_no_picture_is_named(data: bytes):
    with pytest.raises(ShardError, match="here does not decode"):
        decode_rgba(data, "here")
