from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.manifest import Record
from lora_data.report.flow import decided, flow, notices
from lora_data.report.left import families, rejections
from tests.report.outs import measured


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["kept", "rejected", "duplicate", "surplus", "error"]),
            st.sampled_from(["ingest", "filter", "deduplicate", "select", "elsewhere", ""]),
            st.sampled_from(["blur", "dark", "news", ""]),
        )
    )
)
def test_the_flow_loses_nothing(outcomes: list[tuple[str, str, str]]):
    records = [
        Record(source=f"{i}", key=f"{i}") if status == "kept" else Record(source="", key=f"{i}").replace(**decided)
        for i, (status, stage, reason) in enumerate(outcomes)
        for decided in [{"status": status, "stage": stage, "reason": reason}]
    ]
    steps, remaining = flow(records), len(records)
    for step in steps:
        assert step.before == remaining
        for drop in step.drops:
            assert drop.count == sum(count for _, count in drop.reasons)
            remaining -= drop.count
    assert remaining == sum(r.active for r in records)
    assert sum(len(f.copies) for f in families(records)) == sum(r.status == "duplicate" for r in records)
    assert sum(len(g.records) for g in rejections(records)) == sum(r.status == "rejected" for r in records)


def test_what_a_person_decided_is_a_stage_and_counted():
    records = [
        measured("a", reviewed="reject").decide("rejected", "decide", "person"),
        measured("b", reviewed="restore"),
        measured("c", character="luca", found_character="unknown"),
        measured("d", character="luca", found_character="luca"),
        measured("e", upscale="taken_back", upscale_reason="person", upscale_review="refuse"),
        measured("f", deblur="applied", deblur_review="accept"),
    ]
    (step,) = flow(records)
    assert step.label == "A person"
    assert step.drops[0].reasons == [("Rejected by a person", 1)]
    said = dict(decided(records))
    assert said == {
        "rejected": 1,
        "restored": 1,
        "named or moved": 1,
        "super-resolution refused": 1,
        "deblurring accepted": 1,
    }
    assert not [n for n in notices(records) if n.target == "#upscale"], "what a person refused waits for nobody"
    assert decided([measured("a")]) == []
