"""What the commands do: each takes the parsed command line, prints, and returns the exit code."""

from __future__ import annotations

import argparse
import os
import shutil
import webbrowser
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lora_data.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from lora_data.pipeline import Summary

_NEEDED = {
    "precompute": {
        "cv2": "opencv-python",
        "imagehash": "imagehash",
        "jinja2": "jinja2",
        "pyarrow": "pyarrow",
        "pycocotools": "pycocotools",
        "pymatting": "pymatting",
        "rich": "rich",
        "skimage": "scikit-image",
        "sklearn": "scikit-learn",
    },
    "review": {"starlette": "starlette", "uvicorn": "uvicorn"},
    "ray": {"ray": "ray", "pandas": "pandas"},  # Ray Data's own need
}
"""By extra: module and package."""
_MUCH = 10**9
"""Bytes in the cache that a run says it has no use for."""


def models(options: argparse.Namespace) -> int:
    """List, fetch, check or locate the networks' weights."""
    from lora_data.models.registry import MODELS, model_named
    from lora_data.models.weights import Weights, models_folder

    weights = Weights(models_folder(options.models))
    if options.act == "list":
        rows = [("model", "task", "here", "file", "licence")]
        for model in MODELS:
            here = "yes" if (weights.folder / model.file).is_file() else "no"
            rows.append(
                (
                    model.name,
                    ", ".join(model.tasks),
                    here,
                    model.file,
                    model.licence if model.commercial else f"{model.licence} (!)",
                )
            )
        _print_table(rows, left=5)
        print(f"\nfolder: {weights.folder}\n(!) is accepted once, by lora-data models pull NAME --accept-licence")
        return 0
    chosen = [model_named(name) for name in options.names]
    if options.act == "pull":
        _need("precompute", "lora-data models pull")
        from lora_data.progress import download_bar

        for model in chosen:
            if options.accept_licence:
                weights.accept(model)
            with download_bar(model.name) as advance:
                pinned = weights.pull(model, advance)
            remark = "; its digest was not known and is pinned now" if pinned else ""
            print(f"{model.name}: {weights.folder / model.file}{remark}")
        return 0
    chosen = chosen or [model for model in MODELS if (weights.folder / model.file).is_file()]
    for model in chosen:
        if options.act == "verify":
            print(f"{model.name}: {weights.verify(model)}")
        else:
            print(weights.path(model))
    return 0


def precompute(options: argparse.Namespace) -> int:
    """Run the offline half."""
    from lora_data.config import load_config

    config = load_config(options.config, overrides=options.set, preset=options.preset, decided=False)
    _need("precompute", "lora-data precompute")
    if options.engine == "ray":
        _need("ray", "--engine ray")
    from lora_data.freed_memory import keep_freed_memory

    keep_freed_memory()  # before pipeline imports Arrow
    from lora_data import pipeline
    from lora_data.models.weights import FOLDER
    from lora_data.progress import RunProgress

    if options.models is not None:
        os.environ[FOLDER] = str(options.models)  # worker processes inherit it
    with ExitStack() as stack:
        log = None
        if options.log_json is not None:
            try:
                log = stack.enter_context(options.log_json.open("a", encoding="utf-8"))
            except OSError as error:
                raise ConfigError(f"--log-json: {options.log_json} cannot be written: {error.strerror}") from None
        progress = RunProgress(log=log)
        summary = pipeline.precompute(
            options.input,
            options.out,
            config,
            engine=options.engine,
            workers=options.workers,
            device=options.device,
            progress=progress,
        )
        progress.note("run", counts=summary.counts, kept=summary.kept, known=summary.known, warnings=summary.warnings)
    print_summary(summary)
    return 0


def demo(options: argparse.Namespace) -> int:
    """Render a small film and run everything on it."""
    _need("precompute", "lora-data demo")
    if options.review:
        _need("review", "lora-data demo --review")
    from lora_data.freed_memory import keep_freed_memory

    keep_freed_memory()  # before pipeline imports Arrow
    from lora_data import pipeline
    from lora_data.config import load_config
    from lora_data.demo import make_film
    from lora_data.progress import RunProgress

    film, out = options.out / "film", options.out / "run"
    if options.instances < 8:
        raise ConfigError(f"--instances must be at least 8, got {options.instances}")
    if options.out.exists() and not film.is_dir() and any(options.out.iterdir()):
        raise ConfigError(f"--out must be new, empty or an earlier demo, got {options.out}")
    shutil.rmtree(film, ignore_errors=True)
    progress = RunProgress()
    progress.start("render", options.instances)
    done = 0

    def advance(count: int, total: int) -> None:
        nonlocal done
        progress.advance(count - done)
        done = count

    workers = options.workers or os.cpu_count() or 1
    make_film(film, instances=options.instances, seed=options.seed, workers=workers, progress=advance)
    progress.finish()
    summary = pipeline.precompute(
        film / "instances", out, load_config(decided=False), workers=options.workers, progress=progress
    )
    print_summary(summary)
    if options.review:
        return _serve(out, options)
    return 0


def review(options: argparse.Namespace) -> int:
    """Serve the page on which a person decides."""
    _need("precompute", "lora-data review")
    from lora_data.mirror import working_folder

    return _serve(working_folder(options.out), options)


