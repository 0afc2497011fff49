"""``python -m lora_data_diffusers path/to/train_dreambooth_lora_sdxl.py --lora_data luca.toml <its arguments>``.

The script is imported as a module, its names for the dataset, the sampler, the collation and the accelerator are
replaced, and its own ``main`` is called. Nothing in the file changes.
"""

from __future__ import annotations

import importlib.util
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from lora_data import Config, ConfigError, load_config
from lora_data.train.launch import split_command
from lora_data.train.settings import CharacterSettings
from lora_data_diffusers.dataset import CaptionPlaces, CharacterDataset
from lora_data_diffusers.families import Family, family_of
from lora_data_diffusers.masked import denoiser_in

USAGE = "usage: python -m lora_data_diffusers path/to/train_dreambooth_lora_X.py --lora_data luca.toml [its arguments]"
NAMES = ("DreamBoothDataset", "collate_fn", "Accelerator", "parse_args", "main")
"""What a script must have for us to stand in."""

REFUSED = {
    "cache_latents": "the pictures are new in every epoch; a cache would keep the first ones for ever, and several "
    "scripts then pair latents with the captions of others (huggingface/diffusers#14430)",
    "with_prior_preservation": "class images are not supported",
    "dataset_name": "the data is described by --lora_data",
    "instance_data_dir": "the data is described by --lora_data",
    "random_flip": "it is horizontal_flip in a symmetric character's augment",
    "use_aspect_ratio_buckets": "buckets are data.enable_bucket",
    "aspect_ratio_buckets": "buckets are data.enable_bucket",
    "pre_compute_text_embeddings": "it encodes one prompt for all pictures, and each picture has its own",
}
"""Arguments that cannot be obeyed, and why or what to do instead."""


def main(arguments: Sequence[str]) -> int:
    """Run an unmodified script on lora_data's shards.

    Returns:
        2 where the command line or the configuration is wrong, else 0.
    """
    try:
        script, config, rest = split_command(list(arguments), USAGE)
        family = family_of(script.stem)
        loaded = load_config(config)
        module = _import(script)
        args = _arguments(module, rest, loaded)
        _replace(module, args, loaded, family)
    except ConfigError as error:
        print(f"lora_data_diffusers: {error}", file=sys.stderr)
        return 2
    module.main(args)
    return 0


def _import(script: Path) -> Any:
    """The script as a module; its ``if __name__ == "__main__"`` part does not run."""
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module  # where worker processes look for what they unpickle
    spec.loader.exec_module(module)
    missing = [name for name in NAMES if not hasattr(module, name)]
    if missing:
        raise ConfigError(f"{script} has no {', '.join(missing)}: it is not a script of the form that lora_data knows")
    return module


def _arguments(module: Any, rest: list[str], config: Config) -> Namespace:
    """The script's arguments, with what they must say about the data."""
    given = {word.partition("=")[0] for word in rest if word.startswith("--")}
    for name, reason in REFUSED.items():
        if f"--{name}" in given:
            raise ConfigError(f"--{name} does not go with lora_data: {reason}")
    data = config.data
    ours = {"train_batch_size": data.batch_size, "resolution": data.resolution}
    extra = ["--instance_data_dir", data.shards]  # the scripts insist on one; nobody reads it
    if "--instance_prompt" not in given:  # for the model card
        extra += ["--instance_prompt", _prompt(config)]
    args: Namespace = module.parse_args([*rest, *extra])
    for name, value in ours.items():
        key = f"data.{name.removeprefix('train_')}"
        if f"--{name}" in given and getattr(args, name) != value:
            raise ConfigError(f"--{name} says {getattr(args, name)}, {key} says {value}: leave --{name} out")
        setattr(args, name, value)
    return args


def _prompt(config: Config) -> str:
    """A caption that triggers the first configured character."""
    name, settings = next(iter(config.characters.items()), ("", CharacterSettings()))
    return settings.caption_of(None, name)


def _replace(module: Any, args: Namespace, config: Config, family: Family) -> None:
    """Put ours in the place of the script's names."""
    built: list[CharacterDataset] = []

    def make_dataset(**given: Any) -> CharacterDataset:
        tokenizer, length = given.get("tokenizer"), given.get("tokenizer_max_length")
        built.append(CharacterDataset(config, family.script, tokenizer=tokenizer, max_tokens=length))
        return built[-1]

    def make_sampler(dataset: CharacterDataset, batch_size: int, drop_last: bool = False, **_: Any) -> Any:
        # The scripts drop a short batch where they train, and not where they encode all captions.
        return dataset.sampler() if drop_last else CaptionPlaces(dataset, batch_size)

    def collate(items: Sequence[Any], with_prior_preservation: bool = False) -> Any:
        return built[-1].collate(items)

    class Accelerator(module.Accelerator):
        """The script's accelerator; puts our loader where the script's would be."""

        def prepare(self, *given: Any, **options: Any) -> Any:
            values = list(given)
            for place, value in enumerate(values):
                if isinstance(value, DataLoader) and isinstance(value.dataset, CharacterDataset):
                    loader = value.dataset.loader(self, value.num_workers)
                    values[place] = loader
                    if config.data.masked_loss:
                        loader.gradients.attach(denoiser_in([v for v in values if isinstance(v, nn.Module)]))
            return super().prepare(*values, **options)

    # The scripts' own code reads a global that exists only where they are started as a program.
    module.args = args
    module.DreamBoothDataset, module.collate_fn, module.Accelerator = make_dataset, collate, Accelerator
    if hasattr(module, "BucketBatchSampler"):
        module.BucketBatchSampler = make_sampler


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
