from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lora_data_lightning import CharacterDataModule

from lora_data import CharacterAugment, Config, load_config, make_loader
from lora_data.errors import BatchError
from lora_data.train.masked_loss import weigh
from tests.integrations.processes import environment
from tests.train.pictures import write_small

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
    pytest.mark.filterwarnings("ignore:.*treespec.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*is deprecated.*:FutureWarning"),
]


class Model(LightningModule):
    """Learns one number and writes down what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[tuple[str, ...], torch.Tensor]] = []
        self.batches: list[dict[str, Any]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self.seen.append((tuple(batch["sample_keys"]), batch["pixel_values"].clone()))
        self.batches.append(batch)
        return (self.weight - batch["pixel_values"].float().mean()).square().sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    write_small(tmp_path / "shards", {"luca": 7, "zoe": 4}, caption="{token}, a, b")
    lines = [f'shards = "{tmp_path / "shards"}"', "resolution = 64", "bucket_step = 16", "batch_size = 2"]
    text = "\n".join(["[data]", *lines, "[characters.luca]", "repeats = 1", "[characters.zoe]", "repeats = 1"])
    (tmp_path / "luca.toml").write_text(text, encoding="utf-8")
    return load_config(tmp_path / "luca.toml")


def trainer(folder: Path, **changes: Any) -> Trainer:
    settings: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "default_root_dir": str(folder)}
    settings.update(dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False))
    settings.update(enable_checkpointing=False)
    settings.update(changes)
    return Trainer(**settings)


def expected(config: Config, epochs: int) -> list[tuple[tuple[str, ...], torch.Tensor]]:
    loader, augment = make_loader(config, num_workers=0), CharacterAugment(config)
    return [(tuple(b.sample_keys), augment(b).pixel_values) for _ in range(epochs) for b in loader]


def same(ours: list[tuple[tuple[str, ...], torch.Tensor]], theirs: list[tuple[tuple[str, ...], torch.Tensor]]) -> bool:
    return [k for k, _ in ours] == [k for k, _ in theirs] and all(
        torch.equal(a, b) for (_, a), (_, b) in zip(ours, theirs, strict=True)
    )


def test_a_training_step_is_given_what_it_needs(config: Config, tmp_path: Path):
    model, data = Model(), CharacterDataModule(tmp_path / "luca.toml", num_workers=1)
    trainer(tmp_path, max_epochs=2).fit(model, datamodule=data)
    assert same(model.seen, expected(config, 2))
    batch = model.batches[0]
    mask, weights = weigh(batch["mask"], config.data)
    assert torch.equal(batch["loss_mask"], mask)
    assert torch.equal(batch["loss_weights"], weights)
    assert all(caption.endswith(", a, b") for caption in batch["captions"])
    for name in ("original_sizes", "crop_top_lefts", "target_sizes"):
        assert batch[name].shape == (len(batch["sample_keys"]), 2)
    assert data.batch_size == 2


@pytest.mark.parametrize("stop", [1, 3, 6, 8])
def test_a_run_goes_on_after_the_batch_where_it_was_stopped(config: Config, tmp_path: Path, stop: int):
    whole = expected(config, 2)
    checkpoint = ModelCheckpoint(dirpath=tmp_path / "saved", every_n_train_steps=stop, save_top_k=-1, filename="{step}")
    first = Model()
    trainer(tmp_path, max_steps=stop, callbacks=[checkpoint], enable_checkpointing=True).fit(
        first, datamodule=CharacterDataModule(config, num_workers=2)
    )
    assert same(first.seen, whole[:stop])
    (path,) = (tmp_path / "saved").glob("*.ckpt")
    second = Model()
    trainer(tmp_path, max_epochs=2, callbacks=[checkpoint], enable_checkpointing=True).fit(
        second, datamodule=CharacterDataModule(config, num_workers=0), ckpt_path=str(path), weights_only=False
    )
    assert same(second.seen, whole[stop:])


def test_a_limit_loses_no_batch(config: Config, tmp_path: Path):
    whole = expected(config, 2)
    model = Model()
    trainer(tmp_path, max_steps=len(whole), limit_train_batches=3).fit(model, datamodule=CharacterDataModule(config))
    assert same(model.seen, whole)


def test_reloading_the_loader_begins_nothing_again(config: Config, tmp_path: Path):
    model = Model()
    trainer(tmp_path, max_epochs=2, reload_dataloaders_every_n_epochs=1).fit(
        model, datamodule=CharacterDataModule(config)
    )
    assert same(model.seen, expected(config, 2))


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed", "64-true"])
def test_colours_do_not_depend_on_the_trainers_precision(config: Config, tmp_path: Path, precision: Any):
    model = Model()
    data = CharacterDataModule(config, num_workers=0)
    trainer(tmp_path, max_epochs=1, precision=precision).fit(model, datamodule=data)
    assert same(model.seen, expected(config, 1))
    half = Model()
    data = CharacterDataModule(config, num_workers=0, dtype=torch.bfloat16)
    trainer(tmp_path, max_epochs=1, precision=precision).fit(half, datamodule=data)
    assert {pixels.dtype for _, pixels in half.seen} == {torch.bfloat16}


def test_outside_training_pictures_are_still(config: Config):
    data = CharacterDataModule(config)
    data.setup()  # without a trainer, as people do
    batches = [carried.batch for carried in data.train_dataloader()]
    drawn = data.on_after_batch_transfer(batches[0], 0)

    class Validating:
        training, global_rank, world_size = False, 0, 1

    data.trainer = Validating()  # pyright: ignore
    still = data.on_after_batch_transfer(batches[0], 0)
    assert torch.equal(still["pixel_values"], CharacterAugment(config).still(batches[0]).pixel_values)
    assert not torch.equal(still["pixel_values"], drawn["pixel_values"])
    assert data.on_after_batch_transfer({"x": 1}, 0) == {"x": 1}


def test_a_state_may_come_before_or_after_the_shards_are_open(config: Config):
    data = CharacterDataModule(config, num_workers=0)
    assert data.state_dict() == {}
    loader = data.train_dataloader()
    taken = [next(iter(loader)).batch]
    state = data.state_dict()
    before, after = CharacterDataModule(config, num_workers=0), CharacterDataModule(config, num_workers=0)
    before.load_state_dict(state)
    after.setup()
    after.load_state_dict(state)
    keys = [[c.batch.sample_keys for c in d.train_dataloader()] for d in (before, after)]
    assert keys[0] == keys[1]
    assert [taken[0].sample_keys, *keys[0]] == [
        c.batch.sample_keys for c in CharacterDataModule(config).train_dataloader()
    ]
    other = CharacterDataModule(dataclasses.replace(config, data=dataclasses.replace(config.data, seed=7)))
    other.setup()
    with pytest.raises(BatchError, match="other samples or settings"):
        other.load_state_dict(state)


DISTRIBUTED = """
import os, sys, torch
from pathlib import Path
from lightning import Trainer
from lora_data_lightning import CharacterDataModule
from tests.integrations.lightning.test_datamodule import Model
model = Model()
trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False, enable_checkpointing=False,
                  enable_progress_bar=False, enable_model_summary=False)
trainer.fit(model, datamodule=CharacterDataModule(sys.argv[1], num_workers=0))
torch.save([keys for keys, _ in model.seen], f"rank{trainer.global_rank}.pt")
torch.distributed.barrier()  # else one process may take the store away while the other still uses it
torch.distributed.destroy_process_group()
"""


def test_two_processes_share_an_epoch(config: Config, tmp_path: Path):
    (tmp_path / "distributed.py").write_text(DISTRIBUTED, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "distributed.py", "luca.toml"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(OMP_NUM_THREADS="1"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    keys = [k for k, _ in expected(config, 1)]
    assert ranks[0] == keys[0::2]
    share = len(ranks[0])
    assert ranks[1] == (keys[1::2] + keys[:1])[:share]  # the first again where they do not divide
