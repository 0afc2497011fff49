"""What the page says: the records, grouped, ordered and counted. No markup but the charts."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lora_data.characters import NONE, TARGET, Figures, advice_by_name, figures
from lora_data.manifest import UNKNOWN, Record, mirrors
from lora_data.report.charts import columns, flow_band, parts_bar
from lora_data.report.words import (
    ENHANCEMENTS,
    OUTCOMES,
    STAGES,
    STATUS,
    number,
    reason_label,
    reason_meaning,
    stage_label,
)

PAIRS = 240
"""Most before/after pairs per enhancement and outcome; every kept picture shows its own in the contact sheet."""


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


@dataclass(frozen=True, slots=True)
class Character:
    """One character's part of the page; ``anchor`` is the section's id."""

    name: str
    anchor: str
    counts: dict[str, int]
    kept: list[Record]
    surplus: list[Record]
    framing: list[tuple[str, int]]
    framing_bar: Markup
    view: list[tuple[str, int]]
    view_bar: Markup
    light: Markup | None
    shots: int
    figures: Figures
    advice: str | None


@dataclass(frozen=True, slots=True)
class OutcomeGroup:
    """The pictures with one outcome of one enhancement: kept ones first, by hue shift, the largest first."""

    column: str
    label: str
    meaning: str
    count: int
    shown: list[Record]


@dataclass(frozen=True, slots=True)
class Enhancement:
    """One enhancement: how often what happened, and the pictures."""

    column: str
    label: str
    counts: dict[str, int]
    median_shift: float | None
    largest_shift: float | None
    groups: list[OutcomeGroup]


@dataclass(frozen=True, slots=True)
class Family:
    """A kept picture and its copies, the most alike first. ``kept`` is None where the table does not have it."""

    key: str
    kept: Record | None
    copies: list[Record]


@dataclass(frozen=True, slots=True)
class ReasonGroup:
    """The rejected of one stage and reason, the closest call first."""

    label: str
    meaning: str
    stage: str
    limit: float | None
    records: list[Record]


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
        for status in sorted(by_status, key=_status_order):
            reasons = Counter(reason_label(r.reason or "") for r in left[stage] if r.status == status)
            drops.append(Drop(status, by_status[status], _most(reasons)))
        band = flow_band(len(records), remaining, [(d.status, d.count) for d in drops])
        steps.append(Step(stage_label(stage) if stage else "No stage named", remaining, drops, band))
        remaining -= len(left[stage])
    return steps


def notices(records: Sequence[Record]) -> list[Notice]:
    """What a person should look at, the most urgent first."""
    kept = [r for r in records if r.active]
    flags = Counter(reason_label(r.flagged) for r in kept if r.flagged)
    found = [Notice(count, f"kept but flagged: {label.lower()}", "#characters") for label, count in _most(flags)]
    found.append(Notice(sum(r.character == UNKNOWN for r in kept), "kept without a character’s name", "#characters"))
    found.append(Notice(len(mirrors(records)), "kept, though mirror images of another kept one", "#characters"))
    for column, label in ENHANCEMENTS.items():
        for outcome, text in (("proposed", "waits for your decision"), ("taken_back", "measured and taken back")):
            count = sum(getattr(r, column) == outcome for r in records)
            found.append(Notice(count, f"{label}: {text}", f"#{column}"))
    found.append(Notice(sum(r.status == "error" for r in records), "inputs could not be used", "#errors"))
    return [notice for notice in found if notice.count]


def characters(records: Sequence[Record], target: tuple[float, float] = TARGET) -> list[Character]:
    """The characters, the one with the most pictures first, those nobody could name last; ``target`` is for advice."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[record.character].append(record)
    counts = {name: Counter(r.status for r in group) for name, group in groups.items()}
    # who has nothing to show and no name is in the flow already
    names = [name for name in groups if name != UNKNOWN or counts[name]["kept"] + counts[name]["surplus"]]
    names.sort(key=lambda name: (name == UNKNOWN, -counts[name]["kept"], name))
    numbers = {c.name: c for c in figures(records)}
    advised = advice_by_name(numbers.values(), target)
    return [
        _character(f"c{i}", groups[name], counts[name], numbers[name], advised.get(name))
        for i, name in enumerate(names)
    ]


def _character(
    anchor: str, group: Sequence[Record], counts: Counter[str], numbers: Figures, advice: str | None
) -> Character:
    kept = [r for r in group if r.active]
    framing = [(label if label != NONE else "not measured", count) for label, count in numbers.framings.items()]
    view = [(label if label != NONE else "no face", count) for label, count in numbers.views.items()]
    light = [r.brightness for r in kept if r.brightness is not None]
    eighths = [0] * 8
    for value in light:
        eighths[min(7, max(0, int(value / 32)))] += 1
    return Character(
        name=numbers.name,
        anchor=anchor,
        counts={status: counts[status] for status in sorted(counts, key=_status_order)},
        kept=kept,
        surplus=[r for r in group if r.status == "surplus"],
        framing=framing,
        framing_bar=parts_bar([(f"tone{min(i, 3)}", count) for i, (_, count) in enumerate(framing)]),
        view=view,
        view_bar=parts_bar([(f"tone{min(i, 3)}", count) for i, (_, count) in enumerate(view)]),
        light=columns(eighths) if light else None,
        shots=len({r.scene or r.track for r in kept} - {None}),
        figures=numbers,
        advice=advice,
    )


