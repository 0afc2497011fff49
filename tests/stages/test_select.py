from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.manifest import Record
from lora_data.stages.select import Select


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
    assert surplus.value is not None
    assert surplus.limit is not None
    assert 0 <= surplus.value < surplus.limit


def test_quality_decides_between_equals() -> None:
    records = [make(f"a{n}", sharpness=1.0 + n) for n in range(3)] + [
        make(f"b{n}", 1.5, sharpness=4.0 - n) for n in range(3)
    ]
    assert kept(records, target=(1, 2)) == ["a2", "b0"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"framing": "full"}, {"framing": "close-up"}),
        ({"brightness": 60.0}, {"brightness": 180.0}),
        ({"frame": 10}, {"frame": 5000}),
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
            assert record.limit is not None
            assert record.value <= record.limit / (1 - Select().tie) + 1e-6


@pytest.mark.parametrize("fields", [{"target": (0, 5)}, {"target": (9, 5)}, {"light": -1.0}, {"tie": 1.0}])
def test_refuses_impossible_fields(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(fields))} must be"):
        Select(**fields)  # type: ignore[arg-type]
