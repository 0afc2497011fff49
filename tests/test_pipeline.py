from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from lora_data import ConfigError, load_config
from lora_data.blobs import Blobs
from lora_data.commands import print_summary
from lora_data.demo import make_film
from lora_data.engines.local import LocalEngine
from lora_data.engines.map_pass import MapPass
from lora_data.manifest import Record
from lora_data.pipeline import precompute
from lora_data.progress import RunProgress
from lora_data.record_bytes import from_bytes
from lora_data.shards import read_index
from lora_data.stages.ingest import Ingest
from lora_data.store import decode_webp
from lora_data.table import read_table
from lora_data.work import Item
from tests.conftest import DEV, cutout

SMALL = load_config(overrides=["precompute.filter.min_size=32"])  # the film of these tests is tiny


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    make_film(folder, instances=48, characters=3, seed=3, size=128)
    return folder


@pytest.fixture(scope="module")
def run(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    precompute(film / "instances", out, SMALL, workers=1)
    return out


def shard_bytes(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((out / "shards").iterdir())}


def test_every_input_file_is_one_row(film: Path, run: Path):
    records = read_table(run / "instances.parquet")
    images = {p.name for p in (film / "instances").iterdir() if p.suffix in {".png", ".jpg", ".webp"}}
    masks = {n for n in images if "_mask" in n}
    assert sorted(r.source for r in records) == sorted(images - masks)
    assert len({r.key for r in records}) == len(records)


def test_every_row_that_left_says_who_and_why(run: Path):
    for record in read_table(run / "instances.parquet"):
        if record.status != "kept":
            assert record.stage, record
            assert record.reason, record
        if record.status == "error":
            assert record.message, record
        if record.status == "duplicate":
            assert record.duplicate_of, record


def test_broken_files_are_errors_and_odd_ones_are_decoded(film: Path, run: Path):
    rows = {r.source: r for r in read_table(run / "instances.parquet")}
    truth = [json.loads(line) for line in (film / "truth.jsonl").read_text().splitlines()]
    kinds = Counter(t["kind"] for t in truth)
    assert kinds["corrupt"]
    assert kinds["odd_format"]
    for entry in truth:
        name = Path(entry["file"]).name
        if entry["kind"] == "corrupt":
            assert rows[name].status == "error", name
        if entry["kind"] == "odd_format":
            assert rows[name].status != "error", (name, rows[name].message)


def test_the_shards_hold_what_the_table_keeps(run: Path):
    kept = {r.key: r for r in read_table(run / "instances.parquet") if r.status == "kept"}
    index = read_index(run / "shards")
    assert {s.key for s in index.samples} == set(kept)
    assert kept
    for entry in index.samples:
        data = (run / "shards" / entry.shard).read_bytes()
        parts = {suffix: data[offset : offset + size] for suffix, (offset, size) in entry.files.items()}
        rgb, _ = decode_webp(parts["webp"])
        record = kept[entry.key]
        assert rgb.shape[:2] == (record.height, record.width) == (entry.height, entry.width)
        lineage = json.loads(parts["json"])
        assert (lineage["source"], lineage["character"]) == (record.source, record.character)
        assert parts["txt"].decode() == (record.caption or f"a 3d render of {record.character}")


def test_run_json_counts_every_row(run: Path):
    content = json.loads((run / "run.json").read_text())
    records = read_table(run / "instances.parquet")
    assert content["counts"] == dict(Counter(r.status for r in records))
    assert {s["stage"] for s in content["skipped"]} == {"face_restore", "upscale", "deblur"}
    assert content["config"]["precompute"]["filter"]["blur_threshold"] == 80
    assert (run / "report" / "index.html").is_file()


def test_a_mirror_image_is_kept_and_said(film: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    kept = [r for r in read_table(run / "instances.parquet") if r.status == "kept"]
    assert not any(r.mirror_of for r in kept)
    best = max(kept, key=lambda r: (r.quality or 0.0, r.key))
    copy = tmp_path / "film"
    shutil.copytree(film / "instances", copy)
    ImageOps.mirror(Image.open(copy / best.source)).save(copy / f"mirrored_{best.source}")
    summary = precompute(copy, tmp_path / "out", SMALL, workers=1)
    rows = {r.source: r for r in read_table(tmp_path / "out" / "instances.parquet")}
    pair = rows[best.source], rows[f"mirrored_{best.source}"]
    assert [r.status for r in pair] == ["kept", "kept"]
    assert {r.mirror_of for r in pair} == {None, min(pair, key=lambda r: (-(r.quality or 0.0), r.key)).key}
    assert summary.mirrors == 1
    assert json.loads((tmp_path / "out" / "run.json").read_text())["mirror_images"] == 1
    capsys.readouterr()
    print_summary(summary)
    assert "mirror images: 1 kept" in capsys.readouterr().out


def test_the_film_in_front_of_the_run_is_untouched(film: Path, tmp_path: Path):
    copy = tmp_path / "film"
    shutil.copytree(film / "instances", copy)
    before = {p.name: p.read_bytes() for p in copy.iterdir()}
    precompute(copy, tmp_path / "out", SMALL, workers=1)
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before


def test_workers_and_order_do_not_change_a_byte(film: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    precompute(film / "instances", tmp_path / "two", SMALL, workers=2)
    assert shard_bytes(tmp_path / "two") == shard_bytes(run)

    plain = LocalEngine.run

    def shuffled(self: LocalEngine, function: Any, items: Any, arrived: Any) -> None:
        order = np.random.default_rng(1).permutation(len(items)).tolist()
        plain(self, function, [items[i] for i in order], lambda i, made: arrived(order[i], made))

    monkeypatch.setattr(LocalEngine, "run", shuffled)
    precompute(film / "instances", tmp_path / "shuffled", SMALL, workers=1)
    assert shard_bytes(tmp_path / "shuffled") == shard_bytes(run)


def test_a_second_run_into_the_same_folder_gives_the_same_bytes(film: Path, run: Path):
    before = shard_bytes(run)
    precompute(film / "instances", run, SMALL, workers=1)
    assert shard_bytes(run) == before


def test_a_file_that_vanished_is_an_error_row(film: Path, tmp_path: Path):
    from lora_data.sources import Source

    source = Source(source="gone.png", path=tmp_path / "gone.png")
    step = MapPass((), Blobs(tmp_path), Ingest(), frozenset(), last=True)
    made = step(Item(Record(source="gone.png", key="gone"), source=source))
    row = from_bytes(made.fields)
    assert (row["status"], row["reason"], row["stage"]) == ("error", "unreadable", "ingest")
    assert not made.lasting


@pytest.mark.parametrize("case", ["same", "parent", "file", "full", "missing"])
def test_what_cannot_work_stops_before_anything_is_touched(film: Path, tmp_path: Path, case: str):
    folder = tmp_path / "in"
    shutil.copytree(film / "instances", folder)
    out = {"same": folder, "parent": tmp_path, "file": tmp_path / "file"}.get(case, tmp_path / "out")
    if case == "file":
        out.write_text("x")
    if case == "missing":
        folder = tmp_path / "nothing"
    config = load_config(preset="full") if case == "full" else SMALL
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError):
        precompute(folder, out, config, workers=1)
    assert sorted(tmp_path.rglob("*")) == before


def test_progress_without_a_terminal_is_plain_lines(capsys: pytest.CaptureFixture[str]):
    progress = RunProgress()
    progress.start("read", 3)
    progress.advance(3)
    assert progress.finish() >= 0
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "read: 3"
    assert lines[1].startswith("read: done in")


@pytest.mark.skipif(not DEV.is_dir(), reason="the renders in ../shared/data/dev are not here")
def test_frames_with_sam2_masks_become_cut_outs(tmp_path: Path):
    precompute(DEV / "frames", tmp_path / "out", load_config(), workers=2)
    records = read_table(tmp_path / "out" / "instances.parquet")
    assert len(records) == 116
    assert {r.status for r in records} <= {"kept", "rejected", "duplicate", "surplus"}
    used = [r for r in records if r.stage != "ingest"]
    assert len(used) >= 67
    assert sum(r.matte_reason == "knn" for r in used) > 60


def test_a_person_s_decisions_are_applied_by_the_next_run(film: Path, run: Path, tmp_path: Path):
    """Named and split in review.toml, merged in the configuration: the shards show it."""
    before = [r for r in read_table(run / "instances.parquet") if r.status == "kept"]
    by_name: dict[str, list[Record]] = {}
    for r in before:
        by_name.setdefault(r.character, []).append(r)
    first, second, *_ = (by_name[name] for name in sorted(by_name, key=lambda name: (-len(by_name[name]), name)))
    out = tmp_path / "out"
    out.mkdir()
    (out / "review.toml").write_text(
        f"""
[[decision]]
do = "name"
instances = ["{first[0].key}"]
character = "pip"

[[decision]]
do = "split"
instances = ["{first[1].key}"]
character = "pop"

[[decision]]
do = "name"
instances = ["gone_i9"]
character = "nobody"
"""
    )
    merge = f'precompute.identity.merges=[["{first[0].key}", "{second[0].key}"]]'
    config = load_config(overrides=["precompute.filter.min_size=32", merge])
    summary = precompute(film / "instances", out, config, workers=1)
    made = {r.key: r for r in read_table(out / "instances.parquet")}
    assert made[first[1].key].character == "pop"
    assert {made[r.key].character for r in (*first, *second) if r.key != first[1].key} == {"pip"}
    kept = {s.key: s.character for s in read_index(out / "shards").samples}
    assert set(kept.values()) >= {"pip", "pop"}
    assert summary.warnings[0].startswith(
        "review.toml, decision 3: name names instances that are not in INPUT: gone_i9"
    )
    assert json.loads((out / "run.json").read_text())["warnings"] == summary.warnings
    twice = [w for w in summary.warnings if "are all pip" in w]  # the film has frames with two characters
    flagged = {r.key for r in made.values() if r.flagged == "same_frame"}
    assert bool(twice) == bool(flagged)


def test_a_merge_of_two_from_one_frame_is_named(tmp_path: Path):
    """A cannot-link that a person breaks: done, flagged, and said with the frame and both keys."""
    folder = tmp_path / "in"
    folder.mkdir()
    colours = ((200, 60, 50), (40, 90, 200))
    for frame in range(4):
        for i, colour in enumerate(colours):
            rgb, alpha = cutout(96, seed=10 * frame + i, colour=colour)
            Image.fromarray(np.dstack([rgb, alpha])).save(folder / f"film_{100 + 50 * frame:06d}_i{i}.png")
    merge = 'precompute.identity.merges=[["film_000100_i0", "film_000100_i1"]]'
    off = ["precompute.filter.min_size=32", "precompute.filter.blur_threshold=0", "precompute.filter.edge_score=0"]
    summary = precompute(folder, tmp_path / "out", load_config(overrides=[*off, merge]), workers=1)
    assert "frame 100: film_000100_i0, film_000100_i1 are all character_00; one" in "\n".join(summary.warnings)
    made = read_table(tmp_path / "out" / "instances.parquet")
    assert {r.flagged for r in made if r.status == "kept"} == {"same_frame"}
    with pytest.raises(ConfigError, match=r"merges\[0\]: merge names instances that are not in INPUT: x"):
        precompute(
            folder, tmp_path / "new", load_config(overrides=['precompute.identity.merges=[["film_000100_i0", "x"]]'])
        )
    assert not (tmp_path / "new").exists()
