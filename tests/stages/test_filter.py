"""The filter: every rejection has a reason, a value and a limit, and what is dark by intent stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.manifest import Record
from lora_data.sample import Instance
from lora_data.stages.filter import Filter
from lora_data.stages.metrics import Exposure, Metrics

DEV = Path(__file__).parents[3] / "shared" / "data" / "dev"
GOOD: dict[str, Any] = {
    "box_width": 300,
    "box_height": 500,
    "coverage": 0.5,
    "matte_components": 1,
    "touches_edge": 0.02,
    "source_brightness": 110.0,
    "source_brightness_p95": 180.0,
    "source_clipped_bright": 0.0,
    "source_burnt": 0.0,
    "brightness": 112.0,
    "brightness_p05": 30.0,
    "brightness_p95": 182.0,
    "saturation": 0.4,
    "laplacian_variance": 1200.0,
    "edge_score": 0.6,
    "framing": "full",
}
DARK: dict[str, Any] = {"source_brightness": 20.0, "source_brightness_p95": 40.0}


def record(key: str = "a", **changes: Any) -> Record:
    return Record(source=f"{key}.png", key=key, **{**GOOD, **changes})


def judge(*records: Record, **fields: Any) -> list[Record]:
    return Filter(**fields).apply(records)


@pytest.mark.parametrize(
    ("changes", "reason", "value", "limit"),
    [
        ({"coverage": 1.0}, "no_matte", 1.0, 0.995),
        ({"box_width": 90, "box_height": 127}, "small", 127, 128),
        ({"coverage": 0.001}, "speck", 0.001, 0.002),
        ({"matte_components": 5, "touches_edge": 0.2}, "fragments", 5, 3),
        ({"brightness_p05": 100.0, "brightness_p95": 103.0}, "flat", 3.0, 8.0),
        (DARK, "dark", 20.0, 30.0),
        ({"source_brightness": 230.0, "source_burnt": 0.5}, "bright", 230.0, 220.0),
        ({"source_brightness": 230.0, "source_clipped_bright": 0.7}, "bright", 230.0, 220.0),
        ({"source_brightness": 200.0, "source_burnt": 0.5}, "burnt", 0.5, 0.25),
        ({"laplacian_variance": 79.0}, "blur", 79.0, 80.0),
        ({"edge_score": 0.29}, "detail", 0.29, 0.3),
        ({"face_size": 63.0, "framing": "close-up"}, "small_face", 63.0, 64),
    ],
)
def test_each_reason(changes: dict[str, Any], reason: str, value: float, limit: float) -> None:
    (found,) = judge(record(**changes))
    assert (found.status, found.stage, found.reason, found.value, found.limit) == (
        "rejected",
        "filter",
        reason,
        value,
        limit,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        dict.fromkeys(GOOD),  # nothing measured: nothing to reject by
        {"box_width": 60, "box_height": 128},
        {"laplacian_variance": 80.0, "edge_score": 0.3},
        {"laplacian_variance": None, "edge_score": None},  # smooth: no texture to be blurred
        {"source_brightness": 25.0, "source_brightness_p95": 90.0},  # black clothes, a lit face
        {"source_brightness": 230.0, "source_clipped_bright": 0.01},  # a snowman, shaded
        {"face_size": 20.0, "framing": "full"},
        {"face_size": None, "framing": "close-up"},
        {"face_size": 40.0, "framing": "half", "box_height": 900},  # no face of a figure of that size
        {"saturation": 0.0},
    ],
)
def test_what_stays(changes: dict[str, Any]) -> None:
    (found,) = judge(record(**changes))
    assert found.status == "kept"
    assert found.reason is None
    assert found.flagged is None


def test_what_a_person_restored_passes() -> None:
    (judged,) = judge(record(laplacian_variance=1.0, matte_components=9, touches_edge=0.0, reviewed="restore"))
    assert (judged.status, judged.flagged) == ("kept", None)


def test_floating_parts_inside_the_canvas_are_flagged() -> None:
    (found,) = judge(record(matte_components=6, touches_edge=0.03))
    assert found.status == "kept"
    assert found.flagged == "fragments"


def test_enhanced_exposure_counts_where_the_source_was_not_measured() -> None:
    def unmeasured(**changes: Any) -> Record:
        missing: dict[str, Any] = {name: None for name in GOOD if name.startswith("source_")}
        return record("a", **{**missing, **changes})

    assert judge(unmeasured(brightness=20.0))[0].status == "kept"  # lit parts: p95 182
    found = judge(unmeasured(brightness=20.0, brightness_p95=45.0))[0]
    assert (found.reason, found.value) == ("dark", 20.0)
    lifted = judge(record(**DARK, brightness=60.0))[0]
    assert (lifted.reason, lifted.value) == ("dark", 20.0)


class TestNeighbours:
    """A night scene is dark together; an underexposed picture is dark alone."""

    @staticmethod
    def scene(*pairs: tuple[float, float], **changes: Any) -> list[Record]:
        return [
            record(f"k{i}", scene="s1", instance=0, source_brightness=b, source_brightness_p95=p, **changes)
            for i, (b, p) in enumerate(pairs)
        ]

    def test_a_night_scene_stays(self) -> None:
        assert all(r.status == "kept" for r in judge(*self.scene((22, 48), (23, 50), (21, 47), (22, 46))))

    def test_a_black_frame_stays_black(self) -> None:
        assert all(r.reason == "dark" for r in judge(*self.scene((8, 15), (8, 16), (9, 16))))

    def test_one_fell(self) -> None:
        found = judge(*self.scene((120, 200), (118, 200), (121, 201), (24, 70)))
        assert [r.reason for r in found] == [None, None, None, "dark"]  # though its highlights alone would pass
        found = judge(*self.scene((150, 230), (151, 231), (149, 230), (45, 95)))
        assert found[3].reason == "darker_than_scene"
        assert found[3].value == pytest.approx(0.3, abs=0.01)
        assert found[3].limit == 0.35

    def test_a_dark_costume_among_bright_ones_stays(self) -> None:
        found = judge(*self.scene((150, 230), (151, 231), (149, 230), (45, 190)))
        assert all(r.status == "kept" for r in found)

    def test_white_among_white_stays(self) -> None:
        white = self.scene((210, 255), (211, 255), (212, 255), source_burnt=0.4)
        assert all(r.status == "kept" for r in judge(*white))

    def test_other_scenes_and_tracks_do_not_count(self) -> None:
        others = [r.replace(scene=f"other{i}") for i, r in enumerate(self.scene((22, 48), (23, 50), (21, 47)))]
        assert all(r.reason == "dark" for r in judge(*others))

    def test_a_track_is_closer_than_a_scene(self) -> None:
        bright = self.scene((150, 230), (150, 230), (150, 230), (150, 230))
        night = [
            record(f"t{i}", scene="s1", instance=0, track="7", source_brightness=22.0, source_brightness_p95=48.0)
            for i in range(3)
        ]
        assert all(r.status == "kept" for r in judge(*bright, *night))

    def test_a_low_key_character_stays_and_a_bright_one_in_the_dark_goes(self) -> None:
        black = [record(f"b{i}", character="Spy", source_brightness=24.0, source_brightness_p95=45.0) for i in range(5)]
        assert all(r.status == "kept" for r in judge(*black))
        bright = [record(f"c{i}", character="Sun") for i in range(6)]
        dim = record("d", character="Sun", source_brightness=24.0, source_brightness_p95=62.0)
        assert judge(*bright, dim)[-1].reason == "dark"


class TestSaturation:
    def test_it_is_relative_to_the_character(self) -> None:
        knights = [record(f"k{i}", character="Knight", saturation=0.06) for i in range(6)]
        mages = [record(f"m{i}", character="Mage", saturation=0.6) for i in range(6)]
        found = judge(*knights, *mages)
        assert all(r.status == "kept" for r in found)
        assert [r.saturation_ratio for r in found] == [pytest.approx(1.0)] * 12

    @pytest.mark.parametrize(
        ("saturation", "reason", "limit"),
        [(0.9, "oversaturated", 2.0), (0.1, "unsaturated", 0.3), (0.7, None, None), (0.13, None, None)],
    )
    def test_its_limits(self, saturation: float, reason: str | None, limit: float | None) -> None:
        usual = [record(f"m{i}", character="Mage", saturation=0.4) for i in range(6)]
        found = judge(*usual, record("x", character="Mage", saturation=saturation))[-1]
        assert (found.reason, found.limit) == (reason, limit)
        assert found.saturation_ratio == pytest.approx(saturation / 0.4)

    def test_coloured_light_on_a_gray_character_is_no_damage(self) -> None:
        day = [record(f"d{i}", character="Knight", saturation=0.2) for i in range(9)]
        neon = [record(f"n{i}", character="Knight", scene="neon", saturation=0.5) for i in range(3)]
        found = judge(*day, *neon)
        assert all(r.status == "kept" for r in found)
        assert found[-1].saturation_ratio == pytest.approx(2.5)

    def test_a_stranger_is_never_rejected_for_it(self) -> None:
        found = judge(*[record(f"m{i}", saturation=0.5) for i in range(6)], record("x", saturation=0.02))
        assert found[-1].status == "kept"
        assert found[-1].saturation_ratio == pytest.approx(0.04)


def test_decided_records_are_left_and_do_not_vote() -> None:
    gone = [record(f"g{i}", scene="s", instance=0, **DARK).decide("duplicate", "deduplicate", "same") for i in range(5)]
    active = [record(f"a{i}", scene="s", instance=0) for i in range(2)]
    found = judge(*gone, *active)
    assert found[:5] == gone  # identity: the very same records
    assert all(r.status == "kept" for r in found[5:])


@given(
    numbers=st.lists(
        st.tuples(st.floats(0, 255), st.floats(0, 1), st.sampled_from(["s", "t", None])), min_size=1, max_size=12
    ),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_order_does_not_matter_and_every_decision_is_explained(numbers: list[Any], order: Any) -> None:
    records = [
        record(f"k{i:02}", source_brightness=b, source_brightness_p95=b, saturation=s, scene=scene, instance=0)
        for i, (b, s, scene) in enumerate(numbers)
    ]
    shuffled = records.copy()
    order.shuffle(shuffled)
    found = {r.key: r for r in judge(*shuffled)}
    for straight in judge(*records):
        other = found[straight.key]
        assert (straight.status, straight.reason, straight.value) == (other.status, other.reason, other.value)
        explained = (straight.stage, straight.reason, straight.value, straight.limit)
        assert all(x is not None for x in explained) if straight.status == "rejected" else explained == (None,) * 4


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"brightness_range": (220.0, 30.0)}, "brightness_range"),
        ({"brightness_range": (30.0, 256.0)}, "brightness_range"),
        ({"saturation_range": (-0.1, 2.0)}, "saturation_range"),
        ({"edge_score": 1.5}, "edge_score"),
        ({"blur_threshold": float("nan")}, "blur_threshold"),
        ({"min_face_size": -1}, "min_face_size"),
        ({"min_coverage": 0.9, "max_coverage": 0.5}, "min_coverage"),
        ({"max_components": 0}, "max_components"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Filter(**fields)


def test_limits_are_the_configuration() -> None:
    assert judge(record(laplacian_variance=50.0), blur_threshold=40.0)[0].status == "kept"
    assert judge(record(**DARK), brightness_range=(10.0, 220.0))[0].status == "kept"
    assert judge(record(), min_size=600)[0].reason == "small"


@pytest.mark.skipif(not DEV.is_dir(), reason="the development renders are not here")
def test_on_renders_with_known_damage() -> None:
    cv2 = pytest.importorskip("cv2")
    lines = [json.loads(line) for line in (DEV / "truth.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["kind"] == "instance"]
    damage = {line["file"]: {d["type"] for d in line["degradations"]} for line in lines}
    clean = [line for line in lines if line["clean"] and not line["dof"]][::6]
    wanted = [line for line in lines if line["dof"] or damage[line["file"]] & {"underexposed", "overexposed"}]
    chosen = {line["file"]: line for line in clean + wanted}
    records = []
    for file in chosen:
        rgba = cv2.imread(str(DEV / file), cv2.IMREAD_UNCHANGED)
        rgb, alpha = np.ascontiguousarray(rgba[..., 2::-1]), np.ascontiguousarray(rgba[..., 3])
        instance = Instance(Record(source=file, key=Path(file).stem), rgb, alpha)
        records.append(Metrics().apply(Exposure().apply(instance)).record)
    rejected = {r.source: r.reason for r in Filter().apply(records) if r.status == "rejected"}
    badly_exposed = [file for file in chosen if damage[file] & {"underexposed", "overexposed"}]
    assert all(rejected.get(file) in {"dark", "bright", "burnt"} for file in badly_exposed)
    assert set(rejected) == set(badly_exposed)
