"""What a shard is: a WebDataset tar with an index of byte offsets.

``<character>-<000000>.tar`` holds, per sample, ``<key>.webp`` (RGBA, lossless, straight alpha), ``<key>.json`` (lineage
and metrics) and ``<key>.txt`` (caption). ``index.json`` lists per shard its samples, bytes and SHA-256 and per sample
the byte range of each member, so that a map-style reader seeks without scanning. The bytes depend on the samples
alone: members are sorted, and no time, user or host is written.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lora_data.download import file_digest
from lora_data.durable import sync_file, write_atomic
from lora_data.errors import ShardError
from lora_data.threads import side_by_side

INDEX = "index.json"
FORMAT = 1
"""Raised when a reader of the old layout would misread the new one."""


@dataclass(frozen=True, slots=True)
class Later:
    """Content that is read only when it is written.

    Args:
        size: Its bytes.
        read: Reads them; called once, in any thread.
    """

    size: int
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class ShardSample:
    """One sample on its way into a shard.

    Args:
        key: The sample's name; letters, digits, "_" and "-".
        character: Whose shard it goes into.
        width: Of the picture, px.
        height: Of the picture, px.
        files: Content by suffix ("webp", "json", "txt").
        face: (x0, y0, x1, y1) of the face, px of the picture; None: none is known.
    """

    key: str
    character: str
    width: int
    height: int
    files: Mapping[str, bytes | Later]
    face: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard in the index."""

    name: str
    character: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SampleEntry:
    """One sample in the index; ``files`` maps a suffix to [offset, size] in the shard's bytes."""

    key: str
    shard: str
    character: str
    width: int
    height: int
    files: dict[str, tuple[int, int]]
    face: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """The content of ``index.json``.

    Args:
        shards: By character, then number.
        samples: By character, then key.
        format: Of the file.
        characters: What a person decided about a character in training: "symmetric" (bool) and "augment" (a table),
            where they are decided; `lora_data.config.load_config` takes it where the file says nothing.
    """

    shards: tuple[ShardEntry, ...] = ()
    samples: tuple[SampleEntry, ...] = ()
    format: int = field(default=FORMAT)
    characters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])

    def counts(self) -> dict[str, int]:
        """Samples by character, in the order of the index."""
        return dict(Counter(sample.character for sample in self.samples))


