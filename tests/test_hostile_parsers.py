"""Whatever bytes a parser is given, it returns a value or raises the error that it documents."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lora_data.config import load_config, parse_config
from lora_data.errors import ConfigError, ImageError, ShardError
from lora_data.manifest import Record
from lora_data.review.file import parse_decisions, read_decisions
from lora_data.sam2 import judge, read_masks
from lora_data.shards import ShardSample, parse_index, write_shards
from lora_data.sources import Numbers, annotations_in, read_sidecar
from lora_data.table import write_table

Value = TypeVar("Value")
SIZE = (6, 8)
LIMITS = {"background_border": 0.4, "part_overlap": 0.9, "same_overlap": 0.95}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([48, 6, 8, 10**20, -1, 10**400]),
    st.floats(),
    st.text(alphabet=st.characters(), max_size=12),
    st.sampled_from(["\ud800", "0" * 20, "a/../b.tar", "a.tar", "x" * 300]),
)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=6), v, max_size=4), max_leaves=8
)


def one_of_keys(*keys: str, deep: st.SearchStrategy[Any] = values) -> st.SearchStrategy[dict[str, Any]]:
    """Tables of these keys, each of which may be missing or hold anything."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(keys, deep))


def dumped(value: object) -> bytes:
    return json.dumps(value).encode()


def outcome(parse: Callable[[], Value], reason: str) -> Value | None:
    """What a parser returned; None where it raised an error of this reason whose message a table holds."""
    caught: ImageError
    try:
        return parse()
    except ImageError as error:
        caught = error
    assert caught.reason == reason
    assert len(caught.message.encode()) < 2500
    return None


# ---- JSON sidecars

sidecars = st.binary(max_size=60) | st.one_of(
    values, one_of_keys("frame", "instance", "track", "track_id", "object_id", "scene", "shot")
).map(dumped)


@given(data=sidecars)
@example(b'{"track": "\\ud800"}')
@example(b'{"frame": 1' + b"0" * 30 + b"}")
@example(b'{"frame": ' + b"9" * 5000 + b"}")
@example(b"[" * 100_000)
@example(b"\xff\xfe\x00")
@example(b"\xef\xbb\xbf{}")
@example(b"")
def test_a_sidecar_is_numbers_that_a_table_holds_or_an_image_error(data: bytes):
    found = outcome(lambda: read_sidecar(data, "a.json"), "bad_sidecar")
    if found is None:
        return
    assert isinstance(found, Numbers)
    for text in (found.track, found.scene):
        assert text is None or len(text.encode()) <= 800
    for number in (found.frame, found.instance):
        assert number is None or -(2**63) <= number < 2**63


def test_what_a_sidecar_says_at_its_limits_goes_into_the_table(tmp_path: Path):
    found = read_sidecar(json.dumps({"frame": 2**53 - 1, "track": "\U0001f600" * 200}).encode(), "a.json")
    write_table(tmp_path / "t.parquet", [Record(source="a", key="a", frame=found.frame, track=found.track)])


# ---- SAM2

runs = st.lists(st.integers(-1, 50) | scalars, max_size=6)
codes = st.text(alphabet=[chr(c) for c in range(47, 113)] + ["é"], max_size=20)
entries = st.builds(
    lambda rle, rest: {"segmentation": rle, **rest},
    st.one_of(
        values,
        st.builds(
            lambda size, counts: {"size": size, "counts": counts},
            st.just(list(SIZE)) | values,
            st.one_of(runs, codes, st.integers(0, 48).map(lambda n: [n, 48 - n]), values),
        ),
    ),
    one_of_keys("predicted_iou"),
)
masks = st.binary(max_size=60) | st.one_of(
    values, st.lists(entries, max_size=4), st.fixed_dictionaries({"annotations": st.lists(entries, max_size=2)})
).map(dumped)


def entry(counts: object, size: object = list(SIZE), **more: object) -> bytes:
    return dumped([{"segmentation": {"size": size, "counts": counts}, **more}])


def padded(value: int, groups: int) -> str:
    """A number of a compressed encoding in this many groups of five bits."""
    return "".join(chr(48 + ((value >> 5 * i) & 31 | (32 if i < groups - 1 else 0))) for i in range(groups))


