"""What the review page shows and does: the table of the last run with every decision that stands on it.

The truth is in two files: ``instances.parquet``, which a run writes, and ``review.toml``, to which people and pages
append. Both may change at any moment; `Board.refresh` looks, and a page asks for what changed since.
"""

from __future__ import annotations

import datetime
import json
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lora_data.decisions import ENHANCED, WHO, Decision, effective, settings
from lora_data.errors import ConfigError, LoraDataError, RunError
from lora_data.manifest import Record
from lora_data.report.captions import metrics, verdict
from lora_data.report.run_info import RUN, RunInfo, read_records, read_run
from lora_data.report.words import reason_label
from lora_data.review.file import NAME, append_decision, check_settings, read_decisions
from lora_data.review.overlay import overlaid, restorable, undecided, who_is_who
from lora_data.table import NAME as TABLE

Row = list[object]
KINDS = ("before", "thumbs", "came", "final", "accepted")
"""Kinds of pictures in OUT/cache that a page may ask for."""
COLUMNS = (
    *("key", "status", "reason", "verdict", "character", "flagged", "reviewed", "restorable", "changed"),
    *("frame", "track", "framing", "view", "light", "quality", "width", "height", "near"),
    *ENHANCED,
    *(f"{name}_gain" for name in ("face_restore", "upscale", "deblur")),
    *(f"{name}_hue_shift" for name in ENHANCED),
)
"""What a page knows of every instance; the rest it asks for where somebody looks."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why nothing can be decided, or shown, at the moment."""

    message: str


@dataclass(slots=True)
class _Shown:
    """The state of a page: rows and what they were made from."""

    run: RunInfo
    found: list[Record] = field(default_factory=list[Record])  # without any decision
    who: list[Record] = field(default_factory=list[Record])  # with those about who is who
    records: list[Record] = field(default_factory=list[Record])  # with all
    before: list[Record] = field(default_factory=list[Record])  # as the run wrote them
    rows: list[Row] = field(default_factory=list[Row])


