"""Networks by the name or path that a configuration gives them, loaded once in a process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lora_data.errors import ConfigError
from lora_data.models.registry import Model, Task, model_named
from lora_data.models.weights import Weights, models_folder

if TYPE_CHECKING:
    from lora_data.models.network import Network

_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".onnx")


def path_of(name: str) -> Path | None:
    """The file that a model's name means, where it is a path (it has a suffix of weights)."""
    return Path(name) if Path(name).suffix in _SUFFIXES else None


def file_of(name: str, task: Task, key: str) -> Path:
    """The checked file of a model.

    Args:
        name: A name from ``lora-data models list``, or a path.
        task: What it must do, where it is a name.
        key: The configuration's key, for messages.

    Raises:
        ConfigError: There is no such model, or it does something else.
        ModelError: Its weights are missing, damaged, or their licence was not accepted.
    """
    path = path_of(name)
    if path is not None:
        if not path.is_file():
            raise ConfigError(f"{key}: there is no file {path}")
        return path
    model = _known(name, task, key)
    weights = Weights(models_folder())
    return weights.member(model, task) if model.members else weights.path(model)


@cache
def network(name: str, task: Task, key: str, device: str = "cpu", fidelity: float | None = None) -> Network:
    """The network of a name or path, on a device.

    On a GPU it computes in float16 where its authors allow that, else in float32: the 8 bits of bfloat16 are no more
    than a picture's own.

    Args:
        name: A name from ``lora-data models list``, or a path.
        task: What it must do, where it is a name.
        key: The configuration's key, for messages.
        device: "cpu" or "cuda".
        fidelity: CodeFormer's weight; None: its default.

    Raises:
        ConfigError: There is no such model, or it does something else: enlarges where it should restore, or neither
            twice nor four times where it should enlarge.
        ModelError: Its weights are missing, damaged, of another architecture, or their licence was not accepted.
        MissingExtraError: spandrel is not installed.
    """
    import torch

    from lora_data.models.network import FIDELITY, load_file, load_network

    weight = FIDELITY if fidelity is None else fidelity
    path = path_of(name)
    if path is not None:
        found = load_file(path, fidelity=weight)
    else:
        found = load_network(_known(name, task, key), Weights(models_folder()), fidelity=weight)
    if found.scale not in ((2, 4) if task == "upscale" else (1,)):
        expected = "2 or 4" if task == "upscale" else "a network that restores"
        raise ConfigError(f"{key}: {name} enlarges {found.scale} times, expected {expected}")
    if device == "cpu":
        return found
    return found.to(device, torch.float16 if found.half else torch.float32)


def _known(name: str, task: Task, key: str) -> Model:
    try:
        model = model_named(name)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}; or the path of a file ({', '.join(_SUFFIXES)})") from None
    if task not in model.tasks:
        raise ConfigError(f"{key}: {name} does {', '.join(model.tasks)}, not {task}")
    return model
