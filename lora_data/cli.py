"""The command line. Exit codes: 0 done; 2 the command or the configuration is wrong; 1 the run could not finish."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import lora_data
from lora_data.errors import ConfigError, LoraDataError, MissingExtraError

if TYPE_CHECKING:
    from lora_data.pipeline import Summary

_NEEDED = {
    "cv2": "opencv-python",
    "imagehash": "imagehash",
    "jinja2": "jinja2",
    "pyarrow": "pyarrow",
    "pycocotools": "pycocotools",
    "pymatting": "pymatting",
    "rich": "rich",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except (ConfigError, MissingExtraError) as error:
        print(f"lora-data: {error}", file=sys.stderr)
        return 2
    except LoraDataError as error:
        print(f"lora-data: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"\nlora-data: {stop if stop.args else 'stopped; the same command starts again'}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lora-data", description=lora_data.__doc__)
    parser.add_argument("--version", action="version", version=f"lora-data {lora_data.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="render a small film and run everything on it; no download")
    demo.add_argument("--out", type=Path, default=Path("demo_out"), help="where to put it (default: demo_out)")
    demo.add_argument("--instances", type=int, default=120, help="cut-outs to render (default: 120)")
    demo.add_argument("--seed", type=int, default=0, help="another seed, another film (default: 0)")
    _add_workers(demo)
    demo.set_defaults(run=_demo)

    run = commands.add_parser("precompute", help="cut-outs in, WebDataset shards out")
    run.add_argument("input", type=Path, metavar="INPUT", help="folder of cut-outs, or of frames with SAM2 masks")
    run.add_argument("--out", type=Path, required=True, metavar="OUT", help="folder for shards, table and report")
    run.add_argument("--config", type=Path, metavar="FILE", help="TOML configuration")
    run.add_argument("--preset", choices=["light", "full"], help="overrides the file's preset")
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. precompute.filter.min_face_size=48"
    )
    run.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="what networks run on")
    run.add_argument("--models", type=Path, metavar="DIR", help="folder of weights (default: LORA_DATA_MODELS)")
    _add_workers(run)
    run.set_defaults(run=_precompute)

    report = commands.add_parser("report", help="rebuild the static report of a run")
    report.add_argument("out", type=Path, metavar="OUT")
    report.set_defaults(run=_report)

    preview = commands.add_parser("preview", help="a grid of what training will see: originals left, draws right")
    preview.add_argument("shards", type=Path, metavar="OUT/shards")
    preview.add_argument("--config", type=Path, metavar="FILE", help="TOML configuration of the training")
    preview.add_argument(
        "--out", type=Path, default=Path("preview.png"), help="picture to write (default: preview.png)"
    )
    preview.add_argument("--samples", type=_whole(1), default=4, metavar="N", help="rows per character (default: 4)")
    preview.add_argument("--draws", type=_whole(1), default=5, metavar="K", help="draws per row (default: 5)")
    preview.add_argument("--epoch", type=int, default=0, metavar="N", help="whose draws (default: 0)")
    preview.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. augment.min_character_ratio=0.5"
    )
    preview.set_defaults(run=_preview)

    export = commands.add_parser("export", help="a folder for trainers that load folders")
    export.add_argument("shards", type=Path, metavar="OUT/shards")
    export.add_argument("--format", choices=["kohya", "imagefolder", "onetrainer"], required=True)
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to; must be new or empty")
    export.add_argument(
        "--variants", type=_whole(0), default=0, metavar="K", help="pre-rendered draws per image (default: 0)"
    )
    export.add_argument("--config", type=Path, metavar="FILE", help="TOML configuration of the training")
    export.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. data.background=white")
    export.set_defaults(run=_export)

    models = commands.add_parser("models", help="the networks' weights: list, fetch, check")
    acts = models.add_subparsers(required=True, metavar="ACTION")
    for name, text in (
        ("list", "what there is, under which licence, and what is here"),
        ("pull", "fetch weights; a broken download goes on where it stopped"),
        ("verify", "check the digests of the weights that are here"),
        ("path", "where the weights are"),
    ):
        act = acts.add_parser(name, help=text)
        act.add_argument("--models", type=Path, metavar="DIR", help="folder of weights (default: LORA_DATA_MODELS)")
        if name == "pull":
            act.add_argument("names", nargs="+", metavar="NAME", help="as models list shows them")
            act.add_argument("--accept-licence", action="store_true", help="accept a restricting licence, once")
        elif name != "list":
            act.add_argument("names", nargs="*", metavar="NAME", help="default: all that are here")
        act.set_defaults(run=_models, act=name)

    cache = commands.add_parser("cache", help="what runs keep so that nothing is computed twice: make it smaller")
    deeds = cache.add_subparsers(required=True, metavar="ACTION")
    prune = deeds.add_parser("prune", help="remove what the last finished run did not use")
    prune.add_argument("out", type=Path, metavar="OUT")
    prune.add_argument("--all", action="store_true", help="remove everything; the next run computes all pictures")
    prune.add_argument("--max-size", type=_bytes, metavar="SIZE", help="then the oldest, until SIZE (20GB, 500MB) fits")
    prune.set_defaults(run=_prune)

    inspect = commands.add_parser("inspect", help="a table of the characters: what there is, what was kept, what to do")
    inspect.add_argument("out", type=Path, metavar="OUT", help="of a run; OUT/shards will do")
    inspect.set_defaults(run=_inspect)
    return parser


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=_whole(1), metavar="N", help="processes (default: one per core)")


def _whole(least: int) -> Callable[[str], int]:
    """A parser of whole numbers from ``least`` on."""

    def parse(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, got {text!r}")
        return int(text)

    return parse


def _bytes(text: str) -> int:
    """A size such as 20GB, 1.5GB or 500MB, in bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MB|GB|TB)", text.strip(), re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"must be a size such as 20GB or 500MB, got {text!r}")
    return round(float(found[1]) * {"MB": 10**6, "GB": 10**9, "TB": 10**12}[found[2].upper()])


