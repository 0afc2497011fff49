"""Folders behind a URL: what fsspec opens (``s3://``, ``gs://``, ``az://``, ...), each with its own package installed.

Credentials and endpoints are fsspec's: the store's own files and variables (``AWS_PROFILE``, ...), or ``FSSPEC_S3`` and
``~/.config/fsspec``. An object is written whole or not at all, so nothing here needs a temporary name.

Source: fsspec's documentation, "Configuration" (https://filesystem-spec.readthedocs.io).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_data.errors import ConfigError, MissingExtraError
from lora_data.threads import side_by_side

if TYPE_CHECKING:
    from upath import UPath

    FilePath = Path | UPath
    """A file here or behind a URL."""

_STORES = frozenset({"botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure", "adlfs", "huggingface_hub"})
"""Packages below fsspec whose exceptions are no `OSError`."""
_BUCKETS = frozenset({"s3", "gs", "abfs", "az", "oci", "oss"})
"""Stores without folders."""
AT_ONCE = 32
"""Requests at a time: an object store answers each in some 20 to 100 ms, whatever else it does."""


def is_url(place: object) -> bool:
    """Whether a place is named by a URL rather than by a path."""
    return "://" in str(place)


def open_folder(place: str | Path) -> FilePath:
    """A folder to read from, by its path or its URL.

    Raises:
        MissingExtraError: A URL needs what is not installed.
        ConfigError: fsspec does not know the URL's scheme, or cannot open it.
    """
    if not is_url(place):
        return Path(place)
    if find_spec("upath") is None:
        raise MissingExtraError("universal-pathlib", "remote", str(place))
    from upath import UPath

    _file_system(str(place))
    return UPath(str(place))


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """A folder behind a URL. Names are relative, with "/". Picklable; connections are the process's own.

    Args:
        url: Such as ``s3://bucket/film/out``.

    Raises:
        OSError: Of every method: the store cannot be reached or refuses. A missing object is a `FileNotFoundError`.
    """

    url: str

    def check(self) -> None:
        """Find out whether the store can be opened; nothing is written.

        Raises:
            MissingExtraError: fsspec is not installed.
            ConfigError: It cannot.
        """
        fs, _ = _file_system(self.url)
        if "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol):
            raise ConfigError(f"{self.url} is a folder of this machine: give its path")

    def below(self, name: str) -> RemoteFolder:
        """A folder in this one."""
        return RemoteFolder(f"{self.url.rstrip('/')}/{name}")

    def read(self, name: str) -> bytes:
        """The bytes of an object."""
        with _asked(self.url) as (fs, root):
            return fs.cat_file(f"{root}/{name}")

    def write(self, name: str, data: bytes) -> None:
        """Store an object, over what has its name."""
        with _asked(self.url) as (fs, root):
            _in_folder(fs, f"{root}/{name}", lambda path: fs.pipe_file(path, data))

    def size(self, name: str) -> int | None:
        """Bytes of an object; None where it is not there."""
        with _asked(self.url) as (fs, root):
            try:
                return int(fs.info(f"{root}/{name}", refresh=True)["size"])
            except FileNotFoundError:
                return None

    def sizes(self, name: str = "") -> dict[str, int]:
        """Bytes of every object in a folder and in those below it, by its name in that folder."""
        with _asked(self.url) as (fs, root):
            top = f"{root}/{name}".rstrip("/")
            fs.invalidate_cache()
            found: dict[str, dict[str, Any]] = fs.find(top, detail=True)
        return {_below(path, top): int(entry["size"]) for path, entry in found.items() if entry["type"] == "file"}

    def upload(self, path: Path, name: str) -> None:
        """Store a file's content as an object."""
        with _asked(self.url) as (fs, root):
            _in_folder(fs, f"{root}/{name}", lambda place: fs.put_file(str(path), place))

    def download(self, name: str, path: Path) -> None:
        """Write an object's content to a file."""
        with _asked(self.url) as (fs, root):
            fs.get_file(f"{root}/{name}", str(path))

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there are no error."""

        def remove(name: str) -> None:
            with _asked(self.url) as (fs, root), suppress(FileNotFoundError):
                fs.rm_file(f"{root}/{name}")

        side_by_side(remove, names, AT_ONCE)


def stamp(path: FilePath) -> tuple[int, int, int]:
    """What changes when a file does: its size, and two numbers: times (ns) here, elsewhere the store's own mark (on S3
    the ETag) and 0.

    Raises:
        OSError: It is not there, or cannot be looked at.
    """
    if isinstance(path, Path):
        stat = path.stat()
        return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
    info = path.fs.info(path.path)
    told = info.get("ETag") or info.get("etag") or info.get("md5Hash") or info.get("mtime") or info.get("LastModified")
    mark = hashlib.sha256(repr(told).encode()).digest()
    return int(info["size"]), int.from_bytes(mark[:7], "big"), 0


def _file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, the process's own, and the path in it."""
    if find_spec("fsspec") is None:
        raise MissingExtraError("fsspec", "remote", url)
    from fsspec.core import url_to_fs

    try:
        fs, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{url} cannot be opened: {error}") from None
    return fs, path.rstrip("/")


@contextmanager
def _asked(url: str) -> Generator[tuple[Any, str]]:
    """The file system of a URL and the path in it; what the store's own package raises becomes an `OSError`."""
    try:
        yield _file_system(url)
    except Exception as error:
        if type(error).__module__.partition(".")[0] in _STORES:
            raise OSError(f"{url}: {type(error).__name__}: {error}") from error
        raise


def _in_folder(fs: Any, path: str, write: Callable[[str], object]) -> None:
    """Write an object, where the store has real folders after making its own."""
    try:
        write(path)
    except FileNotFoundError:
        protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
        if protocols & _BUCKETS:  # there "making a folder" makes a bucket, whoever mistyped its name
            raise
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        write(path)


def _below(path: str, top: str) -> str:
    return path.lstrip("/").removeprefix(top.lstrip("/")).lstrip("/")
