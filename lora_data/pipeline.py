"""Run a recipe: the offline half from a folder of cut-outs to shards, table and report.

A recipe is a list of stages. Consecutive map stages are one pass over the instances' pixels, consecutive network stages
another; a corpus stage stands between passes and sees the records alone. What passes computed is kept in ``OUT/cache``
and found again by the next run (see `lora_data.passes`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lora_data.blobs import DamagedBlobError
from lora_data.characters import Advice, advice_by_name, auto_differs, faces_by_name, figures
from lora_data.config import Config
from lora_data.decisions import Decision, effective, missing, settings, told
from lora_data.engines.local import LocalEngine
from lora_data.enhancements import LeftOut, enhancements, left_out, model_digests, need_models, uses
from lora_data.errors import ConfigError, ModelError, RunError
from lora_data.freed_memory import release_freed_memory
from lora_data.interrupt import Interrupt
from lora_data.manifest import UNKNOWN, Record, mirrors
from lora_data.mirror import put_in_place, remote_folder, take_decisions, working_folder
from lora_data.passes import FINAL, Tools, run_recipe, show
from lora_data.progress import RunProgress
from lora_data.publish import STAGED, publish
from lora_data.remote_lock import locked
from lora_data.report import write_report
from lora_data.results import Results
from lora_data.review.file import NAME as REVIEW
from lora_data.review.file import read_decisions
from lora_data.run_json import NAME as RUN
from lora_data.run_json import run_json
from lora_data.shards import Later
from lora_data.sources import Discovery, discover
from lora_data.stage import NetworkStage, Resources, Stage
from lora_data.stages.cast import MeasureCast
from lora_data.stages.consistency import same_frame
from lora_data.stages.deblur import ChooseBlurred, MeasureMotion
from lora_data.stages.decide import Decide
from lora_data.stages.fingerprint import Fingerprint
from lora_data.stages.matte import Background
from lora_data.stages.metrics import Exposure, Metrics
from lora_data.stages.references import References
from lora_data.storage import RemoteFolder, open_folder
from lora_data.table import NAME as TABLE
from lora_data.table import write_table

if TYPE_CHECKING:
    from lora_data.engines.ray import RayEngine
    from lora_data.storage import FilePath


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended.

    Args:
        out: OUT; where that is behind a URL, the folder of this machine that stands for it.
        url: That URL.
        counts: Records by status.
        kept: Kept instances by character.
        advice: By character, what to do with as many kept instances; see `lora_data.characters.advice`.
        differs: Where ``augment.enabled = "auto"`` would do something else than that: a remark that says so.
        reasons: Rejected instances by reason, most frequent first.
        left_out: The enhancements that were left out, each with the command that turns it on.
        faces: By character: instances with a face that was found, and instances that were looked at.
        mirrors: Kept instances that are mirror images of another kept one.
        waiting: Enhancements that wait for a person.
        known: Inputs of which nothing had to be computed, since an earlier run had.
        unused: Bytes of the pictures in the cache that only earlier runs used.
        warnings: What a person should look at, a line each.
        report: The page to open.
    """

    out: Path
    url: str | None
    counts: dict[str, int]
    kept: dict[str, int]
    advice: dict[str, Advice]
    differs: str | None
    reasons: dict[str, int]
    left_out: list[LeftOut]
    faces: dict[str, tuple[int, int]]
    mirrors: int
    waiting: int
    known: int
    unused: int
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
    folder: str | Path,
    out: str | Path,
    config: Config,
    *,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    progress: RunProgress | None = None,
) -> Summary:
    """Run the offline half.

    Args:
        folder: INPUT, a folder or its URL.
        out: OUT, a folder or its URL; made if it is not there.
        config: What to run.
        engine: "local": this machine; "ray": a Ray cluster (see ``config.ray``).
        workers: Processes, and threads that run networks on the CPU; with Ray cores of a cluster that is started here;
            None: one per core.
        device: What networks run on; "auto": the GPU where there is one (with Ray: in the cluster).
        progress: Where to show it; None: a new one on standard error.

    Raises:
        ConfigError: INPUT, OUT, the configuration or the weights that it names cannot be used; nothing was touched.
        RunError: The run could not finish; what is done is kept, and the same call goes on from there.
        KeyboardInterrupt: Somebody asked to stop; the same.
    """
    remote = remote_folder(out)
    place, given = working_folder(out), open_folder(folder)
    _check(given, place, config)
    if remote is not None:
        _check_remote(str(folder), remote, place)
    reviewed = read_decisions(place / REVIEW)
    decisions = effective((*config.precompute.identity.decisions, *reviewed))
    stages = recipe(config, decisions)
    progress, interrupt = progress or RunProgress(), Interrupt()
    with _engine(engine, config, workers, interrupt) as machine:
        resources = _resources(config, stages, machine, device)
        _prepare(config, stages, resources)
        found = discover(given, exclude=place)
        known = {name for source in found.sources for name in (source.key, source.source)}
        wrong = missing(config.precompute.identity.decisions, known)
        if wrong:
            raise ConfigError("\n".join(wrong))
        warnings = missing(reviewed, known)
        records = told([Record(source=s.source, key=s.key) for s in found.sources], decisions)
        start = _Given(folder, found, records, decisions, effective(reviewed), warnings)
        del records, found
        try:
            cache = place / "cache"
            stored = remote.below("cache") if remote is not None else None
            with _held(cache, stored) as check, Results(cache, stored) as results, interrupt:
                models = model_digests(config, results)
                tools = Tools(config.precompute.ingest, machine, resources, results, models, progress, interrupt)
                summary = _run(place, config, stages, start, tools)
                del start
                release_freed_memory()  # the report holds the records again, and torch
                write_report(place)
                if remote is not None:
                    check()
                    put_in_place(place, remote, [TABLE, RUN])
        except DamagedBlobError as error:
            raise RunError(str(error)) from error
        except OSError as error:
            what = f"{out} cannot be written: {error}"
            raise RunError(f"{what}; what is done is kept, the same command goes on") from error
        finally:
            progress.close()
    return summary if remote is None else replace(summary, url=remote.url)


