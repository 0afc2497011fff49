"""Shards that lie elsewhere: copied once to this machine, where they are read by offsets like any others.

A character's shards are a few gigabytes and every epoch reads all of them, so a copy costs one epoch's traffic. What is
copied is checked against the index's SHA-256; a copy that is whole is not copied again.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

from lora_data.download import download, file_digest, folder_of, read_url
from lora_data.errors import DownloadError, ShardError
from lora_data.shards import INDEX, parse_index
from lora_data.storage import is_url


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
    if not is_url(where):
        return Path(where)
    url = str(where).rstrip("/")
    folder = folder_of(url, "shards")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        data = read_url(f"{url}/{INDEX}")
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
            try:
                download(f"{url}/{shard.name}", copy, sha256=shard.sha256)
            except DownloadError as error:
                raise ShardError(str(error)) from None
    new = folder / f".{INDEX}.{os.getpid()}"
    new.write_bytes(data)
    os.replace(new, folder / INDEX)  # last: a copy with an index is whole
    return folder
