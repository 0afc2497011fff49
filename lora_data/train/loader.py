"""The loader: planned batches of decoded cut-outs, by threads that share one process (the default) or by workers.

A batch of raw pictures costs more to send between processes than to decode, so threads are the faster way: the decoder
releases the interpreter, and each batch is assembled into one pinned buffer. Whatever is used, order, pixels, captions
and draws are the same, and a loader that is stopped after any batch goes on with the next.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from lora_data.augment import Batch, measure_mattes
from lora_data.errors import ConfigError, ShardError
from lora_data.shards import SampleEntry
from lora_data.threads import side_by_side
from lora_data.train.captions import draw_caption
from lora_data.train.dataset import ShardDataset
from lora_data.train.plan import Plan, PlannedBatch, PlanSample
from lora_data.train.settings import CharacterSettings

if TYPE_CHECKING:
    from lora_data.config import Config

Made = tuple[Batch | None, tuple[str, ...]]
"""A batch (None where none of its samples could be read) and what was wrong with those that are left out."""


def make_loader(
    config: Config, *, num_workers: int | None = None, processes: bool = False, rank: int = 0, world: int = 1
) -> Loader:
    """A loader of the configuration's shards.

    Args:
        config: Shards, resolution, batches, captions, characters, seed.
        num_workers: Threads (or worker processes); 0: none, everything in the caller; None: up to 4.
        processes: Worker processes instead of threads.
        rank: Which of ``world`` training processes this is.
        world: How many there are.

    Raises:
        ShardError: The shards or their index are missing or do not match.
        ConfigError: A character is configured that the shards do not have, or a number is out of range.
    """
    if num_workers is None:
        num_workers = min(4, os.cpu_count() or 1)
    if num_workers < 0:
        raise ConfigError(f"num_workers must be at least 0, got {num_workers}")
    dataset = ShardDataset(config.data.shards, cache_gb=config.data.cache_gb)
    plan = make_plan(dataset, config, rank=rank, world=world)
    return Loader(Assembler(dataset, config), plan, num_workers=num_workers, processes=processes)


def make_plan(dataset: ShardDataset, config: Config, *, rank: int = 0, world: int = 1) -> Plan:
    """The plan of a configuration's epochs.

    Args:
        dataset: The samples.
        config: Resolution, batches, characters, seed.
        rank: Which of ``world`` training processes this is.
        world: How many there are.

    Raises:
        ConfigError: A character is configured that the shards do not have, or a number is out of range.
    """
    data, counts = config.data, dataset.index.counts()
    for name in config.characters:
        if name not in counts:
            raise ConfigError(
                f"[characters.{name}] names a character that is not in {data.shards}; it has: {', '.join(counts)}"
            )
    return Plan(
        [PlanSample(s.key, s.character, s.width, s.height) for s in dataset.samples],
        batch_size=data.batch_size,
        resolution=data.resolution,
        bucket_step=data.bucket_step,
        seed=data.seed,
        repeats={name: settings.repeats for name, settings in config.characters.items()},
        max_upscale=data.max_upscale,
        enable_bucket=data.enable_bucket,
        short=data.short_batches,
        rank=rank,
        world=world,
    )


class Assembler:
    """Makes a batch from what is planned; a pure function of the shards and the configuration.

    Args:
        dataset: The samples.
        config: Captions, characters, seed, ``on_error``, and whether a policy counts the matte's area.
        num_threads: Threads that decode the samples of one batch, for a loader that asks for one batch after the
            other; not used within worker processes.
    """

    def __init__(self, dataset: ShardDataset, config: Config, *, num_threads: int = 0) -> None:
        self.dataset = dataset
        self._threads = num_threads
        self._data, self._characters = config.data, config.characters
        self._plain = dataclasses.replace(
            config.data.captions, shuffle=False, tag_dropout=0.0, dropout=0.0, wildcard=False
        )
        policies = [config.augment, *(settings.augment for settings in config.characters.values())]
        self._coverage = any(policy.ratio_of == "matte" for policy in policies)

    def __call__(self, planned: PlannedBatch, *, draw_round: int | None = None) -> Made:
        """Read, decode and place the samples.

        Args:
            planned: What the batch holds.
            draw_round: The augmentation is that of another round; captions stay those of the planned one.

        Raises:
            ShardError: A sample cannot be read and ``on_error`` is "raise".
        """
        pictures: list[Any] = []
        texts: list[str] = []
        places: list[int] = []
        variants: list[int] = []
        wrong: list[str] = []
        for place, variant, read in zip(planned.samples, planned.variants, self._read(planned), strict=True):
            if isinstance(read, ShardError):
                if self._data.on_error == "raise":
                    raise read
                wrong.append(str(read))
                continue
            pictures.append(read)
            texts.append(self._caption(place, variant, planned.round))
            places.append(place)
            variants.append(variant)
        if not pictures:
            return None, tuple(wrong)
        height, width = (max(p.shape[axis] for p in pictures) for axis in (0, 1))
        pinned = get_worker_info() is None and torch.cuda.is_available()  # a worker process has no CUDA context
        canvas = torch.empty(len(pictures), height, width, 4, dtype=torch.uint8, pin_memory=pinned)
        for row, picture in zip(canvas.numpy(), pictures, strict=True):
            row[: picture.shape[0], : picture.shape[1]] = picture
            row[picture.shape[0] :] = 0
            row[: picture.shape[0], picture.shape[1] :] = 0
        images = canvas.permute(0, 3, 1, 2)
        sizes = torch.tensor([p.shape[:2] for p in pictures])
        entries = [self.dataset.samples[place] for place in places]
        batch = Batch(
            images=images,
            sample_keys=[entry.key for entry in entries],
            characters=[entry.character for entry in entries],
            epoch=planned.round if draw_round is None else draw_round,
            variants=variants,
            target=planned.target,
            sizes=sizes,
            faces=_faces(entries),
            mattes=measure_mattes(images[:, 3], coverage=self._coverage),
            captions=texts,
        )
        return batch, tuple(wrong)

    def _read(self, planned: PlannedBatch) -> list[np.ndarray | ShardError]:
        return side_by_side(self._picture, planned.samples, 1 if get_worker_info() is not None else self._threads)

    def _picture(self, place: int) -> np.ndarray | ShardError:
        try:
            self.dataset.caption(place)  # what is wrong with it shows here too
            return self.dataset.image(place)
        except ShardError as error:
            return error

    def all_captions(self, purpose: str) -> list[str]:
        """Every caption there can be, sorted; the empty one too where captions are dropped.

        Args:
            purpose: What needs them to be finitely many, for the error.

        Raises:
            ConfigError: They are shuffled, thinned or chosen from, so that there is no such list.
        """
        for key in ("shuffle", "tag_dropout", "wildcard"):
            if getattr(self._data.captions, key):
                raise ConfigError(
                    f"{purpose} needs captions that stay the same: leave out data.captions.{key}, which is "
                    f"{getattr(self._data.captions, key)!r}"
                )
        found = {self.plain_caption(place) for place in range(len(self.dataset))}
        return sorted(found | {""} if self._data.captions.dropout > 0 else found)

    def plain_caption(self, place: int) -> str:
        """A sample's caption with nothing shuffled, dropped or chosen."""
        return self._caption(place, 0, 0, plain=True)

    def _caption(self, place: int, variant: int, epoch: int, *, plain: bool = False) -> str:
        entry = self.dataset.samples[place]
        settings = self._characters.get(entry.character, CharacterSettings())
        return draw_caption(
            self.dataset.caption(place) or settings.caption,
            settings.token_of(entry.character),
            self._plain if plain else self._data.captions,
            seed=self._data.seed,
            epoch=epoch,
            key=entry.key,
            variant=variant,
        )


