"""Run a recipe: the offline half from a folder of cut-outs to shards, table and report.

A recipe is a list of stages. Consecutive map stages are one pass over the instances' pixels, consecutive network stages
another; a corpus stage stands between passes and sees the records alone. Pixels wait between passes in ``OUT/cache``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from lora_data.characters import Advice, advice_by_name, auto_differs, faces_by_name, figures
from lora_data.config import Config
from lora_data.decisions import Decision, effective, missing, settings, told
from lora_data.engines.batches import PROPOSED, run_networks
from lora_data.engines.local import LocalEngine
from lora_data.enhancements import LeftOut, enhancements, left_out, need_models, uses
from lora_data.errors import ConfigError, ImageError, ModelError
from lora_data.manifest import UNKNOWN, Record, mirrors
from lora_data.progress import RunProgress
from lora_data.report import write_report
from lora_data.review.file import NAME as REVIEW
from lora_data.review.file import read_decisions
from lora_data.run_json import run_json
from lora_data.sample import Instance
from lora_data.sources import Source, discover
from lora_data.stage import CorpusStage, MapStage, NetworkStage, Resources, Stage
from lora_data.stages.cast import MeasureCast
from lora_data.stages.consistency import same_frame
from lora_data.stages.deblur import ChooseBlurred, MeasureMotion
from lora_data.stages.decide import Decide
from lora_data.stages.fingerprint import Fingerprint
from lora_data.stages.ingest import Ingest
from lora_data.stages.matte import Background
from lora_data.stages.metrics import Exposure, Metrics
from lora_data.stages.references import References
from lora_data.store import PixelStore, write_atomic
from lora_data.table import NAME as TABLE
from lora_data.table import write_table

BEFORE, AFTER, FINAL = "before", "thumbs", "final"
"""Kinds of pictures in the cache: thumbnails of what came in and went out, and the finished pictures."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended.

    Args:
        out: OUT.
        counts: Records by status.
        kept: Kept instances by character.
        advice: By character, what to do with as many kept instances; see `lora_data.characters.advice`.
        differs: Where ``augment.enabled = "auto"`` would do something else than that: a remark that says so.
        reasons: Rejected instances by reason, most frequent first.
        left_out: The enhancements that were left out, each with the command that turns it on.
        faces: By character: instances with a face that was found, and instances that were looked at.
        mirrors: Kept instances that are mirror images of another kept one.
        waiting: Enhancements that wait for a person.
        warnings: What a person should look at, a line each.
        report: The page to open.
    """

    out: Path
    counts: dict[str, int]
    kept: dict[str, int]
    advice: dict[str, Advice]
    differs: str | None
    reasons: dict[str, int]
    left_out: list[LeftOut]
    faces: dict[str, tuple[int, int]]
    mirrors: int
    waiting: int
    warnings: list[str]
    report: Path


def recipe(config: Config, decisions: Sequence[Decision] = ()) -> list[Stage]:
    """The stages of a run after ingest, in order.

    The matte comes first: networks, colour statistics, metrics and hashes must know what belongs to the character. The
    enhancements are in the order of the strategy's recommended pipeline; the filter comes after them and after
    identity, as there.
    """
    p, on = config.precompute, enhancements(config)
    return [
        p.matte,
        Exposure(),
        MeasureCast(),
        *([p.faces] if on.faces else []),
        *([MeasureMotion(below=p.deblur.below, limits=p.deblur.motion)] if on.deblur else []),
        p.white_balance,
        *([ChooseBlurred(frames=p.deblur.neighbour_frames)] if on.deblur else []),
        *([p.face_restore] if on.face_restore else []),
        *([p.upscale] if on.upscale else []),
        *([p.deblur] if on.deblur else []),
        p.colour,
        Background(background=p.matte.background),
        Metrics(),
        Fingerprint(),
        p.embed,
        p.identity,
        *([_references(config)] if p.identity.references is not None else []),
        *([Decide(decisions=tuple(decisions))] if decisions else []),
        p.filter,
        p.consistency,
        p.deduplicate,
        p.select,
    ]


def _references(config: Config) -> References:
    """The stage that names clusters; references go through what changes an instance's appearance."""
    p = config.precompute
    assert p.identity.references is not None
    return References(
        folder=p.identity.references,
        stray_similarity=p.identity.rescue_similarity,
        stray_margin=p.identity.rescue_margin,
        ingest=p.ingest,
        prepare_with=(p.matte, p.colour, Background(background=p.matte.background), Fingerprint(), p.embed),
    )


