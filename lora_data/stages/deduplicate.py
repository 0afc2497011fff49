"""Deduplicate: of every group of near-identical pictures the best one stays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lora_data.manifest import Record
from lora_data.stage import CorpusStage


@dataclass(frozen=True, slots=True, kw_only=True)
class Deduplicate(CorpusStage):
    """Mark near-duplicates of active records: ``duplicate_of`` names the one that is kept; and report mirror images.

    pHash proposes a pair, SSIM on the common matte confirms it. The best record (`quality_of`) takes every confirmed
    copy of its own, then the best of what is left, and so on (`lora_data.hash_index.leaders`). So a group is a star: a
    copy is within both limits of the one that is kept, and any two copies within two steps of each other (twice the
    Hamming distance), however long a chain runs on: a slow pan does not collapse into one frame. A kept record is never
    a duplicate of a kept one. Exact: no pair within the distance is missed, and no order changes the result.

    A mirror image is no duplicate, for the design of a character is not symmetric, and stays. But ``mirror_of`` of the
    worse one names the better one, so that a person can see that a film (or somebody's augmentation) has it both ways
    round. Both are confirmed as duplicates are, with one of them mirrored. Copies that left are not reported again, and
    neither is a picture that is its own mirror image.

    Runs after the filter, so that the kept one is never one that was rejected. Those that a person restored come
    before all others and are nobody's copies.

    Args:
        phash_threshold: Largest Hamming distance of two 64-bit hashes. Source: strategy 4.2.
        ssim_threshold: Lowest SSIM on the common matte. Source: strategy 4.2. Measured on rendered shots: 39 of 39
            near-duplicates at .991 and more; of pairs from different shots none above .85.

    Raises:
        ValueError: A field is out of range.
    """

    name: ClassVar[str] = "deduplicate"
    version: ClassVar[int] = 3

    phash_threshold: int = 8
    ssim_threshold: float = 0.95

    def __post_init__(self) -> None:
        if not 0 <= self.phash_threshold <= 64:
            raise ValueError(f"phash_threshold must be in [0, 64], got {self.phash_threshold}")
        if not 0 < self.ssim_threshold <= 1:
            raise ValueError(f"ssim_threshold must be in (0, 1], got {self.ssim_threshold}")

    def apply(self, records: Sequence[Record]) -> list[Record]:
        """Write ``quality`` of every active record, mark its copies as duplicates, and name mirror images.

        Memory is that of the records and some 100 bytes for each. Time: see `lora_data.hash_index.leaders`, and an SSIM
        per pair of a kept record and one within the Hamming distance of it (see `lora_data.ssim`). Only many different
        pictures with about the same hash cost more than in proportion: a clump of ``n`` that SSIM tells apart is
        ``n^2 / 2`` such looks (2 000: some eight minutes), for none of them may be missed.
        """
        result = [r.replace(quality=quality_of(r)) if r.active else r for r in records]
        usable = [i for i, r in enumerate(result) if r.active and r.phash is not None]
        usable.sort(key=lambda i: (result[i].reviewed != "restore", -(result[i].quality or 0.0), result[i].key))
        ranked = [result[i] for i in usable]
        copies = self._copies(ranked)
        kept = [i for i in range(len(ranked)) if i not in copies]
        mirrors = self._mirrors([ranked[i] for i in kept])
        for i, (best, similarity) in copies.items():
            marked = ranked[i].decide("duplicate", self.name, "near_duplicate", similarity, self.ssim_threshold)
            result[usable[i]] = marked.replace(duplicate_of=ranked[best].key)
        for i, best in mirrors.items():
            result[usable[kept[i]]] = ranked[kept[i]].replace(mirror_of=ranked[kept[best]].key)
        return result

    def _copies(self, ranked: Sequence[Record]) -> dict[int, tuple[int, float]]:
        """Place of each duplicate: that of the one that is kept, and their SSIM."""
        from lora_data.hash_index import leaders
        from lora_data.ssim import common_ssim

        similarity: dict[int, float] = {}

        def confirm(best: int, near: np.ndarray) -> np.ndarray:
            kept = _thumbnail(ranked[best])
            found = [common_ssim(kept, _thumbnail(ranked[i]), threshold=self.ssim_threshold) for i in near.tolist()]
            alike = np.array(found) >= self.ssim_threshold
            alike &= np.array([ranked[i].reviewed != "restore" for i in near.tolist()], bool)
            similarity.update((i, found[n]) for n, i in enumerate(near.tolist()) if alike[n])
            return alike

        hashes = np.array([r.phash for r in ranked], np.uint64)
        leader = leaders(hashes, self.phash_threshold, confirm).tolist()
        return {i: (leader[i], similarity[i]) for i in sorted(similarity)}

    def _mirrors(self, kept: Sequence[Record]) -> dict[int, int]:
        """Place of each mirror image: that of the best one that it mirrors."""
        from lora_data.hash_index import HashIndex
        from lora_data.ssim import common_ssim

        index = HashIndex(np.array([r.phash for r in kept], np.uint64), self.phash_threshold)
        better = np.zeros(len(kept), bool)
        mirrors: dict[int, int] = {}
        for i, record in enumerate(kept):
            near = [] if record.phash_mirror is None else index.near(record.phash_mirror, better).tolist()
            better[i] = True
            if not near:
                continue
            luma, matte = plain = _thumbnail(record)
            mirrored = luma[:, ::-1], matte[:, ::-1]
            if common_ssim(plain, mirrored, threshold=self.ssim_threshold) >= self.ssim_threshold:
                continue
            for best in near:
                if common_ssim(_thumbnail(kept[best]), mirrored, threshold=self.ssim_threshold) >= self.ssim_threshold:
                    mirrors[i] = best
                    break
        return mirrors


def quality_of(record: Record) -> float:
    """One number by which near-equals are ordered; larger is better, unmeasured counts as worst.

    Sharpness first, then the area of the matte's box, each in steps of 10 % so that noise in the first does not
    silence the second; then how soft (not staircase) the matte's boundary is. Comparable between copies of one picture,
    not between different ones.
    """
    sharpness = _steps(record.sharpness)
    area = _steps(float(record.box_width * record.box_height) if record.box_width and record.box_height else None)
    return 1000.0 * sharpness + area + 0.99 * min(1.0, record.matte_soft or 0.0)


def _thumbnail(record: Record) -> tuple[np.ndarray, np.ndarray]:
    from lora_data.fingerprint import unpack_luma, unpack_matte

    if record.thumb_luma is None or record.thumb_matte is None:
        raise ValueError(f"{record.key}: a hash without a thumbnail; both are written by the fingerprint stage")
    return unpack_luma(record.thumb_luma), unpack_matte(record.thumb_matte)


def _steps(value: float | None) -> int:
    return round(math.log(value) / math.log(1.1)) if value and value > 0 else -100
