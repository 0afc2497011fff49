"""Run a recipe: the offline half from a folder of cut-outs to shards, table and report.

A recipe is a list of stages. Consecutive map stages are one pass over the instances' pixels; a corpus stage stands
between passes and sees the records alone. Pixels wait between passes in ``OUT/cache``.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

import lora_data
from lora_data.config import Config, as_tree
from lora_data.download import file_digest
from lora_data.engines.local import LocalEngine
from lora_data.errors import ConfigError, ImageError
from lora_data.manifest import UNKNOWN, Record
from lora_data.models.registry import model_named
from lora_data.models.weights import models_folder
from lora_data.progress import RunProgress
from lora_data.report import write_report
from lora_data.sample import Instance
from lora_data.sources import Source, discover
from lora_data.stage import CorpusStage, MapStage, Stage
from lora_data.stages.cast import MeasureCast
from lora_data.stages.embed import Embed
from lora_data.stages.fingerprint import Fingerprint
from lora_data.stages.ingest import Ingest
from lora_data.stages.matte import Background
from lora_data.stages.metrics import Exposure, Metrics
from lora_data.stages.upscale import network as upscale_network
from lora_data.stages.upscale import path_of
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
        reasons: Rejected instances by reason, most frequent first.
        left_out: The enhancements that were left out, each with the command that turns it on, where there is one.
        report: The page to open.
    """

    out: Path
    counts: dict[str, int]
    kept: dict[str, int]
    reasons: dict[str, int]
    left_out: list[dict[str, str | None]]
    report: Path


def recipe(config: Config) -> list[Stage]:
    """The stages of a run after ingest, in order.

    The matte comes first: colour statistics, metrics and hashes must know what belongs to the character. The filter
    comes after the enhancements and after identity, as in the strategy's recommended pipeline.
    """
    p = config.precompute
    return [
        p.matte,
        Exposure(),
        MeasureCast(),
        *([p.upscale] if upscales(config) else []),
        p.white_balance,
        p.colour,
        Background(background=p.matte.background),
        Metrics(),
        Fingerprint(),
        Embed(),
        p.identity,
        p.filter,
        p.deduplicate,
        p.select,
    ]


def upscales(config: Config) -> bool:
    """Whether a run enlarges small characters."""
    enabled = config.precompute.upscale.enabled
    return config.preset == "full" if enabled == "auto" else enabled


def precompute(
    folder: Path, out: Path, config: Config, *, workers: int | None = None, progress: RunProgress | None = None
) -> Summary:
    """Run the offline half.

    Args:
        folder: INPUT.
        out: OUT; made if it is not there.
        config: What to run.
        workers: Processes; None: one per core.
        progress: Where to show it; None: a new one on standard error.

    Raises:
        ConfigError: INPUT, OUT or the configuration cannot be used; nothing was touched.
        RunError: The run could not finish.
    """
    _check(folder, out, config)
    found = discover(folder, exclude=out)
    progress = progress or RunProgress()
    workers = workers if workers is not None else os.cpu_count() or 1
    store = PixelStore(out / "cache")
    out.mkdir(parents=True, exist_ok=True)
    passes: list[dict[str, Any]] = []
    try:
        with LocalEngine(workers) as engine:
            records = _run_stages(
                found.sources, recipe(config), config.precompute.ingest, store, engine, progress, passes
            )
        progress.start("write", sum(r.status == "kept" for r in records))
        config.precompute.write.write(
            out / "shards", records, lambda key: store.path(FINAL, key).read_bytes(), config.characters
        )
        write_table(out / TABLE, records)
        passes.append({"name": "write", "seconds": round(progress.finish(), 3), "instances": len(records)})
        write_atomic(out / "run.json", _run_json(folder, config, records, found.ignored, passes))
        report = write_report(out)
    finally:
        progress.close()
    kept = Counter(r.character for r in records if r.status == "kept")
    reasons = Counter(r.reason or "" for r in records if r.status == "rejected").most_common()
    counts = dict(Counter(r.status for r in records))
    return Summary(out, counts, dict(sorted(kept.items())), dict(reasons), left_out(config), report)


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