def _serve(out: Path, options: argparse.Namespace) -> int:
    _need("review", "the review page")
    from lora_data.review.server import serve

    def opened(address: str) -> None:
        print(f"review:  {address}", flush=True)
        print(f"decisions go to {out / 'review.toml'}; Ctrl-C ends", flush=True)
        if not options.no_browser:
            webbrowser.open(address)

    with suppress(KeyboardInterrupt):  # how somebody ends it
        serve(out, options.port, opened)
    return 0


def report(options: argparse.Namespace) -> int:
    """Rebuild the static report."""
    _need("precompute", "lora-data report")
    from lora_data.report import write_report

    print(write_report(options.out))
    return 0


def prune(options: argparse.Namespace) -> int:
    """Remove from a cache what the last run did not use."""
    from lora_data.mirror import remote_folder, working_folder
    from lora_data.remote_lock import locked
    from lora_data.results import NAME, Results

    cache = working_folder(options.out) / "cache"
    out = remote_folder(options.out)
    remote = out.below("cache") if out is not None else None
    there = cache.is_dir() if remote is None else remote.size(NAME) is not None
    if not there:
        raise ConfigError(f"no cache in {options.out}: expected a folder that `lora-data precompute` wrote")
    with locked(cache, remote), Results(cache, remote) as results:
        gone = results.prune(everything=options.all, most=options.max_size)
        if options.all:
            shutil.rmtree(cache / "report", ignore_errors=True)  # what the page kept (lora_data.report.kept)
    print(f"removed: {gone.gone} results, {_size(gone.freed)} of pictures")
    print(f"stayed:  {gone.stayed} results, {_size(gone.kept)} of pictures")
    return 0


def _size(count: int) -> str:
    return f"{count / 10**9:.2f} GB" if count >= 10**9 else f"{count / 10**6:.1f} MB"


def inspect(options: argparse.Namespace) -> int:
    """Print a table of the characters."""
    from lora_data import inspection

    found = inspection.inspect(options.out)
    for table in found.tables:
        _print_table(table, left=1)
        print()
    for remark in found.remarks:
        print(remark)
    return 0


def _print_table(rows: Sequence[tuple[str, ...]], left: int) -> None:
    """Print rows in columns; the first ``left`` ones are set to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())


def preview(options: argparse.Namespace) -> int:
    """Draw what training will see."""
    from lora_data.config import load_config
    from lora_data.preview import write_preview

    config = load_config(options.config, overrides=options.set, shards=options.shards)
    if options.epoch < 0:
        raise ConfigError(f"--epoch must be at least 0, got {options.epoch}")
    if options.out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ConfigError(f"--out must be a .png, .jpg or .webp, got {options.out}")
    summary = write_preview(
        options.shards, config, options.out, samples=options.samples, draws=options.draws, epoch=options.epoch
    )
    for line in summary.lines():
        print(line)
    print(f"preview: {options.out}")
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a folder for trainers that load folders."""
    from lora_data.config import load_config
    from lora_data.export import export as write_folder

    config = load_config(options.config, overrides=options.set, shards=options.shards)
    count = write_folder(options.shards, config, options.out, options.format, variants=options.variants)
    print(f"{count} pictures: {options.out}")
    return 0


def _need(extra: str, purpose: str) -> None:
    """Refuse, before anything is touched, what needs an extra that is not installed."""
    for module, package in _NEEDED[extra].items():
        if find_spec(module) is None:
            raise MissingExtraError(package, extra, purpose)


def print_summary(summary: Summary) -> None:
    """Print how a run ended, the report last."""
    total = sum(summary.counts.values())
    out = summary.url or summary.out
    parts = [
        f"{summary.counts[s]} {s}" for s in ("kept", "surplus", "duplicate", "rejected", "error") if s in summary.counts
    ]
    print(f"{total} inputs: {', '.join(parts)}")
    if summary.known:
        computed = ": nothing computed" if summary.known == total else ""
        print(f"{summary.known} of {total} pictures were known{computed}")
    for name in sorted({*summary.kept, *summary.advice}):
        advice = f"  {summary.advice[name]}" if name in summary.advice else ""
        print(f"  {name:<24} {summary.kept.get(name, 0):>5} images{advice}")
    if summary.differs:
        print(summary.differs)
    if summary.reasons:
        print("rejected: " + ", ".join(f"{reason} {count}" for reason, count in summary.reasons.items()))
    if summary.faces:
        print("faces:   " + ", ".join(f"{name} {found} of {looked}" for name, (found, looked) in summary.faces.items()))
    if summary.mirrors:
        print(f"mirror images: {summary.mirrors} kept beside the picture that they mirror; column mirror_of names it")
    if summary.waiting:
        print(f"waiting: {summary.waiting} deblurrings for a person: lora-data review {out}")
    for warning in summary.warnings:
        print(f"look at: {warning}")
    if summary.unused >= _MUCH:
        print(f"cache:   {_size(summary.unused)} that only earlier runs used: lora-data cache prune {out}")
    for left in summary.left_out:
        print(f"left out: {left.stage}, {left.why}: {left.turn_on}")
    print(f"shards:  {out}/shards")
    print(f"table:   {out}/instances.parquet")
    print(f"decide:  lora-data review {out}")
    print(f"report:  {summary.report}")
