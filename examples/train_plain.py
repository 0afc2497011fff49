"""Train a LoRA in a plain loop.

    python examples/train_plain.py --shards out/shards --steps 60 --out lora

Without ``--model`` it is a tiny random one, on the CPU in less than a minute; with ``--model``, a path or hub name of a
Stable Diffusion 1.5 or 2. ``--resume`` goes on with the batch after the last one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from stable_diffusion import load_pipeline, lora_parameters, loss_of, save_lora

from lora_data import CharacterAugment, load_config, make_loader
from lora_data.train.masked_loss import weigh


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train a LoRA in a plain loop.")
    parser.add_argument("--shards", default="out/shards")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("lora"))
    parser.add_argument("--model")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"

    # A file does as well: load_config("luca.toml").
    config = load_config(overrides=[f"data.shards={options.shards}", f"data.resolution={options.resolution}"])
    loader = make_loader(config)
    augment = CharacterAugment(config)
    pipeline = load_pipeline(options.model, device)
    optimizer = torch.optim.AdamW(lora_parameters(pipeline), lr=1e-2 if options.model is None else 1e-4)

    step, state_file = 0, options.out / "state.pt"
    if options.resume:
        state = torch.load(state_file)
        step = state["step"]
        loader.load_state_dict(state["loader"])
        optimizer.load_state_dict(state["optimizer"])
        for parameter, value in zip(lora_parameters(pipeline), state["lora"], strict=True):
            parameter.data.copy_(value)

    options.out.mkdir(parents=True, exist_ok=True)
    while step < options.steps:
        for batch in loader:  # one epoch, or the rest of one
            made = augment(batch.to(device))
            mask, weights = weigh(made.mask, config.data)
            loss = loss_of(pipeline, made.pixel_values, list(made.captions or ()), mask, weights)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step % 10 == 0:
                print(f"step {step:4d}  loss {loss.item():.3f}  {', '.join(made.sample_keys)}", flush=True)
            if step == options.steps:
                break

    save_lora(pipeline, options.out)
    lora = [parameter.data for parameter in lora_parameters(pipeline)]
    torch.save(
        {"step": step, "loader": loader.state_dict(), "optimizer": optimizer.state_dict(), "lora": lora}, state_file
    )
    print(f"the LoRA is in {options.out}")


if __name__ == "__main__":
    main()
