"""Offline throughput: whole runs, their passes and their stages, beside the loop that a person writes.

    python -m tests.bench.precompute [INPUT ...] [--instances 160] [--networked 32] [--rounds 3]

Inputs: ``large`` (the demo film's pictures at 1024 px), ``film`` (the demo's film, 384 px, with what is damaged and
broken in it), ``renders`` (../shared/data/dev, where it is here), ``networks`` (some of the renders, else of the film,
with what networks can be had). Whole runs: each in a process of its own, imports before the clock, with one worker and
with two, which the clock does see start; the loop (`tests.bench.by_hand`) likewise. Stages: one after the other in one
process with one thread over the same instances.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from lora_data import load_config
from lora_data.config import Config
from lora_data.engines.process import single_thread
from lora_data.errors import ImageError
from lora_data.freed_memory import keep_freed_memory
from lora_data.manifest import Record
from lora_data.pipeline import precompute, recipe
from lora_data.progress import RunProgress
from lora_data.sample import Instance
from lora_data.sources import discover
from lora_data.stage import CorpusStage, MapStage, NetworkStage, Resources
from lora_data.store import encode_webp
from tests.bench import by_hand, inputs
from tests.bench.results import Table, alone, cpu_seconds, finish, interleaved, parser_for, seconds

SIDE = 1024
FILM = 48
"""Instances of the demo's film."""
INPUTS = ("large", "film", "renders", "networks")


@dataclass(frozen=True, slots=True)
class Input:
    """What is run on.

    Args:
        title: In words.
        folder: Pictures.
        settings: As for ``--set``.
        loop: Whether the loop that a person writes does something like it.
    """

    title: str
    folder: Path
    settings: tuple[str, ...] = ()
    loop: bool = True

    @property
    def count(self) -> int:
        return len(discover(self.folder).sources)

    @property
    def config(self) -> Config:
        return load_config(overrides=self.settings, decided=False)


@dataclass(frozen=True, slots=True)
class Run:
    """How a run went.

    Args:
        seconds: Wall time.
        cpu: Of all processes.
        passes: As ``run.json`` has them.
    """

    seconds: float
    cpu: float
    passes: tuple[dict[str, Any], ...] = ()


def ours(given: Input, workers: int) -> Run:
    """A whole run, from the files to the report."""
    _begin()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        quiet = RunProgress(stream=io.StringIO())
        run = _timed(lambda: precompute(given.folder, out, given.config, workers=workers, device="cpu", progress=quiet))
        passes = json.loads((out / "run.json").read_text())["passes"]
    return Run(run.seconds, run.cpu, tuple(passes))


def theirs(given: Input, workers: int) -> Run:
    """The loop over the same files."""
    _begin()
    with tempfile.TemporaryDirectory() as scratch:
        return _timed(lambda: by_hand.loop(given.folder, Path(scratch) / "out", workers))


def _begin() -> None:
    """What the command does before it starts, and what takes seconds to import."""
    for module in ("imagehash", "pymatting", "skimage.feature", "sklearn.cluster"):
        import_module(module)
    keep_freed_memory()


def _timed(work: Any) -> Run:
    before, spent = cpu_seconds(), seconds(work)
    return Run(spent, cpu_seconds() - before)


def stages(given: Input, limit: int) -> dict[str, float]:
    """Milliseconds an instance of each stage, over the instances that reach it; ``limit`` instances at most."""
    _begin()
    config, resources, spent = given.config, Resources("cpu", 1), dict[str, float]()
    sources = discover(given.folder).sources[:limit]
    instances: list[Instance] = []
    others: list[Record] = []

    def clock(name: str, start: float, count: int) -> None:
        spent[name] = 1000 * (time.perf_counter() - start) / max(1, count)

    with single_thread():
        start = time.perf_counter()
        for source in sources:
            try:
                found = config.precompute.ingest.read(source)
            except ImageError:
                continue
            instances += [found] if isinstance(found, Instance) else []
        clock("ingest", start, len(sources))
        for stage in recipe(config):
            start = time.perf_counter()
            count = len(instances)
            if isinstance(stage, MapStage):
                instances = [made for i in instances if (made := _applied(stage, i)) is not None]
            elif isinstance(stage, NetworkStage):
                instances = stage.apply_many(instances, resources)
            else:
                instances, others = _decided(stage, instances, others)
            clock(stage.name, start, count)
        start = time.perf_counter()
        for instance in instances:
            encode_webp(instance.rgb, instance.alpha)
        clock("encode", start, len(instances))
    return spent


def _applied(stage: MapStage, instance: Instance) -> Instance | None:
    try:
        return stage.apply(instance)
    except ImageError:
        return None


def _decided(
    stage: CorpusStage, instances: list[Instance], others: list[Record]
) -> tuple[list[Instance], list[Record]]:
    """Those that are still in the running with their new records, and the records of all others."""
    records = stage.apply(sorted([*(i.record for i in instances), *others], key=lambda r: r.key))
    by_key = {r.key: r for r in records}
    after = [Instance(by_key[i.record.key], i.rgb, i.alpha, i.face) for i in instances]
    running = [i for i in after if i.record.active]
    keys = {i.record.key for i in running}
    return running, [r for r in records if r.key not in keys]


