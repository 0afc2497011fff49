"""Write the page: one HTML file and the thumbnails it shows, readable from disk alone."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lora_data.characters import TARGET
from lora_data.durable import write_atomic
from lora_data.report.augmentation import augmentation
from lora_data.report.captions import gain_of, hash_distance, metrics, review_of, shift_of, verdict, why
from lora_data.report.cast import characters
from lora_data.report.changes import enhancements
from lora_data.report.charts import flow_end, parts_bar
from lora_data.report.embedding_map import embedding_map, mark, outliers
from lora_data.report.flow import decided, flow, notices
from lora_data.report.kept import Kept
from lora_data.report.left import families, rejections
from lora_data.report.pictures import PROPOSED, Pictures, tile_id
from lora_data.report.quality import panels
from lora_data.report.run_info import RunInfo, read_records, read_run
from lora_data.report.words import STATUS, number, pass_label, reason_label, stage_label


def write_report(out: Path) -> Path:
    """Write ``OUT/report`` from what a run left in OUT: the table, ``run.json``, thumbnails (``cache``) and shards.

    The same OUT gives the same bytes. The folder opens from disk and can be sent to somebody: no network, and one small
    script that sorts pairs, which nothing else needs.

    Returns:
        The page, ``OUT/report/index.html``.

    Raises:
        RunError: The table is missing or ``run.json`` is not JSON.
    """
    run, records = read_run(out), read_records(out, embeddings=True)
    pictures = Pictures(out / "cache")
    kept = Kept(out / "cache")
    script = _template("sort.js")
    cast = characters(records, run.target or TARGET)
    html = (
        _environment(pictures)
        .get_template("index.html.j2")
        .render(
            run=run,
            title=_title(run),
            total=len(records),
            counts=_counts(Counter(r.status for r in records)),
            flow=flow(records),
            decided=decided(records),
            notices=notices(records),
            characters=cast,
            marks={c.name: mark(i, c.name) for i, c in enumerate(cast)},
            map=embedding_map(records, {c.name: c.anchor for c in cast}, kept),
            outliers=outliers(records),
            panels=panels(records, run),
            panels_of={c.anchor: panels([r for r in records if r.character == c.name], run) for c in cast},
            augmentation=augmentation(out / "shards", run.tree, records, [c.name for c in cast], pictures, kept),
            enhancements=enhancements(records),
            families=families(records),
            rejections=rejections(records),
            errors=[r for r in records if r.status == "error"],
            style=_template("report.css"),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
    report = out / "report"
    report.mkdir(exist_ok=True)
    # the page before finds its pictures until the new one is there, and that one finds its own
    pictures.write(report / "thumbs")
    # a name from a foreign file system may hold what UTF-8 cannot
    write_atomic(report / "index.html", html.encode("utf-8", "replace"))
    pictures.clear(report / "thumbs")
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
        "proposed": partial(pictures.url, PROPOSED),
        "attempted": pictures.url,
        "tile_id": tile_id,
        "metrics": metrics,
        "gain_of": gain_of,
        "review_of": review_of,
        "why": why,
        "hash_distance": hash_distance,
        "verdict": verdict,
        "shift_of": shift_of,
        "flow_end": flow_end,
        "parts_bar": parts_bar,
    }
    environment.globals.update(functions)
    environment.filters.update(number=number, reason=reason_label, stage=stage_label, passed=pass_label)
    return environment


def _template(name: str) -> Markup:
    return Markup(files("lora_data.report").joinpath(f"templates/{name}").read_text(encoding="utf-8"))


def _counts(found: Counter[str]) -> list[tuple[str, int]]:
    return [(status, found[status]) for status in STATUS]


def _title(run: RunInfo) -> str:
    """The last part of INPUT's path."""
    parts = [part for part in re.split(r"[\\/]+", run.input) if part not in ("", ".")]
    return parts[-1] if parts else "Run"
