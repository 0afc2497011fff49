"""Take records through a recipe, pass by pass: what is known is taken from the store, the rest is computed and kept.

Between passes an instance is a record and the digest of a picture. A pass's result is keyed by content (see
`lora_data.content_key`), so it is found again by any later run, whatever has changed around it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from lora_data.blobs import Blob, DamagedBlobError
from lora_data.content_key import key_of, pass_print, reads_of
from lora_data.engines.batches import NetworkPass
from lora_data.engines.engine import Engine
from lora_data.engines.map_pass import AFTER_KINDS, BEFORE_KINDS, MapPass
from lora_data.errors import RunError
from lora_data.freed_memory import large_blocks_apart, release_freed_memory
from lora_data.interrupt import Interrupt
from lora_data.manifest import Answer, Record
from lora_data.mapped import Mapped
from lora_data.progress import RunProgress
from lora_data.record_bytes import merged, only
from lora_data.results import NEXT, Result, Results
from lora_data.sources import Source
from lora_data.spill import Spill
from lora_data.stage import CorpusStage, MapStage, NetworkStage, Resources, Stage
from lora_data.stages.ingest import Ingest
from lora_data.store import TAKEN_BACK_KINDS
from lora_data.table import SPILLED, WORKING
from lora_data.threads import side_by_side
from lora_data.work import Item, Made

FINAL, ACCEPTED = "final", "accepted"
"""Kinds of pictures in the cache: the finished ones, and those that wait for a person as they will be if accepted."""
KINDS = (*BEFORE_KINDS, *AFTER_KINDS, *TAKEN_BACK_KINDS.values(), ACCEPTED)
"""All kinds that people are shown."""
_ANSWERS: tuple[Answer, ...] = ("accept", "refuse")
_ATTEMPTS = 8
"""Starts at most: each finds the damaged pictures of one pass, and a recipe has fewer passes than that."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a run works with.

    Args:
        ingest: Decodes sources.
        engine: Runs passes.
        resources: What networks run on.
        results: What is known.
        models: Digests of the networks' files by the stage that uses them.
        progress: Where to show it.
        interrupt: Whether somebody asked to stop.
    """

    ingest: Ingest
    engine: Engine
    resources: Resources
    results: Results
    models: Mapping[str, Sequence[str]]
    progress: RunProgress
    interrupt: Interrupt


@dataclass(slots=True)
class Finished:
    """What became of the records.

    Args:
        records: In the order in which they came.
        pictures: What is to be shown, by kind and key.
        passes: Name, seconds, instances of each pass, how many of them were known, how many others it took in a second
            and, on a GPU, the most memory that torch held (MB).
        computed: Keys of the instances of which something was computed.
    """

    records: list[Record]
    pictures: dict[str, dict[str, Blob]] = field(default_factory=lambda: defaultdict(dict))
    passes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    computed: set[str] = field(default_factory=set[str])


class _DamagedError(Exception):
    """Stored pictures turned out to be damaged; what they belong to is forgotten."""


@dataclass(slots=True)
class _Task:
    """One instance in one pass: ``extra`` where it is not the instance itself but what it will be if accepted."""

    record: Record
    picture: Blob | None
    """None: the pass reads its source."""
    key: str
    extra: bool = False
    done: Record | None = None
    """With what the pass found out; None: that is not known yet."""
    pictures: Mapping[str, Blob] = field(default_factory=dict[str, Blob])


def run_recipe(
    records: Sequence[Record], sources: Mapping[str, Source], stages: Sequence[Stage], tools: Tools
) -> Finished:
    """Take records through a recipe.

    Args:
        records: Of all inputs; what a person said is in them.
        sources: By key.
        stages: In their order.
        tools: What to work with.

    Raises:
        RunError: A worker died, or what is stored is damaged again and again.
        KeyboardInterrupt: Somebody asked to stop; the message says what is done.
    """
    computed: set[str] = set()
    for _ in range(_ATTEMPTS):
        run = _Run(records, sources, tools, computed)
        try:
            return run.through(stages)
        except _DamagedError:
            continue
    raise RunError("pictures in OUT/cache are damaged as soon as they are written: the disk cannot be trusted")


class _Run:
    """The state of a run between its passes."""

    def __init__(
        self, records: Sequence[Record], sources: Mapping[str, Source], tools: Tools, computed: set[str]
    ) -> None:
        self.tools = tools
        self.sources = sources
        self.finished = Finished(list(records), computed=computed)
        self.spill = Spill(tools.results.folder)
        self.pictures: dict[str, Blob] = {}
        self.accepted: dict[str, tuple[Record, Blob]] = {}
        self.begun = False
        self.at = ("", 0, 0)

    def through(self, stages: Sequence[Stage]) -> Finished:
        """All passes, one after the other."""
        try:
            return self._passes(stages)
        except KeyboardInterrupt:
            name, done, total = self.at
            raise KeyboardInterrupt(
                f"stopped at {name}: {done} of {total} pictures that were to be computed are done and kept; the same "
                "command goes on from there"
            ) from None

    def _passes(self, stages: Sequence[Stage]) -> Finished:
        groups = [list(group) for _, group in groupby(stages, key=_kind)]
        last = max(i for i, group in enumerate(groups) if isinstance(group[0], MapStage))
        for number, group in enumerate(groups):
            maps = tuple(s for s in group if isinstance(s, MapStage))
            networks = tuple(s for s in group if isinstance(s, NetworkStage))
            name = ("" if self.begun or not maps else "read + ") + " + ".join(s.name for s in group)
            count = sum(r.active for r in self.finished.records)
            known = 0
            if maps:
                known = self._map_pass(name, maps, last=number == last)
            elif networks:
                known = self._network_pass(name, networks)
            else:
                self.at = (name, 0, 0)
                self.tools.progress.start(name, count)
                release_freed_memory()  # that of the pass before
                with large_blocks_apart():
                    for stage in group:
                        self.tools.interrupt.check()
                        if isinstance(stage, CorpusStage):
                            self.finished.records = stage.apply(self.finished.records)
                release_freed_memory()  # that of all vectors at once, which no pass needs again
                self.spill.rest()
            seconds = round(self.tools.progress.finish(), 3)
            done: dict[str, Any] = {"name": name, "seconds": seconds, "instances": count, "cached": known}
            if count > known and seconds:
                done["per_second"] = round((count - known) / seconds, 2)
            if networks and self.tools.resources.device == "cuda" and self.tools.engine.name == "local":
                done["gpu_megabytes"] = _gpu_megabytes()
            self.finished.passes.append(done)
            self.tools.progress.note("pass", **done)
        self.finished.pictures[ACCEPTED] = {key: picture for key, (_, picture) in self.accepted.items()}
        gone = dict.fromkeys(WORKING)
        self.finished.records = [record.replace(**gone) for record in self.finished.records]
        release_freed_memory()  # theirs
        return self.finished

    def _map_pass(self, name: str, stages: tuple[MapStage, ...], *, last: bool) -> int:
        """Run map stages; return how many instances were known."""
        t = self.tools
        ingest = None if self.begun else t.ingest
        work = MapPass(stages, t.results.blobs, ingest, reads_of(stages), last)
        whole = pass_print(stages, ingest=ingest, kinds=work.kinds, models=t.models, resources=t.resources)
        tasks = self._tasks(whole, work.reads)
        waiting = self._unknown(tasks)
        damaged: list[Blob] = []
        self._start(name, waiting)

        def arrived(number: int, made: Made) -> None:
            task = waiting[number]
            if made.inputs is not None:  # it may have changed since it was looked up
                task.key = key_of(whole, made.inputs, task.record, work.reads)
            self._keep(task, made, damaged)

        t.engine.run(work, self._items(waiting, work.reads), arrived)
        self._take(tasks, damaged, shown=(FINAL if last else NEXT))
        self.begun = True
        return sum(not task.extra for task in tasks) - sum(not task.extra for task in waiting)

    def _network_pass(self, name: str, stages: tuple[NetworkStage, ...]) -> int:
        """Run network stages; return how many instances were known."""
        t = self.tools
        reads = reads_of(stages)
        whole = pass_print(
            stages, ingest=None, kinds=tuple(TAKEN_BACK_KINDS.values()), models=t.models, resources=t.resources
        )
        tasks = self._tasks(whole, reads)
        answers: dict[str, dict[Answer, str]] = {}
        for task in tasks:
            assert task.picture is not None
            digest, record = task.picture.digest, task.record
            answers[record.key] = {a: key_of(whole, digest, record.replace(deblur_review=a), reads) for a in _ANSWERS}
        waiting = self._unknown(tasks)
        for task in tasks:  # who waits for a person needs both answers beside
            if task.done is None or task.done.deblur != "proposed":
                continue
            if any(t.results.get(key) is None for key in answers[task.record.key].values()):
                task.done = None
                waiting.append(task)
        damaged: list[Blob] = []
        self._start(name, waiting)

        def arrived(number: int, made: Made) -> None:
            task = waiting[number]
            for answer, other in made.answers.items():
                t.results.put(answers[task.record.key][answer], Result(other.fields, other.pictures))
            self._keep(task, made, damaged)

        work = NetworkPass(stages, t.results.blobs, t.resources)
        t.engine.run_networks(work, self._items(waiting, reads), arrived)
        self._take(tasks, damaged, shown=NEXT)
        for task in tasks:
            record = task.done
            assert record is not None
            accepted = t.results.get(answers[record.key]["accept"]) if record.deblur == "proposed" else None
            if accepted is not None:
                said = self._merged(task.record.replace(deblur_review="accept"), accepted.fields)
                self.accepted[record.key] = said, accepted.pictures[NEXT]
        return len(tasks) - len(waiting)

    def _tasks(self, whole: str, reads: frozenset[str]) -> list[_Task]:
        """What is to be done in a pass, each with its key."""
        running = [r for r in self.finished.records if r.active]
        if not self.begun:
            files = [path for r in running for path in self.sources[r.key].files]
            digests = self.tools.results.digests(files, self.tools.engine.each)
            tasks: list[_Task] = []
            for record in running:
                source = self.sources[record.key]
                known = all(path in digests for path in source.files)
                key = key_of(whole, source.digest(digests), record, reads) if known else ""
                tasks.append(_Task(record, None, key))
            return tasks
        tasks = []
        keys = {r.key for r in running}
        extras = [(record, picture, True) for key, (record, picture) in self.accepted.items() if key in keys]
        for record, picture, extra in [*((r, self.pictures[r.key], False) for r in running), *extras]:
            tasks.append(_Task(record, picture, key_of(whole, picture.digest, record, reads), extra))
        return tasks

    def _items(self, tasks: Sequence[_Task], reads: frozenset[str]) -> Sequence[Item]:
        """What the engine is handed of each task."""

        def item(task: _Task) -> Item:
            source = self.sources[task.record.key] if task.picture is None else None
            return Item(only(task.record, reads), task.picture, source)

        return Mapped(item, tasks)

    def _unknown(self, tasks: Sequence[_Task]) -> list[_Task]:
        """Give tasks the results that are known; return the others. Pictures that people see are checked here, those
        that the next pass reads when it reads them."""
        results = self.tools.results
        for task in tasks:
            result = results.get(task.key) if task.key else None
            if result is not None:
                self._merge(task, result)

        def sound(task: _Task) -> bool:
            return results.blobs.sound(b for k, b in task.pictures.items() if k != NEXT)

        checked = side_by_side(sound, tasks, min(self.tools.engine.workers, os.cpu_count() or 1))
        for task, good in zip(tasks, checked, strict=True):
            if not good:
                task.done = None
        return [task for task in tasks if task.done is None]

    def _merge(self, task: _Task, result: Result) -> None:
        """Give a task what its pass made of it."""
        task.done, task.pictures = self._merged(task.record, result.fields), result.pictures

    def _merged(self, record: Record, fields: bytes) -> Record:
        """A record with what was found out; what few corpus stages look at, and of few records, goes to a file."""
        return merged(record, fields, self.spill, SPILLED)

    def _start(self, name: str, waiting: Sequence[_Task]) -> None:
        self.at = (name, 0, len(waiting))
        self.tools.progress.start(name, len(waiting))
        self.tools.interrupt.check()

    def _keep(self, task: _Task, made: Made, damaged: list[Blob]) -> None:
        """Take in what was computed."""
        self.tools.progress.advance(1)
        self.at = (self.at[0], self.at[1] + 1, self.at[2])
        if made.damaged is not None:
            damaged.append(made.damaged)
            return
        result = Result(made.fields, made.pictures)
        self._merge(task, result)
        self.finished.computed.add(task.record.key)
        if made.lasting:
            self.tools.results.put(task.key, result)

    def _take(self, tasks: Sequence[_Task], damaged: Sequence[Blob], shown: str) -> None:
        """Carry a pass's results over to the records."""
        for blob in damaged:
            self.tools.results.forget(blob)
        self.tools.results.flush()
        if damaged:
            raise _DamagedError
        changed: dict[str, Record] = {}
        for task in tasks:
            assert task.done is not None
            key, record, pictures = task.record.key, task.done, task.pictures
            if task.extra:
                if shown in pictures:
                    self.accepted[key] = record, pictures[shown]
                else:  # an error
                    del self.accepted[key]
                continue
            changed[key] = record
            for kind, blob in pictures.items():
                if kind != NEXT:
                    self.finished.pictures[kind][key] = blob
            if shown in pictures:
                self.pictures[key] = pictures[shown]
        self.finished.records = [changed.get(r.key, r) for r in self.finished.records]


def show(folder: Path, results: Results, pictures: Mapping[str, Mapping[str, Blob]]) -> None:
    """Let ``OUT/cache/<kind>/<key>.webp`` be the pictures of a run, and no others.

    Args:
        folder: ``OUT/cache``.
        results: Where they are stored.
        pictures: By kind and key.

    Raises:
        DamagedBlobError: One of them is damaged; the next run computes it again.
    """
    for kind in KINDS:
        try:
            results.blobs.show(folder / kind, pictures.get(kind, {}))
        except DamagedBlobError as error:
            results.forget(error.blob)
            raise


def _gpu_megabytes() -> int:
    """The most memory that torch held on the GPU since it was last asked, MB."""
    import torch

    most = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return round(most / 1e6)


def _kind(stage: Stage) -> str:
    return "map" if isinstance(stage, MapStage) else "network" if isinstance(stage, NetworkStage) else "corpus"