def measured(given: Input, rounds: int, limit: int) -> tuple[list[Table], dict[str, list[float]]]:
    """The tables of an input, and by what ran how many times as fast two workers are as one."""
    works = {"lora-data, 1 worker": partial(ours, given, 1), "lora-data, 2 workers": partial(ours, given, 2)}
    if given.loop:
        works |= {"loop, 1 process": partial(theirs, given, 1), "loop, 2 processes": partial(theirs, given, 2)}
    alone(partial(stages, given, 8))  # compiles what numba has not compiled yet on this machine
    runs = interleaved({name: partial(alone, work) for name, work in works.items()}, rounds)
    count = given.count
    more = {
        name: {
            "ms an instance": round(1000 * sorted(r.seconds for r in found)[len(found) // 2] / count, 1),
            "CPU ms an instance": round(1000 * sorted(r.cpu for r in found)[len(found) // 2] / count, 1),
        }
        for name, found in runs.items()
    }
    rates = {name: [count / r.seconds for r in found] for name, found in runs.items()}
    reference = "loop, 1 process" if given.loop else "lora-data, 1 worker"
    whole = Table(f"Whole runs: {given.title}, {count} files", "instances a second", rates, reference, more)
    one, two = runs["lora-data, 1 worker"], runs["lora-data, 2 workers"]
    passes = {f"{w}: {p}": v for w, found in (("1", one), ("2", two)) for p, v in _passes(found).items()}
    timed = interleaved({"stages": partial(alone, partial(stages, given, limit))}, rounds)["stages"]
    per_stage = {name: [t[name] for t in timed] for name in timed[0]}
    ratios = {"whole run": [a.seconds / b.seconds for a, b in zip(one, two, strict=True)]}
    ratios |= {
        name: [a / b for a, b in zip(values, passes[f"2: {name}"], strict=True)]
        for name, values in _passes(one).items()
        if "read" in name or "metrics" in name or "upscale" in name
    }
    tables = [
        whole,
        Table(f"Passes by workers: {given.title}", "ms an instance", passes),
        Table(f"Stages, one thread: {given.title}, {min(limit, count)} files", "ms an instance", per_stage),
    ]
    return tables, {f"{given.title}: {name}": values for name, values in ratios.items()}


def _passes(runs: Sequence[Run]) -> dict[str, list[float]]:
    """By pass, its milliseconds an instance in each run; what belongs to none (finding files, the report) as "rest"."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for done in run.passes:
            found.setdefault(done["name"], []).append(1000 * done["seconds"] / max(1, done["instances"]))
        rest = run.seconds - sum(done["seconds"] for done in run.passes)
        found.setdefault("rest", []).append(1000 * rest / run.passes[0]["instances"])
    return found


def prepared(names: Sequence[str], root: Path, instances: int, networked: int) -> tuple[list[Input], list[str]]:
    """The inputs of these names that can be had, and what cannot."""
    film = inputs.film(root, FILM)
    renders, words = inputs.renders(), f"the demo's film, {inputs.SIZE} px"
    found: list[Input] = []
    for name in names:
        if name == "large":
            folder = inputs.resized(film, root / name, instances, SIDE)
            found.append(Input(f"the demo's pictures at {SIDE} px", folder))
        elif name == "film":
            found.append(Input(words, film / "instances"))
        elif name == "renders" and renders is not None:
            found.append(Input("renders", renders))
        elif name == "networks":
            some = inputs.some_of(renders or film / "instances", root / name, networked)
            what, settings = inputs.with_networks(root)
            found.append(Input(f"{'renders' if renders else words}, with {what}", some, settings, loop=False))
    return found, [inputs.NO_RENDERS] if renders is None and {"renders", "networks"} & set(names) else []


def main() -> None:
    parser = parser_for(__doc__, rounds=3)
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help=f"of {', '.join(INPUTS)} (default: all)")
    parser.add_argument("--instances", type=int, default=160, help=f"at {SIDE} px")
    parser.add_argument("--networked", type=int, default=32, help="instances that networks see")
    parser.add_argument("--staged", type=int, default=48, help="instances of which stages are timed")
    options = parser.parse_args()
    if unknown := set(options.inputs) - set(INPUTS):
        parser.error(f"INPUT must be of {', '.join(INPUTS)}, got {', '.join(sorted(unknown))}")
    tables: list[Table] = []
    ratios: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        names = options.inputs or INPUTS
        given, remarks = prepared(names, Path(scratch), options.instances, options.networked)
        for one in given:
            found, quotients = measured(one, options.rounds, options.staged)
            tables += found
            ratios |= quotients
    tables.append(Table("Two workers, times as fast as one", "times", ratios))
    finish("precompute", tables, options, packages=("imagehash", "onnxruntime", "spandrel"), remarks=remarks)


if __name__ == "__main__":
    main()
