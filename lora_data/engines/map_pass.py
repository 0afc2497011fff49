"""One pass of map stages over one instance: read (a source or a stored picture), apply, store."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from lora_data.blobs import Blob, Blobs, DamagedBlobError
from lora_data.errors import ImageError
from lora_data.manifest import Record
from lora_data.record_bytes import changes, to_bytes
from lora_data.results import NEXT
from lora_data.sample import Instance
from lora_data.sources import Source
from lora_data.stage import MapStage
from lora_data.stages.ingest import Ingest
from lora_data.store import CAME, THUMBNAIL, decode_webp, encode_lossy, encode_webp, small
from lora_data.work import Item, Made

BEFORE_KINDS, AFTER_KINDS = ("before", "came"), ("thumbs", "final")
"""What the first pass leaves to be shown (a thumbnail, and where it is larger the instance as it came), and the last
one (a thumbnail, and the finished picture)."""


@dataclass(frozen=True, slots=True)
class MapPass:
    """A pass; picklable.

    Args:
        stages: Applied in order.
        blobs: Where pictures are stored.
        ingest: Decodes the sources in the first pass; None in any other.
        reads: The record's fields that come in (see `lora_data.content_key.reads_of`).
        last: Whether it finishes the pictures.
    """

    stages: tuple[MapStage, ...]
    blobs: Blobs
    ingest: Ingest | None
    reads: frozenset[str]
    last: bool

    @property
    def kinds(self) -> tuple[str, ...]:
        """The pictures that it leaves to be shown."""
        return (*(BEFORE_KINDS if self.ingest is not None else ()), *(AFTER_KINDS if self.last else ()))

    def __call__(self, item: Item) -> Made:
        """Run one instance through; what cannot be used becomes an error's fields."""
        if item.picture is not None:
            try:
                rgb, alpha = decode_webp(self.blobs.read(item.picture))
            except DamagedBlobError as error:
                return Made(damaged=error.blob)
            return self._applied(item.record, Instance(item.record, rgb, alpha), {}, None)
        if item.source is None:
            raise RuntimeError(f"{item.record.key}: a pass starts from a source or a picture")
        return self._ingested(item.record, item.source)

    def _ingested(self, record: Record, source: Source) -> Made:
        assert self.ingest is not None
        try:
            files = source.read()
        except OSError as error:
            row = record.decide("error", "ingest", "unreadable").replace(message=f"{type(error).__name__}: {error}")
            return Made(to_bytes(changes(record, row)), lasting=False)
        except ImageError as error:
            return Made(_error(record, record, "ingest", error), lasting=False)
        inputs = source.digest({path: hashlib.sha256(data).hexdigest() for path, data in files.items()})
        try:
            found = self.ingest.decode(source, files)
        except ImageError as error:
            return Made(_error(record, record, "ingest", error), inputs=inputs)
        if isinstance(found, Record):
            return Made(to_bytes(changes(record, found)), inputs=inputs)
        said = {name: getattr(record, name) for name in self.reads}
        came = small(found.rgb, found.alpha, CAME)
        pictures = {"before": self.blobs.put(encode_lossy(*small(*came, THUMBNAIL)))}
        if max(found.alpha.shape) > THUMBNAIL:
            pictures["came"] = self.blobs.put(encode_lossy(*came, quality=85))
        return self._applied(record, found.replace(**said), pictures, inputs)

    def _applied(self, given: Record, instance: Instance, pictures: dict[str, Blob], inputs: str | None) -> Made:
        stage = ""
        try:
            for step in self.stages:
                stage = step.name
                instance = step.apply(instance)
        except ImageError as error:
            return Made(_error(given, instance.record, stage, error), pictures, inputs)
        finished = self.blobs.put(encode_webp(instance.rgb, instance.alpha))
        if self.last:
            thumbnail = self.blobs.put(encode_lossy(*small(instance.rgb, instance.alpha, THUMBNAIL)))
            pictures |= {"final": finished, "thumbs": thumbnail}
        else:
            pictures |= {NEXT: finished}
        return Made(to_bytes(changes(given, instance.record)), pictures, inputs)


def _error(given: Record, record: Record, stage: str, error: ImageError) -> bytes:
    row = record.decide("error", stage, error.reason).replace(message=error.message)
    return to_bytes(changes(given, row))
