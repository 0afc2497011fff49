"""What a person sees while a run goes: a bar per pass with rate and remaining time; plain lines without a terminal."""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

_EVERY = 10.0
"""Seconds between plain lines."""


class RunProgress:
    """Shows passes one after the other.

    Args:
        stream: Where to write, standard error by default; a terminal gets bars, anything else lines.
        log: Where to write what happens for a program: one JSON object a line, each with ``time`` (ISO 8601, UTC) and
            ``event``: "start" (``name``, ``total``), "progress" (``name``, ``done``, ``total``, ``rate`` per second;
            every ten seconds), "finish" (``name``, ``done``, ``seconds``) and what `note` is told. None: nowhere.
    """

    def __init__(self, stream: TextIO | None = None, log: TextIO | None = None) -> None:
        self._log = log
        shown: TextIO = stream or sys.stderr
        self._stream = shown
        self._bar: Progress | None = None
        if shown.isatty():
            self._bar = Progress(
                TextColumn("{task.description:<12}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]:>9}"),
                TimeRemainingColumn(),
                console=Console(file=shown),
            )
            self._bar.start()

    def start(self, name: str, total: int) -> None:
        """Begin a pass over ``total`` items."""
        self._name, self._total, self._done = name, total, 0
        self._since = self._said = self._noted = time.monotonic()
        self.note("start", name=name, total=total)
        if self._bar is not None:
            self._task = self._bar.add_task(name, total=total, rate="")
        else:
            self._line(f"{name}: {total}")

    def advance(self, count: int) -> None:
        """Note that ``count`` more items are done."""
        self._done += count
        now = time.monotonic()
        rate = self._done / max(now - self._since, 1e-6)
        if now - self._noted >= _EVERY:
            self._noted = now
            self.note("progress", name=self._name, done=self._done, total=self._total, rate=round(rate, 3))
        if self._bar is not None:
            self._bar.update(self._task, advance=count, rate=f"{rate:.1f}/s")
        elif now - self._said >= _EVERY and self._done < self._total:
            self._said = now
            left = (self._total - self._done) / max(rate, 1e-6)
            self._line(f"{self._name}: {self._done}/{self._total}, {rate:.1f}/s, {left:.0f} s left")

    def finish(self) -> float:
        """End the pass; return its seconds."""
        seconds = time.monotonic() - self._since
        self.note("finish", name=self._name, done=self._done, seconds=round(seconds, 3))
        if self._bar is None:
            self._line(f"{self._name}: done in {seconds:.1f} s")
        return seconds

    def note(self, event: str, **fields: object) -> None:
        """Write an event to the log, where there is one."""
        if self._log is not None:
            now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
            print(json.dumps({"time": now, "event": event, **fields}, ensure_ascii=False), file=self._log, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()

    def _line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


@contextmanager
def download_bar(name: str) -> Generator[Callable[[int, int | None], None] | None]:
    """A bar for one download, told the bytes that are there and how many there will be; None without a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
