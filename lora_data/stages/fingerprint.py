"""Fingerprint: what deduplication needs of the pixels, in the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lora_data.sample import Instance
from lora_data.stage import MapStage


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint(MapStage):
    """Write ``phash``, ``phash_mirror``, ``thumb_luma`` and ``thumb_matte`` (see `lora_data.fingerprint`)."""

    name: ClassVar[str] = "fingerprint"
    version: ClassVar[int] = 4

    def apply(self, instance: Instance) -> Instance:
        """Return the instance with its fingerprints; the pixels stay."""
        from lora_data.fingerprint import bounded, pack_luma, pack_matte, perceptual_hashes, thumbnail

        small = bounded(instance.rgb, instance.alpha)
        phash, phash_mirror = perceptual_hashes(*small)
        luma, matte = thumbnail(*small)
        return instance.replace(
            phash=phash,
            phash_mirror=phash_mirror,
            thumb_luma=pack_luma(luma),
            thumb_matte=pack_matte(matte),
        )
