"""What goes into a pass for one instance, and what comes out: small values that travel between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lora_data.blobs import Blob
from lora_data.manifest import Answer, Record
from lora_data.sources import Source


@dataclass(frozen=True, slots=True)
class Item:
    """One instance on its way into a pass.

    Args:
        record: Only what the pass's stages may read (see `lora_data.content_key`).
        picture: What to start from; None in the first pass.
        source: The same in the first pass.
    """

    record: Record
    picture: Blob | None = None
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What a pass made of one instance.

    Args:
        fields: The record's changed fields (see `lora_data.record_bytes`).
        pictures: By kind; one that goes on to the next pass is of kind `lora_data.results.NEXT`.
        inputs: In the first pass the digest of the source as it was read; None: it could not be read.
        lasting: Whether it will be the same next time. A file that cannot be read today may be readable tomorrow.
        damaged: The picture to start from was damaged; nothing was computed.
        answers: Where it waits for a person: what it will be with each answer.
    """

    fields: bytes = b""
    pictures: Mapping[str, Blob] = field(default_factory=dict[str, Blob])
    inputs: str | None = None
    lasting: bool = True
    damaged: Blob | None = None
    answers: Mapping[Answer, Made] = field(default_factory=dict)