def precompute(
    folder: Path,
    out: Path,
    config: Config,
    *,
    workers: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    progress: RunProgress | None = None,
) -> Summary:
    """Run the offline half.

    Args:
        folder: INPUT.
        out: OUT; made if it is not there.
        config: What to run.
        workers: Processes, and threads that run networks on the CPU; None: one per core.
        device: What networks run on; "auto": the GPU where there is one.
        progress: Where to show it; None: a new one on standard error.

    Raises:
        ConfigError: INPUT, OUT, the configuration or the weights that it names cannot be used; nothing was touched.
        RunError: The run could not finish.
    """
    workers = workers if workers is not None else os.cpu_count() or 1
    _check(folder, out, config)
    reviewed = read_decisions(out / REVIEW)
    decisions = effective((*config.precompute.identity.decisions, *reviewed))
    stages = recipe(config, decisions)
    resources = _resources(config, stages, workers, device)
    _prepare(config, stages, resources)
    found = discover(folder, exclude=out)
    known = {name for source in found.sources for name in (source.key, source.source)}
    wrong = missing(config.precompute.identity.decisions, known)
    if wrong:
        raise ConfigError("\n".join(wrong))
    warnings = missing(reviewed, known)
    progress = progress or RunProgress()
    store = PixelStore(out / "cache")
    out.mkdir(parents=True, exist_ok=True)
    passes: list[dict[str, Any]] = []
    try:
        with LocalEngine(workers) as engine:
            run = _Run(config.precompute.ingest, store, engine, resources, progress, passes)
            records = told([Record(source=s.source, key=s.key) for s in found.sources], decisions)
            records = _run_stages(found.sources, records, stages, run)
        progress.start("write", sum(r.status == "kept" for r in records))
        config.precompute.write.write(
            out / "shards",
            records,
            lambda key: store.path(FINAL, key).read_bytes(),
            config.characters,
            settings(decisions),
        )
        write_table(out / TABLE, records)
        warnings += same_frame(records)
        passes.append({"name": "write", "seconds": round(progress.finish(), 3), "instances": len(records)})
        characters = figures(records)
        content = run_json(folder, config, effective(reviewed), records, characters, found.ignored, passes, warnings)
        write_atomic(out / "run.json", content)
        report = write_report(out)
    finally:
        progress.close()
    reasons = Counter(r.reason or "" for r in records if r.status == "rejected").most_common()
    counts = dict(Counter(r.status for r in records))
    return Summary(
        out=out,
        counts=counts,
        kept={c.name: c.kept for c in sorted(characters, key=lambda c: c.name) if c.kept},
        advice=advice_by_name(characters, config.precompute.select.target),
        differs=auto_differs((c.kept for c in characters if c.name != UNKNOWN), config.precompute.select.target),
        reasons=dict(reasons),
        left_out=left_out(config),
        faces=faces_by_name(characters),
        mirrors=len(mirrors(records)),
        waiting=sum(r.status == "kept" and r.deblur == "proposed" for r in records),
        warnings=warnings,
        report=report,
    )


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of map stages over instances: read (a source or the cache), apply, store.

    Args:
        stages: Applied in order.
        store: The pictures' folder.
        read: The kind of picture to start from; None: decode the source with ``ingest``.
        write: The kind of picture to leave.
        ingest: Decodes sources in the first pass.
    """

    stages: tuple[MapStage, ...]
    store: PixelStore
    read: str | None
    write: str
    ingest: Ingest

    def __call__(self, item: tuple[Record, Source | None]) -> Record:
        """Run one instance through; what cannot be used comes back as an error record."""
        record, source = item
        stage = "ingest"
        try:
            if self.read is not None:
                instance = Instance(record, *self.store.load(self.read, record.key))
            else:
                if source is None:
                    raise RuntimeError(f"{record.key}: the first pass needs a source")
                found = self.ingest.read(source)
                if isinstance(found, Record):
                    return found
                instance = found
                self.store.save_thumbnail(BEFORE, record.key, instance.rgb, instance.alpha)
            record = instance.record
            for step in self.stages:
                stage = step.name
                instance = step.apply(instance)
                record = instance.record
        except ImageError as error:
            return record.decide("error", stage, error.reason).replace(message=error.message)
        except OSError as error:
            if self.read is not None:
                raise
            return record.decide("error", stage, "unreadable").replace(message=f"{type(error).__name__}: {error}")
        self.store.save(self.write, record.key, instance.rgb, instance.alpha)
        if self.write == FINAL:
            self.store.save_thumbnail(AFTER, record.key, instance.rgb, instance.alpha)
        return record


@dataclass(frozen=True, slots=True)
class _Run:
    """What a run works with."""

    ingest: Ingest
    store: PixelStore
    engine: LocalEngine
    resources: Resources
    progress: RunProgress
    passes: list[dict[str, Any]]


def _run_stages(sources: Sequence[Source], records: list[Record], stages: Sequence[Stage], run: _Run) -> list[Record]:
    """Take the sources and their records through the recipe."""
    store, progress = run.store, run.progress
    by_key: dict[str, Source] = {s.key: s for s in sources}
    groups = [list(group) for _, group in groupby(stages, key=_kind)]
    last = max(i for i, group in enumerate(groups) if isinstance(group[0], MapStage))
    before: str | None = None
    store.clear(PROPOSED)
    for kind in (BEFORE, AFTER, PROPOSED):
        store.prepare(kind)
    for number, group in enumerate(groups):
        maps = tuple(s for s in group if isinstance(s, MapStage))
        networks = tuple(s for s in group if isinstance(s, NetworkStage))
        name = " + ".join(s.name for s in group)
        running = [r for r in records if r.active]
        if maps:
            kind = FINAL if number == last else f"pass{number}"
            store.prepare(kind)
            task = Pass(maps, store, before, kind, run.ingest)
            items = [(r, by_key[r.key] if before is None else None) for r in running]
            progress.start("read + " + name if before is None else name, len(items))
            done = run.engine.run(task, items, progress.advance)
            if before is not None:
                store.clear(before)
            before = kind
        elif networks and before is not None:
            kind = f"pass{number}"
            store.prepare(kind)
            progress.start(name, len(running))
            done = run_networks(networks, running, store, (before, kind), run.resources, progress.advance)
            store.clear(before)
            before = kind
        else:
            progress.start(name, len(running))
            for stage in group:
                if isinstance(stage, CorpusStage):
                    records = stage.apply(records)
            done = []
        run.passes.append({"name": name, "seconds": round(progress.finish(), 3), "instances": len(running)})
        changed = {r.key: r for r in done}
        records = [changed.get(r.key, r) for r in records]
    return records


def _check(folder: Path, out: Path, config: Config) -> None:
    """Everything that can be known to be wrong before a file is touched."""
    on = enhancements(config)
    if on.face_restore and not on.faces:
        raise ConfigError("precompute.face_restore needs precompute.faces, which is switched off")
    if not folder.is_dir():
        raise ConfigError(f"INPUT must be a folder, got {folder}")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"OUT must be a folder or not be there yet, got the file {out}")
    if out.resolve() == folder.resolve() or out.resolve() in folder.resolve().parents:
        raise ConfigError(f"OUT must not be INPUT or hold it, got INPUT {folder} and OUT {out}")


def _kind(stage: Stage) -> str:
    return "map" if isinstance(stage, MapStage) else "network" if isinstance(stage, NetworkStage) else "corpus"


def _resources(config: Config, stages: Sequence[Stage], workers: int, device: str) -> Resources:
    """What network stages work with."""
    embedder = config.precompute.faces.embedder if enhancements(config).faces else None
    if not any(isinstance(stage, NetworkStage) for stage in stages):
        return Resources("cpu", workers, embedder)
    import torch

    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise ConfigError("--device cuda: torch finds no GPU here; allowed: auto, cpu")
    return Resources("cuda" if there and device != "cpu" else "cpu", workers, embedder)


def _prepare(config: Config, stages: Sequence[Stage], resources: Resources) -> None:
    """Open every network, so that what is missing is said before a file is touched."""
    need_models(uses(config))
    try:
        for stage in stages:
            if isinstance(stage, NetworkStage):
                stage.prepare(resources)
            else:
                stage.prepare()
    except ModelError as error:
        raise ConfigError(str(error)) from None