def _run_stages(
    sources: Sequence[Source],
    stages: Sequence[Stage],
    ingest: Ingest,
    store: PixelStore,
    engine: LocalEngine,
    progress: RunProgress,
    passes: list[dict[str, Any]],
) -> list[Record]:
    """Take the sources through the recipe."""
    records = [Record(source=s.source, key=s.key) for s in sources]
    by_key: dict[str, Source] = {s.key: s for s in sources}
    groups = [(kind, list(group)) for kind, group in groupby(stages, key=lambda s: isinstance(s, MapStage))]
    last = max(i for i, (pixels, _) in enumerate(groups) if pixels)
    before: str | None = None
    for kind in (BEFORE, AFTER):
        store.prepare(kind)
    for number, (_, group) in enumerate(groups):
        maps = tuple(s for s in group if isinstance(s, MapStage))
        name = " + ".join(s.name for s in group)
        running = [r for r in records if r.active]
        if maps:
            kind = FINAL if number == last else f"pass{number}"
            store.prepare(kind)
            task = Pass(maps, store, before, kind, ingest)
            items = [(r, by_key[r.key] if before is None else None) for r in running]
            progress.start("read + " + name if before is None else name, len(items))
            done = engine.run(task, items, progress.advance)
            if before is not None:
                store.clear(before)
            before = kind
        else:
            progress.start(name, len(running))
            for stage in group:
                if isinstance(stage, CorpusStage):
                    records = stage.apply(records)
            done = []
        passes.append({"name": name, "seconds": round(progress.finish(), 3), "instances": len(running)})
        changed = {r.key: r for r in done}
        records = [changed.get(r.key, r) for r in records]
    return records


def _check(folder: Path, out: Path, config: Config) -> None:
    """Everything that can be known to be wrong before a file is touched."""
    if config.preset == "full":
        raise ConfigError(
            'preset = "full" also restores faces and deblurs, which this version does not have yet; allowed here: '
            '"light", with precompute.upscale.enabled = true for super-resolution'
        )
    if not folder.is_dir():
        raise ConfigError(f"INPUT must be a folder, got {folder}")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"OUT must be a folder or not be there yet, got the file {out}")
    if out.resolve() == folder.resolve() or out.resolve() in folder.resolve().parents:
        raise ConfigError(f"OUT must not be INPUT or hold it, got INPUT {folder} and OUT {out}")
    if upscales(config):
        upscale_network(config.precompute.upscale.model)  # says what is missing, before a file is touched


def _run_json(
    folder: Path, config: Config, records: Sequence[Record], ignored: Sequence[str], passes: list[dict[str, Any]]
) -> bytes:
    """What was run, on what, with what, and how it ended."""
    names = sorted({r.character for r in records} - {UNKNOWN})
    content = {
        "lora_data": lora_data.__version__,
        "input": str(folder),
        "preset": config.preset,
        "seed": config.data.seed,
        "config": as_tree(config),
        "counts": dict(sorted(Counter(r.status for r in records).items())),
        "characters": {
            name: dict(sorted(Counter(r.status for r in records if r.character == name).items())) for name in names
        },
        "skipped": left_out(config),
        "ignored_files": list(ignored),
        "models": _models(config),
        "versions": _versions(("numpy", "opencv-python", "pymatting", "scikit-learn", "scikit-image", "ImageHash")),
        "passes": passes,
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def left_out(config: Config) -> list[dict[str, str | None]]:
    """The enhancements of the preset "full" that a run does without: name, why, and the command that turns it on."""
    missing = {"why": "this version does not have it yet", "turn_on": None}
    found: list[dict[str, str | None]] = [{"stage": name, **missing} for name in ("face_restore", "deblur")]
    if not upscales(config):
        model = config.precompute.upscale.model
        command = f"lora-data models pull {model}; then --set precompute.upscale.enabled=true"
        found.insert(1, {"stage": "upscale", "why": "needs a network's weights", "turn_on": command})
    return found


def _models(config: Config) -> list[dict[str, str]]:
    """The networks that a run used, with licence and digest."""
    if not upscales(config):
        return []
    name = config.precompute.upscale.model
    path = path_of(name)
    if path is not None:
        return [{"name": name, "stage": "upscale", "digest": file_digest(path), "licence": "not known"}]
    model = model_named(name)
    digest = file_digest(models_folder() / model.file)
    return [{"name": name, "stage": "upscale", "digest": digest, "licence": model.licence}]


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "installed under another name"
    return found
