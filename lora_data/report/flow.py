"""The run at a glance: what left at which stage and why, and what a person should look at."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lora_data.manifest import UNKNOWN, Record, mirrors
from lora_data.report.charts import flow_band
from lora_data.report.words import ENHANCEMENTS, STAGES, reason_label, stage_label, status_order


@dataclass(frozen=True, slots=True)
class Drop:
    """What left at one stage with one status, and why."""

    status: str
    count: int
    reasons: list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of the flow at which something left."""

    label: str
    before: int
    drops: list[Drop]
    band: Markup


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should look at, and where."""

    count: int
    text: str
    target: str


def flow(records: Sequence[Record]) -> list[Step]:
    """From all inputs to what is kept: the stages at which something left, in the order of the run."""
    left: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if not record.active:
            left[record.stage or ""].append(record)
    order = {name: i for i, name in enumerate(STAGES)}
    remaining, steps = len(records), list[Step]()
    for stage in sorted(left, key=lambda name: (order.get(name, len(order)), name)):
        drops: list[Drop] = []
        by_status = Counter(r.status for r in left[stage])
        for status in sorted(by_status, key=status_order):
            reasons = Counter(reason_label(r.reason or "") for r in left[stage] if r.status == status)
            drops.append(Drop(status, by_status[status], _most(reasons)))
        band = flow_band(len(records), remaining, [(d.status, d.count) for d in drops])
        steps.append(Step(stage_label(stage) if stage else "No stage named", remaining, drops, band))
        remaining -= len(left[stage])
    return steps


def decided(records: Sequence[Record]) -> list[tuple[str, int]]:
    """What a person decided, as far as the table says: what, and on how many pictures."""
    counts = {
        "rejected": sum(r.reviewed == "reject" for r in records),
        "restored": sum(r.reviewed == "restore" for r in records),
        "named or moved": sum(_renamed(r) for r in records),
    }
    for column, label in ENHANCEMENTS.items():
        for answer, text in (("accept", "accepted"), ("refuse", "refused")):
            counts[f"{label.lower()} {text}"] = sum(getattr(r, f"{column}_review") == answer for r in records)
    return [(text, count) for text, count in counts.items() if count]


def notices(records: Sequence[Record]) -> list[Notice]:
    """What a person should look at, the most urgent first."""
    kept = [r for r in records if r.active]
    flags = Counter(reason_label(r.flagged) for r in kept if r.flagged)
    found = [Notice(count, f"kept but flagged: {label.lower()}", "#characters") for label, count in _most(flags)]
    found.append(Notice(sum(r.character == UNKNOWN for r in kept), "kept without a character’s name", "#characters"))
    found.append(Notice(len(mirrors(records)), "kept, though mirror images of another kept one", "#characters"))
    for column, label in ENHANCEMENTS.items():
        for outcome, text in (("proposed", "waits for your decision"), ("taken_back", "measured and taken back")):
            count = sum(getattr(r, column) == outcome and getattr(r, f"{column}_review") is None for r in records)
            found.append(Notice(count, f"{label}: {text}", f"#{column}"))
    found.append(Notice(sum(r.status == "error" for r in records), "inputs could not be used", "#errors"))
    return [notice for notice in found if notice.count]


def _renamed(record: Record) -> bool:
    return record.found_character is not None and record.found_character != record.character


def _most(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
