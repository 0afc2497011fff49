from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.manifest import Record
from lora_data.stages.deduplicate import quality_of
from lora_data.stages.select import Select, _Features


def make(key: str, angle: float = 0.0, **fields: object) -> Record:
    vector = np.array([np.cos(angle), np.sin(angle)], np.float32)
    return Record(source=key, key=key, character="ann", embedding=vector, **fields)  # type: ignore[arg-type]


def kept(records: list[Record], **fields: object) -> list[str]:
    return [r.key for r in Select(**fields).apply(records) if r.active]  # type: ignore[arg-type]


def test_nothing_is_dropped_up_to_the_target() -> None:
    records = [make(f"{n}") for n in range(5)]
    assert kept(records, target=(2, 5)) == [r.key for r in records]


def test_the_different_ones_stay() -> None:
    crowd = [make(f"a{n}", 0.001 * n) for n in range(6)]
    records = [*crowd, make("b", 0.8), make("c", 1.5)]
    assert set(kept(records, target=(1, 3))) >= {"b", "c"}


def test_surplus_says_how_near_it_was() -> None:
    result = Select(target=(1, 2)).apply([make("a"), make("b", 0.01), make("c", 1.5)])
    (surplus,) = [r for r in result if not r.active]
    assert (surplus.status, surplus.stage, surplus.reason) == ("surplus", "select", "crowded")
    assert surplus.surplus_to == "a"
    assert surplus.value == pytest.approx(1 - np.cos(0.01), abs=2e-4)
    assert surplus.limit == pytest.approx(1 - np.cos(1.5), abs=1e-3)


def test_where_one_is_kept_there_is_no_limit() -> None:
    result = Select(target=(1, 1)).apply([make("a"), make("b", 1.0)])
    assert [(r.surplus_to, r.limit) for r in result] == [(None, None), ("a", None)]


def test_quality_decides_between_equals() -> None:
    records = [make(f"a{n}", sharpness=1.0 + n) for n in range(3)] + [
        make(f"b{n}", 1.5, sharpness=4.0 - n) for n in range(3)
    ]
    assert kept(records, target=(1, 2)) == ["a2", "b0"]


def test_what_a_person_restored_is_taken_first_and_all_of_it() -> None:
    crowd = [make(f"a{n}", 0.001 * n) for n in range(6)]
    words = {"a4": "restore", "a5": "restore"}
    records = [r.replace(reviewed=words.get(r.key)) for r in [*crowd, make("b", 0.8), make("c", 1.5)]]
    assert kept(records, target=(1, 3)) == ["a4", "a5", "c"]
    assert kept(records, target=(1, 1)) == ["a4", "a5"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"framing": "full"}, {"framing": "close-up"}),
        ({"brightness": 60.0}, {"brightness": 180.0}),
        ({"frame": 10}, {"frame": 5000}),
        ({"face_yaw": -5.0}, {"face_yaw": 40.0}),
        (
            {"thumb_matte": np.packbits(np.tri(96, dtype=bool))},
            {"thumb_matte": np.packbits(np.tri(96, dtype=bool)[::-1])},
        ),
    ],
)
def test_spreads_over_what_appearance_does_not_see(one: dict[str, Any], other: dict[str, Any]) -> None:
    records = [make(f"a{n}", **one) for n in range(9)] + [make("z", **other)]
    assert "z" in kept(records, target=(1, 2))


def test_each_character_has_its_own_target() -> None:
    minor = [make(f"m{n}", 0.1 * n).replace(character="minor") for n in range(2)]
    lead = [make(f"l{n}", 0.1 * n) for n in range(8)]
    gone = make("x").decide("rejected", "filter", "dark")
    result = Select(target=(1, 3)).apply([*lead, *minor, gone])
    assert sum(r.active and r.character == "ann" for r in result) == 3
    assert sum(r.active and r.character == "minor" for r in result) == 2
    assert result[-1] is gone


@pytest.mark.parametrize("lacking", ["embedding", "thumb_matte", "face_yaw", "framing", "brightness", "frame"])
def test_what_is_not_known_does_not_make_different(lacking: str) -> None:
    """Of equals, the one that lacks a number is no farther away than the others."""
    full: dict[str, Any] = {
        "thumb_matte": np.packbits(np.tri(96, dtype=bool)),
        "face_yaw": 10.0,
        "framing": "full",
        "brightness": 90.0,
        "frame": 7,
    }
    records = [*(make(f"a{n}", **full) for n in range(3)), make("b", **full).replace(**{lacking: None})]
    result = Select(target=(1, 2)).apply([*records, make("c", 0.2, **full)])
    assert [r.key for r in result if r.active] == ["a0", "c"]
    assert [r.value for r in result if not r.active] == [0.0, 0.0, 0.0]


