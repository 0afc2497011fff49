"""What a table looks like with a person's decisions on it, before the next run applies them."""

from __future__ import annotations

from collections.abc import Sequence

from lora_data.decisions import ENHANCED, WHO, Decision, told
from lora_data.manifest import UNKNOWN, Record
from lora_data.stages.decide import Decide


def undecided(record: Record) -> Record:
    """A row of a finished run without what a person's decisions did to it.

    What cannot be known is what the stages after the decision would have said of it: somebody rejected is in the
    running again, somebody restored stays; the next run says.
    """
    changes: dict[str, object] = {f"{name}_review": None for name in ENHANCED}
    if record.found_character is not None:
        changes |= {
            "character": record.found_character,
            "cluster": record.found_cluster,
            "look": record.found_look,
            "found_character": None,
            "found_cluster": None,
            "found_look": None,
        }
        if record.found_character == UNKNOWN and record.active:
            changes |= {"status": "rejected", "stage": "identity", "reason": "unknown"}
    if record.reviewed == "reject" and record.stage == Decide.name:
        changes |= {"status": "kept", "stage": None, "reason": None}
    for name in ENHANCED:
        answer, outcome = getattr(record, f"{name}_review"), getattr(record, name)
        if answer == "accept" and outcome == "applied":
            changes[name] = "proposed"
        if answer == "refuse" and outcome == "taken_back":
            # only what is proposed waits; everything else was applied before somebody refused it
            changes |= {name: "proposed" if name == "deblur" else "applied", f"{name}_reason": None}
    return record.replace(reviewed=None, **changes)


def who_is_who(records: Sequence[Record], decisions: Sequence[Decision]) -> list[Record]:
    """The rows after the decisions about who is who; one call with all of them is as good as one for each."""
    about = tuple(decision for decision in decisions if decision.do in WHO)
    return Decide(decisions=about).apply(records) if about else list(records)


def overlaid(records: Sequence[Record], decisions: Sequence[Decision]) -> list[Record]:
    """The rows, on which it is decided who is who, with everything else that a person said.

    Args:
        records: Of `who_is_who`.
        decisions: Those that stand.
    """
    result: list[Record] = []
    for before, record in zip(records, told(records, decisions), strict=True):
        if record is before:
            result.append(record)
            continue
        changes: dict[str, object] = {}
        if record.reviewed == "reject" and record.status in ("kept", "surplus", "duplicate"):
            changes = {"status": "rejected", "stage": Decide.name, "reason": "person", "value": None, "limit": None}
        if record.reviewed == "restore" and restorable(record):
            changes = {"status": "kept", "stage": None, "reason": None, "value": None, "limit": None, "flagged": None}
        for name in ENHANCED:
            answer, outcome = getattr(record, f"{name}_review"), getattr(record, name)
            if answer == "accept" and outcome == "proposed":
                changes[name] = "applied"
            if answer == "refuse" and outcome in ("proposed", "applied"):
                changes |= {name: "taken_back", f"{name}_reason": "person"}
        result.append(record.replace(**changes))
    return result


def restorable(record: Record) -> bool:
    """Whether there is a picture to keep: inputs that failed, and masks that were never cut out, have none."""
    return record.status != "error" and record.stage != "ingest"
