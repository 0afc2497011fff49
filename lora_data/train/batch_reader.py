"""Batches by their place in an epoch, for trainers that ask for them in an order of their own."""

from __future__ import annotations

import logging
import os
from collections import Counter
from typing import TYPE_CHECKING

from lora_data.augment import Batch
from lora_data.errors import ShardError
from lora_data.train.dataset import ShardDataset
from lora_data.train.loader import Assembler, make_plan
from lora_data.train.plan import PlannedBatch

if TYPE_CHECKING:
    from lora_data.config import Config

_log = logging.getLogger(__name__)


class BatchReader:
    """Reads planned batches, one at a time; the samples of one are decoded by threads.

    Args:
        dataset: The samples.
        config: As for `make_plan` and `Assembler`.

    Raises:
        ConfigError: A character is configured that the shards do not have, or a number is out of range.
    """

    def __init__(self, dataset: ShardDataset, config: Config) -> None:
        self.plan = make_plan(dataset, config)
        self.assembler = Assembler(dataset, config, num_threads=min(4, os.cpu_count() or 1))
        self.skipped: Counter[str] = Counter()
        """How often each sample's error left it out (``on_error = "skip"``), in this process."""
        self._shards = config.data.shards
        self._drawn: tuple[int, list[PlannedBatch]] | None = None

    def read(self, epoch: int, number: int, *, draw_round: int | None = None) -> Batch:
        """The batch at a place, or the next one where none of its samples can be read: the trainer counts on it.

        Args:
            epoch: Whose plan.
            number: Place in it.
            draw_round: As for `Assembler`.

        Raises:
            ShardError: A sample cannot be read and ``on_error`` is "raise", or no sample of the epoch can be read.
        """
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, self.plan.batches(epoch)
        planned = self._drawn[1]
        for step in range(len(planned)):
            batch, wrong = self.assembler(planned[(number + step) % len(planned)], draw_round=draw_round)
            for message in wrong:
                self.skipped[message] += 1
                _log.warning("left out: %s", message)
            if batch is not None:
                return batch
        raise ShardError(f"no sample of {self._shards} can be read: {'; '.join([*self.skipped][:3])}")