def film(seed: int, tracks: int = 40, frames: int = 6) -> list[Record]:
    """Tracks of six frames: another pose, light and moment in each, with small motion from frame to frame."""
    rng = np.random.default_rng(seed)
    records: list[Record] = []
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    for track in range(tracks):
        pose = 1 + 0.2 * rng.normal(size=64)
        cx, wide, tall = rng.uniform((-0.3, 0.2, 0.4), (0.3, 0.5, 0.9))
        light = rng.uniform(60, 180)
        for step in range(frames):
            vector = pose + 0.02 * rng.normal(size=64)
            matte = ((x - cx - 0.01 * step) / wide) ** 2 + (y / tall) ** 2 < 1
            record = Record(
                source=f"film/{track:03}_{step}.png",
                key=f"t{track:03}_{step}",
                track=f"t{track:03}",
                frame=200 * track + step,
                character="ann",
                embedding=(vector / np.linalg.norm(vector)).astype(np.float32),
                thumb_matte=np.packbits(matte),
                brightness=float(light + rng.normal()),
                sharpness=float(rng.uniform(1, 8)),
            )
            records.append(record)
    return records


@pytest.mark.parametrize("seed", range(5))
def test_near_frames_wait_until_each_track_is_there(seed: int) -> None:
    """A track's own frames are nearer to each other than any two tracks: none has two before each has one."""
    records = film(seed)
    for target, most in ((40, 1), (20, 1), (60, 2)):
        counts = Counter(r.track for r in Select(target=(1, target)).apply(records) if r.active)
        assert len(counts) == min(target, 40)
        assert max(counts.values()) <= most or target > 40
    for surplus in Select(target=(1, 40)).apply(records):
        assert surplus.active or (surplus.surplus_to or "").split("_")[0] == surplus.track
    assert all(r.active for r in Select(target=(1, 240)).apply(records))


@given(st.randoms(use_true_random=False), st.integers(1, 30))
@settings(max_examples=10, deadline=None)
def test_the_order_of_the_records_says_nothing(shuffle: Any, most: int) -> None:
    records = film(3, tracks=8)
    shuffle.shuffle(records)
    there = {r.key: r for r in Select(target=(1, most)).apply(records)}
    for before in Select(target=(1, most)).apply(film(3, tracks=8)):
        after = there[before.key]
        assert (before.status, before.value, before.limit, before.surplus_to) == (
            after.status,
            after.value,
            after.limit,
            after.surplus_to,
        )


def test_it_is_the_plain_greedy_choice() -> None:
    """What is left out because cheap terms decide already changes nothing: all distances, taken one by one."""
    records, select = film(1, tracks=12), Select(target=(1, 20))
    features, everywhere = _Features(records), np.full(len(records), np.inf)
    table = np.zeros((len(records), len(records)))
    for to in range(len(records)):
        at, away = select._nearer(features, to, everywhere)
        assert len(at) == len(records)
        table[:, to] = away
    assert np.allclose(table, table.T, atol=1e-6)
    quality = np.array([quality_of(r) for r in records])
    kept = [int(quality.argmax())]
    while len(kept) < 20:
        left = table[:, kept].min(1)
        left[kept] = -1
        far = np.flatnonzero(left >= (1 - select.tie) * left.max())
        kept.append(int(far[quality[far].argmax()]))
    result = select.apply(records)
    assert {r.key for r in result if r.active} == {records[i].key for i in kept}
    for i, record in enumerate(result):
        if not record.active:
            assert record.value == table[i, kept].min()
            assert record.surplus_to == records[kept[int(table[i, kept].argmin())]].key
            assert record.limit == min(table[a, b] for a in kept for b in kept if a != b)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 3), min_size=1, max_size=30), st.integers(1, 12), st.randoms(use_true_random=False))
def test_laws(angles: list[float], most: int, random: object) -> None:
    records = [make(f"{n:02}", a, frame=n) for n, a in enumerate(angles)]
    result = Select(target=(1, most)).apply(records)
    assert sum(r.active for r in result) == min(most, len(records))
    again = Select(target=(1, most)).apply(result)
    assert [r.status for r in again] == [r.status for r in result]
    for record in result:
        if not record.active:
            assert record.value is not None
            assert (record.limit is None) == (most == 1)
            assert record.limit is None or record.value <= record.limit / (1 - Select().tie) + 1e-6


@pytest.mark.parametrize(
    "fields", [{"target": (0, 5)}, {"target": (9, 5)}, {"light": -1.0}, {"view": 11.0}, {"tie": 1.0}]
)
def test_refuses_impossible_fields(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(fields))} must be"):
        Select(**fields)  # type: ignore[arg-type]