@dataclass(frozen=True, slots=True)
class _Given:
    """What a run starts from.

    Args:
        folder: INPUT, as it was given.
        found: What it holds.
        records: Of every input, with what a person said about it.
        decisions: What a person said, in the configuration and on the review page.
        reviewed: What of it came from the page.
        warnings: What of it cannot be done.
    """

    folder: str | Path
    found: Discovery
    records: Sequence[Record]
    decisions: Sequence[Decision]
    reviewed: Sequence[Decision]
    warnings: Sequence[str]


def _run(place: Path, config: Config, stages: Sequence[Stage], given: _Given, tools: Tools) -> Summary:
    """Everything from the records to the published shards, table and run.json."""
    results, progress = tools.results, tools.progress
    done = run_recipe(given.records, {s.key: s for s in given.found.sources}, stages, tools)
    records, finals = done.records, done.pictures[FINAL]
    warnings = [*given.warnings, *([results.warning] if results.warning else []), *same_frame(records)]
    progress.start("write", sum(r.status == "kept" for r in records))
    show(place / "cache", results, done.pictures)
    config.precompute.write.write(
        place / STAGED,
        records,
        lambda key: Later(finals[key].size, partial(results.blobs.read, finals[key])),
        config.characters,
        settings(given.decisions),
        os.cpu_count() or 1,
    )
    staged = {name: place / f".{name}.new" for name in (TABLE, RUN)}
    write_table(staged[TABLE], records)
    seconds = round(progress.finish(), 3)
    done.passes.append({"name": "write", "seconds": seconds, "instances": len(records), "cached": 0})
    characters = figures(records)
    ignored = given.found.ignored
    content = run_json(given.folder, config, given.reviewed, records, characters, ignored, done.passes, warnings)
    staged[RUN].write_bytes(content)
    publish(place, staged)
    results.finish()
    reasons = Counter(r.reason or "" for r in records if r.status == "rejected").most_common()
    target = config.precompute.select.target
    return Summary(
        out=place,
        url=None,
        counts=dict(Counter(r.status for r in records)),
        kept={c.name: c.kept for c in sorted(characters, key=lambda c: c.name) if c.kept},
        advice=advice_by_name(characters, target),
        differs=auto_differs((c.kept for c in characters if c.name != UNKNOWN), target),
        reasons=dict(reasons),
        left_out=left_out(config),
        faces=faces_by_name(characters),
        mirrors=len(mirrors(records)),
        waiting=sum(r.status == "kept" and r.deblur == "proposed" for r in records),
        known=len(records) - len(done.computed),
        unused=results.unused(),
        warnings=warnings,
        report=place / "report" / "index.html",
    )


