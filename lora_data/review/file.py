"""``review.toml``: a person's decisions, one table each, in the order in which they were taken.

    # 2026-05-14 19:02: two frames of somebody else
    [[decision]]
    id = "5f2c81d09e4b"                      # what "undo" calls it; by hand it may be left out
    do = "move"                              # see `lora_data.decisions.Decision`
    instances = ["film_000123_i2", "film_000124_i2"]
    character = "luca"

It is read at the start of a run, and a run never changes it. The review page only ever appends to it: an undone
decision stays and an "undo" follows. So nothing that a person did is lost, whoever else writes: what is appended is one
write to the end, under a lock, and synced before the page says that it is saved.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lora_data.config import parse_config
from lora_data.decisions import Decision, effective, settings
from lora_data.errors import ConfigError, RunError
from lora_data.toml import MAX_BYTES, decode_toml, parse_toml, read_toml

NAME = "review.toml"
HEAD = """\
# Decisions of a person, in the order in which they were taken; the next `lora-data precompute` applies them.
# `lora-data review` appends to this file. It may be edited by hand: change or delete a [[decision]], or add one.
# do = "name", "merge", "split", "move": who is who. "reject", "restore": what is kept. "accept", "refuse": an
# enhancement of single pictures. "symmetric", "augment": training. "undo": the decision `of` was none.
"""
_TEXTS = ("do", "character", "look", "enhancement", "id", "of")
_KEYS = {*_TEXTS, "instances", "symmetric", "augment"}


def read_decisions(path: Path) -> tuple[Decision, ...]:
    """The decisions of a file, the undone ones and their undoing among them; none where it is not there.

    Raises:
        ConfigError: It is no TOML, or a decision in it is none; naming the decision by its place, from 1.
    """
    text = read_toml(path)
    return () if text is None else parse_decisions(text, path)


def parse_decisions(text: str, path: Path) -> tuple[Decision, ...]:
    """The decisions in the text of a file.

    Raises:
        ConfigError: As `read_decisions`.
    """
    tree = parse_toml(text, str(path))
    unknown = set(tree) - {"decision"}
    if unknown:
        raise ConfigError(f"{path}: {', '.join(sorted(unknown))} is not a key; allowed: [[decision]]")
    tables = tree.get("decision", [])
    if not isinstance(tables, list):
        raise ConfigError(f"{path}: decision must be a list of tables, [[decision]]")
    found = tuple(parse_decision(table, f"{path.name}, decision {number}") for number, table in enumerate(tables, 1))
    check_settings(found, path.name)
    return found


def parse_decision(table: object, where: str) -> Decision:
    """A decision from its table.

    Raises:
        ConfigError: It is none.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{where} must be a table, got {table!r}")
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise ConfigError(f"{where}: {', '.join(unknown)} is not a key; allowed: {', '.join(sorted(_KEYS))}")
    instances = table.get("instances", [])
    if not isinstance(instances, list) or not all(isinstance(name, str) for name in instances):
        raise ConfigError(f"{where}: instances must be a list of texts, got {instances!r}")
    for key in _TEXTS:
        if not isinstance(table.get(key, ""), str):
            raise ConfigError(f"{where}: {key} must be a text, got {table[key]!r}")
    if not isinstance(table.get("symmetric", True), bool):
        raise ConfigError(f"{where}: symmetric must be true or false, got {table['symmetric']!r}")
    augment = table.get("augment")
    if not isinstance(augment, dict | None):
        raise ConfigError(f"{where}: augment must be a table, got {augment!r}")
    try:
        return Decision(
            do=table.get("do", ""),
            instances=tuple(instances),
            character=table.get("character"),
            look=table.get("look"),
            enhancement=table.get("enhancement"),
            symmetric=table.get("symmetric"),
            augment=augment,
            id=table.get("id"),
            of=table.get("of"),
            where=where,
        )
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def check_settings(decisions: Sequence[Decision], where: str) -> None:
    """Check what training is told about the characters.

    Raises:
        ConfigError: A policy is none, or beyond the strategy's limits.
    """
    for character, told in settings(effective(decisions)).items():
        table = {"symmetric": told.symmetric or False, "augment": dict(told.augment or {})}
        parse_config({"characters": {character: table}}, where=where)


def append_decision(path: Path, decision: Decision, remark: str) -> None:
    """Append one to the file, and make it durable.

    Args:
        path: OUT/review.toml; made where it is not there.
        decision: What to append.
        remark: One line of comment above it.

    Raises:
        ConfigError: The file as it is now is no longer valid (somebody edits it): nothing was written.
        RunError: It cannot be written.
    """
    block = f"\n# {_comment(remark)}\n{to_toml(decision)}"
    if not block.isprintable() and any(0xD800 <= ord(c) <= 0xDFFF for c in block):
        raise ConfigError(f"half a character (a lone surrogate) has no place in {path.name}: {block!r}")
    try:
        with open(path, "a+b") as file:
            _lock(file.fileno())
            file.seek(0)
            before = file.read(MAX_BYTES + 1)
            text = decode_toml(before, path)
            parse_decisions(text, path)
            # whoever edits by hand may leave the last line open
            start = HEAD if not before else "" if before.endswith(b"\n") else "\n"
            whole = start + block
            parse_decisions(decode_toml(before + whole.encode(), path), path)
            file.write(whole.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from None


def to_toml(decision: Decision) -> str:
    """The table of a decision, as it stands in the file."""
    lines = ["[[decision]]"]
    for key in ("id", "do", "of", "instances", "character", "look", "enhancement", "symmetric", "augment"):
        value = getattr(decision, key)
        if value is not None and value != ():
            lines.append(f"{key} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    """A value as TOML writes it; a long list one to a line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        escaped = "".join(_ESCAPES.get(c) or (f"\\u{ord(c):04X}" if ord(c) < 32 or ord(c) == 127 else c) for c in value)
        return f'"{escaped}"'
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(str(name))} = {_value(part)}" for name, part in value.items()) + " }"
    if isinstance(value, Sequence):
        parts = [_value(part) for part in value]
        short = "[" + ", ".join(parts) + "]"
        return short if len(short) <= 90 else "[\n" + "".join(f"    {part},\n" for part in parts) + "]"
    raise ConfigError(f"{value!r} has no place in {NAME}")


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _comment(text: str) -> str:
    """On one line, and nothing in it that a comment may not hold."""
    return re.sub(r"[\x00-\x1f\x7f\s]+", " ", text).strip()[:200]


def _lock(descriptor: int) -> None:
    """Wait until nobody else appends; the lock ends with the file."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
