"""ShardDataset: the samples of local shards, map-style, by their byte offsets."""

from __future__ import annotations

import contextlib
import json
import mmap
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset, get_worker_info

from lora_data.errors import ShardError
from lora_data.remote import local_shards
from lora_data.shards import SampleEntry, read_index
from lora_data.train.decode import decode_rgba

PICTURES = ("webp", "png")
"""Suffixes of a sample's picture, in the order in which they are looked for."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample as it is stored.

    Args:
        key: Its name.
        character: Whose it is.
        image: uint8 RGBA ``[H, W, 4]``, straight alpha.
        caption: Its own caption; empty where it has none and the character's template is meant.
    """

    key: str
    character: str
    image: np.ndarray
    caption: str


def _from_template(lineage: bytes) -> bool:
    """Whether a sample's JSON is a lineage (it names the source) of a sample without a caption of its own."""
    try:
        fields = json.loads(lineage)
    except ValueError:
        return False
    return isinstance(fields, dict) and "source" in fields and not fields.get("caption")


def _streamed(fields: dict[str, Any], url: str) -> Sample:
    """A sample from webdataset's fields; its character from the shard's name."""
    key = str(fields["__key__"])
    suffix = next((s for s in PICTURES if s in fields), None)
    if suffix is None:
        found = ", ".join(sorted(f for f in fields if not f.startswith("__")))
        raise ShardError(f"sample {key} in {url} has no picture: expected .webp or .png, got {found}")
    own = "json" not in fields or not _from_template(bytes(fields["json"]))
    caption = bytes(fields.get("txt", b"")).decode("utf-8", "replace") if own else ""
    character = url.rpartition("/")[2].rpartition("-")[0]
    return Sample(key, character, decode_rgba(fields[suffix], f"{key}.{suffix} in {url}"), caption)


class ShardDataset(Dataset[Sample]):
    """Samples of a folder of shards, in the order of its index.

    Shards are mapped into memory lazily, per process, so the dataset may be pickled or forked before or after. Decoded
    pictures are kept until a budget is full and never pushed out: every epoch reads everything, so whatever was pushed
    out would be missed as soon as what came instead.

    Args:
        shards: Folder that ``lora-data precompute`` wrote (OUT/shards), or its URL: then of this machine's copy.
        cache_gb: Budget for decoded pictures, GB; the worker processes of one loader share it.

    Raises:
        ShardError: The index is missing or does not match the shards.
    """

    def __init__(self, shards: str | Path, *, cache_gb: float = 0.0) -> None:
        self.folder = local_shards(shards)
        self.index = read_index(self.folder)
        self.samples: tuple[SampleEntry, ...] = self.index.samples
        self._budget = int(cache_gb * 1e9)
        self._open()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> Sample:
        """Read and decode one sample.

        Raises:
            ShardError: The sample is missing, cut off, or does not decode; names shard and sample.
        """
        entry = self.samples[place]
        return Sample(entry.key, entry.character, self.image(place), self.caption(place))

    def image(self, place: int) -> np.ndarray:
        """The picture alone, from memory where it is there; not to be written to."""
        cached = self._cache.get(place)
        if cached is not None:
            return cached
        entry = self.samples[place]
        suffix = next((s for s in PICTURES if s in entry.files), PICTURES[0])
        pixels = decode_rgba(self._read(entry, suffix), f"{entry.key}.{suffix} in shard {self.folder / entry.shard}")
        if pixels.shape[:2] != (entry.height, entry.width):
            found, said = f"{pixels.shape[1]} x {pixels.shape[0]}", f"{entry.width} x {entry.height}"
            raise ShardError(
                f"{entry.key}.{suffix} in shard {self.folder / entry.shard} is {found} px, the index says {said}"
            )
        pixels.flags.writeable = False
        worker = get_worker_info()
        budget = self._budget if worker is None else self._budget // worker.num_workers
        with self._lock:
            if place not in self._cache and self._cached + pixels.nbytes <= budget:
                self._cache[place] = pixels
                self._cached += pixels.nbytes
        return pixels

    def caption(self, place: int) -> str:
        """The sample's own caption, or "" where it has none.

        ``lora-data precompute`` writes a ``.txt`` for every sample, filled from the character's template as it was
        then; its lineage says whether the text is the sample's own. The template of today's configuration counts.
        """
        known = self._captions.get(place)
        if known is None:
            entry = self.samples[place]
            text = bytes(self._read(entry, "txt")).decode("utf-8", "replace") if "txt" in entry.files else ""
            known = "" if "json" in entry.files and _from_template(bytes(self._read(entry, "json"))) else text
            self._captions[place] = known
        return known

    @staticmethod
    def stream(urls: str | list[str]) -> Iterator[Sample]:
        """Read shards from anywhere, in their own order, through webdataset.

        Args:
            urls: What webdataset takes: paths, ``https://``, ``pipe:``, with braces for ranges.

        Raises:
            ShardError: A sample has no picture or it does not decode.
        """
        from webdataset.gopen import gopen
        from webdataset.shardlists import expand_urls
        from webdataset.tariterators import group_by_keys, tar_file_iterator

        for url in urls if isinstance(urls, list) else expand_urls(urls):
            opened: Any = gopen(url)
            with contextlib.closing(opened):
                members = ({**member, "__url__": url} for member in tar_file_iterator(opened) if member)
                for fields in group_by_keys(members):
                    yield _streamed(dict(fields), url)

    def _open(self) -> None:
        self._maps: dict[str, mmap.mmap] = {}
        self._cache: dict[int, np.ndarray] = {}
        self._cached = 0
        self._captions: dict[int, str] = {}
        self._lock = threading.Lock()

    def _read(self, entry: SampleEntry, suffix: str) -> memoryview:
        if suffix not in entry.files:
            raise ShardError(f"sample {entry.key} in {entry.shard} has no .{suffix}; it has: {', '.join(entry.files)}")
        with self._lock:
            mapped = self._maps.get(entry.shard)
            if mapped is None:
                try:
                    with (self.folder / entry.shard).open("rb") as file:
                        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                except (OSError, ValueError) as error:
                    raise ShardError(
                        f"sample {entry.key} cannot be read from shard {self.folder / entry.shard}: {error}"
                    ) from None
                self._maps[entry.shard] = mapped
        offset, size = entry.files[suffix]
        if offset + size > len(mapped):
            raise ShardError(
                f"shard {self.folder / entry.shard} ends inside {entry.key}.{suffix}: "
                f"{len(mapped)} bytes, expected at least {offset + size}"
            )
        return memoryview(mapped)[offset : offset + size]

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        for name in ("_maps", "_cache", "_cached", "_captions", "_lock"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()
