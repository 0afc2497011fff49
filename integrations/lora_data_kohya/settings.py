"""What the user told us (a TOML file) against what the user told kohya (its arguments).

kohya hands a ``--dataset_class`` neither its arguments nor a way to have own ones. So the file is named by an
environment variable, and the arguments are read where kohya calls the class: to refuse what would be wrong, to warn of
what has no effect, and to let kohya write into the LoRA's metadata what was really done.
"""

from __future__ import annotations

import logging
import os
import sys
from argparse import Namespace
from types import FrameType
from typing import Any

from lora_data import Config, ConfigError, load_config

VARIABLE = "LORA_DATA_CONFIG"
_log = logging.getLogger(__name__)

REFUSED = {
    "cache_latents": "the pictures are new in every epoch, a cache would keep the first ones for ever; leave it out, "
    "or write folders with lora-data export --variants K and train on those",
    "cache_latents_to_disk": "see --cache_latents; leave it out, or use lora-data export --variants K",
    "dataset_config": f"the data is described by the file in {VARIABLE} alone",
    "debug_dataset": "look at the pictures with lora-data preview instead",
    "in_json": "the captions come from the shards",
    "reg_data_dir": "regularisation images are not supported",
    "color_aug": "it moves hues; brightness and contrast are [augment]'s",
    "face_crop_aug_range": "the crop is [augment]'s",
    "caption_dropout_every_n_epochs": "use dropout in [data.captions]",
    "token_warmup_step": "it is not supported",
}
"""Arguments that cannot be obeyed, and what to do instead."""

NO_EFFECT = {
    "train_data_dir": None,
    "dataset_repeats": 1,
    "enable_bucket": False,
    "bucket_no_upscale": False,
    "alpha_mask": False,
}
"""Arguments of kohya's own datasets that people leave in their command lines, with their defaults."""


def configuration() -> Config:
    """The configuration that the environment names.

    Raises:
        ConfigError: None is named, or it is wrong.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        raise ConfigError(
            f"{VARIABLE} is not set: it names the TOML file that says where the shards are, for example "
            f"{VARIABLE}=luca.toml (or start the script by python -m lora_data_kohya)"
        )
    return load_config(path)


def arguments_of_caller() -> Namespace | None:
    """The arguments of the trainer that is building its dataset; None where it is somebody else who calls."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        found = frame.f_locals.get("args")
        if isinstance(found, Namespace) and hasattr(found, "dataset_class"):
            return found
        frame = frame.f_back
    return None


def reconcile(arguments: Namespace, config: Config) -> None:
    """Refuse arguments that contradict the configuration, and set the others to what is done: kohya records them.

    Raises:
        ConfigError: An argument cannot be obeyed.
    """
    for name, reason in REFUSED.items():
        if getattr(arguments, name, None):
            raise ConfigError(f"--{name} does not go with lora_data: {reason}")
    for name, (value, key) in _ours(config).items():
        given = getattr(arguments, name, None)
        neutral = {1} if name == "train_batch_size" else {None, False, ""}
        if given not in neutral and given != value:
            raise ConfigError(f"--{name} says {given}, {key} says {value}: lora_data follows {key}, leave --{name} out")
        setattr(arguments, name, value)
    idle = [f"--{name}" for name, default in NO_EFFECT.items() if getattr(arguments, name, default) != default]
    if idle:
        _log.warning("no effect with lora_data, whose configuration describes the data: %s", ", ".join(idle))


def _ours(config: Config) -> dict[str, tuple[Any, str]]:
    """What kohya's arguments have to say, by name, and the key of ours that says it."""
    data, captions = config.data, config.data.captions
    flips = any(c.augment.horizontal_flip > 0 for c in config.characters.values())
    return {
        "train_batch_size": (data.batch_size, "data.batch_size"),
        "resolution": ((data.resolution, data.resolution), "data.resolution"),
        "masked_loss": (data.masked_loss, "data.masked_loss"),
        "shuffle_caption": (captions.shuffle, "data.captions.shuffle"),
        "keep_tokens": (captions.keep_tokens, "data.captions.keep_tokens"),
        "caption_dropout_rate": (captions.dropout, "data.captions.dropout"),
        "caption_tag_dropout_rate": (captions.tag_dropout, "data.captions.tag_dropout"),
        "flip_aug": (flips, "characters.<name>.augment.horizontal_flip"),
        "random_crop": (True, "[augment]"),
    }