@given(data=masks)
@example(entry([48]))
@example(entry([48], size=5))
@example(entry([48], size={"6": 8}))
@example(entry([10**18]))
@example(entry([0] * 1000 + [48]))
@example(entry("0" * 1_000_000))
@example(entry("o" * 100))
@example(entry(padded(20, 2) + padded(28, 13)))
@example(entry([48], predicted_iou=10**400))
@example(b'[{"segmentation": {"size": [6, 8], "counts": [48]}, "predicted_iou": NaN}]')
@example(dumped([{}] * 5000))
@example(b'{"annotations": 3}')
@example(b"{}")
@example(b"3")
@example(b"[" * 100_000)
def test_masks_are_read_and_judged_or_are_an_image_error(data: bytes):
    found = outcome(lambda: read_masks(data, "f.json", SIZE), "bad_masks")
    if found is None:
        return
    assert len(judge(found, **LIMITS)) == len(found.encoded) == len(annotations_in(json.loads(data)) or [])
    for i in range(len(found.encoded)):
        assert found.decode(i).shape == SIZE


def test_numbers_that_pycocotools_reads_differently_are_refused():
    # 20, 10, 5, then -7 on top of the last but one: 20 + 10 + 5 + 3 + 10 = 48
    whole = [padded(v, 2) for v in (20, 10, 5)]
    assert read_masks(entry("".join([*whole, padded(-7, 2), padded(5, 2)])), "f.json", SIZE).encoded
    for groups in (7, 12):
        with pytest.raises(ImageError, match="do not add up"):
            read_masks(entry("".join([*whole, padded(-7, groups), padded(5, 2)])), "f.json", SIZE)


# ---- TOML

FRAGMENTS = (
    *("[data]", "[[decision]]", "[characters.luca]", "[characters.luca.augment]", "[augment]", "[precompute.filter]"),
    *("[precompute.identity]", "[[precompute.identity.decisions]]", "[precompute]", "characters", "augment", "preset"),
    *("do", "instances", "character", "look", "symmetric", "id", "of", "batch_size", "rotation", "shards", "decision"),
    *(" = ", ".", ",", "\n", "[", "]", "{", "}", '"', '"""', "#", "\0", "\ud7ff", "\\u0000", "\\"),
    *("1", "-1", "1e999", "nan", "inf", "0x" + "f" * 5000, "9" * 5000, "true", '"a"', '["a", "b"]', "2020-01-01"),
    *("2020-13-45", "07:32:00", '"name"', '"augment"', '"undo"', "[" * 3000, "{a=" * 3000, "a." * 63, "a." * 3000),
)
fragments = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join)
tomls = st.one_of(st.binary(max_size=60), fragments.map(str.encode), st.text(max_size=40).map(str.encode))


@contextmanager
def file_of(data: bytes, name: str) -> Generator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        yield path


@given(data=tomls, decided=st.booleans())
@example(b"a = " + b"[" * 100_000, True)
@example(b"a." * 20_000 + b"b = 1", True)
@example(b"a = " + b"9" * 5000, True)
@example(b"a = 0x" + b"f" * 5000, True)
@example(b"[data]\nshards = 'a\\u0000b'", True)
@example(b'[data]\nshards = "a\\u0000b"', True)
@example(b"[data]\nshards = '" + b"x" * 5000 + b"'", True)
@example(b"characters = 3\naugment = 1", True)
@example(b"[characters]\nluca = 3", True)
@example(b"[characters.luca]\naugment = [1]", True)
@example(b"preset = 1979-05-27", True)
@example(b"[augment]\nnoise_std = nan", True)
@example(b"\xff", True)
def test_a_configuration_is_read_or_a_configuration_error(data: bytes, decided: bool):
    with file_of(data, "c.toml") as path, suppress(ConfigError):
        load_config(path, decided=decided)


@given(override=st.text(max_size=30) | fragments)
@example("a=" + "[" * 100_000)
@example("a=" + "9" * 5000)
@example("a." * 100_000 + "b=1")
@example("data.shards='\0'")
def test_an_override_is_taken_or_a_configuration_error(override: str):
    with suppress(ConfigError):
        load_config(overrides=[override])


@given(
    tree=st.dictionaries(st.text(max_size=6) | st.sampled_from(["characters", "augment", "data"]), values, max_size=4)
)
def test_a_tree_is_a_configuration_or_a_configuration_error(tree: dict[str, Any]):
    with suppress(ConfigError):
        parse_config(tree)


