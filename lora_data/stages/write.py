"""Write: the kept instances become shards."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lora_data.manifest import Record

if TYPE_CHECKING:
    from pathlib import Path

    from lora_data.decisions import Settings
    from lora_data.shards import Index, Later, ShardSample
    from lora_data.train.settings import CharacterSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Write shards of one character each.

    Args:
        shard_megabytes: A shard is closed before it grows past this. 256 MB: large enough to stream, small enough to
            copy again; WebDataset's own advice is 100 MB to 1 GB.

    Raises:
        ValueError: A field is out of range.
    """

    name: ClassVar[str] = "write"
    version: ClassVar[int] = 1

    shard_megabytes: float = 256.0

    def __post_init__(self) -> None:
        if not self.shard_megabytes > 0:
            raise ValueError(f"shard_megabytes must be above 0, got {self.shard_megabytes}")

    def write(
        self,
        folder: Path,
        records: Sequence[Record],
        pixels: Callable[[str], bytes | Later],
        characters: dict[str, CharacterSettings],
        told: Mapping[str, Settings] | None = None,
        workers: int = 1,
    ) -> Index:
        """Write the kept records to a new folder (see `lora_data.shards.write_shards`).

        Args:
            folder: Where to.
            records: All records; only the kept ones are written, sorted by character and key.
            pixels: The finished WebP of a key.
            characters: Tokens and caption templates.
            told: What a person decided about characters in training; the index carries it.
            workers: Shards that are written at a time.
        """
        from lora_data.shards import write_shards

        kept = sorted((r for r in records if r.status == "kept"), key=lambda r: (r.character, r.key))
        return write_shards(
            folder,
            _samples(kept, pixels, characters),
            max_bytes=round(self.shard_megabytes * 1_000_000),
            characters={name: _decided(settings) for name, settings in (told or {}).items()},
            workers=workers,
        )


def _decided(settings: Settings) -> dict[str, Any]:
    table: dict[str, Any] = {} if settings.symmetric is None else {"symmetric": settings.symmetric}
    return table | ({} if settings.augment is None else {"augment": dict(settings.augment)})


def caption_of(record: Record, settings: CharacterSettings | None) -> str:
    """The sample's own caption, or the character's template with its token."""
    from lora_data.train.settings import CharacterSettings

    if record.caption is not None:
        return record.caption
    return (settings or CharacterSettings()).caption_of(None, record.character)


def face_of(record: Record) -> tuple[float, float, float, float] | None:
    """(x0, y0, x1, y1) of the face, px of the finished picture; None where none is known."""
    if record.face_box is None:
        return None
    scale = record.upscale_scale or 1
    x0, y0, x1, y1 = (round(scale * float(edge), 2) for edge in record.face_box)
    return x0, y0, x1, y1


def lineage(record: Record) -> bytes:
    """The record as JSON: every number and decision that the table keeps, no arrays."""
    from lora_data.table import WORKING

    fields = {f.name: getattr(record, f.name) for f in dataclasses.fields(record) if f.name not in WORKING}
    plain = {name: value for name, value in fields.items() if value is not None and not isinstance(value, np.ndarray)}
    return (json.dumps(plain, ensure_ascii=False, sort_keys=True, indent=1) + "\n").encode()


def _samples(
    kept: Sequence[Record], pixels: Callable[[str], bytes | Later], characters: dict[str, CharacterSettings]
) -> Iterator[ShardSample]:
    from lora_data.shards import ShardSample

    for record in kept:
        files: dict[str, bytes | Later] = {
            "webp": pixels(record.key),
            "json": lineage(record),
            "txt": caption_of(record, characters.get(record.character)).encode(),
        }
        scale = record.upscale_scale or 1
        width, height = scale * (record.width or 0), scale * (record.height or 0)
        yield ShardSample(record.key, record.character, width, height, files, face_of(record))
