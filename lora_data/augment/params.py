"""What was drawn for a batch: small tensors that can be saved, replayed and read.

`AugmentParams` is drawn from the keys alone. `Crop` is where the drawn crop fell on the pictures; with it inside the
parameters, the same pictures give the same output again, bit for bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_data.errors import BatchError

HOLDS, RATIO, FACE, EMPTY = 0, 1, 2, 3
"""`Crop.outcome`: the constraints hold; no position of the drawn scale reaches the ratio; none holds the whole face;
the matte is empty and the crop is the middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """Where each crop lies on its picture.

    Args:
        centre: float64 ``[B, 2]``, (x, y) in source px from the picture's corner (not its first pixel's centre).
        size: float64 ``[B, 2]``, (height, width) in source px; the target's aspect ratio, exactly.
        ratio: float64 ``[B]`` in [0, 1]: the share of the crop that the character occupies, as the policy counts it.
        outcome: int64 ``[B]``: `HOLDS`, `RATIO`, `FACE` or `EMPTY`.
    """

    centre: Tensor
    size: Tensor
    ratio: Tensor
    outcome: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentParams:
    """What was drawn for each sample; float64 ``[B]`` where nothing else is said, on the CPU unless moved.

    Args:
        scale: Side of the crop as a share of the largest crop of the target's aspect ratio.
        position: In (0, 1): which of the positions that hold, as a quantile.
        rotation: Degrees, counter-clockwise.
        flip: bool ``[B]``.
        brightness: Factor.
        contrast: Factor around the middle of the range.
        noise_std: Standard deviation in units of the [0, 1] range; 0: no noise.
        noise_everywhere: bool ``[B]``: also on the background.
        noise_seed: int64 ``[B]`` in [0, 2**32): decides every noise value.
        min_ratio: The policy's ``min_character_ratio``.
        by_matte: bool ``[B]``: the policy counts the matte's area, not the bounding box.
        background: ``[B, 8]``: first colour (RGB in [0, 1]), second colour, direction of the gradient from the first to
            the second in degrees counter-clockwise, deviation of the background's noise.
        crop: Where the crops fell, or None before they met the pictures.
    """

    scale: Tensor
    position: Tensor
    rotation: Tensor
    flip: Tensor
    brightness: Tensor
    contrast: Tensor
    noise_std: Tensor
    noise_everywhere: Tensor
    noise_seed: Tensor
    min_ratio: Tensor
    by_matte: Tensor
    background: Tensor
    crop: Crop | None = None

    def __len__(self) -> int:
        return self.scale.shape[0]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> AugmentParams:
        """The same parameters on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def select(self, index: Tensor) -> AugmentParams:
        """The parameters of some samples, in the order of an int64 index."""
        return self._map(lambda tensor: tensor[index])

    def _map(self, change: Callable[[Tensor], Tensor]) -> AugmentParams:
        crop = None if self.crop is None else Crop(**{n: change(value) for n, value in _tensors(self.crop).items()})
        return AugmentParams(**{name: change(value) for name, value in _tensors(self).items()}, crop=crop)

    def still(self) -> AugmentParams:
        """The same samples and backgrounds with nothing else drawn: the whole picture as it is."""
        one, zero = torch.ones_like(self.scale), torch.zeros_like(self.scale)
        return dataclasses.replace(
            self,
            scale=one,
            position=zero + 0.5,
            rotation=zero,
            flip=torch.zeros_like(self.flip),
            brightness=one,
            contrast=one,
            noise_std=zero,
            min_ratio=zero,
            crop=None,
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Plain tensors by name, for ``torch.save``; `from_state_dict` takes them back."""
        crop = {} if self.crop is None else {f"crop.{name}": value for name, value in _tensors(self.crop).items()}
        return {**_tensors(self), **crop}

    @staticmethod
    def from_state_dict(state: dict[str, Tensor]) -> AugmentParams:
        """Parameters from what `state_dict` gave.

        Raises:
            BatchError: A tensor is missing, unknown, of another length, or holds NaN or infinity.
        """
        crop_state = {name.removeprefix("crop."): value for name, value in state.items() if name.startswith("crop.")}
        own_state = {name: value for name, value in state.items() if not name.startswith("crop.")}
        crop = Crop(**_checked(Crop, crop_state)) if crop_state else None
        params = AugmentParams(**_checked(AugmentParams, own_state), crop=crop)
        check_params(params, len(params))
        return params

    def rows(self) -> list[dict[str, float | bool | int]]:
        """One dictionary of plain numbers per sample, to read; waits for the device."""
        flat = {name: value.cpu() for name, value in self.state_dict().items() if value.ndim == 1}
        return [{name: value[i].item() for name, value in flat.items()} for i in range(len(self))]


def check_params(params: AugmentParams, samples: int) -> None:
    """Check what a caller brings: lengths, and (on the CPU, where looking costs no wait) that every number is finite.

    Raises:
        BatchError: Naming the field, what was found and what is expected.
    """
    for name, value in params.state_dict().items():
        if value.shape[0] != samples:
            raise BatchError(f"params.{name} is for {value.shape[0]} samples, the batch has {samples}")
        if value.device.type == "cpu" and not bool(torch.isfinite(value).all()):
            row = int((~torch.isfinite(value)).reshape(samples, -1).any(dim=1).nonzero()[0])
            raise BatchError(f"params.{name}[{row}] is {value[row].tolist()}, expected finite numbers")


def _tensors(values: AugmentParams | Crop) -> dict[str, Tensor]:
    fields = ((f.name, getattr(values, f.name)) for f in dataclasses.fields(values))
    return {name: value for name, value in fields if isinstance(value, Tensor)}


def _checked(cls: type[AugmentParams | Crop], state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {f.name for f in dataclasses.fields(cls)} - {"crop"}
    if names != set(state):
        raise BatchError(f"{cls.__name__} needs exactly {sorted(names)}, got {sorted(state)}")
    return state
