"""Pictures by the digest of their bytes: ``OUT/cache/blobs/ab/abcd….webp``, each stored once.

Where OUT is behind a URL they lie there, so that every machine of a cluster reaches them; those that people are shown
are copied here.

The name says what must be inside, so whatever was damaged is found when it is read, and needs no flush to the disk when
it is written: what a power cut loses is computed again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_data.durable import link_file, write_whole
from lora_data.errors import LoraDataError
from lora_data.storage import AT_ONCE, RemoteFolder
from lora_data.threads import side_by_side


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
        remote: The same behind a URL, where OUT is; then ``folder`` holds only copies of what this machine was shown,
            and other machines need not have it.
    """

    folder: Path
    remote: RemoteFolder | None = None

    def path(self, blob: Blob) -> Path:
        """Where a picture lies on this machine."""
        return self.folder / _name(blob)

    def put(self, data: bytes) -> Blob:
        """Store bytes, also over what has their name: it may be damaged.

        Raises:
            OSError: They cannot be written.
        """
        blob = Blob(hashlib.sha256(data).hexdigest(), len(data))
        if self.remote is not None:
            self.remote.write(_name(blob), data)
        else:
            self._write(blob, data)
        return blob

    def read(self, blob: Blob) -> bytes:
        """The bytes of a picture; behind a URL this machine's copy where it has one.

        Raises:
            DamagedBlobError: It is not there, or its bytes are others.
        """
        for read in (self._read_here, self._read_there):
            data = read(blob)
            if data is not None and hashlib.sha256(data).hexdigest() == blob.digest:
                return data
        raise DamagedBlobError(blob)

    def _read_here(self, blob: Blob) -> bytes | None:
        try:
            return self.path(blob).read_bytes()
        except FileNotFoundError:
            return None

    def _read_there(self, blob: Blob) -> bytes | None:
        if self.remote is None:
            return None
        try:
            return self.remote.read(_name(blob))
        except FileNotFoundError:
            return None

    def there(self, blob: Blob) -> bool:
        """Whether a picture is there at its size; its bytes are not looked at."""
        if self.remote is not None:
            return self.remote.size(_name(blob)) == blob.size
        try:
            return self.path(blob).stat().st_size == blob.size
        except FileNotFoundError:
            return False

    def sound(self, blobs: Iterable[Blob]) -> bool:
        """Whether pictures are there with their own bytes. Behind a URL they are not read for that: a store checks its
        own bytes, and what is damaged all the same is found where it is used."""
        if self.remote is not None:
            return True
        try:
            for blob in blobs:
                self.read(blob)
        except DamagedBlobError:
            return False
        return True

    def stored(self) -> dict[str, int]:
        """Bytes of every picture that is stored, by its digest."""
        if self.remote is not None:
            return {name.rpartition("/")[2].removesuffix(".webp"): n for name, n in self.remote.sizes().items()}
        return {path.stem: path.stat().st_size for path in self.folder.glob("*/*")}

    def remove(self, digests: Iterable[str]) -> None:
        """Remove pictures, and the copies on this machine."""
        names = [_name(Blob(digest, 0)) for digest in digests]
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
        if self.remote is not None:
            self.remote.delete(names)

    def show(self, folder: Path, pictures: Mapping[str, Blob]) -> None:
        """Let a folder hold these pictures as ``<key>.webp`` and nothing else: hard links, or copies where the file
        system has none. Whoever reads meanwhile sees the picture before or the one after, never a part.

        Args:
            folder: Of one kind, such as ``OUT/cache/final``.
            pictures: By key.

        Raises:
            DamagedBlobError: One of them is damaged, and was found so only now.
            OSError: It cannot be written.
        """
        if self.remote is not None:
            side_by_side(self._copy, dict.fromkeys(pictures.values()), AT_ONCE)
        folder.mkdir(parents=True, exist_ok=True)
        names = {f"{key}.webp": blob for key, blob in pictures.items()}
        for name in set(os.listdir(folder)) - names.keys():
            (folder / name).unlink()
        for name, blob in names.items():
            link_file(self.path(blob), folder / name)

    def _copy(self, blob: Blob) -> None:
        """Bring a picture to this machine."""
        try:
            if self.path(blob).stat().st_size == blob.size:
                return
        except FileNotFoundError:
            pass
        self._write(blob, self.read(blob))

    def _write(self, blob: Blob, data: bytes) -> None:
        path = self.path(blob)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)


def _name(blob: Blob) -> str:
    return f"{blob.digest[:2]}/{blob.digest}.webp"