class Board:
    """The state of one OUT. Every method may be called from any thread.

    Args:
        out: OUT.

    Raises:
        RunError: OUT has no table.
        ConfigError: ``review.toml`` is not valid.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._path = out / NAME
        self._mutex = threading.RLock()
        self._stamps: dict[str, tuple[int, int, int] | None] = {}
        self._decisions: tuple[Decision, ...] = ()
        self._history: list[list[int]] = []  # by version: places of the rows that changed to reach the next
        self._first = -1  # version at which the table was read
        self._problem: Problem | None = None
        self._load()

    def refresh(self) -> None:
        """Take over what somebody else wrote. What cannot be read is kept as it was, and said (``problem``)."""
        with self._mutex:
            table = self._stamp(TABLE) != self._stamps.get(TABLE) or self._stamp(RUN) != self._stamps.get(RUN)
            file = self._stamp(NAME) != self._stamps.get(NAME)
            if not table and not file and self._problem is None:
                return
            try:
                if table:
                    self._load()
                else:
                    self._reread()
                self._problem = None
            except LoraDataError as error:
                self._problem = Problem(str(error))

    def state(self) -> dict[str, object]:
        """Everything that a page needs to start; see `changes` for what follows."""
        with self._mutex:
            self.refresh()
            return {
                **self._head(),
                "title": Path(self._shown.run.input).name or "Run",
                "input": self._shown.run.input,
                "target": list(self._shown.run.target or (200, 300)),
                "columns": list(COLUMNS),
                "rows": self._shown.rows,
            }

    def changes(self, since: int) -> dict[str, object]:
        """What changed since a version: rows by their place; ``reload`` where the whole state must be asked for."""
        with self._mutex:
            self.refresh()
            if not self._first <= since <= self._version:
                return {**self._head(), "reload": True, "rows": []}
            places = sorted({place for step in self._history[since - self._first :] for place in step})
            return {**self._head(), "reload": False, "rows": [[place, self._shown.rows[place]] for place in places]}

    def decide(self, decision: Decision) -> None:
        """Append a decision to ``review.toml`` and show it. One that is there already, by its ``id``, is not repeated.

        Raises:
            ConfigError: It is about somebody who is not there, or training would refuse it, or the file is not valid.
            RunError: It cannot be written.
        """
        with self._mutex:
            self.refresh()
            if decision.id is not None and any(decision.id == earlier.id for earlier in self._decisions):
                return
            self._check(decision)
            append_decision(self._path, decision, self._remark(decision))
            self._reread()
            self._problem = None

    def record(self, key: str) -> Record | None:
        """The row of a key, as it is shown."""
        with self._mutex:
            place = self._places.get(key)
            return None if place is None else self._shown.records[place]

    def records(self) -> list[Record]:
        """All rows, as they are shown."""
        with self._mutex:
            return list(self._shown.records)

    def details(self, key: str) -> dict[str, object] | None:
        """What a page shows of one instance where somebody looks at it."""
        record = self.record(key)
        if record is None:
            return None
        return {
            "key": record.key,
            "source": record.source,
            "caption": record.caption,
            "message": record.message,
            "numbers": [list(pair) for pair in metrics(record)],
            "kinds": [kind for kind in KINDS if self.picture(kind, key)],
            "enhancements": [
                {
                    "name": name,
                    "outcome": getattr(record, name),
                    "reason": _label(getattr(record, f"{name}_reason")),
                    "review": getattr(record, f"{name}_review"),
                }
                for name in ENHANCED
            ],
        }

    def picture(self, kind: str, key: str) -> Path | None:
        """Where a picture of an instance lies in OUT/cache; None: nowhere, or not in there."""
        if key not in self._places:
            return None
        cache = self.out / "cache"
        path = cache / kind / f"{key}.webp"
        inside = path.resolve().is_relative_to(cache.resolve())
        return path if inside and path.is_file() else None

    @property
    def run(self) -> RunInfo:
        """What the last run said about itself."""
        return self._shown.run

    @property
    def _version(self) -> int:
        return self._first + len(self._history)

    def _head(self) -> dict[str, object]:
        standing = effective(self._decisions)
        applied = Counter(self._shown.run.decisions)
        waiting = sum(not _take(applied, decision.identifier) for decision in standing) + applied.total()
        return {
            "version": self._version,
            "waiting": waiting,
            "problem": None if self._problem is None else self._problem.message,
            "writable": os.access(self._path if self._path.exists() else self.out, os.W_OK),
            "decisions": [{"id": d.identifier, "text": describe(d), "table": _table(d)} for d in standing[-_LISTED:]],
            "settings": {
                name: {"symmetric": told.symmetric, "augment": None if told.augment is None else dict(told.augment)}
                for name, told in settings(standing).items()
            },
        }

    def _load(self) -> None:
        """Read the table anew; the pages must ask for everything."""
        stamps = {name: self._stamp(name) for name in (TABLE, RUN)}
        run, before = read_run(self.out), read_records(self.out)
        decisions = self._read_file()
        shown = _Shown(run, before=before)
        shown.found = [undecided(r) if _was_decided(r) else r for r in before]
        self._shown, self._decisions = shown, decisions
        self._places = {record.key: place for place, record in enumerate(before)}
        self._known = {name for r in before for name in (r.key, r.source)}
        self._stamps |= stamps
        self._first, self._history = self._version + 1, []
        standing = effective(decisions)
        shown.who = who_is_who(shown.found, standing)
        shown.records = overlaid(shown.who, standing)
        shown.rows = [_row(r, b) for r, b in zip(shown.records, before, strict=True)]

    def _reread(self) -> None:
        """Read the decisions anew; the rows that they change are the next version."""
        before, self._decisions = effective(self._decisions), self._read_file()
        standing, shown = effective(self._decisions), self._shown
        if standing[: len(before)] == before:
            shown.who = who_is_who(shown.who, standing[len(before) :])
        else:
            shown.who = who_is_who(shown.found, standing)
        records = overlaid(shown.who, standing)
        changed: list[int] = []
        for place, (new, old) in enumerate(zip(records, shown.records, strict=True)):
            if new is not old:
                row = _row(new, shown.before[place])
                if row != shown.rows[place]:
                    shown.rows[place] = row
                    changed.append(place)
        shown.records = records
        self._history.append(changed)

    def _read_file(self) -> tuple[Decision, ...]:
        stamp = self._stamp(NAME)
        found = read_decisions(self._path)
        self._stamps[NAME] = stamp
        return found

    def _stamp(self, name: str) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self.out / name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RunError(f"{self.out / name} cannot be read: {error.strerror}") from None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _check(self, decision: Decision) -> None:
        gone = [name for name in decision.instances if name not in self._known]
        if gone:
            raise ConfigError(f"{decision.do}: the last run has no instances {', '.join(gone[:5])}")
        if decision.of is not None and all(decision.of != d.identifier for d in effective(self._decisions)):
            raise ConfigError(f"undo: no decision {decision.of} stands; somebody else has undone it")
        if decision.character is not None and decision.do not in WHO:
            names = {record.character for record in self._shown.records}
            if decision.character not in names:
                raise ConfigError(f"{decision.do}: nobody is called {decision.character!r}; there are {sorted(names)}")
        check_settings((*self._decisions, decision), NAME)

    def _remark(self, decision: Decision) -> str:
        """When it was taken and what it does, for the comment above it."""
        if decision.do == "undo":
            undone = next((d for d in reversed(self._decisions) if d.identifier == decision.of), None)
            return f"{_now()}: undo" + (f" of: {describe(undone)}" if undone is not None else "")
        return f"{_now()}: {describe(decision)}"


_LISTED = 100
"""Decisions that a page lists, the last ones."""


def describe(decision: Decision) -> str:
    """A decision in a few words: "move 2 pictures to luca"."""
    count = len(decision.instances)
    pictures = "1 picture" if count == 1 else f"{count} pictures"
    if decision.do == "name":
        return f"name {decision.character}"
    if decision.do == "merge":
        return "merge" + (f" into {decision.character}" if decision.character else "")
    if decision.do == "split":
        return f"split {pictures} off" + (f" as {decision.character}" if decision.character else "")
    if decision.do == "move":
        return f"move {pictures} to {decision.character}"
    if decision.do in ("accept", "refuse"):
        return f"{decision.do} {(decision.enhancement or '').replace('_', ' ')} of {pictures}"
    if decision.do == "symmetric":
        return f"{decision.character} is {'not ' if decision.symmetric is False else ''}symmetric"
    if decision.do == "augment":
        return f"augmentation of {decision.character}"
    return f"{decision.do} {pictures}"


def _row(record: Record, before: Record) -> Row:
    changed = any(getattr(record, name) != getattr(before, name) for name in ("status", *ENHANCED))
    values: dict[str, object] = {
        "key": record.key,
        "status": record.status,
        "reason": _label(record.reason),
        "verdict": verdict(record),
        "character": record.character,
        "flagged": _label(record.flagged),
        "reviewed": record.reviewed,
        "restorable": restorable(record),
        "changed": changed,
        "light": None if record.brightness is None else round(record.brightness),
        "quality": None if record.quality is None else round(record.quality, 1),
        "near": record.duplicate_of or record.surplus_to or record.mirror_of,
    }
    return [_short(values[name] if name in values else getattr(record, name, None)) for name in COLUMNS]


def _short(value: object) -> object:
    return round(value, 3) if isinstance(value, float) else value


def _label(word: str | None) -> str | None:
    return None if word is None else reason_label(word)


def _was_decided(record: Record) -> bool:
    reviews = (getattr(record, f"{name}_review") for name in ENHANCED)
    return record.reviewed is not None or record.found_character is not None or any(reviews)


def _take(counts: Counter[str], name: str) -> bool:
    """Whether there is one left of a name; it is taken then."""
    if counts[name] <= 0:
        return False
    counts[name] -= 1
    return True


def _table(decision: Decision) -> Mapping[str, object]:
    """A decision as a page sends it, to be taken again."""
    fields: Sequence[str] = ("do", "instances", "character", "look", "enhancement", "symmetric", "augment")
    found = {name: getattr(decision, name) for name in fields}
    return json.loads(json.dumps({k: v for k, v in found.items() if v is not None and v != ()}, default=dict))


def _now() -> str:
    return datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
