"""Fetch a file once: resumed where it broke off, checked before it is there."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_data.errors import DownloadError

if TYPE_CHECKING:
    from lora_data.storage import FilePath

CACHE = "LORA_DATA_CACHE"
"""Environment variable: where what is fetched goes; the user's cache folder where it is not set."""
TRIES = 4
"""How often a broken connection is taken up again before giving up; what has come stays for the next time."""
BLOCK = 1 << 20


def user_cache() -> Path:
    """The folder for what was fetched: ``LORA_DATA_CACHE``, else ``lora_data`` in the user's cache folder."""
    own = os.environ.get(CACHE)
    if own:
        return Path(own)
    base = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lora_data"


def download(
    url: str, path: Path, *, sha256: str | None = None, advance: Callable[[int, int | None], None] | None = None
) -> str:
    """Fetch a file to a path; what is there already is replaced only by what is whole and right.

    Args:
        url: ``https://``, ``http://`` and ``file://`` by Python itself (the first two resumed by byte ranges); any
            other scheme that webdataset opens.
        path: Where to. Until it is whole it lies beside, as ``.<name>.part``.
        sha256: What the file must have; None: anything.
        advance: Told the bytes that are there and, where it is known, how many there will be.

    Returns:
        The file's SHA-256.

    Raises:
        DownloadError: It cannot be fetched, does not fit on the disk, or has another digest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    for left in reversed(range(TRIES)):
        try:
            _fetch(url, part, advance)
            break
        except urllib.error.HTTPError as error:  # the server's answer; it will not change
            raise DownloadError(f"{url} cannot be fetched: {error}") from None
        except (OSError, http.client.HTTPException) as error:
            there = part.stat().st_size if part.is_file() else 0
            if not left or isinstance(error, PermissionError | FileNotFoundError) or getattr(error, "errno", 0) == 28:
                raise DownloadError(
                    f"{url} cannot be fetched to {path}: {error} ({there} bytes are there, the next try goes on)"
                ) from None
    digest = file_digest(part)
    if sha256 is not None and digest != sha256:
        part.unlink()
        raise DownloadError(f"{url} has SHA-256 {digest}, expected {sha256}; nothing was kept")
    os.replace(part, path)
    return digest


def folder_of(url: str, kind: str) -> Path:
    """The folder of this machine, in the user's cache, for what lies behind a URL; it is not made.

    Args:
        url: Of a folder; a "/" at its end does not matter.
        kind: What is kept there, a folder's name.
    """
    return user_cache() / kind / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]


def read_url(url: str) -> bytes:
    """The content of a small file.

    Raises:
        OSError: It cannot be fetched.
    """
    return b"".join(_blocks(_open(url)))


def file_digest(path: FilePath) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _fetch(url: str, part: Path, advance: Callable[[int, int | None], None] | None) -> None:
    there = part.stat().st_size if part.is_file() else 0
    resumable = url.startswith(("https://", "http://"))
    headers = {"Range": f"bytes={there}-"} if there and resumable else {}
    try:
        opened = _open(url, headers)
    except urllib.error.HTTPError as error:
        if error.code == 416 and there:  # nothing comes after what is there
            return
        raise
    resumed = getattr(opened, "status", 200) == 206
    total = opened.headers.get("Content-Length") if hasattr(opened, "headers") else None
    done = there if resumed else 0
    whole = None if total is None else done + int(total)
    with part.open("ab" if resumed else "wb") as file:
        for block in _blocks(opened):
            file.write(block)
            done += len(block)
            if advance is not None:
                advance(done, whole)
    if whole is not None and done < whole:  # Python's client does not say that a connection was closed early
        raise http.client.IncompleteRead(b"", whole - done)


def _open(url: str, headers: dict[str, str] | None = None) -> Any:
    if url.startswith(("https://", "http://", "file://")):
        request = urllib.request.Request(url, headers={"User-Agent": "lora_data", **(headers or {})})
        return urllib.request.urlopen(request, timeout=60)  # the schemes are those above
    from webdataset.gopen import gopen

    return gopen(url)


def _blocks(opened: Any) -> Iterator[bytes]:
    with closing(opened):
        while block := opened.read(BLOCK):
            yield block
