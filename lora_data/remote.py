"""Shards that lie elsewhere: copied once to this machine, where they are read by offsets like any others.

A character's shards are a few gigabytes and every epoch reads all of them, so a copy costs one epoch's traffic. What is
copied is checked against the index's SHA-256; a copy that is whole is not copied again.
"""

from __future__ import annotations

import hashlib
import os
import re
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from lora_data.errors import ShardError
from lora_data.shards import INDEX, file_digest, parse_index

CACHE = "LORA_DATA_CACHE"
"""Environment variable: where copies go; ``~/.cache/lora_data`` where it is not set."""


def local_shards(where: str | Path) -> Path:
    """The folder where shards can be read.

    Args:
        where: A folder, or the URL of one: ``https://``, ``http://``, ``file://`` by Python itself, any other scheme
            that webdataset opens (``s3://``, ``gs://``, ``hf://``, with their own programs installed).

    Returns:
        The folder itself, or this machine's copy of it, which is completed first.

    Raises:
        ShardError: Something cannot be fetched, or is not what the index says.
    """
    if "://" not in str(where):
        return Path(where)
    url = str(where).rstrip("/")
    base = Path(os.environ.get(CACHE) or Path.home() / ".cache" / "lora_data")
    folder = base / "shards" / hashlib.sha256(url.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        data = b"".join(_blocks(f"{url}/{INDEX}"))
    except OSError as error:
        if not (folder / INDEX).is_file():
            raise ShardError(f"{url}/{INDEX} cannot be fetched: {error}") from None
        warnings.warn(f"{url} cannot be reached ({error}): its copy in {folder} is used", stacklevel=2)
        return folder
    for shard in parse_index(data, f"{url}/{INDEX}").shards:
        if not re.fullmatch(r"[A-Za-z0-9_-]+\.tar", shard.name):
            raise ShardError(f"{url}/{INDEX} names a shard {shard.name!r}, expected letters, digits, '_', '-' and .tar")
        copy = folder / shard.name
        if not copy.is_file() or copy.stat().st_size != shard.bytes or file_digest(copy) != shard.sha256:
            _fetch(f"{url}/{shard.name}", copy, shard.sha256)
    new = folder / f".{INDEX}.{os.getpid()}"
    new.write_bytes(data)
    os.replace(new, folder / INDEX)  # last: a copy with an index is whole
    return folder


def _fetch(url: str, path: Path, expected: str) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")
    digest = hashlib.sha256()
    try:
        with new.open("wb") as file:
            for block in _blocks(url):
                file.write(block)
                digest.update(block)
        if digest.hexdigest() != expected:
            raise ShardError(f"{url} has SHA-256 {digest.hexdigest()}, the index says {expected}")
        os.replace(new, path)
    except OSError as error:
        raise ShardError(f"{url} cannot be fetched to {path}: {error}") from None
    finally:
        new.unlink(missing_ok=True)


def _blocks(url: str) -> Iterator[bytes]:
    """A file's content in blocks of 1 MiB."""
    opened: Any
    if url.startswith(("https://", "http://", "file://")):
        opened = urllib.request.urlopen(url)  # the schemes are those above
    else:
        from webdataset.gopen import gopen

        opened = gopen(url)
    with closing(opened):
        while block := opened.read(1 << 20):
            yield block
