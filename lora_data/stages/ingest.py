"""Ingest: a source becomes an instance, whatever form it has on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lora_data.errors import ImageError
from lora_data.manifest import Record
from lora_data.sample import Instance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_data.decode import Decoded
    from lora_data.sam2 import Masks, Verdict
    from lora_data.sources import Numbers, Source
    from lora_data.storage import FilePath


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingest:
    """Decode one source. Not a map stage: there is no instance before it.

    Args:
        max_pixels: Refuse larger canvases before decompression. 100 Mpx is an 8K frame three times over.
        margin: Frame pixels kept around a SAM2 mask, as a share of its longer side (at least 16 px): what matting
            learns the background from.
        min_mask_size: Longest side, px, below which a SAM2 mask is no instance: a character of 32 px has no face.
        background_border: A mask on three or more sides of the frame that covers this share of its border is
            background. Measured on 21 background and 67 character masks: .42 and more against .09 and less; a close-up
            that fills the lower corners may come near, so the limit stands at .4.
        part_overlap: A mask that lies to this share inside a larger one is a part of it (measured: heads 1.0, separate
            characters that touch .05).
        same_overlap: Masks that overlap this much (IoU) are one object and the better one stays. High, so that in a
            close-up the head, most of what is visible, is called a part and the whole character stays.

    Raises:
        ValueError: A field is out of range.
    """

    name: ClassVar[str] = "ingest"
    version: ClassVar[int] = 1

    max_pixels: int = 100_000_000
    margin: float = 0.08
    min_mask_size: int = 32
    background_border: float = 0.4
    part_overlap: float = 0.9
    same_overlap: float = 0.95

    def __post_init__(self) -> None:
        if not 1 <= self.max_pixels <= 178_956_970:
            raise ValueError(f"max_pixels must be in [1, 178956970] (Pillow's own limit), got {self.max_pixels}")
        if not 0 <= self.margin <= 1:
            raise ValueError(f"margin must be in [0, 1], got {self.margin}")
        if self.min_mask_size < 1:
            raise ValueError(f"min_mask_size must be at least 1, got {self.min_mask_size}")
        for field in ("background_border", "part_overlap", "same_overlap"):
            if not 0 < getattr(self, field) <= 1:
                raise ValueError(f"{field} must be in (0, 1], got {getattr(self, field)}")

    def read(self, source: Source) -> Instance | Record:
        """Read and decode a source; as `decode`.

        Raises:
            OSError: A file cannot be read.
            ImageError: As `decode`, or a file is larger than is read.
        """
        return self.decode(source, source.read())

    def decode(self, source: Source, files: Mapping[FilePath, bytes]) -> Instance | Record:
        """Decode a source.

        Args:
            source: Which.
            files: The content of each of its files.

        Returns:
            The instance; or, for a SAM2 mask that is no instance of its own, its rejected record.

        Raises:
            ImageError: The file, its mask or its sidecar cannot be used.
        """
        from lora_data.decode import decode, decode_mask

        data = files[source.path]
        decoded = decode(data, self.max_pixels)
        numbers = self._numbers(source, files)
        record = Record(
            source=source.source,
            key=source.key,
            digest=hashlib.sha256(data).hexdigest(),
            file_format=decoded.file_format,
            frame=numbers.frame,
            instance=numbers.instance if source.index is None else source.index,
            track=numbers.track,
            scene=numbers.scene,
            caption=None if source.caption is None else _caption(files[source.caption]),
        )
        if source.annotations is not None:
            return self._cut_out(source, record, decoded, files[source.annotations])
        alpha = decoded.alpha
        if source.mask is not None:
            mask = decode_mask(files[source.mask], self.max_pixels)
            if mask.shape != alpha.shape:
                got, wanted = (f"{shape[1]} x {shape[0]}" for shape in (mask.shape, alpha.shape))
                raise ImageError("bad_mask", f"{source.mask.name} is {got}, the image {wanted}")
            alpha = np.minimum(alpha, mask)
        return _with_box(record, decoded.rgb, alpha)

    def _numbers(self, source: Source, files: Mapping[FilePath, bytes]) -> Numbers:
        """What the name says, overruled by what the sidecar says."""
        from lora_data.sources import Numbers, numbers_of, read_sidecar

        named = numbers_of(source.source)
        if source.sidecar is None:
            return named
        said = read_sidecar(files[source.sidecar], source.sidecar.name)
        return Numbers(
            named.frame if said.frame is None else said.frame,
            named.instance if said.instance is None else said.instance,
            said.track or named.track,
            said.scene or named.scene,
        )

    def _cut_out(self, source: Source, record: Record, decoded: Decoded, annotations: bytes) -> Instance | Record:
        """Cut one mask out of its frame, with the frame's own pixels around and under it."""
        assert source.annotations is not None
        height, width = decoded.alpha.shape
        masks, verdicts = _judged(annotations, source.annotations.name, (height, width), self)
        if source.index is None or source.index >= len(verdicts):  # beyond: the file changed since it was found
            raise ImageError("no_masks", f"{source.annotations.name} lists {len(verdicts)} masks")
        verdict = verdicts[source.index]
        mask = masks.decode(source.index)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        size = max(np.ptp(rows), np.ptp(columns)) + 1 if len(rows) else 0
        if verdict is not None:
            return record.decide("rejected", "ingest", verdict.reason, verdict.value, verdict.limit)
        if size < self.min_mask_size:
            return record.decide("rejected", "ingest", "small_mask", float(size), float(self.min_mask_size))
        pad = max(16, round(self.margin * int(size)))
        top, left = max(0, int(rows[0]) - pad), max(0, int(columns[0]) - pad)
        bottom, right = min(height, int(rows[-1]) + 1 + pad), min(width, int(columns[-1]) + 1 + pad)
        rgb = np.ascontiguousarray(decoded.rgb[top:bottom, left:right])
        return _with_box(record, rgb, mask[top:bottom, left:right].astype(np.uint8) * 255)


def _with_box(record: Record, rgb: np.ndarray, alpha: np.ndarray) -> Instance:
    from lora_data.matte import bounding_box
    from lora_data.store import MAX_SIDE

    height, width = alpha.shape
    if max(height, width) > MAX_SIDE:
        raise ImageError("too_large", f"{width} x {height}: a side of at most {MAX_SIDE} px can be kept (WebP's limit)")
    box = bounding_box(alpha)
    if box is None:
        raise ImageError("empty_matte", f"no pixel has an alpha above 127; the highest is {int(alpha.max())}")
    x, y, w, h = box
    return Instance(record.replace(width=width, height=height, box_x=x, box_y=y, box_width=w, box_height=h), rgb, alpha)


def _caption(data: bytes) -> str | None:
    return data.decode("utf-8-sig", "replace").strip() or None


@lru_cache(maxsize=4)
def _judged(data: bytes, name: str, size: tuple[int, int], ingest: Ingest) -> tuple[Masks, list[Verdict | None]]:
    """The masks of a frame and their verdicts; neighbouring inputs are masks of one frame, so a few are remembered."""
    from lora_data.sam2 import judge, read_masks

    masks = read_masks(data, name, size)
    verdicts = judge(
        masks,
        background_border=ingest.background_border,
        part_overlap=ingest.part_overlap,
        same_overlap=ingest.same_overlap,
    )
    return masks, verdicts
