from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lora_data.decisions import Decision, told
from lora_data.manifest import Record
from lora_data.review.overlay import overlaid, undecided, who_is_who
from lora_data.stages.decide import Decide
from tests.review.outs import row

FOUND = [
    *(row(f"a{i}") for i in range(3)),
    *(row(f"b{i}", "character_01") for i in range(3)),
    row("x0", "unknown", status="rejected", stage="identity", reason="unknown", value=0.4, limit=0.5),
]
KEYS = [r.key for r in FOUND]

picks = st.lists(st.sampled_from(KEYS), min_size=2, max_size=3, unique=True).map(tuple)
decisions = st.one_of(
    st.builds(lambda i, c: Decision(do="move", instances=i, character=c), picks, st.sampled_from(["luca", "giulia"])),
    st.builds(lambda i: Decision(do="split", instances=i), picks),
    st.builds(lambda i: Decision(do="merge", instances=i, character="both"), picks),
    st.builds(lambda i: Decision(do="reject", instances=i), picks),
    st.builds(lambda i: Decision(do="restore", instances=i), picks),
)


def run(decided: list[Decision]) -> list[Record]:
    """What a run makes of them; nothing but the decisions acts on these rows."""
    return Decide(decisions=tuple(decided)).apply(told(FOUND, decided))


def seen(records: list[Record]) -> list[tuple[str, str, str | None]]:
    return [(r.character, r.status, r.reviewed) for r in records]


@given(st.lists(decisions, max_size=5))
def test_the_page_shows_what_the_next_run_will_do(decided: list[Decision]):
    assert seen(overlaid(who_is_who(FOUND, decided), decided)) == seen(run(decided))


@given(st.lists(decisions, max_size=5), st.integers(0, 5))
def test_one_after_the_other_is_as_good_as_all_at_once(decided: list[Decision], at: int):
    step = who_is_who(who_is_who(FOUND, decided[:at]), decided[at:])
    assert seen(overlaid(step, decided)) == seen(overlaid(who_is_who(FOUND, decided), decided))


@given(st.lists(decisions, max_size=5))
def test_a_run_s_decisions_can_be_taken_off_again(decided: list[Decision]):
    bare = [undecided(r) for r in run(decided)]
    assert [r.character for r in bare] == [r.character for r in FOUND]
    assert all(r.reviewed is None for r in bare)
    # and put on again
    assert seen(overlaid(who_is_who(bare, decided), decided)) == seen(run(decided))


def test_enhancements_are_accepted_and_refused():
    rows = [
        row("a0", deblur="proposed"),
        row("a1", deblur="proposed", colour="applied"),
        row("a2", deblur="taken_back"),
    ]
    decided = [
        Decision(do="accept", instances=("a0", "a2"), enhancement="deblur"),
        Decision(do="refuse", instances=("a1",), enhancement="deblur"),
        Decision(do="refuse", instances=("a1",), enhancement="colour"),
    ]
    shown = overlaid(rows, decided)
    assert [(r.deblur, r.deblur_reason, r.colour) for r in shown] == [
        ("applied", None, "no"),
        ("taken_back", "person", "taken_back"),
        ("taken_back", None, "no"),  # the gate took that one back: there is nothing to accept
    ]
    assert [(r.deblur, r.colour) for r in map(undecided, shown)] == [
        *(("proposed", "no"), ("proposed", "applied"), ("taken_back", "no"))
    ]


def test_what_has_no_picture_does_not_come_back():
    rows = [
        row("a0", status="error", stage="ingest", reason="damaged"),
        row("a1", status="rejected", stage="ingest", reason="small_mask"),
        row("a2", status="surplus", stage="select", reason="crowded"),
    ]
    shown = overlaid(rows, [Decision(do="restore", instances=("a0", "a1", "a2"))])
    assert [r.status for r in shown] == ["error", "rejected", "kept"]