def write_shards(
    folder: Path,
    samples: Iterable[ShardSample],
    *,
    max_bytes: int,
    characters: Mapping[str, Mapping[str, Any]] | None = None,
    workers: int = 1,
) -> Index:
    """Write samples to shards in a new folder, flushed to the disk.

    Args:
        folder: Where to. What was there is removed.
        samples: Sorted by character, then key.
        max_bytes: A shard is closed when the next sample would make it larger than this.
        workers: Shards that are written at a time, each sample by sample.
        characters: See `Index`; those without a sample are left out.

    Returns:
        The index, as it was written.

    Raises:
        ValueError: The samples are not sorted, or a key cannot be a member's name.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    plans = _planned(samples, max_bytes)
    shards = tuple(side_by_side(lambda plan: _written(folder, plan), plans, workers))
    entries = tuple(entry for plan in plans for entry in plan.entries)
    there = {entry.character for entry in entries}
    told = {name: dict(table) for name, table in sorted((characters or {}).items()) if name in there}
    index = Index(shards, entries, characters=told)
    write_atomic(folder / INDEX, _dump(index))
    return index


def read_index(folder: Path) -> Index:
    """Read ``index.json`` and check that the shards it names are there at the size it says.

    Raises:
        ShardError: The index is missing, unreadable or of another format, or a shard is missing or of another size.
    """
    path = folder / INDEX
    if not path.is_file():
        raise ShardError(f"no {INDEX} in {folder}: expected a folder that `lora-data precompute` wrote (OUT/shards)")
    index = parse_index(path.read_bytes(), str(path))
    for shard in index.shards:
        found = folder / shard.name
        if not found.is_file():
            raise ShardError(f"shard {shard.name} is missing from {folder}; the index names {len(index.shards)} shards")
        if found.stat().st_size != shard.bytes:
            raise ShardError(f"shard {found} has {found.stat().st_size} bytes, the index says {shard.bytes}")
    return index


def parse_index(data: bytes, where: str) -> Index:
    """Read the content of an ``index.json``.

    Args:
        data: Its bytes.
        where: What it is, for the error.

    Raises:
        ShardError: It is unreadable or of another format.
    """
    try:
        content = _table(json.loads(data))
        if content["format"] != FORMAT:
            raise ShardError(f"{where} has format {content['format']}, this version reads {FORMAT}")
        shards = tuple(_shard_entry(entry) for entry in content["shards"])
        samples = tuple(_sample_entry(entry) for entry in content["samples"])
        # indices of earlier versions know none
        characters = {name: _table(told) for name, told in _table(content.get("characters") or {}).items()}
        for told in characters.values():
            _table(told.get("augment", {}))
        known = {shard.name: shard.bytes for shard in shards}
        for sample in samples:
            if any(offset + size > known[sample.shard] for offset, size in sample.files.values()):
                raise ValueError(f"{sample.key} lies beyond the end of {sample.shard}")
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise ShardError(f"{where} cannot be read: {repr(error)[:300]}") from None
    return Index(shards, samples, FORMAT, characters)


@dataclass(slots=True)
class _Plan:
    """A shard to be written: where everything will lie follows from the sizes alone."""

    name: str
    character: str
    size: int = 0
    samples: list[ShardSample] = field(default_factory=list[ShardSample])
    entries: list[SampleEntry] = field(default_factory=list[SampleEntry])

    def add(self, sample: ShardSample) -> None:
        """Append a sample."""
        ranges: dict[str, tuple[int, int]] = {}
        for suffix, content in sorted(sample.files.items()):
            ranges[suffix] = (self.size + tarfile.BLOCKSIZE, _size(content))
            self.size = sum(ranges[suffix])
            self.size += -self.size % tarfile.BLOCKSIZE
        self.samples.append(sample)
        size = sample.width, sample.height
        self.entries.append(SampleEntry(sample.key, self.name, sample.character, *size, ranges, sample.face))


def _planned(samples: Iterable[ShardSample], max_bytes: int) -> list[_Plan]:
    """Shards of one character and at most ``max_bytes`` each (one sample may be larger)."""
    plans: list[_Plan] = []
    names: dict[str, str] = {}
    before: tuple[str, str] | None = None
    number = 0
    for sample in samples:
        if before is not None and (sample.character, sample.key) <= before:
            raise ValueError(f"samples must be sorted by character and key: {sample.key} follows {before[1]}")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", sample.key):
            raise ValueError(f"a key holds letters, digits, '_' and '-' only, got {sample.key!r}")
        weight = sum(2 * tarfile.BLOCKSIZE + _size(content) for content in sample.files.values())
        same = before is not None and before[0] == sample.character
        if not same or plans[-1].size + weight > max_bytes:
            number = number + 1 if same else 0
            safe = names.setdefault(sample.character, _safe_name(sample.character, set(names.values())))
            plans.append(_Plan(f"{safe}-{number:06d}.tar", sample.character))
        plans[-1].add(sample)
        before = (sample.character, sample.key)
    return plans


def _written(folder: Path, plan: _Plan) -> ShardEntry:
    """Write a shard."""
    path = folder / plan.name
    with tarfile.TarFile(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample, entry in zip(plan.samples, plan.entries, strict=True):
            for suffix, content in sorted(sample.files.items()):
                data = content.read() if isinstance(content, Later) else content
                info = tarfile.TarInfo(f"{sample.key}.{suffix}")
                info.size, info.mode = len(data), 0o644
                if (tar.offset + tarfile.BLOCKSIZE, len(data)) != entry.files[suffix]:
                    raise RuntimeError(f"{info.name} has {len(data)} bytes, its place in {plan.name} is another")
                tar.addfile(info, io.BytesIO(data))
    sync_file(path)
    return ShardEntry(plan.name, plan.character, len(plan.samples), path.stat().st_size, file_digest(path))


def _size(content: bytes | Later) -> int:
    return content.size if isinstance(content, Later) else len(content)


def _shard_entry(entry: dict[str, Any]) -> ShardEntry:
    name = _text(entry["name"])
    if not re.fullmatch(r"[^/\\\0]+\.tar", name):  # it is read from beside the index, from nowhere else
        raise ValueError(f"it names a shard {name!r}, expected a file beside it that ends in .tar")
    samples, size = _count(entry["samples"]), _count(entry["bytes"])
    return ShardEntry(name, _text(entry["character"]), samples, size, _text(entry["sha256"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {value!r}")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise TypeError(f"expected a count, got {value!r}")
    return value


def _table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected a table, got {value!r}")
    return value


def _sample_entry(entry: dict[str, Any]) -> SampleEntry:
    files = {suffix: (_count(place[0]), _count(place[1])) for suffix, place in _table(entry["files"]).items()}
    face = entry.get("face")  # indices of earlier versions know none
    if face is not None:
        x0, y0, x1, y1 = map(float, face)
        face = (x0, y0, x1, y1)
    size = _count(entry["width"]), _count(entry["height"])
    key, shard, character = (_text(entry[name]) for name in ("key", "shard", "character"))
    return SampleEntry(key, shard, character, *size, files, face)


def _safe_name(character: str, taken: set[str]) -> str:
    """A file name for a character: its letters, digits, "_" and "-"; a hash is added where that loses something."""
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", character).strip("-")[:48]
    digest = hashlib.sha256(character.encode()).hexdigest()[:8]
    return slug if slug == character and slug not in taken else f"{slug}-{digest}".strip("-")


def _dump(index: Index) -> bytes:
    return (json.dumps(asdict(index), indent=1, sort_keys=True) + "\n").encode()
