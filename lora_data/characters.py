"""What a run has of each character, and what to do about it: the numbers that the command line and the report show."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lora_data.augment.policy import AUGMENT_BELOW
from lora_data.manifest import UNKNOWN, Record

TARGET = (200, AUGMENT_BELOW)
"""Fewest wanted and most kept of each character. Source: strategy, target dataset size."""
SHOTS = ("close-up", "half", "full")
VIEWS = ("front", "left", "right")
NONE = "none"
"""The framing or view of a picture that has none: not measured, or no face found."""
WORST = 0.05
"""Share of a character's pictures that may be nearer to another one than its margin says."""

Advice = Literal["collect more", "augment", "do not augment"]


@dataclass(frozen=True, slots=True)
class Figures:
    """One character in numbers. Looks, views and framings are of the kept pictures.

    Args:
        name: The character.
        instances: Rows of the table, whatever became of them.
        kept: Those that were kept.
        looks: Kept pictures by look, sorted; empty where no look is known.
        views: Kept pictures by view, `VIEWS` and `NONE`; empty where nobody looked for faces.
        framings: Kept pictures by framing, `SHOTS`, and `NONE` where one was not measured.
        faces: Rows with a face that was found.
        looked: Rows on which somebody looked for one.
        nearest: The other character that it is most easily taken for; None where there is none, or no embeddings.
        margin: How far it is from that; see `margins`.
    """

    name: str
    instances: int
    kept: int
    looks: Mapping[str, int]
    views: Mapping[str, int]
    framings: Mapping[str, int]
    faces: int
    looked: int
    nearest: str | None
    margin: float | None


def advice(kept: int, target: tuple[float, float] = TARGET) -> Advice:
    """What to do with a character of which this many pictures are kept.

    Below ``target[0]``: collect more. Below ``target[1]``: augment. From there on: do not augment. Source: strategy,
    target dataset size, and implementation priority 4 (augmentation only below 300 instances per character).
    """
    low, high = target
    return "collect more" if kept < low else "augment" if kept < high else "do not augment"


def auto_differs(kept: Iterable[int], target: tuple[float, float] = TARGET) -> str | None:
    """A remark where ``augment.enabled = "auto"`` would do something else than the advice for one of these counts."""
    if all((advice(count, target) == "do not augment") == (count >= AUGMENT_BELOW) for count in kept):
        return None
    return f'augment.enabled: "auto" augments below {AUGMENT_BELOW} images, whatever the target; true or false decides'


def advice_by_name(characters: Iterable[Figures], target: tuple[float, float] = TARGET) -> dict[str, Advice]:
    """The advice of each character; instances of nobody need none."""
    return {c.name: advice(c.kept, target) for c in characters if c.name != UNKNOWN}


def faces_by_name(characters: Iterable[Figures]) -> dict[str, tuple[int, int]]:
    """How many instances of each character have a face that was found, and how many were looked at."""
    return {c.name: (c.faces, c.looked) for c in sorted(characters, key=_by_name) if c.looked}


def figures(records: Sequence[Record]) -> list[Figures]:
    """The characters of a table by name, `UNKNOWN` last where there is one."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[record.character].append(record)
    near = margins(records)
    found: list[Figures] = []
    for name in sorted(groups, key=lambda name: (name == UNKNOWN, name)):
        group = groups[name]
        kept = [r for r in group if r.active]
        looks = Counter(r.look for r in kept if r.look is not None)
        seen = any(r.faces is not None for r in kept)
        nearest, margin = near.get(name, (None, None))
        found.append(
            Figures(
                name=name,
                instances=len(group),
                kept=len(kept),
                looks=dict(sorted(looks.items())),
                views=_counts([r.view for r in kept], (*VIEWS, NONE)) if seen else {},
                framings=_counts([r.framing for r in kept], SHOTS),
                faces=sum(bool(r.faces) for r in group),
                looked=sum(r.faces is not None for r in group),
                nearest=nearest,
                margin=margin,
            )
        )
    return found


def margins(records: Sequence[Record]) -> dict[str, tuple[str, float]]:
    """Of each character, which other one its kept pictures are most easily taken for, and by how much they are not.

    A kept picture's own likeness is the cosine of its embedding to the mean of the other pictures of its character, or
    of its look where looks are known (the best of them); another character's is that to its mean (its looks' best). The
    margin to another character is the 5th percentile of own less other likeness: at least 19 of 20 pictures have more.
    Below 0, one picture in twenty is more like the other character than like its own. The nearest character is that
    with the least margin. Measured on ten rendered characters, of which 3 to 20 were kept: .03 to .11.

    Returns:
        Nearest other character and margin, in [-2, 2], by character; `UNKNOWN` is none, and those of which fewer than
        two kept pictures have an embedding are left out: there is nothing to compare one with.
    """
    rows = sorted((r for r in records if r.active and r.embedding is not None and r.character != UNKNOWN), key=_by_key)
    names = sorted({r.character for r in rows})
    if len(names) < 2:
        return {}
    vectors = np.array([r.embedding for r in rows], np.float64)
    groups = sorted({(r.character, r.look or "") for r in rows})
    group = np.array([groups.index((r.character, r.look or "")) for r in rows])
    sums = np.array([vectors[group == g].sum(0) for g in range(len(groups))])
    likeness = vectors @ _units(sums).T  # [pictures, groups]
    others = _units(sums[group] - vectors)  # the group without the picture itself
    likeness[np.arange(len(rows)), group] = np.where(np.bincount(group)[group] > 1, (vectors * others).sum(1), -np.inf)
    best = np.stack(
        [likeness[:, [g for g, (name, _) in enumerate(groups) if name == wanted]].max(1) for wanted in names], 1
    )
    found: dict[str, tuple[str, float]] = {}
    for number, name in enumerate(names):
        own = best[[i for i, r in enumerate(rows) if r.character == name]]
        own = own[np.isfinite(own[:, number])]
        if not len(own):
            continue
        gaps = np.quantile(own[:, [number]] - own, WORST, axis=0)
        gaps[number] = np.inf
        nearest = int(gaps.argmin())
        found[name] = names[nearest], float(gaps[nearest])
    return found


def _by_name(character: Figures) -> str:
    return character.name


def _by_key(record: Record) -> str:
    return record.key


def _units(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _counts(values: Sequence[str | None], names: Sequence[str]) -> dict[str, int]:
    """How often each name occurs, in the order of the names; others, and `NONE`, follow where there are any."""
    counts = Counter(NONE if value is None else value for value in values)
    return {name: counts[name] for name in (*names, *sorted(set(counts) - set(names)))}
