from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.fingerprint import THUMBNAIL, pack_matte
from lora_data.manifest import Record
from lora_data.stages.deduplicate import Deduplicate, quality_of


def wave(phase: float) -> np.ndarray:
    """Luma of a pattern that moves with the phase; a difference of .15 is SSIM .96, of .3 it is .86."""
    yy, xx = np.mgrid[0:THUMBNAIL, 0:THUMBNAIL]
    return np.rint(128 + 60 * np.sin(xx / 4 + phase) + 50 * np.cos(yy / 5)).astype(np.uint8).ravel()


def make(key: str, phase: float = 0.0, phash: int = 0, **fields: object) -> Record:
    whole = pack_matte(np.ones((THUMBNAIL, THUMBNAIL), bool))
    return Record(source=key, key=key, phash=phash, thumb_luma=wave(phase), thumb_matte=whole, **fields)  # type: ignore[arg-type]


def outcome(records: list[Record], stage: Deduplicate | None = None) -> dict[str, str | None]:
    return {r.key: r.duplicate_of for r in (stage or Deduplicate()).apply(records)}


def test_the_best_is_kept_and_the_rest_point_at_it() -> None:
    records = [make("a", sharpness=5.0), make("b", sharpness=9.0), make("c", sharpness=2.0)]
    result = Deduplicate().apply(records)
    assert [r.status for r in result] == ["duplicate", "kept", "duplicate"]
    assert [r.duplicate_of for r in result] == ["b", None, "b"]
    assert result[0].stage == "deduplicate"
    assert result[0].value is not None
    assert result[0].value >= 0.95
    assert result[0].limit == 0.95


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"sharpness": 9.0, "box_width": 10, "box_height": 10}, {"sharpness": 5.0, "box_width": 90, "box_height": 90}),
        ({"sharpness": 5.0, "box_width": 90, "box_height": 90}, {"sharpness": 5.1, "box_width": 80, "box_height": 80}),
        ({"sharpness": 5.0, "matte_soft": 0.9}, {"sharpness": 5.0, "matte_soft": 0.1}),
        ({"sharpness": 5.0}, {}),
    ],
)
def test_declared_order_of_quality(better: dict[str, Any], worse: dict[str, Any]) -> None:
    assert quality_of(make("a", **better)) > quality_of(make("a", **worse))


def test_equals_go_to_the_first_key() -> None:
    assert outcome([make("a"), make("b")]) == {"a": None, "b": "a"}


@pytest.mark.parametrize(("bits", "expected"), [(8, "a"), (9, None)])
def test_the_hash_proposes(bits: int, expected: str | None) -> None:
    assert outcome([make("a"), make("b", phash=2**64 - 2 ** (64 - bits))])["b"] == expected


def test_the_structure_confirms() -> None:
    assert outcome([make("a"), make("b", 2.0)])["b"] is None
    assert outcome([make("a"), make("b", 2.0)], Deduplicate(ssim_threshold=0.01))["b"] == "a"


def test_a_slow_pan_does_not_collapse() -> None:
    pan = [make(f"{n:02}", 0.12 * n) for n in range(20)]
    result = {r.key: r for r in Deduplicate().apply(pan)}
    kept = [r for r in result.values() if r.active]
    assert 3 <= len(kept) < 20
    for record in result.values():
        if record.duplicate_of is not None:
            assert result[record.duplicate_of].active
            assert abs(int(record.key) - int(record.duplicate_of)) <= 5


def test_rejected_records_take_no_part() -> None:
    gone = make("a", sharpness=99.0).decide("rejected", "filter", "dark")
    assert outcome([gone, make("b"), make("c")]) == {"a": None, "b": None, "c": "b"}


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0, 7, 2**30 - 1]), st.integers(1, 4)), max_size=9))
def test_laws(rows: list[tuple[float, int, int]]) -> None:
    records = [make(f"{n}", p, h, sharpness=float(s)) for n, (p, h, s) in enumerate(rows)]
    result = Deduplicate().apply(records)
    by_key = {r.key: r for r in result}
    for record in result:
        if record.status == "duplicate":
            kept = by_key[str(record.duplicate_of)]
            assert kept.active
            assert quality_of(kept) >= quality_of(record)
    again = Deduplicate().apply(result)
    assert [(r.status, r.duplicate_of) for r in again] == [(r.status, r.duplicate_of) for r in result]
    shuffled = Deduplicate().apply(records[::-1])
    assert {r.key: r.duplicate_of for r in shuffled} == {r.key: r.duplicate_of for r in result}


@pytest.mark.parametrize(
    "fields", [{"phash_threshold": -1}, {"phash_threshold": 65}, {"ssim_threshold": 0.0}, {"ssim_threshold": 1.5}]
)
def test_refuses_impossible_fields(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be in"):
        Deduplicate(**fields)  # type: ignore[arg-type]
