"""Who is who, what is a duplicate and what is junk, on rendered films of other sizes than the demo's."""

from __future__ import annotations

import json
from collections import Counter
from math import comb
from pathlib import Path
from typing import Any

import pytest

from lora_data.config import load_config
from lora_data.demo import make_film
from lora_data.manifest import UNKNOWN, Record
from lora_data.pipeline import precompute
from lora_data.table import read_table

FILMS = [
    pytest.param(2, 31, 102, (50, 1), id="one-fifty-times-the-other"),
    pytest.param(6, 8, 48, None, id="six"),
    pytest.param(12, 3, 120, None, id="twelve"),
]
HARD = {"tiny", "occluded_or_cut", "underexposed", "overexposed"}


@pytest.mark.parametrize(("characters", "seed", "instances", "balance"), FILMS)
def test_films_are_sorted_out(
    tmp_path: Path, characters: int, seed: int, instances: int, balance: tuple[float, ...] | None
):
    film, out = tmp_path / "film", tmp_path / "out"
    make_film(film, instances=instances, characters=characters, seed=seed, balance=balance, size=200)
    # rendered at 200 px, so that a test is short: half of what is small elsewhere; the rarest one has two pictures
    settings = ["precompute.filter.min_size=64", f"precompute.identity.min_cluster_size={2 if balance else 4}"]
    config = load_config(overrides=settings)
    summary = precompute(film / "instances", out, config, workers=1)
    truth = {t["file"].split("/")[-1]: t for t in map(json.loads, (film / "truth.jsonl").read_text().splitlines())}
    rows = {r.source: r for r in read_table(out / "instances.parquet")}
    people = [(t, rows[n]) for n, t in truth.items() if n in rows and t["kind"] == "instance"]

    pairs = [(t["identity"], r.character) for t, r in people if usable(r)]
    f1, purity = pair_f1(pairs), pure(pairs)
    assert purity >= 0.93
    assert f1 >= 0.75
    assert len({who for who, _ in pairs}) == characters
    assert all(len({c for who, c in pairs if who == name}) <= 3 for name, _ in pairs)
    fair = [(t, r) for t, r in people if not damage(t) & HARD]
    assert sum(usable(r) for _, r in fair) >= 0.9 * len(fair)

    assert not [n for n, t in truth.items() if t["kind"] in ("wrong_content", "corrupt") and rows[n].status == "kept"]
    clean = [r for t, r in people if t["clean"] and not t["dof"]]
    assert sum(r.status == "rejected" for r in clean) <= 0.02 * len(clean)
    for wrong in ("underexposed", "overexposed"):
        assert all(r.status == "rejected" for t, r in people if wrong in damage(t))
    check_duplicates([(truth[n], r) for n, r in rows.items()])
    assert sum(summary.counts.values()) == len(rows)


def usable(record: Record) -> bool:
    return record.status in ("kept", "surplus", "duplicate") and record.character != UNKNOWN


def damage(truth: dict[str, Any]) -> set[str]:
    return {d["type"] for d in truth["degradations"]}


def pair_f1(pairs: list[tuple[str, str]]) -> float:
    both, true, found = (sum(comb(n, 2) for n in Counter(x).values()) for x in (
        pairs, [who for who, _ in pairs], [character for _, character in pairs]))  # fmt: skip
    return 2 * both / (true + found)


def pure(pairs: list[tuple[str, str]]) -> float:
    """Share of the instances that are of their cluster's commonest identity."""
    clusters = {character for _, character in pairs}
    return sum(max(Counter(who for who, c in pairs if c == name).values()) for name in clusters) / len(pairs)


def check_duplicates(people: list[tuple[dict[str, Any], Record]]) -> None:
    """Every planted copy is found; nobody is a duplicate of another shot."""
    groups: dict[str, list[Record]] = {}
    shots = {r.key: (t.get("shot_id"), t.get("identity")) for t, r in people}
    for t, r in people:
        group = t.get("near_dup_group") or t.get("exact_dup_group")
        if group and usable(r):
            groups.setdefault(group, []).append(r)
        if r.status == "duplicate":
            assert shots[str(r.duplicate_of)] == shots[r.key]
    planted = sum(len(group) - 1 for group in groups.values())
    left = sum(max(0, sum(r.status != "duplicate" for r in group) - 1) for group in groups.values())
    assert planted > 0
    assert left <= 1  # 2 px cut off a side of 200 are beyond what SSIM .95 forgives; at 360 px none is left