@contextmanager
def _held(cache: Path, stored: RemoteFolder | None) -> Generator[Callable[[], None]]:
    """The locks of OUT, the first thing that is written; yields what makes sure that they are still held.

    Raises:
        ConfigError: It cannot be written.
        RunError: Another run has it.
    """
    with ExitStack() as stack:
        try:
            check = stack.enter_context(locked(cache, stored))
        except OSError as error:
            raise ConfigError(f"OUT cannot be written: {error}; nothing was touched") from None
        yield check


def _engine(
    name: Literal["local", "ray"], config: Config, workers: int | None, interrupt: Interrupt
) -> LocalEngine | RayEngine:
    if name == "local":
        return LocalEngine(workers if workers is not None else os.cpu_count() or 1, interrupt)
    from lora_data.engines.ray import RayEngine

    return RayEngine(config.ray, workers, interrupt)


def _check(folder: FilePath, out: Path, config: Config) -> None:
    """Everything that can be known to be wrong before a file is touched."""
    on = enhancements(config)
    if on.face_restore and not on.faces:
        raise ConfigError("precompute.face_restore needs precompute.faces, which is switched off")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"OUT must be a folder or not be there yet, got the file {out}")
    if not isinstance(folder, Path):
        return
    if not folder.is_dir():
        raise ConfigError(f"INPUT must be a folder, got {folder}")
    if out.resolve() == folder.resolve() or out.resolve() in folder.resolve().parents:
        raise ConfigError(f"OUT must not be INPUT or hold it, got INPUT {folder} and OUT {out}")


def _check_remote(folder: str, remote: RemoteFolder, place: Path) -> None:
    """The same of an OUT behind a URL, with what a person decided elsewhere brought here."""
    inner, outer = f"{remote.url.rstrip('/')}/", f"{folder.rstrip('/')}/"
    if inner.startswith(outer) or outer.startswith(inner):
        raise ConfigError(f"OUT must not be in INPUT or hold it, got INPUT {folder} and OUT {remote.url}")
    remote.check()
    try:
        take_decisions(remote, place)
    except OSError as error:
        raise ConfigError(f"OUT cannot be reached: {error}; nothing was touched") from None


def _resources(config: Config, stages: Sequence[Stage], engine: LocalEngine | RayEngine, device: str) -> Resources:
    """What network stages work with."""
    workers = engine.workers if isinstance(engine, LocalEngine) else config.ray.network_cpus
    embedder = config.precompute.faces.embedder if enhancements(config).faces else None
    if not any(isinstance(stage, NetworkStage) for stage in stages):
        return Resources("cpu", workers, embedder)
    if not isinstance(engine, LocalEngine):  # a cluster may grow a GPU when it is asked for one
        return Resources("cuda" if device == "cuda" or (device == "auto" and engine.gpus) else "cpu", workers, embedder)
    import torch

    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise ConfigError("--device cuda: torch finds no GPU here; allowed: auto, cpu")
    return Resources("cuda" if there and device != "cpu" else "cpu", workers, embedder)


def _prepare(config: Config, stages: Sequence[Stage], resources: Resources) -> None:
    """Open every network, so that what is missing is said before a file is touched."""
    need_models(uses(config))
    if resources.device == "cuda":
        import torch

        if not torch.cuda.is_available():  # the driver of a cluster may have none
            resources = replace(resources, device="cpu")
    try:
        for stage in stages:
            if isinstance(stage, NetworkStage):
                stage.prepare(resources)
            else:
                stage.prepare()
    except ModelError as error:
        raise ConfigError(str(error)) from None
