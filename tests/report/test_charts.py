from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.report.charts import Axis, columns, flow_band, histogram, occupied


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1e5)), st.booleans())
def test_a_histogram_draws_every_value(values: list[float], log: bool):
    axis = Axis(1 if log else 0, 500, log)
    assert all(0 <= axis.place(v) <= 1 for v in values)
    assert 2 <= len(axis.ticks()) <= 7
    svg = histogram([("kept", values)], axis, (80.0, None), "a & b")
    assert ('class="kept"' in svg) == bool(values)
    assert 'aria-label="a &amp; b"' in svg
    assert svg.count('class="limit" d=') == 1


def test_a_band_narrows_by_what_leaves():
    svg = flow_band(200, 100, [("rejected", 40), ("error", 10)])
    assert 'class="kept" d="M0 0H250.00' in svg  # 50 of 200
    assert 'class="rejected" d="M250.00 0H500.00' in svg
    assert 'class="error" d="M250.00 0H300.00' in svg


def test_columns_are_as_high_as_their_counts_and_say_what_they_show():
    svg = columns([0, 10, 5], "Light & shade")
    assert 'role="img" aria-label="Light &amp; shade"' in svg
    assert svg.count('class="none"') == 1
    assert 'height="40.00"' in svg
    assert 'height="20.00"' in svg


def test_what_was_kept_stands_before_what_there_is():
    svg = occupied([8, 4, 0], [2, 4, 0], "x")
    assert svg.count('class="all"') == 1, "where all is kept there is nothing behind it"
    assert svg.count('class="kept"') == 2
    assert svg.index('class="all"') < svg.index('class="kept"')
    assert 'height="10.00"' in svg
