"""OUT behind a URL: a run works in a folder of this machine, and puts what it has written in its place at the end.

Pictures are not in that folder but behind the URL from the beginning, and the database of results is copied there now
and then (see `lora_data.results`), so that another machine can go on. A reader never sees parts of two runs, as in
`lora_data.publish`: the old run.json, table and index go first, and the new ones come last.
"""

from __future__ import annotations

from pathlib import Path

from lora_data.download import folder_of
from lora_data.durable import write_atomic
from lora_data.errors import ConfigError, ShardError
from lora_data.publish import SHARDS
from lora_data.review.file import NAME as REVIEW
from lora_data.shards import INDEX, parse_index
from lora_data.storage import AT_ONCE, RemoteFolder, is_url
from lora_data.threads import side_by_side

REPORT = "report"


def working_folder(out: str | Path) -> Path:
    """The folder of this machine that stands for an OUT: itself, or for a URL one in the user's cache."""
    return folder_of(str(out), "out") if is_url(out) else Path(out)


def remote_folder(out: str | Path) -> RemoteFolder | None:
    """An OUT behind a URL; None where it is a folder of this machine."""
    return RemoteFolder(str(out)) if is_url(out) else None


def take_decisions(remote: RemoteFolder, folder: Path) -> None:
    """Bring here what a person decided elsewhere: of two files the longer, if it goes on where the other ends.

    Raises:
        ConfigError: They say different things.
    """
    try:
        there = remote.read(REVIEW)
    except FileNotFoundError:
        return
    path = folder / REVIEW
    here = path.read_bytes() if path.is_file() else b""
    if not there.startswith(here) and not here.startswith(there):
        raise ConfigError(
            f"{remote.url}/{REVIEW} and {path} hold different decisions: make them one by hand, or remove one"
        )
    if len(there) > len(here):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, there)


def put_in_place(folder: Path, remote: RemoteFolder, files: list[str]) -> None:
    """Put a finished run where it belongs.

    Args:
        folder: Where the run has written it.
        remote: OUT.
        files: Names of the files that say that a run is complete, in the order in which they are to appear.

    Raises:
        OSError: It cannot be done; the same command again does it.
    """
    there = remote.sizes(SHARDS)
    index = (folder / SHARDS / INDEX).read_bytes()
    known = _shards_there(remote)
    new = {shard.name: (shard.bytes, shard.sha256) for shard in parse_index(index, INDEX).shards}
    missing = [name for name, told in new.items() if known.get(name) != told or there.get(name) != told[0]]
    remote.delete([*reversed(files), f"{SHARDS}/{INDEX}"])
    side_by_side(lambda name: remote.upload(folder / SHARDS / name, f"{SHARDS}/{name}"), missing, AT_ONCE)
    remote.write(f"{SHARDS}/{INDEX}", index)
    remote.delete(f"{SHARDS}/{name}" for name in there.keys() - new.keys() - {INDEX})
    pages = {p.relative_to(folder / REPORT).as_posix() for p in (folder / REPORT).rglob("*") if p.is_file()}
    side_by_side(lambda name: remote.upload(folder / REPORT / name, f"{REPORT}/{name}"), sorted(pages), AT_ONCE)
    remote.delete(f"{REPORT}/{name}" for name in remote.sizes(REPORT).keys() - pages)
    if (folder / REVIEW).is_file():
        remote.upload(folder / REVIEW, REVIEW)
    for name in files:
        remote.upload(folder / name, name)


def _shards_there(remote: RemoteFolder) -> dict[str, tuple[int, str]]:
    """Bytes and SHA-256 of the shards of the run before; empty where it left no index that can be read."""
    try:
        index = parse_index(remote.read(f"{SHARDS}/{INDEX}"), INDEX)
    except (FileNotFoundError, ShardError):
        return {}
    return {shard.name: (shard.bytes, shard.sha256) for shard in index.shards}
