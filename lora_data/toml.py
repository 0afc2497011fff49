"""Read TOML that somebody wrote: whatever is in it, it is a tree of tables or a `ConfigError`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from lora_data.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]  # installed on Python 3.10 only

MAX_BYTES = 32 << 20
"""Larger files are not read. A decision about 10,000 instances with names of 80 letters is 0.9 MB."""
MAX_PARTS = 64
"""Keys of more parts than this are refused. tomllib takes time that grows with the square of the parts (20,000 of
them, a file of 40 kB: minutes), and no key here has more than five."""

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*"""
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-])(?:{_PART}){{{MAX_PARTS}}}")


def read_toml(path: Path) -> str | None:
    """The text of a file; None where it is not there.

    Raises:
        ConfigError: It cannot be read, is larger than `MAX_BYTES`, or is no UTF-8.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise ConfigError(f"{path} cannot be read: {error}") from None
    return decode_toml(data, path)


def decode_toml(data: bytes, path: Path) -> str:
    """The text of a file from its bytes.

    Raises:
        ConfigError: As `read_toml`.
    """
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes, which no configuration needs")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The tree of tables in a text.

    Args:
        text: TOML.
        where: What it is, for messages.

    Raises:
        ConfigError: It is none, or nested deeper than Python follows, or a key has more than `MAX_PARTS` parts.
    """
    if (found := _LONG_KEY.search(text)) is not None:
        line = text.count("\n", 0, found.start()) + 1
        raise ConfigError(f"{where} is not TOML: a key of more than {MAX_PARTS} parts (at line {line})")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of more digits than Python reads
        raise ConfigError(f"{where} is not TOML: {error}") from None
