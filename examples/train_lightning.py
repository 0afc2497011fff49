"""Train a LoRA with Lightning.

    python examples/train_lightning.py --shards out/shards --steps 60 --out lora

The data module augments on the device, masks the loss and puts its place into every checkpoint, so that
``--resume lora/last.ckpt`` goes on with the next batch.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lora_data_lightning import CharacterDataModule
from stable_diffusion import load_pipeline, lora_parameters, loss_of, save_lora

from lora_data import load_config


class LoraModule(LightningModule):
    """Trains the LoRA of a pipeline's UNet.

    Args:
        model: Path or hub name of a Stable Diffusion 1.5 or 2; None: the tiny random one.
    """

    def __init__(self, model: str | None) -> None:
        super().__init__()
        self.pipeline = load_pipeline(model, "cpu")
        self.unet, self.vae, self.text_encoder = self.pipeline.unet, self.pipeline.vae, self.pipeline.text_encoder
        self.rate = 1e-2 if model is None else 1e-4

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """The loss of a batch; everything in it is on the device already."""
        loss = loss_of(
            self.pipeline, batch["pixel_values"], batch["captions"], batch["loss_mask"], batch["loss_weights"]
        )
        if (self.global_step + 1) % 10 == 0:
            print(f"step {self.global_step + 1:4d}  loss {loss.item():.3f}  {', '.join(batch['sample_keys'])}")
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Only the LoRA is trained."""
        return torch.optim.AdamW(lora_parameters(self.pipeline), lr=self.rate)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train a LoRA with Lightning.")
    parser.add_argument("--shards", default="out/shards")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("lora"))
    parser.add_argument("--model")
    parser.add_argument("--resume")
    options = parser.parse_args()

    config = load_config(overrides=[f"data.shards={options.shards}", f"data.resolution={options.resolution}"])
    module = LoraModule(options.model)
    trainer = Trainer(
        max_steps=options.steps,
        callbacks=[ModelCheckpoint(options.out, save_last=True)],
        logger=False,
        enable_progress_bar=False,
    )
    trainer.fit(module, datamodule=CharacterDataModule(config), ckpt_path=options.resume)
    save_lora(module.pipeline, options.out)
    print(f"the LoRA is in {options.out}")


if __name__ == "__main__":
    main()