def _models(options: argparse.Namespace) -> int:
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
        _need_precompute("lora-data models pull")
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


def _precompute(options: argparse.Namespace) -> int:
    from lora_data.config import load_config

    config = load_config(options.config, overrides=options.set, preset=options.preset)
    _need_precompute("lora-data precompute")
    from lora_data.engines.local import keep_freed_memory
    from lora_data.models.weights import FOLDER
    from lora_data.pipeline import precompute

    if options.models is not None:
        os.environ[FOLDER] = str(options.models)  # worker processes inherit it
    keep_freed_memory()
    _print_summary(precompute(options.input, options.out, config, workers=options.workers, device=options.device))
    return 0


def _demo(options: argparse.Namespace) -> int:
    _need_precompute("lora-data demo")
    from lora_data.config import load_config
    from lora_data.demo import make_film
    from lora_data.engines.local import keep_freed_memory
    from lora_data.pipeline import precompute
    from lora_data.progress import RunProgress

    film, out = options.out / "film", options.out / "run"
    if options.instances < 8:
        raise ConfigError(f"--instances must be at least 8, got {options.instances}")
    if options.out.exists() and not film.is_dir() and any(options.out.iterdir()):
        raise ConfigError(f"--out must be new, empty or an earlier demo, got {options.out}")
    shutil.rmtree(film, ignore_errors=True)
    keep_freed_memory()
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
    summary = precompute(film / "instances", out, load_config(), workers=options.workers, progress=progress)
    _print_summary(summary)
    return 0


def _report(options: argparse.Namespace) -> int:
    _need_precompute("lora-data report")
    from lora_data.report import write_report

    print(write_report(options.out))
    return 0


def _prune(options: argparse.Namespace) -> int:
    from lora_data.results import Results
    from lora_data.run_lock import run_lock

    cache = options.out / "cache"
    if not cache.is_dir():
        raise ConfigError(f"no cache in {options.out}: expected a folder that `lora-data precompute` wrote")
    with run_lock(cache), Results(cache) as results:
        gone = results.prune(everything=options.all, most=options.max_size)
    print(f"removed: {gone.gone} results, {_size(gone.freed)} of pictures")
    print(f"stayed:  {gone.stayed} results, {_size(gone.kept)} of pictures")
    return 0


def _size(count: int) -> str:
    return f"{count / 10**9:.2f} GB" if count >= 10**9 else f"{count / 10**6:.1f} MB"


def _inspect(options: argparse.Namespace) -> int:
    from lora_data.inspection import inspect

    found = inspect(options.out)
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


def _preview(options: argparse.Namespace) -> int:
    from lora_data.config import load_config
    from lora_data.preview import write_preview

    config = load_config(options.config, overrides=options.set)
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


def _export(options: argparse.Namespace) -> int:
    from lora_data.config import load_config
    from lora_data.export import export

    config = load_config(options.config, overrides=options.set)
    count = export(options.shards, config, options.out, options.format, variants=options.variants)
    print(f"{count} pictures: {options.out}")
    return 0


def _need_precompute(purpose: str) -> None:
    for module, package in _NEEDED.items():
        if find_spec(module) is None:
            raise MissingExtraError(package, "precompute", purpose)


def _print_summary(summary: Summary) -> None:
    total = sum(summary.counts.values())
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
        print(f"waiting: {summary.waiting} deblurrings for a person; precompute.deblur.review=false applies them all")
    for warning in summary.warnings:
        print(f"look at: {warning}")
    for left in summary.left_out:
        print(f"left out: {left.stage}, {left.why}: {left.turn_on}")
    print(f"shards:  {summary.out / 'shards'}")
    print(f"table:   {summary.out / 'instances.parquet'}")
    print(f"report:  {summary.report}")
