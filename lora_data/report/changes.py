"""Before and after: what each enhancement did, and the pictures, by how much it gained."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from lora_data.manifest import Record
from lora_data.report.captions import gain_of, shift_of
from lora_data.report.words import ENHANCEMENTS, OUTCOMES

PAIRS = 1000
"""Most before/after pairs per enhancement and outcome; every kept picture shows its own in the contact sheet."""

Measure = Callable[[Record], float | None]


@dataclass(frozen=True, slots=True)
class OutcomeGroup:
    """The pictures with one outcome of one enhancement; of too many, the kept ones and the largest numbers."""

    outcome: str
    label: str
    meaning: str
    count: int
    shown: list[Record]


@dataclass(frozen=True, slots=True)
class Enhancement:
    """One enhancement: how often what happened, and the pictures.

    Args:
        column: Its column of the table.
        label: Its name.
        counts: Pictures by outcome.
        gain: Median and largest gain of what was applied; None where none was measured.
        shift: The same of the hue shift, degrees.
        orders: What its pictures can be sorted by, the first being how they come: "gain", "hue", "name".
        groups: The pictures by outcome.
    """

    column: str
    label: str
    counts: dict[str, int]
    gain: tuple[float, float] | None
    shift: tuple[float, float] | None
    orders: list[str]
    groups: list[OutcomeGroup]


def enhancements(records: Sequence[Record]) -> list[Enhancement]:
    """What each enhancement did; those that did nothing at all have no groups."""
    found: list[Enhancement] = []
    for column, label in ENHANCEMENTS.items():
        gain, shift = partial(gain_of, column=column), partial(shift_of, column=column)
        touched = [r for r in records if getattr(r, column) != "no"]
        measured = (("gain", gain), ("hue", shift))
        orders = [name for name, measure in measured if any(measure(r) is not None for r in touched)]
        rank = gain if "gain" in orders else shift
        groups: list[OutcomeGroup] = []
        for outcome, (name, meaning) in OUTCOMES.items():
            group = sorted((r for r in touched if getattr(r, column) == outcome), key=partial(_place, rank))
            shown = sorted(group, key=lambda r: not r.active)[:PAIRS]
            if group:
                groups.append(
                    OutcomeGroup(outcome, name, meaning, len(group), sorted(shown, key=partial(_place, rank)))
                )
        applied = [r for r in touched if getattr(r, column) == "applied"]
        counts = Counter(str(getattr(r, column)) for r in records)
        numbers = _middle_and_largest(gain, applied), _middle_and_largest(shift, applied)
        found.append(Enhancement(column, label, dict(counts), *numbers, [*orders, "name"], groups))
    return found


def _place(rank: Measure, record: Record) -> tuple[bool, float, str]:
    """The largest number first, what has none last."""
    value = rank(record)
    return value is None, -(value or 0.0), record.key


def _middle_and_largest(measure: Measure, records: Sequence[Record]) -> tuple[float, float] | None:
    values = [value for r in records if (value := measure(r)) is not None]
    return (statistics.median(values), max(values)) if values else None
