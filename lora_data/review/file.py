"""``review.toml``: a person's decisions, one table each, in the order in which they were taken.

    [[decision]]
    do = "name"                              # name, merge, split or move
    instances = ["film_000123_i2"]           # keys or sources
    character = "luca"

It is read at the start of a run and written by people and by the review page alone; a run never changes it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lora_data.decisions import Decision
from lora_data.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]  # installed on Python 3.10 only

NAME = "review.toml"
_KEYS = {"do", "instances", "character", "look"}


def read_decisions(path: Path) -> tuple[Decision, ...]:
    """The decisions of a file; none where it is not there.

    Raises:
        ConfigError: It is no TOML, or a decision in it is none; naming the decision by its place, from 1.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    unknown = set(tree) - {"decision"}
    if unknown:
        raise ConfigError(f"{path}: {', '.join(sorted(unknown))} is not a key; allowed: [[decision]]")
    tables = tree.get("decision", [])
    if not isinstance(tables, list):
        raise ConfigError(f"{path}: decision must be a list of tables, [[decision]]")
    return tuple(_decision(table, f"{path.name}, decision {number}") for number, table in enumerate(tables, 1))


def _decision(table: Any, where: str) -> Decision:
    if not isinstance(table, dict):
        raise ConfigError(f"{where} must be a table, got {table!r}")
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise ConfigError(f"{where}: {', '.join(unknown)} is not a key; allowed: {', '.join(sorted(_KEYS))}")
    instances = table.get("instances", [])
    if not isinstance(instances, list) or not all(isinstance(name, str) for name in instances):
        raise ConfigError(f"{where}: instances must be a list of texts, got {instances!r}")
    for key in ("do", "character", "look"):
        if not isinstance(table.get(key, ""), str):
            raise ConfigError(f"{where}: {key} must be a text, got {table[key]!r}")
    try:
        return Decision(
            do=table.get("do", ""),
            instances=tuple(instances),
            character=table.get("character"),
            look=table.get("look"),
            where=where,
        )
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