def _faces(entries: Sequence[SampleEntry]) -> torch.Tensor | None:
    """The samples' faces ``[B, 4]``, NaN where none is known; None where none of them has any."""
    if all(entry.face is None for entry in entries):
        return None
    return torch.tensor([entry.face or (torch.nan,) * 4 for entry in entries])


class Loader:
    """Batches of one epoch after the other; each ``for`` over it is an epoch, or the rest of one after a resume.

    Args:
        assembler: Makes the batches.
        plan: Says which.
        num_workers: Threads or processes; 0: none.
        processes: Worker processes of a ``torch.utils.data.DataLoader`` instead of threads.
    """

    def __init__(self, assembler: Assembler, plan: Plan, *, num_workers: int, processes: bool) -> None:
        self.plan = plan
        self.skipped: Counter[str] = Counter()
        """How often each sample's error left it out (``on_error = "skip"``)."""
        self._assembler, self._workers, self._processes = assembler, num_workers, processes

    @property
    def dataset(self) -> ShardDataset:
        """The samples."""
        return self._assembler.dataset

    def __len__(self) -> int:
        """Batches in an epoch, those that are done included."""
        return self.plan.share

    def __iter__(self) -> Iterator[Batch]:
        """The current epoch's batches that are still to come; then the plan is at the next epoch's start."""
        rest, epoch = self.plan.rest(), self.plan.epoch
        if not rest:  # the state of an epoch whose last batch was done
            self.plan.set_epoch(epoch + 1)
            rest, epoch = self.plan.rest(), epoch + 1
        source = self._by_processes if self._processes and self._workers else self._by_threads
        for batch, wrong in source(rest):
            self.skipped.update(wrong)
            self.plan.advance()
            if batch is not None:
                yield batch
        if self.plan.epoch == epoch:
            self.plan.set_epoch(epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self.plan.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: after the last batch that was handed out."""
        return self.plan.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after a state's last batch.

        Raises:
            BatchError: The state is of other samples or settings.
        """
        self.plan.load_state_dict(state)

    def _by_threads(self, planned: list[PlannedBatch]) -> Iterator[Made]:
        if not self._workers:
            for one in planned:
                yield self._assembler(one)
            return
        waiting: deque[Future[Made]] = deque()
        coming = iter(planned)
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="lora_data")
        try:
            for one in coming:
                waiting.append(pool.submit(self._assembler, one))
                if len(waiting) > self._workers:  # one more than can be worked on: bounded memory
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _by_processes(self, planned: list[PlannedBatch]) -> Iterator[Made]:
        dataset = _Planned(self._assembler, planned)
        # Without a collate function of ours torch would make a plain dictionary of a batch.
        collate: Any = _as_it_is
        yield from DataLoader(dataset, batch_size=None, num_workers=self._workers, collate_fn=collate)


def _as_it_is(made: Made) -> Made:
    """What a worker made, unchanged."""
    return made


class _Planned(Dataset[Made]):
    """Planned batches as a map-style dataset, for worker processes."""

    def __init__(self, assembler: Assembler, planned: list[PlannedBatch]) -> None:
        self._assembler, self._planned = assembler, planned

    def __len__(self) -> int:
        return len(self._planned)

    def __getitem__(self, place: int) -> Made:
        return self._assembler(self._planned[place])
