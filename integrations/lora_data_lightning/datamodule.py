"""CharacterDataModule: planned batches of the shards, augmented on the device after Lightning has moved them there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from lora_data import Batch, CharacterAugment, Config, load_config, make_loader
from lora_data.errors import MissingExtraError
from lora_data.train.loader import Loader
from lora_data.train.masked_loss import weigh

try:
    from lightning import LightningDataModule
except ImportError:
    raise MissingExtraError("lightning", "lightning", "CharacterDataModule") from None


class CharacterDataModule(LightningDataModule):
    """The training data of one configuration.

    A training step is given a plain dictionary on its device: ``pixel_values`` ``[B, 3, h, w]`` in [-1, 1], ``mask``
    ``[B, 1, h, w]`` (the matte), ``loss_mask`` and ``loss_weights`` (`lora_data.train.masked_loss`), ``captions``,
    ``sample_keys``, ``characters``, and SDXL's ``original_sizes``, ``crop_top_lefts`` and ``target_sizes``.

    A checkpoint holds the place in the epoch: a run that was stopped after any batch goes on with the next. Under DDP
    the ranks share the plan's batches; no sampler is put in between.

    Args:
        config: The configuration, or its path.
        num_workers: Threads (or worker processes) that read and decode; None: up to 4.
        processes: Worker processes instead of threads.
        dtype: Of the pixels. Whatever the trainer's precision is, colours are computed in float32.

    Raises:
        ConfigError: The configuration is wrong.
    """

    def __init__(
        self,
        config: Config | str | Path,
        *,
        num_workers: int | None = None,
        processes: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.config = config if isinstance(config, Config) else load_config(config)
        self._workers: dict[str, Any] = {"num_workers": num_workers, "processes": processes}
        self._dtype = dtype
        self._loader: Loader | None = None
        self._augment: CharacterAugment | None = None
        self._restored: Mapping[str, Any] | None = None

    @property
    def batch_size(self) -> int:
        """Samples per batch and rank."""
        return self.config.data.batch_size

    def setup(self, stage: str | None = None) -> None:
        """Open the shards and plan this rank's batches; without a trainer, all batches.

        Raises:
            ShardError: The shards are missing or do not match their index.
            ConfigError: A character is configured that the shards do not have.
        """
        if self._loader is not None:
            return
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        self._loader = make_loader(self.config, rank=rank, world=world, **self._workers)
        self._augment = CharacterAugment(self.config, counts=self._loader.dataset.index.counts(), dtype=self._dtype)
        if self._restored is not None:
            self._loader.load_state_dict(self._restored)

    def train_dataloader(self) -> CarryingLoader:
        """The batches of one epoch after the other, or the rest of one after a resume."""
        self.setup()
        assert self._loader is not None
        return CarryingLoader(self._loader)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment a batch of cut-outs where it is now; outside training, the whole pictures on their background.

        What is no batch of ours passes through.
        """
        if not isinstance(batch, Carried | Batch):
            return batch
        cutouts = batch.batch if isinstance(batch, Carried) else batch
        self.setup()
        assert self._augment is not None
        training = self.trainer is None or self.trainer.training
        made = self._augment(cutouts) if training else self._augment.still(cutouts)
        mask, weights = weigh(made.mask, self.config.data)
        device = made.pixel_values.device
        sizes = ("original_sizes", "crop_top_lefts", "target_sizes")
        return {
            "pixel_values": made.pixel_values,
            "mask": made.mask,
            "loss_mask": mask,
            "loss_weights": weights,
            **{name: getattr(made, name).to(device, non_blocking=True) for name in sizes},
            "captions": made.captions,
            "sample_keys": made.sample_keys,
            "characters": made.characters,
        }

    def state_dict(self) -> dict[str, Any]:
        """The place after the last batch that was handed out, for a checkpoint."""
        return {} if self._loader is None else {"loader": self._loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after a checkpoint's last batch.

        Raises:
            BatchError: The state is of other samples or settings.
        """
        self._restored = state_dict.get("loader")
        if self._loader is not None and self._restored is not None:
            self._loader.load_state_dict(self._restored)


class Carried:
    """A batch that Lightning takes for one opaque thing with a ``to``.

    Under true half and double precision Lightning goes into every mapping and dataclass that it is given, and refuses
    a frozen one.

    Args:
        batch: The cut-outs.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Carried:
        """The same batch on a device."""
        return Carried(self.batch.to(device, non_blocking=non_blocking))


class CarryingLoader:
    """A loader whose batches are carried; its place is saved and restored by Lightning too.

    Args:
        loader: The batches.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Carried]:
        return map(Carried, self.loader)

    def state_dict(self) -> dict[str, Any]:
        """As the loader's."""
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As the loader's."""
        self.loader.load_state_dict(state)