@given(data=tomls)
@example(b"[[decision]]\ndo = 'augment'\ncharacter = 'a'\naugment = { rotation = 2020-01-01 }")
@example(b"[[decision]]\ndo = 'augment'\ncharacter = 'a'\naugment = { rotation = nan }")
@example(b"[[decision]]\ndo = 'augment'\ncharacter = 'a'\n[decision.augment." + b"a." * 62 + b"b]\nc = 1")
@example(b"[[decision]]\ndo = 'augment'\ncharacter = 'a'\naugment = { rotation = 0x" + b"f" * 5000 + b" }")
@example(b"decision = [[]]")
@example(b"[decision]")
@example(b"decision." * 20_000 + b"a = 1")
@example(b"\xff")
def test_a_review_file_is_decisions_or_a_configuration_error(data: bytes):
    with file_of(data, "review.toml") as path:
        try:
            decisions = read_decisions(path)
        except ConfigError:
            return
        assert decisions == parse_decisions(data.decode(), path)
        assert all(len(decision.identifier) for decision in decisions if decision.id is None)


# ---- the shards' index

shard = one_of_keys("name", "character", "samples", "bytes", "sha256", deep=scalars)
sample = one_of_keys("key", "shard", "character", "width", "height", "files", "face")
indices = st.binary(max_size=60) | st.one_of(
    values,
    st.builds(
        lambda a, b, c: {"format": 1, "shards": a, "samples": b, "characters": c},
        st.lists(shard, max_size=2) | values,
        st.lists(sample, max_size=2) | values,
        values,
    ),
).map(dumped)

SHARD = {"name": "a.tar", "character": "a", "samples": 1, "bytes": 100, "sha256": ""}
SAMPLE = {"key": "k", "shard": "a.tar", "character": "a", "width": 1, "height": 1, "files": {"webp": [10, 20]}}


def index_of(sample: object = SAMPLE, shard: object = SHARD, characters: object = None) -> bytes:
    return dumped({"format": 1, "shards": [shard], "samples": [sample], "characters": characters})


BAD_INDICES = (
    index_of(shard=SHARD | {"name": "../../etc/passwd.tar"}),
    index_of(shard=SHARD | {"name": 3}),
    index_of(shard=SHARD | {"bytes": "100"}),
    index_of(shard=SHARD | {"bytes": -1}),
    index_of(SAMPLE | {"files": [1]}),
    index_of(SAMPLE | {"files": {"webp": [10, 10**30]}}),
    index_of(SAMPLE | {"files": {"webp": [90, 20]}}),
    index_of(SAMPLE | {"files": {"webp": [-10, 20]}}),
    index_of(SAMPLE | {"shard": "b.tar"}),
    index_of(SAMPLE | {"width": True}),
    index_of(SAMPLE | {"face": [1, 2, 3, 10**400]}),
    index_of(SAMPLE | {"face": 3}),
    index_of(characters=[1]),
    index_of(characters={"a": 3}),
    index_of(characters={"a": {"augment": [1]}}),
    index_of(3),
    b"[1]",
    b"[" * 100_000,
    b'{"format": ' + b"9" * 5000 + b"}",
    b"\xff",
)


@pytest.mark.parametrize("data", BAD_INDICES, ids=range(len(BAD_INDICES)))
def test_an_index_that_would_mislead_is_refused(data: bytes):
    with pytest.raises(ShardError) as caught:
        parse_index(data, "index.json")
    assert len(str(caught.value)) < 500


@given(data=indices)
@example(index_of())
def test_an_index_is_read_or_a_shard_error(data: bytes):
    try:
        found = parse_index(data, "index.json")
    except ShardError:
        return
    for entry in found.samples:
        assert entry.shard in {s.name for s in found.shards}
    for told in found.characters.values():
        assert isinstance(told.get("augment", {}), dict)


@given(characters=st.dictionaries(st.text(max_size=4), one_of_keys("symmetric", "augment"), max_size=2))
def test_what_an_index_says_of_characters_is_taken_or_an_error(characters: dict[str, Any]):
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder) / "s", [ShardSample("k", "a", 1, 1, {"webp": b"x"})], max_bytes=10_000)
        path = Path(folder) / "s" / "index.json"
        content = json.loads(path.read_bytes()) | {"characters": characters}
        path.write_bytes(dumped(content))
        with suppress(ConfigError, ShardError):
            load_config(shards=os.fspath(path.parent))
