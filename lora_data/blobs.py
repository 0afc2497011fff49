"""Pictures by the digest of their bytes: ``OUT/cache/blobs/ab/abcd….webp``, each stored once.

The name says what must be inside, so whatever was damaged is found when it is read, and needs no flush to the disk when
it is written: what a power cut loses is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_data.errors import LoraDataError


class DamagedBlobError(LoraDataError):
    """A stored picture is missing, or is not what it was.

    Args:
        blob: Which.
    """

    def __init__(self, blob: Blob) -> None:
        super().__init__(f"the stored picture {blob.digest} is missing or damaged; the same command computes it again")
        self.blob = blob

    def __reduce__(self) -> tuple[type[DamagedBlobError], tuple[Blob]]:
        return DamagedBlobError, (self.blob,)


@dataclass(frozen=True, slots=True)
class Blob:
    """One stored picture: the SHA-256 of its bytes, and how many there are."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Blobs:
    """The folder of stored pictures. Several processes may write to it at once.

    Args:
        folder: ``OUT/cache/blobs``; made when something is stored.
    """

    folder: Path

    def path(self, blob: Blob) -> Path:
        """Where a picture lies."""
        return self.folder / blob.digest[:2] / f"{blob.digest}.webp"

    def put(self, data: bytes) -> Blob:
        """Store bytes, also over what has their name: it may be damaged.

        Raises:
            OSError: They cannot be written.
        """
        blob = Blob(hashlib.sha256(data).hexdigest(), len(data))
        path = self.path(blob)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{blob.digest}.{os.getpid()}.{threading.get_ident()}")
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        return blob

    def read(self, blob: Blob) -> bytes:
        """The bytes of a picture.

        Raises:
            DamagedBlobError: It is not there, or its bytes are others.
        """
        try:
            data = self.path(blob).read_bytes()
        except FileNotFoundError:
            raise DamagedBlobError(blob) from None
        if hashlib.sha256(data).hexdigest() != blob.digest:
            raise DamagedBlobError(blob)
        return data

    def there(self, blob: Blob) -> bool:
        """Whether a picture is there at its size; its bytes are not looked at."""
        try:
            return self.path(blob).stat().st_size == blob.size
        except FileNotFoundError:
            return False

    def sound(self, blobs: Iterable[Blob]) -> bool:
        """Whether pictures are there with their own bytes."""
        try:
            for blob in blobs:
                self.read(blob)
        except DamagedBlobError:
            return False
        return True

    def show(self, folder: Path, pictures: Mapping[str, Blob]) -> None:
        """Let a folder hold these pictures as ``<key>.webp`` and nothing else: hard links, or copies where the file
        system has none. Whoever reads meanwhile sees the picture before or the one after, never a part.

        Args:
            folder: Of one kind, such as ``OUT/cache/final``.
            pictures: By key.

        Raises:
            OSError: It cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        names = {f"{key}.webp": blob for key, blob in pictures.items()}
        there = {entry.name: entry for entry in os.scandir(folder)}
        for name in there.keys() - names.keys():
            (folder / name).unlink()
        for name, blob in names.items():
            path = self.path(blob)
            if name in there and os.path.samestat(os.stat(folder / name), path.stat()):
                continue
            temporary = folder / f".{name}.tmp"
            temporary.unlink(missing_ok=True)
            try:
                os.link(path, temporary)
            except OSError:  # no hard links here, or too many of this picture
                shutil.copyfile(path, temporary)
            os.replace(temporary, folder / name)
