"""Write the page: one HTML file and the thumbnails it shows, readable from disk alone."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lora_data.characters import TARGET
from lora_data.manifest import Record
from lora_data.report.charts import flow_end, parts_bar
from lora_data.report.contents import (
    characters,
    enhancements,
    families,
    flow,
    metrics,
    notices,
    rejections,
    shift_of,
    verdict,
)
from lora_data.report.quality import panels
from lora_data.report.run_info import RunInfo, read_records, read_run
from lora_data.report.words import STATUS, number, reason_label, stage_label
from lora_data.store import write_atomic

PICTURES = {"after": "thumbs", "before": "before"}
"""Kind of picture in the report: its folder in ``OUT/cache``."""

_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Pictures:
    """The thumbnails that lie in ``OUT/cache``, and those that the page shows.

    Args:
        cache: ``OUT/cache``.
    """

    def __init__(self, cache: Path) -> None:
        self._folders = {kind: cache / name for kind, name in PICTURES.items()}
        self._there = {
            kind: {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set[str]()
            for kind, folder in self._folders.items()
        }
        self._used: set[tuple[str, str]] = set()

    def url(self, kind: str, key: str) -> str | None:
        """Where the page finds a picture, relative to itself; None where there is none."""
        name = f"{key}.webp"
        if not _KEY.fullmatch(key) or name not in self._there[kind]:
            return None
        self._used.add((kind, name))
        return f"thumbs/{kind}/{name}"

    def any(self, records: Sequence[Record]) -> bool:
        """Whether there is a picture of at least one of these."""
        return any(f"{r.key}.webp" in names for names in self._there.values() for r in records)

    def copy(self, folder: Path) -> None:
        """Copy every picture that was asked for below a folder."""
        for kind in PICTURES:
            (folder / kind).mkdir(parents=True)
        for kind, name in sorted(self._used):
            shutil.copyfile(self._folders[kind] / name, folder / kind / name)


def write_report(out: Path) -> Path:
    """Write ``OUT/report`` from what a run left in OUT: the table, ``run.json`` and the thumbnails in ``cache``.

    The same OUT gives the same bytes. The folder opens from disk and can be sent to somebody: no network, no script.

    Returns:
        The page, ``OUT/report/index.html``.

    Raises:
        RunError: The table is missing or ``run.json`` is not JSON.
    """
    run, records = read_run(out), read_records(out, embeddings=True)
    pictures = Pictures(out / "cache")
    html = (
        _environment(pictures)
        .get_template("index.html.j2")
        .render(
            run=run,
            title=_title(run),
            total=len(records),
            counts=_counts(Counter(r.status for r in records)),
            flow=flow(records),
            notices=notices(records),
            characters=characters(records, run.target or TARGET),
            panels=panels(records, run),
            enhancements=enhancements(records),
            families=families(records),
            rejections=rejections(records),
            errors=[r for r in records if r.status == "error"],
            style=Markup(files("lora_data.report").joinpath("templates/report.css").read_text(encoding="utf-8")),
        )
    )
    report = out / "report"
    report.mkdir(exist_ok=True)
    _swap(report, pictures)
    # a name from a foreign file system may hold what UTF-8 cannot
    write_atomic(report / "index.html", html.encode("utf-8", "replace"))
    return report / "index.html"


def _environment(pictures: Pictures) -> Environment:
    environment = Environment(
        loader=PackageLoader("lora_data.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    functions: dict[str, Any] = {
        "before": partial(pictures.url, "before"),
        "after": partial(pictures.url, "after"),
        "pictured": pictures.any,
        "metrics": metrics,
        "verdict": verdict,
        "shift_of": shift_of,
        "flow_end": flow_end,
        "parts_bar": parts_bar,
    }
    environment.globals.update(functions)
    environment.filters.update(number=number, reason=reason_label, stage=stage_label)
    return environment


def _swap(report: Path, pictures: Pictures) -> None:
    """Put the new pictures in the old ones' place, whole."""
    fresh, old = report / ".thumbs.new", report / ".thumbs.old"
    for folder in (fresh, old):
        shutil.rmtree(folder, ignore_errors=True)
    pictures.copy(fresh)
    if (report / "thumbs").exists():
        os.replace(report / "thumbs", old)
    os.replace(fresh, report / "thumbs")
    shutil.rmtree(old, ignore_errors=True)


def _counts(found: Counter[str]) -> list[tuple[str, int]]:
    return [(status, found[status]) for status in STATUS]


def _title(run: RunInfo) -> str:
    """The last part of INPUT's path."""
    parts = [part for part in re.split(r"[\\/]+", run.input) if part not in ("", ".")]
    return parts[-1] if parts else "Run"
