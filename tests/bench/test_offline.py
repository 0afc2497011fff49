"""The offline benchmarks measure what they say, on a handful of pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.bench import by_hand, inputs
from tests.bench.near_duplicates import by_imagehash, judged
from tests.bench.near_duplicates import ours as our_duplicates
from tests.bench.precompute import Input, stages
from tests.bench.upscale import small_one
from tests.conftest import cutout, png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, a copy of the first, and a file that is none."""
    target = tmp_path / "in"
    target.mkdir()
    for i, seed in enumerate((0, 1, 0)):
        rgb, alpha = cutout(320, seed=seed, colour=(40 + 90 * seed, 200 - 70 * seed, 90))
        if seed:
            rgb[: 150 + 20 * seed] //= 3
        (target / f"film_{10 * i:06d}_i0.png").write_bytes(png(np.dstack([rgb, alpha])))
    (target / "film_000090_i0.png").write_bytes(b"no picture")
    return target


def test_each_stage_is_timed_and_broken_files_are_passed_over(folder: Path):
    spent = stages(Input("x", folder, ("precompute.filter.blur_threshold=0",)), limit=9)
    assert next(iter(spent)) == "ingest"
    assert {"matte", "colour", "metrics", "fingerprint", "embed", "deduplicate", "select", "encode"} <= set(spent)
    assert all(value >= 0 for value in spent.values())


def test_the_loop_writes_a_picture_and_a_thumbnail_each(folder: Path, tmp_path: Path):
    rows = by_hand.loop(folder, tmp_path / "out")
    assert len(rows) == 3
    assert rows[0] == rows[2] != rows[1]
    with Image.open(tmp_path / "out" / "film_000000_i0.png") as image:
        assert image.size == (320, 320)
    assert len(list((tmp_path / "out").iterdir())) == 6


def test_both_find_the_copy_and_the_judge_counts_it(folder: Path, tmp_path: Path):
    truth = tmp_path / "truth.jsonl"
    names = [f"film_{10 * i:06d}_i0.png" for i in range(3)]
    rows = [{"file": name, "exact_dup_group": None if i == 1 else "g"} for i, name in enumerate(names)]
    truth.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for found in (our_duplicates(folder)[1], by_imagehash(folder)[1]):
        assert judged(found, truth) == {"planted copies found": "1 of 1", "others taken away": 0}
    assert judged(["film_000010_i0.png"], truth) == {"planted copies found": "0 of 1", "others taken away": 1}
    assert judged(names, truth)["others taken away"] == 2  # one must stay


def test_what_networks_enlarge_is_chosen_evenly(folder: Path, tmp_path: Path):
    some = inputs.some_of(folder, tmp_path / "some", 2, only=small_one)
    assert [p.name for p in sorted(some.iterdir())] == ["film_000000_i0.png", "film_000020_i0.png"]
