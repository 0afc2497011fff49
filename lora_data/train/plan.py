"""The plan: which samples an epoch has, how often, in which bucket and batch; a pure function of (seed, epoch).

No image is left over: a bucket's last batch is short or filled, never dropped. The plan knows neither files nor
workers, so it can be stopped after any batch and goes on the same.

Every epoch has the same number of batches, because trainers reckon their schedule from the first. Where repeats are
fractional, a *round* (every image as often as it is repeated) has now a batch more, now one less; then the rounds lie
end to end and an epoch is the next so many batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lora_data.errors import BatchError, ConfigError
from lora_data.rng import PLAN, random_words, sample_ids

AUTO_FROM, AUTO_AIM, AUTO_MOST = 400, 500, 3.0
"""``repeats = "auto"``: below 400 images of a character, so many repeats that an epoch has 500 of it (the middle of the
strategy's 400 to 600 with augmentation), at most 3 an image (its 2-3 variants)."""
MAX_ASPECT = 4.0
"""Longest side of a bucket over its shortest; what is longer is cropped to it."""


@dataclass(frozen=True, slots=True)
class PlanSample:
    """What the plan knows of an image: its key, whose it is, and its size in px."""

    key: str
    character: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """One batch of one bucket.

    Args:
        samples: Places in the list of samples.
        variants: Which repeat of its image each is, within the epoch.
        target: (height, width) of the bucket, px.
        round: Decides, with the seed, key and variant, every draw; the epoch, unless repeats are fractional.
    """

    samples: tuple[int, ...]
    variants: tuple[int, ...]
    target: tuple[int, int]
    round: int


class Plan:
    """The batches of every epoch.

    Args:
        samples: In any order; the plan depends on their keys, not on their places.
        batch_size: Samples per batch.
        resolution: Side of the square whose area every bucket has, px.
        bucket_step: Bucket sides are multiples of this, px.
        seed: Decides, with the epoch, everything.
        repeats: By character: how often each image comes in an epoch, "auto" or a number above 0 whose fraction is the
            share of the images that come once more, others in each epoch; "auto" for who is not named.
        max_upscale: An image enlarged beyond this goes to a smaller bucket of its aspect ratio.
        enable_bucket: Whether there are buckets; else every image is cropped to the square of ``resolution``.
        short: A bucket's last batch is kept short ("keep") or filled with further variants from the bucket ("fill").
        rank: Which of ``world`` processes this is.
        world: How many share the epoch; each gets the same number of batches, the first ones again where they do not
            divide.

    Raises:
        ConfigError: A number is out of range, there is no sample, or a key comes twice.
    """

    def __init__(
        self,
        samples: Sequence[PlanSample],
        *,
        batch_size: int,
        resolution: int,
        bucket_step: int = 64,
        seed: int = 0,
        repeats: Mapping[str, float | Literal["auto"]] | None = None,
        max_upscale: float = 2.0,
        enable_bucket: bool = True,
        short: Literal["keep", "fill"] = "keep",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not samples:
            raise ConfigError("a plan needs at least one sample")
        if batch_size < 1 or not 0 <= rank < world or max_upscale < 1:
            raise ConfigError(
                "batch_size must be at least 1, rank within world, max_upscale at least 1; "
                f"got {batch_size}, {rank} of {world}, {max_upscale}"
            )
        keys = [s.key for s in samples]
        if len(set(keys)) != len(keys):
            twice = next(k for k in keys if keys.count(k) > 1)
            raise ConfigError(f"sample {twice} comes twice: keys must be unique")
        self.batch_size, self.seed, self.short, self.rank, self.world = batch_size, seed, short, rank, world
        self.epoch, self.position = 0, 0
        self._ids = sample_ids(keys)
        self._repeats = _repeats_of(samples, repeats or {})
        if enable_bucket:
            targets = targets_of([(s.height, s.width) for s in samples], resolution, bucket_step, max_upscale)
        else:
            targets = [(resolution, resolution)] * len(samples)
        self.targets = targets
        """(height, width) of each sample's bucket, px."""
        self._buckets = sorted(set(targets))
        number = {target: i for i, target in enumerate(self._buckets)}
        self._bucket = np.array([number[t] for t in targets])
        self._ends: list[int] = []
        self.length = self._end(0)
        """Batches in an epoch, those of all ranks."""
        settings = f"{batch_size} {resolution} {bucket_step} {seed} {max_upscale} {short} {world}"
        described = sorted(f"{s.key} {t} {r}" for s, t, r in zip(samples, targets, self._repeats.tolist(), strict=True))
        self.digest = hashlib.sha256("\n".join([settings, *described]).encode("utf-8", "surrogatepass")).hexdigest()

    def batches(self, epoch: int) -> list[PlannedBatch]:
        """This rank's batches of an epoch, in order."""
        found = self._whole(epoch)
        whole = [found[i % len(found)] for i in range(self.share * self.world)]
        return whole[self.rank :: self.world]

    @property
    def share(self) -> int:
        """Batches in an epoch for each rank."""
        return -(-self.length // self.world)

    def bucket_counts(self) -> dict[tuple[int, int], int]:
        """Samples in an average epoch by (height, width) of their bucket, repeats included and rounded."""
        sums = np.bincount(self._bucket, weights=self._repeats, minlength=len(self._buckets))
        return {bucket: round(float(n)) for bucket, n in zip(self._buckets, sums, strict=True)}

    def repeats_of(self, place: int) -> float:
        """How often the image at a place comes in an epoch, on average."""
        return float(self._repeats[place])

    def _whole(self, epoch: int) -> list[PlannedBatch]:
        """All ranks' batches of an epoch."""
        if not (self._repeats % 1).any():
            return self._round(epoch)
        first, last = epoch * self.length, (epoch + 1) * self.length
        number = 0
        while self._end(number) <= first:
            number += 1
        start = self._end(number - 1) if number else 0
        found = self._round(number)
        while start + len(found) < last:
            number += 1
            found += self._round(number)
        return found[first - start : last - start]

    def _end(self, number: int) -> int:
        """Batches in all rounds up to one."""
        while len(self._ends) <= number:
            places, _ = self._drawn(len(self._ends))
            counts = np.bincount(self._bucket[places])
            before = self._ends[-1] if self._ends else 0
            self._ends.append(before + int((-(-counts // self.batch_size)).sum()))
        return self._ends[number]

    def _round(self, epoch: int) -> list[PlannedBatch]:
        """All ranks' batches of a round, in order."""
        places, variants = self._drawn(epoch)
        order_words = self._words(epoch, places, variants)[:, 1]
        # Within a bucket by the drawn word; the id settles the rare tie, so that the list's order never matters.
        order = np.lexsort((variants, self._ids[places], order_words, self._bucket[places]))
        places, variants = places[order], variants[order]
        bounds = np.flatnonzero(np.diff(self._bucket[places], prepend=-1, append=-1))
        found: list[PlannedBatch] = []
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            target = self._buckets[self._bucket[places[start]]]
            members, repeats = places[start:end], variants[start:end]
            if self.short == "fill":
                members, repeats = self._filled(members, repeats)
            for low in range(0, len(members), self.batch_size):
                part = slice(low, low + self.batch_size)
                found.append(PlannedBatch(tuple(members[part].tolist()), tuple(repeats[part].tolist()), target, epoch))
        first = np.array([b.samples[0] for b in found])
        words = self._words(epoch, first, np.array([b.variants[0] for b in found]))[:, 2]
        order = np.lexsort((self._ids[first], words))
        return [found[i] for i in order.tolist()]

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self.epoch, self.position = epoch, 0

    def rest(self) -> list[PlannedBatch]:
        """The current epoch's batches that are still to come."""
        return self.batches(self.epoch)[self.position :]

    def advance(self) -> None:
        """One more batch of the current epoch is done."""
        self.position += 1

    def state_dict(self) -> dict[str, Any]:
        """Where the plan is: epoch, batches done, and what it is a plan of."""
        return {"epoch": self.epoch, "position": self.position, "digest": self.digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go where a plan of the same samples and settings was.

        Raises:
            BatchError: The state is of other samples or settings.
        """
        if state["digest"] != self.digest:
            raise BatchError(
                "this state is of other samples or settings (keys, sizes, repeats, batches, resolution, seed, ranks): "
                f"it has {state['digest'][:12]}, this plan {self.digest[:12]}"
            )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    def _words(self, epoch: int, places: np.ndarray, variants: np.ndarray) -> np.ndarray:
        """Three random words for each sample: for its repeats, its place in the bucket, its batch's place."""
        return random_words(self.seed, epoch, self._ids[places], variants, 3, stream=PLAN).astype(np.int64)

    def _drawn(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Places and variants of a round's samples: each image as often as it is repeated."""
        whole = np.floor(self._repeats).astype(np.int64)
        share = self._repeats - whole
        count = whole.copy()
        everyone = np.arange(len(self._ids))
        words = self._words(epoch, everyone, np.zeros(len(everyone), np.int64))[:, 0]
        for value in np.unique(share[share > 0]):
            group = np.flatnonzero(share == value)
            ranked = group[np.lexsort((self._ids[group], words[group]))]
            count[ranked[: max(1, round(float(value) * len(group)))]] += 1
        places = np.repeat(np.arange(len(count)), count)
        starts = np.repeat(np.cumsum(count) - count, count)
        return places, np.arange(len(places)) - starts

    def _filled(self, members: np.ndarray, variants: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fill the last batch with further variants of the bucket's first samples."""
        missing = -len(members) % self.batch_size
        extra = np.resize(members, missing)
        next_variant = {int(m): int(variants[members == m].max()) for m in set(extra.tolist())}
        more: list[int] = []
        for member in extra.tolist():
            next_variant[member] += 1
            more.append(next_variant[member])
        return np.concatenate([members, extra]), np.concatenate([variants, np.array(more, variants.dtype)])


def auto_repeats(images: int) -> float:
    """Repeats that bring a character of so many images to about 500 samples an epoch, at most 3 an image."""
    return 1.0 if images >= AUTO_FROM else min(AUTO_MOST, AUTO_AIM / images)


def _repeats_of(samples: Sequence[PlanSample], wanted: Mapping[str, float | Literal["auto"]]) -> np.ndarray:
    names, inverse, counts = np.unique([s.character for s in samples], return_inverse=True, return_counts=True)
    for name in wanted:
        if name not in set(names.tolist()):
            raise ConfigError(f"repeats for {name}, which is not in the data; it has: {', '.join(names.tolist())}")
    for name, value in wanted.items():
        if value != "auto" and not 0 < value <= 1000:
            raise ConfigError(f'repeats for {name} must be in (0, 1000] or "auto", got {value}')
    values = [
        auto_repeats(int(count)) if wanted.get(str(name), "auto") == "auto" else float(wanted[str(name)])
        for name, count in zip(names, counts, strict=True)
    ]
    return np.array(values)[inverse.reshape(-1)]


def buckets(resolution: int, step: int) -> list[tuple[int, int]]:
    """All (height, width) of multiples of ``step`` whose area is as near below ``resolution`` squared as they come."""
    found = {
        (resolution * resolution // width // step * step, width)
        for width in range(step, resolution * int(MAX_ASPECT) + 1, step)
    }
    found |= {(width, height) for height, width in found}
    return sorted((h, w) for h, w in found if h >= step and max(h, w) <= MAX_ASPECT * min(h, w))


def targets_of(sizes: Sequence[tuple[int, int]], resolution: int, step: int, most: float) -> list[tuple[int, int]]:
    """Each picture's bucket: nearest aspect ratio by logarithm, enlarged ``most`` times at most."""
    size = np.array(sizes, np.float64)
    side = np.minimum(resolution, most * np.sqrt(size[:, 0] * size[:, 1]))
    level = np.maximum(side // step * step, step).astype(np.int64)
    ratio = np.log(size[:, 0] / size[:, 1])
    result: list[tuple[int, int]] = [(0, 0)] * len(sizes)
    for value in np.unique(level).tolist():
        options = buckets(value, step)
        ratios = np.log([h / w for h, w in options])
        group = np.flatnonzero(level == value)
        # The larger of two equally near: less is cropped away.
        nearest = np.abs(ratio[group, None] - ratios[None]).argmin(axis=1)
        for place, option in zip(group.tolist(), nearest.tolist(), strict=True):
            result[place] = options[option]
    return result
