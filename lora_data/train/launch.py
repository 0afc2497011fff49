"""The command line of a launcher: ``python -m lora_data_X path/to/script.py --lora_data luca.toml <its arguments>``."""

from __future__ import annotations

from pathlib import Path

from lora_data.errors import ConfigError


def split_command(arguments: list[str], usage: str) -> tuple[Path, Path, list[str]]:
    """What is ours and what is the script's.

    Args:
        arguments: The words after ``python -m lora_data_X``.
        usage: One line, for the errors.

    Returns:
        The script, our configuration (both absolute), and the words that belong to the script.

    Raises:
        ConfigError: There is no script, or not exactly one configuration is named.
    """
    if not arguments or arguments[0].startswith("-"):
        raise ConfigError(f"the first argument is the script to run\n{usage}")
    script, rest = Path(arguments[0]).resolve(), arguments[1:]
    if not script.is_file():
        raise ConfigError(f"there is no script {script}")
    if rest.count("--lora_data") != 1 or rest[-1] == "--lora_data":
        raise ConfigError(f"--lora_data wants one TOML file\n{usage}")
    place = rest.index("--lora_data")
    config = Path(rest[place + 1]).resolve()
    return script, config, rest[:place] + rest[place + 2 :]
