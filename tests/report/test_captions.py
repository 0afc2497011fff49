from __future__ import annotations

import pytest

from lora_data.manifest import Record
from lora_data.report.captions import changed, hash_distance, metrics, verdict, why
from lora_data.report.words import number
from tests.report.outs import measured


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (Record(source="", key="").decide("rejected", "filter", "blur", 61.24, 80.0), "61.2 < 80"),
        (Record(source="", key="").decide("rejected", "filter", "blur", 79.998, 80.0), "79.998 < 80"),
        (Record(source="", key="").decide("rejected", "filter", "fragments", 5.0, 3.0), "5 > 3"),
        (Record(source="", key="").decide("duplicate", "deduplicate", "near_duplicate", 0.9512, 0.95), "0.951 ≥ 0.95"),
        (Record(source="", key="").decide("rejected", "identity", "unknown", 0.25), "0.25"),
        (Record(source="", key=""), ""),
    ],
)
def test_verdicts(record: Record, text: str):
    assert verdict(record) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12, "12"), (1240, "1,240"), (1240.4, "1,240"), (312.4, "312"), (61.24, "61.2"), (2.504, "2.5"),
     (0.95, "0.95"), (0.9512, "0.951"), (-3.14159, "-3.14"), (0.0001, "0"), (100.0, "100")],
)  # fmt: skip
def test_numbers(value: float, text: str):
    assert number(value) == text


@pytest.mark.parametrize(
    ("fields", "text", "reason"),
    [
        ({"colour": "applied", "colour_hue_shift": 0.4}, "applied, hue 0.4°", ""),
        (
            {"colour": "taken_back", "colour_reason": "white balance, hue", "colour_hue_shift": 2.2},
            "taken back, hue 2.2°",
            "white balance, hue moved",
        ),
        (
            {"colour": "taken_back", "colour_reason": "person", "colour_review": "refuse"},
            "taken back, refused by a person",
            "refused by a person",
        ),
        ({"colour": "applied", "colour_reason": "another word_of_ours"}, "applied", "another word of ours"),
    ],
)
def test_what_an_enhancement_did(fields: dict[str, object], text: str, reason: str):
    record = measured("a", **fields)
    assert changed(record, "colour") == text
    assert why(record, "colour") == reason


def test_a_gain_is_said_where_the_gate_measured_one():
    record = measured("a", upscale="taken_back", upscale_reason="no_gain", upscale_value=1.04, upscale_limit=1.1)
    assert changed(record.replace(upscale_gain=1.04), "upscale") == "taken back, gain 1.04"
    assert why(record, "upscale") == "too little sharper: 1.04 < 1.1"
    assert "gain" not in changed(record, "upscale")


@pytest.mark.parametrize(
    ("first", "second", "bits"), [(0, 0, 0), (0b1011, 0b0010, 2), (2**64 - 1, 0, 64), (None, 3, None), (3, None, None)]
)
def test_distance_of_hashes(first: int | None, second: int | None, bits: int | None):
    assert hash_distance(measured("a", phash=first), measured("b", phash=second)) == bits


def test_whom_the_run_found_is_said_where_a_person_said_otherwise():
    record = measured("a", character="luca", found_character="character_03", found_look="coat", reviewed="restore")
    rows = dict(metrics(record))
    assert rows["the run found"] == "character_03, coat"
    assert rows["a person"] == "restored"
    assert "the run found" not in dict(metrics(record.replace(character="character_03", look="coat")))
    assert "the run found" not in dict(metrics(measured("a")))
