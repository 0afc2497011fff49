"""A folder of hostile inputs goes through a run: each is one row or one ignored file, and the rest is as it was."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tarfile
import zlib
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_data import load_config
from lora_data.cli import main
from lora_data.manifest import Record
from lora_data.pipeline import precompute
from lora_data.shards import read_index
from lora_data.sources import MAX_CAPTION_BYTES, MAX_IMAGE_BYTES, MAX_JSON_BYTES, MAX_MASKS, discover
from lora_data.table import read_table
from tests.conftest import cutout, png

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="names that only POSIX file systems take")

BALL = png(np.dstack(cutout(96)))
FRAME = png(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))
TAR_BREAKER = "../../etc/passwd\x00\x00ustar  \x00" + "\x00" * 1024 + "\n</script>{token}\u202e\U0001f600\ufffd"

NAMES = (
    "new\nline.png",
    "quote\"s'.png",
    "\u202egnp.exe.png",
    "up..up.png",
    "\U0001f600.png",
    "é" * 125 + "x.png",  # 255 bytes
    "<script>alert(1)<script>.png",
    "$(touch x);`id`&.png",
    "C:\\tmp\\z.png",
    "\\xff.png",
    os.fsdecode(b"\xff.png"),
    "a.png#0.png",
    " .png",
    "-rf.png",
    "%s%n{0}.png",
)

SIDECARS = {
    "null": b"null",
    "text": b'"text"',
    "frame_inf": b'{"frame": 1e400}',
    "frame_huge": b'{"frame": 1' + b"0" * 30 + b"}",
    "frame_digits": b'{"frame": ' + b"9" * 10_000 + b"}",
    "track_half": b'{"track": "\\ud800"}',
    "track_long": b'{"track": "' + b"x" * 1_000_000 + b'"}',
    "scene_table": b'{"scene": {"a": "\\ud800"}}',
    "deep": b"[" * 200_000,
    "deep_table": b'{"a":' * 200_000,
    "zeros": b"\0" * 100,
    "no_text": b"\xff\xfe\x00",
    "no_masks_list": b'{"annotations": 3, "frame": "x"}',
}

BODY = [0, 80 * 60 - 20, 20]
"""Run lengths that add up to the frame."""
MASKS: dict[str, Any] = {
    "numbers": [7],
    "nothing": [None],
    "size_number": [{"segmentation": {"size": 5, "counts": BODY}}],
    "size_other": [{"segmentation": {"size": [30000, 30000], "counts": BODY}}],
    "size_text": [{"segmentation": {"size": "60x80", "counts": BODY}}],
    "runs_claim": [{"segmentation": {"size": [60, 80], "counts": [10**18]}}],
    "runs_many": [{"segmentation": {"size": [60, 80], "counts": [0] * 100_000 + [4800]}}],
    "runs_text": [{"segmentation": {"size": [60, 80], "counts": ["a"]}}],
    "rle_many": [{"segmentation": {"size": [60, 80], "counts": "0" * 1_000_000}}],
    "rle_open": [{"segmentation": {"size": [60, 80], "counts": "o" * 1_000}}],
    "polygon": [{"segmentation": [[1, 2, 3, 4]]}],
    "too_many": [{}] * (MAX_MASKS + 1),
}


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims these sides, and whose pixels are a megabyte of zeros, compressed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")


def sparse(path: Path, size: int) -> None:
    """A file that has this many bytes and takes no room."""
    with open(path, "wb") as file:
        file.truncate(size)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Path, dict[str, str | None], set[str]]]:
    """The folder; by source the reason of the error that it must become (None: none); what must be ignored."""
    folder = tmp_path_factory.mktemp("hostile") / "in"
    try:
        yield folder, *filled(folder)
    finally:
        subprocess.run(["rm", "-rf", "--", str(folder)], check=True)  # shutil.rmtree recurses


def filled(folder: Path) -> tuple[dict[str, str | None], set[str]]:
    """Make the folder."""
    folder.mkdir()
    wanted: dict[str, str | None] = {}
    for number, name in enumerate(NAMES):
        rgb, alpha = cutout(96, seed=number, colour=(15 * number, 200 - 12 * number, 90))
        (folder / name).write_bytes(png(np.dstack([rgb, alpha])))
        wanted[name] = None
    wanted["\\\\xff.png"] = wanted.pop("\\xff.png")  # the one that is really called so has its backslash doubled
    wanted["\\xff.png"] = wanted.pop(os.fsdecode(b"\xff.png"))
    for name, data in SIDECARS.items():
        (folder / f"sidecar_{name}.png").write_bytes(BALL)
        (folder / f"sidecar_{name}.json").write_bytes(data)
        wanted[f"sidecar_{name}.png"] = "bad_sidecar"
    for name, entries in MASKS.items():
        (folder / f"masks_{name}.png").write_bytes(FRAME)
        (folder / f"masks_{name}.json").write_text(json.dumps(entries))
        wanted[f"masks_{name}.png" + ("#0" if len(entries) == 1 else "")] = "bad_masks"
    pictures: dict[str, tuple[bytes, str | None]] = {
        "bomb_square.png": (bomb(30_000, 30_000), "too_large"),
        "bomb_claim.png": (bomb(2**31 - 1, 2**31 - 1), "too_large"),
        "bomb_short.png": (bomb(9_000, 9_000), "damaged"),
        "pixel.png": (png(np.full((1, 1, 4), 255, np.uint8)), None),
        "pixel_opaque.png": (png(np.zeros((1, 1, 3), np.uint8)), None),
        "strip.png": (png(np.full((2, 30_000, 4), 255, np.uint8)), "too_large"),
        "long.png": (png(np.full((2, 16_383, 4), 255, np.uint8)), None),
        "empty.png": (b"", "empty_file"),
        "html.png": (b"<html>", "not_an_image"),
    }
    for name, (data, reason) in pictures.items():
        (folder / name).write_bytes(data)
        wanted[name] = reason
    for name, suffix, limit in (
        ("huge_image", ".png", MAX_IMAGE_BYTES),
        ("huge_json", ".json", MAX_JSON_BYTES),
        ("huge_caption", ".txt", MAX_CAPTION_BYTES),
    ):
        (folder / f"{name}.png").write_bytes(BALL)
        sparse(folder / f"{name}{suffix}", limit + 1)
        wanted[f"{name}.png"] = "huge_file"
    (folder / os.fsdecode(b"bad\xfe_mask.png")).write_bytes(png(np.full((9, 9), 255, np.uint8)))
    (folder / os.fsdecode(b"bad\xfe.png")).write_bytes(BALL)
    wanted["bad\\xfe.png"] = "bad_mask"
    (folder / "caption.png").write_bytes(png(np.dstack(cutout(96, seed=99, colour=(20, 90, 220)))))
    (folder / "caption.txt").write_text(TAR_BREAKER, encoding="utf-8")
    wanted["caption.png"] = None
    ignored = {"pipe.png", "nowhere.png", "round.png", "far.png", "notes.md", "up/", "folder.png/"}
    os.mkfifo(folder / "pipe.png")
    (folder / "nowhere.png").symlink_to("not there")
    (folder / "round.png").symlink_to("round.png")
    (folder / "far.png").symlink_to("x" * 300)
    (folder / "up").symlink_to("..")
    (folder / "folder.png").symlink_to(folder)
    (folder / "notes.md").write_text("x")
    deep = folder
    for _ in range(1_200):  # more than Python recurses
        deep /= "d"
        deep.mkdir()
    (deep / "bottom.png").write_bytes(BALL)
    wanted["d/" * 1_200 + "bottom.png"] = None
    ignored.add(beyond(folder))
    return wanted, ignored


def beyond(folder: Path) -> str:
    """A folder whose path is longer than the system takes, and the name under which it is ignored."""
    name, levels = "n" * 250, 20
    held = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=held)
        inner = os.open(name, os.O_RDONLY, dir_fd=held)
        os.close(held)
        held = inner
    os.close(held)
    reach = (4095 - len(os.fsencode(folder))) // (len(name) + 1)  # PATH_MAX counts the zero at the end
    return f"{name}/" * (reach + 1)


@pytest.fixture(scope="module")
def out(hostile: tuple[Path, dict[str, str | None], set[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "out"
    config = load_config(overrides=["precompute.filter.min_size=32"])
    precompute(hostile[0], folder, config, workers=1)
    return folder


def rows(out: Path) -> dict[str, Record]:
    return {record.source: record for record in read_table(out / "instances.parquet")}


def test_every_input_is_one_row_and_everything_else_is_listed(
    hostile: tuple[Path, dict[str, str | None], set[str]], out: Path
):
    _, wanted, ignored = hostile
    assert Counter(r.source for r in read_table(out / "instances.parquet")) == Counter(list(wanted))
    assert len({r.key for r in rows(out).values()}) == len(wanted)
    assert set(json.loads((out / "run.json").read_text())["ignored_files"]) == ignored


def test_what_is_bad_is_an_error_that_says_why_and_what_is_good_is_none(
    hostile: tuple[Path, dict[str, str | None], set[str]], out: Path
):
    found = {name: r.reason if r.status == "error" else None for name, r in rows(out).items()}
    assert found == hostile[1]
    for record in rows(out).values():
        if record.status == "error":
            assert record.message
            assert len(record.message) < 600


def test_shards_hold_the_captions_bytes_and_open(out: Path):
    index = read_index(out / "shards")
    kept = {r.key: r for r in rows(out).values() if r.status == "kept"}
    assert {s.key for s in index.samples} == set(kept)
    members: dict[str, bytes] = {}
    for shard in index.shards:
        with tarfile.open(out / "shards" / shard.name) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                members[member.name] = file.read()
    assert len(members) == 3 * len(kept)
    for key, record in kept.items():
        assert json.loads(members[f"{key}.json"])["source"] == record.source
    assert members["caption.txt"].decode() == TAR_BREAKER.strip()


def test_the_report_opens_and_shows_names_as_text(out: Path):
    page = (out / "report" / "index.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "round.png" in page


def test_an_input_whose_own_path_is_no_utf8_runs(tmp_path: Path):
    folder = tmp_path / os.fsdecode(b"film\xff")
    folder.mkdir()
    (folder / "a.png").write_bytes(BALL)
    precompute(folder, tmp_path / "out", load_config(), workers=1)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["input"] == str(folder)


def test_two_inputs_that_would_be_one_sample_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.webp").write_bytes(BALL)
    key = discover(tmp_path / "in").sources[0].key
    (tmp_path / "in" / f"{key}.png").write_bytes(BALL)
    assert main(["precompute", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    assert "rename one" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["config", "review"])
@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 100_000, "a." * 200_000 + "b = 1", "a = " + "9" * 5_000, "a = 2020-13-45", "\0", "[" * 100_000],
    ids=["nested", "dotted", "digits", "date", "zero", "headers"],
)
def test_a_toml_bomb_exits_2_and_touches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
):
    out = tmp_path / "out"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(BALL)
    arguments = ["precompute", str(tmp_path / "in"), "--out", str(out)]
    if name == "config":
        (tmp_path / "c.toml").write_text(text)
        arguments += ["--config", str(tmp_path / "c.toml")]
    else:
        out.mkdir()
        (out / "review.toml").write_text(text)
    assert main(arguments) == 2
    assert "is not TOML" in capsys.readouterr().err
    assert not out.exists() or [p.name for p in out.iterdir()] == ["review.toml"]


def test_a_huge_configuration_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sparse(tmp_path / "c.toml", 1 << 33)
    assert (
        main(["precompute", str(tmp_path), "--out", str(tmp_path / "out"), "--config", str(tmp_path / "c.toml")]) == 2
    )
    assert "is larger than" in capsys.readouterr().err
