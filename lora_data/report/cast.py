"""The characters' part of the page: what is kept of each, and what its pictures cover."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lora_data.characters import NONE, TARGET, Figures, advice_by_name, figures
from lora_data.manifest import UNKNOWN, Record
from lora_data.report.charts import columns, parts_bar
from lora_data.report.film import Film, film_of, strip
from lora_data.report.words import status_order

Count = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Plot:
    """A small plot: its title, the chart, and what stands below: counts by label, or the names of its ends."""

    title: str
    chart: Markup
    keys: list[Count]
    ends: list[str]


@dataclass(frozen=True, slots=True)
class Character:
    """One character's part of the page; ``anchor`` is the section's id, ``nearest`` that of the nearest other one."""

    name: str
    anchor: str
    counts: dict[str, int]
    kept: list[Record]
    surplus: list[Record]
    plots: list[Plot]
    shots: int
    figures: Figures
    advice: str | None
    nearest: str | None


def characters(records: Sequence[Record], target: tuple[float, float] = TARGET) -> list[Character]:
    """The characters, the one with the most pictures first, those nobody could name last; ``target`` is for advice."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[record.character].append(record)
    counts = {name: Counter(r.status for r in group) for name, group in groups.items()}
    # who has nothing to show and no name is in the flow already
    names = [name for name in groups if name != UNKNOWN or counts[name]["kept"] + counts[name]["surplus"]]
    names.sort(key=lambda name: (name == UNKNOWN, -counts[name]["kept"], name))
    anchors = {name: f"c{i}" for i, name in enumerate(names)}
    numbers = {c.name: c for c in figures(records)}
    advised = advice_by_name(numbers.values(), target)
    film = film_of(records)
    found: list[Character] = []
    for name in names:
        group, own = groups[name], numbers[name]
        kept = [r for r in group if r.active]
        found.append(
            Character(
                name=name,
                anchor=anchors[name],
                counts={status: counts[name][status] for status in sorted(counts[name], key=status_order)},
                kept=kept,
                surplus=[r for r in group if r.status == "surplus"],
                plots=coverage(kept, group, own, film) if kept else [],
                shots=len({r.scene or r.track for r in kept} - {None}),
                figures=own,
                advice=advised.get(name),
                nearest=None if own.nearest is None else anchors.get(own.nearest),
            )
        )
    return found


def coverage(kept: Sequence[Record], group: Sequence[Record], own: Figures, film: Film | None) -> list[Plot]:
    """What a character's kept pictures cover: framing, view, the head's turn, silhouette, light and the film.

    Args:
        kept: Its kept pictures.
        group: All its pictures.
        own: Its numbers.
        film: The whole run's frames, where they are known.
    """
    plots: list[Plot | None] = [_shares("Framing", own.framings, "not measured")]
    if own.views:
        plots.append(_shares("View", own.views, "no face"))
    # positive is the picture's right
    plots.append(_spread("Head turn", kept, _yaw, 12, ["left", "front", "right"]))
    plots.append(_spread("Silhouette", kept, _shape, 12, ["wide", "square", "tall"]))
    plots.append(_spread("Light", kept, _light, 12, ["dark", "bright"]))
    if film is not None:
        plots.append(Plot("Film", strip(film, group), [], film.ends))
    return [plot for plot in plots if plot is not None]


def _shares(title: str, counts: Mapping[str, int], none: str) -> Plot:
    named = [(none if label == NONE else label, count) for label, count in counts.items()]
    return Plot(title, parts_bar([(f"tone{min(i, 3)}", count) for i, (_, count) in enumerate(named)]), named, [])


def _spread(
    title: str, kept: Sequence[Record], place: Callable[[Record], float | None], bins: int, ends: list[str]
) -> Plot | None:
    """How pictures spread over a measure; None where none has it."""
    found = [at for r in kept if (at := place(r)) is not None]
    if not found:
        return None
    counts = [0] * bins
    for at in found:
        counts[min(bins - 1, max(0, int(at * bins)))] += 1
    says = f"{title} of {len(found)} pictures, from {ends[0]} to {ends[-1]}: {', '.join(map(str, counts))}"
    return Plot(title, columns(counts, says), [], ends)


def _yaw(record: Record) -> float | None:
    return None if record.face_yaw is None else (record.face_yaw + 90) / 180


def _shape(record: Record) -> float | None:
    """Height over width of the matte's box, from a quarter to four."""
    if not record.box_width or not record.box_height:
        return None
    return (math.log2(record.box_height / record.box_width) + 2) / 4


def _light(record: Record) -> float | None:
    return None if record.brightness is None else record.brightness / 256
