"""What stands in for a script's own dataset: planned batches of the shards, in the plan's order, with exact resume."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, Dataset

from lora_data import Batch, CharacterAugment, Config, ConfigError, ShardDataset, load_config
from lora_data.train.batch_reader import BatchReader
from lora_data.train.lazy_batch import Assembled, LazyBatch
from lora_data.train.masked_loss import weigh
from lora_data.train.settings import DataSettings
from lora_data_diffusers.families import Family, family_of
from lora_data_diffusers.masked import GradientMask


@dataclass(frozen=True)
class Place:
    """An item of the dataset: a planned batch, or (with no epoch) one caption for a pass that encodes them all."""

    number: int
    epoch: int | None = None


class Fields:
    """Makes, where the cut-outs are, what the scripts read.

    Args:
        augment: The augmentation.
        data: Whether and how the loss is masked.
    """

    def __init__(self, augment: CharacterAugment, data: DataSettings) -> None:
        self.augment, self.data = augment, data

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """The pictures and what follows from them.

        Returns:
            ``pixel_values`` float32 ``[B, 3, h, w]`` in [-1, 1]; ``original_sizes`` and ``crop_top_lefts``, one tuple
            of two ints each, as the SDXL script adds them up; ``loss_mask`` ``[B, 1, h, w]`` and ``loss_weights``
            ``[B]``, which no script reads and `GradientMask` does.
        """
        made = self.augment(batch)
        mask, weights = weigh(made.mask, self.data)
        return {
            "pixel_values": made.pixel_values,
            "original_sizes": [tuple(size) for size in made.original_sizes.tolist()],
            "crop_top_lefts": [tuple(corner) for corner in made.crop_top_lefts.tolist()],
            "loss_mask": mask,
            "loss_weights": weights,
        }


class CharacterDataset(Dataset[Any]):
    """In place of a script's ``DreamBoothDataset``; its attributes are those that the scripts read.

    Args:
        config: The configuration, or its path.
        script: File name of the script, without suffix; says what it can do.
        tokenizer: Of transformers, for the script that reads tokens.
        max_tokens: To which captions are cut and padded; the tokenizer's own limit where None.

    Raises:
        ConfigError: The script is unknown or the configuration wrong, or the script cannot do what it asks for.
        ShardError: The shards are missing or do not match their index.
    """

    custom_instance_prompts = True
    """The scripts ask it for a truth value: each picture has its own caption."""

    def __init__(
        self, config: Config | str | Path, script: str, *, tokenizer: Any = None, max_tokens: int | None = None
    ) -> None:
        self.family: Family = family_of(script)
        config = config if isinstance(config, Config) else load_config(config)
        if not self.family.buckets:
            config = dataclasses.replace(config, data=dataclasses.replace(config.data, enable_bucket=False))
        self.config = config
        self.shards = ShardDataset(config.data.shards, cache_gb=config.data.cache_gb)
        self._reader = BatchReader(self.shards, config)
        self.plan, self.skipped = self._reader.plan, self._reader.skipped
        self._fields = Fields(CharacterAugment(config, counts=self.shards.index.counts()), config.data)
        if self.family.tokens and tokenizer is None:
            raise ConfigError(f"{script}.py reads tokens: CharacterDataset needs its tokenizer")
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        self.captions: list[str] = []
        """All captions, where the script encodes each once; a batch's ``indices`` are places in it."""
        if self.family.prompts != "each step":
            self.captions = self._reader.assembler.all_captions(
                f"{script}.py, which encodes captions before it trains,"
            )
        if self.family.prompts == "frozen" and config.data.captions.dropout > 0:
            raise ConfigError(
                f"{script}.py encodes the first epoch's captions for all epochs: leave out data.captions.dropout, "
                "which would drop the same ones for ever"
            )
        self._numbers = {caption: number for number, caption in enumerate(self.captions)}

    @property
    def num_instance_images(self) -> int:
        """How many prompts a script's cache has to hold."""
        return len(self.captions)

    def __len__(self) -> int:
        """Samples in an epoch, so many that a script reckons the right number of batches from them."""
        return max((self.plan.length - 1) * self.plan.batch_size + 1, sum(self.plan.bucket_counts().values()))

    def __getitem__(self, place: Place) -> Any:
        """A batch that is read and augmented when it is used, or one caption."""
        if place.epoch is None:
            return {"index": place.number, "instance_prompt": self.captions[place.number]}
        return LazyBatch(partial(self._assemble, place.number, place.epoch), self._fields)

    def collate(self, items: Sequence[Any]) -> Any:
        """A batch as it is; captions as the scripts' passes over them want them."""
        if isinstance(items[0], LazyBatch):
            return items[0]
        prompts = [item["instance_prompt"] for item in items]
        return {"indices": [item["index"] for item in items], "instance_prompts": prompts, "prompts": prompts}

    def sampler(self) -> BatchPlaces:
        """The rest of the current epoch, for ``DataLoader(batch_sampler=...)``."""
        return BatchPlaces(self)

    def loader(self, accelerator: Any, num_workers: int = 0) -> CharacterLoader:
        """A loader that is already prepared: an accelerator's ``prepare`` leaves it alone.

        Its place is saved and restored with the accelerator's state.

        Raises:
            ConfigError: The script cannot do this with several processes.
        """
        if self.family.prompts == "frozen" and accelerator.num_processes > 1:
            raise ConfigError(f"{self.family.script}.py looks captions up by place: it goes with one process only")
        inner: Any = DataLoader(self, batch_sampler=self.sampler(), collate_fn=self.collate, num_workers=num_workers)
        return CharacterLoader(self, accelerator, accelerator.prepare_data_loader(inner))

    def _assemble(self, number: int, epoch: int) -> Assembled:
        frozen = self.family.prompts == "frozen"
        # Of a frozen script every epoch has the first one's samples, order and captions; only the draws are new.
        batch = self._reader.read(0 if frozen else epoch, number, draw_round=epoch if frozen else None)
        prompts = list(batch.captions or ())
        ready: dict[str, Any] = {"prompts": prompts, "instance_prompts": [*prompts], "keys": list(batch.sample_keys)}
        if self.captions:
            ready["indices"] = [self._numbers[prompt] for prompt in prompts]
        if self.family.tokens:
            length = self._max_tokens or self._tokenizer.model_max_length
            tokens = self._tokenizer(
                prompts, truncation=True, padding="max_length", max_length=length, return_tensors="pt"
            )
            ready.update(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        return batch, ready


class BatchPlaces(BatchSampler):
    """The places of an epoch's batches that are still to come, one at a time.

    Args:
        dataset: Whose plan says which.
    """

    def __init__(self, dataset: CharacterDataset) -> None:
        self.dataset = dataset
        self.batch_size, self.drop_last = 1, False  # accelerate shares whole batches out among processes

    def __iter__(self) -> Iterator[list[Any]]:
        plan = self.dataset.plan
        return iter([[Place(number, plan.epoch)] for number in range(plan.position, plan.length)])

    def __len__(self) -> int:
        return self.dataset.plan.length


class CaptionPlaces(BatchSampler):
    """All captions once, for a script's pass that encodes them.

    Args:
        dataset: Whose captions.
        batch_size: How many at a time.
    """

    def __init__(self, dataset: CharacterDataset, batch_size: int) -> None:
        self.dataset, self.batch_size, self.drop_last = dataset, batch_size, False

    def __iter__(self) -> Iterator[list[Any]]:
        places = [Place(number) for number in range(len(self.dataset.captions))]
        return (places[low : low + self.batch_size] for low in range(0, len(places), self.batch_size))

    def __len__(self) -> int:
        return math.ceil(len(self.dataset.captions) / self.batch_size)


class CharacterLoader:
    """Batches on the device, epoch after epoch; knows how many were trained on.

    Args:
        dataset: The batches.
        accelerator: Saves and restores the place.
        prepared: The loader that accelerate made.
    """

    def __init__(self, dataset: CharacterDataset, accelerator: Any, prepared: Any) -> None:
        self.dataset, self._prepared, self._processes = dataset, prepared, accelerator.num_processes
        self.gradients = GradientMask()
        accelerator.register_for_checkpointing(dataset.plan)

    def __len__(self) -> int:
        return len(self._prepared)

    def __iter__(self) -> Iterator[Any]:
        plan, frozen = self.dataset.plan, self.dataset.family.prompts == "frozen"
        if plan.position >= plan.length:  # the state of an epoch whose last batch was done
            plan.set_epoch(plan.epoch + 1)
        elif frozen:  # such a script counts an epoch's steps from 0
            plan.set_epoch(plan.epoch)
        epoch = plan.epoch
        for batch in self._prepared:
            for _ in range(self._processes):
                plan.advance()
            self.gradients.use(batch["loss_mask"], batch["loss_weights"])
            yield batch
        plan.set_epoch(epoch + 1)
