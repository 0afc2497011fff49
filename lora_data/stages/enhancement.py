"""What the enhancing stages share: what a network sees, pictures to tensors and back, what the row says afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lora_data.manifest import Record
from lora_data.sample import Instance
from lora_data.stage import Resources
from lora_data.stages.faces import witness

if TYPE_CHECKING:
    from torch import Tensor

    from lora_data.gate import FaceChange, Verdict
    from lora_data.models.network import Network
    from lora_data.models.tiles import Refused

Name = Literal["face_restore", "upscale", "deblur"]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A character with a margin, as a network sees it.

    Args:
        rgb: uint8 ``[h, w, 3]``, colour continued under the matte.
        alpha: uint8 ``[h, w]``.
        top: Its place on the canvas, px.
        left: The same.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    top: int
    left: int


def part_of(instance: Instance, margin: int) -> Part | None:
    """The character with ``margin`` px around it; None where the matte is empty."""
    from lora_data.matte import fill_hidden, surrounding

    area = surrounding(instance.alpha, margin)
    if area is None:
        return None
    alpha = np.ascontiguousarray(instance.alpha[area])
    filled = fill_hidden(np.ascontiguousarray(instance.rgb[area]), alpha)
    return Part(filled, alpha, area[0].start, area[1].start)


def run(
    network: Network,
    pictures: Sequence[np.ndarray | None],
    resources: Resources,
    *,
    tile: int,
    scale: int | None = None,
    batch: int | None = None,
) -> list[Tensor | Refused | None]:
    """Take pictures (uint8 ``[h, w, 3]``) through a network in tiles; None stays None.

    Args:
        network: Which.
        pictures: Of any sizes.
        resources: What to run on.
        tile: As for `lora_data.models.tiles.run_tiled`.
        scale: The same.
        batch: The same; None: as many as fit.
    """
    from lora_data.models.tiles import run_tiled

    made = iter(
        run_tiled(
            network,
            [to_tensor(picture) for picture in pictures if picture is not None],
            scale=scale,
            tile=tile,
            batch=batch or resources.batch,
            workers=resources.workers,
        )
    )
    return [None if picture is None else next(made) for picture in pictures]


def face_points(record: Record) -> np.ndarray | None:
    """The face's five points ``[5, 2]``, px of the canvas as it is now; None where no face was found."""
    from lora_data.faces import scaled

    if record.face_points is None:
        return None
    points = np.asarray(record.face_points, np.float32).reshape(5, 2)
    return points if record.upscale_scale is None else scaled(points, record.upscale_scale)


def same_face(
    record: Record, part: Part, final: np.ndarray, resources: Resources, scale: int = 1
) -> Callable[[], FaceChange] | None:
    """What asks whether the face on a part is still the same; None where there is none, or nobody looks."""
    name, points = resources.embedder, face_points(record)
    if name is None or points is None:
        return None
    seen = points - np.array([part.left, part.top], np.float32)
    return lambda: witness(name).compare(part.rgb, final, seen, scale)


def declined(instance: Instance, name: Name) -> bool:
    """Whether a person said no to this enhancement of this picture."""
    return getattr(instance.record, f"{name}_review") == "refuse"


def by_person(instance: Instance, name: Name) -> Instance:
    """The instance as it was: a person took the enhancement back."""
    fields: dict[str, Any] = {name: "taken_back", f"{name}_reason": "person"}
    return instance.replace(**fields)


def to_tensor(rgb: np.ndarray) -> Tensor:
    """uint8 ``[h, w, 3]`` as float32 ``[3, h, w]`` in [0, 1]."""
    import torch

    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).float() / 255


def to_levels(picture: Tensor) -> np.ndarray:
    """``[3, h, w]`` in [0, 1] as float32 ``[h, w, 3]`` in 0..255."""
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy()) * np.float32(255)


def to_picture(levels: np.ndarray) -> np.ndarray:
    """Levels 0..255 as uint8, clipped and rounded."""
    return np.rint(levels).clip(0, 255).astype(np.uint8)


def refused(instance: Instance, name: Name, why: Verdict | Refused) -> Instance:
    """The instance as it was, with the limit that was broken, the value and the gain, or what went wrong."""
    fields: dict[str, Any] = {name: "taken_back", f"{name}_reason": why.reason}
    for field in ("value", "limit", "hue_shift", "gain"):
        fields[f"{name}_{field}"] = getattr(why, field, None)
    return instance.replace(**fields)


def attempt(instance: Instance, name: Name, before: np.ndarray, after: np.ndarray, alpha: np.ndarray) -> Instance:
    """The instance with a picture of what was taken back: left what the network saw, right what it made of it.

    Args:
        instance: What `refused` gave.
        name: Of the stage.
        before: uint8 ``[h, w, 3]``.
        after: uint8 ``[H, W, 3]``, of the same aspect ratio.
        alpha: uint8 ``[h, w]``.
    """
    import cv2

    size = after.shape[1], after.shape[0]
    matte = cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR)
    sides = [cv2.resize(before, size, interpolation=cv2.INTER_CUBIC), after]
    both = np.hstack([np.dstack([side, matte]) for side in sides])
    return instance.replace(attempts={**instance.attempts, name: both})
