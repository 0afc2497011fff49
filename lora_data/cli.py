"""The command line. Exit codes: 0 done; 2 the command or the configuration is wrong; 1 the run could not finish."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import lora_data
from lora_data import commands
from lora_data.errors import ConfigError, LoraDataError, MissingExtraError


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
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = subcommands.add_parser("demo", help="render a small film and run everything on it; no download")
    demo.add_argument("--out", type=Path, default=Path("demo_out"), help="where to put it (default: demo_out)")
    demo.add_argument("--instances", type=int, default=120, help="cut-outs to render (default: 120)")
    demo.add_argument("--seed", type=int, default=0, help="another seed, another film (default: 0)")
    demo.add_argument("--review", action="store_true", help="open the review page afterwards")
    _add_port(demo)
    _add_workers(demo)
    demo.set_defaults(run=commands.demo)

    run = subcommands.add_parser("precompute", help="cut-outs in, WebDataset shards out")
    run.add_argument("input", metavar="INPUT", help="folder (or URL) of cut-outs, or of frames with SAM2 masks")
    run.add_argument("--out", required=True, metavar="OUT", help="folder (or URL) for shards, table and report")
    run.add_argument("--config", type=Path, metavar="FILE", help="TOML configuration")
    run.add_argument("--preset", choices=["light", "full"], help="overrides the file's preset")
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. precompute.filter.min_face_size=48"
    )
    run.add_argument("--engine", choices=["local", "ray"], default="local", help="this machine, or a Ray cluster")
    run.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="what networks run on")
    run.add_argument("--log-json", type=Path, metavar="FILE", help="append what happens, one JSON object a line")
    run.add_argument("--models", type=Path, metavar="DIR", help="folder of weights (default: LORA_DATA_MODELS)")
    _add_workers(run)
    run.set_defaults(run=commands.precompute)

    review = subcommands.add_parser("review", help="a page in the browser to name, merge, split, reject, compare")
    review.add_argument("out", metavar="OUT")
    _add_port(review)
    review.set_defaults(run=commands.review)

    report = subcommands.add_parser("report", help="rebuild the static report of a run")
    report.add_argument("out", type=Path, metavar="OUT")
    report.set_defaults(run=commands.report)

    preview = subcommands.add_parser("preview", help="a grid of what training will see: originals left, draws right")
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
    preview.set_defaults(run=commands.preview)

    export = subcommands.add_parser("export", help="a folder for trainers that load folders")
    export.add_argument("shards", type=Path, metavar="OUT/shards")
    export.add_argument("--format", choices=["kohya", "imagefolder", "onetrainer"], required=True)
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to; must be new or empty")
    export.add_argument(
        "--variants", type=_whole(0), default=0, metavar="K", help="pre-rendered draws per image (default: 0)"
    )
    export.add_argument("--config", type=Path, metavar="FILE", help="TOML configuration of the training")
    export.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. data.background=white")
    export.set_defaults(run=commands.export)

    models = subcommands.add_parser("models", help="the networks' weights: list, fetch, check")
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
        act.set_defaults(run=commands.models, act=name)

    cache = subcommands.add_parser("cache", help="what runs keep so that nothing is computed twice: make it smaller")
    deeds = cache.add_subparsers(required=True, metavar="ACTION")
    prune = deeds.add_parser("prune", help="remove what the last finished run did not use")
    prune.add_argument("out", metavar="OUT")
    prune.add_argument("--all", action="store_true", help="remove everything; the next run computes all pictures")
    prune.add_argument("--max-size", type=_bytes, metavar="SIZE", help="then the oldest, until SIZE (20GB, 500MB) fits")
    prune.set_defaults(run=commands.prune)

    inspect = subcommands.add_parser(
        "inspect", help="a table of the characters: what there is, what was kept, what to do"
    )
    inspect.add_argument("out", type=Path, metavar="OUT", help="of a run; OUT/shards will do")
    inspect.set_defaults(run=commands.inspect)
    return parser


def _add_port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=_whole(0), default=0, metavar="N", help="of the page (default: a free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the page's address and open nothing")


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
