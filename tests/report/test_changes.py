from __future__ import annotations

from lora_data.report import changes
from lora_data.report.changes import enhancements
from tests.report.outs import measured


def test_of_too_many_the_kept_ones_and_the_largest_gains_are_shown():
    records = [measured(f"k{i:03}", deblur="applied", deblur_gain=1.0 + i) for i in range(changes.PAIRS)]
    records += [
        measured("r", deblur="applied", deblur_gain=1e6).decide("rejected", "filter", "dark", 1.0, 2.0),
        measured("last", deblur="applied"),
    ]
    found = {e.column: e for e in enhancements(records)}
    (group,) = found["deblur"].groups
    assert group.count == changes.PAIRS + 2
    assert [r.key for r in group.shown] == [f"k{i:03}" for i in reversed(range(changes.PAIRS))]
    assert found["deblur"].orders == ["gain", "name"]
    assert found["deblur"].gain == (1.0 + (changes.PAIRS) / 2, 1e6)
    assert found["matte"].groups == []


def test_colour_has_no_gain_and_is_ordered_by_hue():
    records = [
        measured("a", colour="applied", colour_hue_shift=0.2),
        measured("b", colour="applied", colour_hue_shift=0.9),
        measured("c", colour="taken_back", colour_hue_shift=2.0),
    ]
    (colour,) = (e for e in enhancements(records) if e.column == "colour")
    assert colour.gain is None
    assert colour.shift == (0.55, 0.9), "of what was applied alone"
    assert colour.orders == ["hue", "name"]
    shown = {g.outcome: [r.key for r in g.shown] for g in colour.groups}
    assert shown == {"taken_back": ["c"], "applied": ["b", "a"]}
