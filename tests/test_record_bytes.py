from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lora_data.manifest import Record
from lora_data.record_bytes import NAMES, changes, from_bytes, merged, only, to_bytes
from lora_data.spill import Spill

PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(0, 2**64 - 1), st.floats(), st.text(st.characters(exclude_categories=()))
)
ARRAYS = hnp.arrays(st.sampled_from([np.float32, np.uint8]), hnp.array_shapes(max_dims=2, min_side=0, max_side=9))
FIELDS = st.dictionaries(st.sampled_from(NAMES), st.one_of(PLAIN, ARRAYS), max_size=12)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


@given(fields=FIELDS)
def test_fields_come_back_bit_for_bit_and_the_same_fields_are_the_same_bytes(fields: dict[str, Any]):
    data = to_bytes(fields)
    back = from_bytes(data)
    assert back.keys() == fields.keys()
    assert all(same(fields[name], back[name]) for name in fields)
    assert to_bytes(dict(reversed(fields.items()))) == data == to_bytes(back)


def test_numpy_numbers_become_plain_ones_and_anything_else_is_refused():
    assert from_bytes(to_bytes({"value": np.float32(0.5), "faces": np.int64(3)})) == {"value": 0.5, "faces": 3}
    with pytest.raises(TypeError, match="set"):
        to_bytes({"reason": {1}})


def test_what_changed_is_named_and_nothing_else():
    before = Record(source="a.png", key="a", frame=3, embedding=np.ones(2, np.float32), phash=1)
    after = before.replace(frame=None, phash=1, brightness=2.0)
    assert changes(before, after) == {"frame": None, "brightness": 2.0}
    assert set(changes(before, after.replace(embedding=np.ones(2, np.float32)))) == {"frame", "brightness", "embedding"}


def test_only_these_fields_are_left():
    record = Record(source="a.png", key="a", frame=3, deblur="proposed", reviewed="reject")
    left = only(record, {"deblur"})
    assert (left.source, left.key, left.deblur, left.frame, left.reviewed) == ("a.png", "a", "proposed", None, None)
    assert set(NAMES) == {f.name for f in dataclasses.fields(Record)} - {"source", "key"}


@given(FIELDS, st.sets(st.sampled_from(NAMES), max_size=5))
def test_what_is_merged_into_a_record_lets_go_of_the_bytes(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any], spilled: set[str]
):
    spill, data = Spill(tmp_path_factory.getbasetemp()), to_bytes(fields)
    before = Record(source="a.png", key="a")
    whole = merged(before, data, spill, spilled)
    for name in NAMES:
        value = getattr(whole, name)
        assert same(value, fields[name]) if name in fields else value == getattr(before, name)
        if isinstance(value, np.ndarray):
            assert value.base is None if name not in spilled or not value.nbytes else not value.flags.owndata
