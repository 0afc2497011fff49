"""When in the film: the frames of a run on one line, and from which of them pictures were kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lora_data.manifest import Record
from lora_data.report.charts import occupied
from lora_data.report.words import number

_BINS = 48


@dataclass(frozen=True, slots=True)
class Film:
    """The frames of a run.

    Args:
        starts: Where a folder's film starts on the line: frames before it.
        firsts: Its first frame.
        length: Frames of all films together, one after the other.
        ends: Names of the line's ends.
    """

    starts: Mapping[str, int]
    firsts: Mapping[str, int]
    length: int
    ends: list[str]

    def bin_of(self, record: Record) -> int | None:
        """Which part of the line a picture is from; None where its frame is not known."""
        if record.frame is None or record.folder not in self.starts:
            return None
        return (self.starts[record.folder] + record.frame - self.firsts[record.folder]) * _BINS // self.length


def film_of(records: Sequence[Record]) -> Film | None:
    """The films of a run, one a folder, one after the other; None where no frame is known."""
    frames: dict[str, list[int]] = {}
    for record in records:
        if record.frame is not None:
            frames.setdefault(record.folder, []).append(record.frame)
    if not frames:
        return None
    starts: dict[str, int] = {}
    length = 0
    for folder in sorted(frames):
        starts[folder] = length
        length += max(frames[folder]) - min(frames[folder]) + 1
    firsts = {folder: min(found) for folder, found in frames.items()}
    if len(frames) > 1:
        return Film(starts, firsts, length, [f"{len(frames)} folders, one after the other"])
    (only,) = frames.values()
    return Film(starts, firsts, length, [f"frame {number(min(only))}", number(max(only))])


def strip(film: Film, group: Sequence[Record]) -> Markup:
    """Where in the film a character's pictures are from: all of them pale, the kept ones solid."""
    every, kept = [0] * _BINS, [0] * _BINS
    for record in group:
        at = film.bin_of(record)
        if at is not None:
            every[at] += 1
            kept[at] += record.active
    parts = sum(count > 0 for count in kept)
    return occupied(every, kept, f"Kept pictures come from {parts} of {_BINS} parts of the film")