def enhancements(records: Sequence[Record]) -> list[Enhancement]:
    """What each enhancement did; those that did nothing at all have no groups."""
    found: list[Enhancement] = []
    for column, label in ENHANCEMENTS.items():
        counts = Counter(str(getattr(r, column)) for r in records)
        groups: list[OutcomeGroup] = []
        for outcome, (name, meaning) in OUTCOMES.items():
            group = [r for r in records if getattr(r, column) == outcome]
            group.sort(key=lambda r: (not r.active, -(shift_of(r, column) or 0.0), r.key))
            if group:
                groups.append(OutcomeGroup(column, name, meaning, len(group), group[:PAIRS]))
        applied = [r for r in records if getattr(r, column) == "applied"]
        shifts = [shift for r in applied if (shift := shift_of(r, column)) is not None]
        median = statistics.median(shifts) if shifts else None
        found.append(Enhancement(column, label, dict(counts), median, max(shifts, default=None), groups))
    return found


def shift_of(record: Record, column: str) -> float | None:
    """The 95th percentile of the hue shift that an enhancement made, degrees."""
    return getattr(record, f"{column}_hue_shift")


def families(records: Sequence[Record]) -> list[Family]:
    """Duplicates with the one that was kept, the largest family first."""
    by_key = {r.key: r for r in records}
    copies: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.status == "duplicate":
            copies[record.duplicate_of or ""].append(record)
    for group in copies.values():
        group.sort(key=lambda r: (-(r.value or 0.0), r.key))
    order = sorted(copies, key=lambda key: (-len(copies[key]), key))
    return [Family(key, by_key.get(key), copies[key]) for key in order]


def rejections(records: Sequence[Record]) -> list[ReasonGroup]:
    """The rejected by stage and reason, the most frequent first."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record.status == "rejected":
            groups[record.stage or "", record.reason or ""].append(record)
    found: list[ReasonGroup] = []
    for (stage, reason), group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        group.sort(key=lambda r: (_distance(r), r.key))
        limits = {r.limit for r in group}
        limit = group[0].limit if len(limits) == 1 else None
        label, meaning = reason_label(reason), reason_meaning(reason)
        found.append(ReasonGroup(label, meaning, stage_label(stage), limit, group))
    return found


def verdict(record: Record) -> str:
    """The number that decided against its limit: "61.2 < 80"."""
    if record.value is None:
        return ""
    if record.limit is None:
        return number(record.value)
    sign = "<" if record.value < record.limit else ">" if record.value > record.limit else "="
    if record.status == "duplicate":
        sign = "≥" if record.value >= record.limit else sign
    value, limit = record.value, record.limit
    # a close call must not read "80 < 80"
    digits = next((d for d in range(3, 9) if number(value, d) != number(limit, d) or value == limit), 9)
    return f"{number(value, digits)} {sign} {number(limit, digits)}"


def metrics(record: Record) -> list[tuple[str, str]]:
    """A picture's numbers, as its caption shows them: label and text; what was not measured is left out."""
    size = f"{record.width} × {record.height} px" if record.width and record.height else None
    face = None if not record.face_size else f"{number(record.face_size)} px"
    rows: list[tuple[str, str | float | None]] = [
        ("frame", None if record.frame is None else str(record.frame)),
        ("size", size),
        ("framing", record.framing),
        ("face", face),
        ("brightness", record.brightness),
        ("Laplacian", record.laplacian_variance),
        ("sharpness", record.sharpness),
        ("detail", record.edge_score),
        ("saturation", record.saturation_ratio),
    ]
    if record.surplus_to:
        rows += [("nearest kept", record.surplus_to), ("distance to it", verdict(record))]
    for column, label in ENHANCEMENTS.items():
        outcome, shift = getattr(record, column), shift_of(record, column)
        if outcome != "no":
            text = str(outcome).replace("_", " ")
            rows.append((label.lower(), text if shift is None else f"{text}, hue {number(shift)}°"))
    return [(k, v if isinstance(v, str) else number(v)) for k, v in rows if v is not None]


def _distance(record: Record) -> float:
    """How far a value lies from its limit, relative to it; unknown is farthest."""
    if record.value is None or record.limit is None:
        return math.inf
    return abs(record.value - record.limit) / max(abs(record.limit), 1e-9)


def _most(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _status_order(status: str) -> tuple[int, str]:
    names: Iterable[str] = STATUS
    return next((i for i, name in enumerate(names) if name == status), len(STATUS)), status
