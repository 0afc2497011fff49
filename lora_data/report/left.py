"""What was not kept: duplicates with the one that was, and the rejected by their reason."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from lora_data.manifest import Record
from lora_data.report.words import reason_label, reason_meaning, stage_label


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


def _distance(record: Record) -> float:
    """How far a value lies from its limit, relative to it; unknown is farthest."""
    if record.value is None or record.limit is None:
        return math.inf
    return abs(record.value - record.limit) / max(abs(record.limit), 1e-9)
