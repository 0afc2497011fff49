"""Put what a run has written in its place, so that a reader never sees parts of two runs.

Everything is written beside first and flushed to the disk. Then the old table and run.json go, the shards and their
index take the old ones' place, and the new table and run.json come: whoever reads in between, or after a run was killed
there, finds no table and is told so, and the same command again puts everything there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lora_data.durable import put_file, put_folder, sync_folder

STAGED, SHARDS = ".shards.new", "shards"


def publish(out: Path, files: Mapping[str, Path]) -> None:
    """Put staged shards and files in their places.

    Args:
        out: OUT; ``OUT/.shards.new`` holds the shards (see `lora_data.shards.write_shards`).
        files: Written files by their name in OUT, in the order in which they are to appear.

    Raises:
        OSError: It cannot be done.
    """
    for name in reversed(list(files)):
        (out / name).unlink(missing_ok=True)
    sync_folder(out)
    put_folder(out / STAGED, out / SHARDS)
    for name, path in files.items():
        put_file(path, out / name)
