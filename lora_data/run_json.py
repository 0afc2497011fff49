"""``run.json``: what was run, on what, with what, and how it ended."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lora_data
from lora_data.characters import Figures, advice_by_name, faces_by_name
from lora_data.config import Config, as_tree
from lora_data.content_key import version_of
from lora_data.decisions import Decision
from lora_data.download import file_digest
from lora_data.enhancements import left_out, uses
from lora_data.manifest import UNKNOWN, Record, mirrors
from lora_data.models.loaded import path_of
from lora_data.models.registry import model_named
from lora_data.models.weights import Weights, models_folder

NAME = "run.json"


def run_json(
    folder: str | Path,
    config: Config,
    decisions: Sequence[Decision],
    records: Sequence[Record],
    characters: Sequence[Figures],
    ignored: Sequence[str],
    passes: list[dict[str, Any]],
    warnings: Sequence[str],
) -> bytes:
    """What was run, on what, with what, and how it ended."""
    names = sorted({r.character for r in records} - {UNKNOWN})
    content = {
        "lora_data": lora_data.__version__,
        "input": str(folder),
        "preset": config.preset,
        "seed": config.data.seed,
        "config": as_tree(config),
        "decisions": [decision.identifier for decision in decisions],
        "counts": dict(sorted(Counter(r.status for r in records).items())),
        "characters": {
            name: dict(sorted(Counter(r.status for r in records if r.character == name).items())) for name in names
        },
        "advice": advice_by_name(characters, config.precompute.select.target),
        "mirror_images": len(mirrors(records)),
        "skipped": [dataclasses.asdict(left) for left in left_out(config)],
        "faces": {name: {"found": found, "of": looked} for name, (found, looked) in faces_by_name(characters).items()},
        "warnings": list(warnings),
        "ignored_files": list(ignored),
        "models": _models(config),
        "versions": _versions(("numpy", "opencv-python", "pymatting", "scikit-learn", "scikit-image", "ImageHash")),
        "passes": passes,
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _models(config: Config) -> list[dict[str, str | None]]:
    """The networks that a run used, with licence and digest."""
    weights = Weights(models_folder())
    found: list[dict[str, str | None]] = []
    for use in uses(config):
        path = path_of(use.model)
        if path is not None:
            found.append({"name": path.name, "stage": use.stage, "digest": file_digest(path), "licence": "not known"})
            continue
        model = model_named(use.model)
        digest = weights.expected(model)  # it was checked when it was opened
        found.append({"name": model.name, "stage": use.stage, "digest": digest, "licence": model.licence})
    return found


def _versions(packages: Iterable[str]) -> dict[str, str]:
    return {package: version_of(package) or "installed under another name" for package in packages}
