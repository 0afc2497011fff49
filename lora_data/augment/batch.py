"""What the augmentation takes and what it gives: mappings with a ``.to`` that accelerate and Lightning call."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lora_data.augment.crop import MatteShape
from lora_data.augment.params import AugmentParams
from lora_data.errors import BatchError


class _Record(Mapping[str, object]):
    """A dataclass that also reads as a mapping of its fields."""

    def __getitem__(self, name: str) -> object:
        if name not in self._names():
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> list[str]:
        return [f.name for f in dataclasses.fields(self)]  # pyright: ignore[reportArgumentType]  # subclasses are


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch(_Record):
    """Cut-outs on their way to the trainer. Small tensors stay on the CPU; only the pictures move.

    Args:
        images: uint8 RGBA ``[B, 4, H, W]``, straight alpha. Smaller pictures lie in the top left corner of the canvas,
            with alpha 0 around them. ``torch.channels_last`` memory is the fast layout.
        sample_keys: The samples' names; with seed, epoch and variant they decide every draw.
        characters: Whose policy each sample follows.
        epoch: At least 0.
        variants: Which of a sample's several draws in this epoch; zeros where None.
        target: (height, width) of the output, px; the canvas where None.
        sizes: ``[B, 2]``: (height, width) of each picture within the canvas, px; the canvas where None.
        original_sizes: ``[B, 2]``: (height, width) that SDXL is told; ``sizes`` where None.
        faces: float ``[B, 4]``: (x0, y0, x1, y1) in px, NaN in a whole row where no face is known; None: nowhere.
        captions: One for each sample, where there are any; they pass through.
        mattes: `measure_mattes` of the pictures, where a loader has it already. With it, on the CPU, a step on the GPU
            is one small copy and one kernel; without, the GPU measures and resolves by some hundred small ones.

    Raises:
        BatchError: Something is not as above; the message names the field and the sample.
    """

    images: Tensor
    sample_keys: Sequence[str]
    characters: Sequence[str]
    epoch: int = 0
    variants: Sequence[int] | None = None
    target: tuple[int, int] | None = None
    sizes: Tensor | None = None
    original_sizes: Tensor | None = None
    faces: Tensor | None = None
    mattes: MatteShape | None = None
    captions: Sequence[str] | None = None

    def __post_init__(self) -> None:
        images = self.images
        if images.dtype != torch.uint8:
            raise BatchError(f"images must be uint8 (0 to 255), got {images.dtype}")
        if images.ndim != 4 or images.shape[1] != 4 or 0 in images.shape:
            raise BatchError(f"images must be RGBA [B, 4, H, W] with B, H and W above 0, got {list(images.shape)}")
        count, canvas = len(images), (images.shape[2], images.shape[3])
        for name in ("sample_keys", "characters", "variants", "captions"):
            value = getattr(self, name)
            if value is not None and len(value) != count:
                raise BatchError(f"{name} has {len(value)} entries, images has {count} samples")
        if self.target is not None and not (len(self.target) == 2 and min(self.target) >= 1):
            raise BatchError(f"target must be (height, width), both at least 1, got {self.target}")
        _check_sizes("sizes", self.sizes, count, canvas)
        _check_sizes("original_sizes", self.original_sizes, count, None)
        _check_faces(self.faces, count)
        if self.mattes is not None and self.mattes.rows.shape[:2] != (count, canvas[0]):
            raise BatchError(
                f"mattes.rows must be [{count}, {canvas[0]}, 2] for these images, got {list(self.mattes.rows.shape)}"
            )

    @staticmethod
    def of_one(
        image: np.ndarray,
        key: str,
        character: str,
        *,
        variants: int = 1,
        epoch: int = 0,
        target: tuple[int, int] | None = None,
        face: tuple[float, float, float, float] | None = None,
    ) -> Batch:
        """Several draws of one stored picture, uint8 RGBA ``[H, W, 4]``, with its face (x0, y0, x1, y1) if known."""
        return Batch(
            images=torch.from_numpy(image.copy()).permute(2, 0, 1).expand(variants, -1, -1, -1),
            sample_keys=[key] * variants,
            characters=[character] * variants,
            epoch=epoch,
            variants=range(variants),
            target=target,
            faces=None if face is None else torch.tensor([face] * variants),
        )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The same batch with its pictures on a device. Calling it twice changes nothing."""
        return dataclasses.replace(self, images=self.images.to(device, non_blocking=non_blocking))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AugmentedBatch(_Record):
    """What a trainer eats.

    Args:
        pixel_values: ``[B, 3, h, w]`` in [-1, 1], in the trainer's dtype, on the pictures' device.
        mask: ``[B, 1, h, w]`` in [0, 1] (0 to 255 where uint8): the matte, zero where a border was continued.
        original_sizes: int64 ``[B, 2]`` (height, width), for SDXL; these three stay where the parameters are.
        crop_top_lefts: int64 ``[B, 2]`` (top, left) of the crop, in px of the picture resized as the crop was.
        target_sizes: int64 ``[B, 2]`` (height, width).
        params: What was drawn and where the crops fell; `CharacterAugment.apply` gives the same output for it again.
        sample_keys: As in the batch.
        characters: As in the batch.
        captions: As in the batch.
    """

    pixel_values: Tensor
    mask: Tensor
    original_sizes: Tensor
    crop_top_lefts: Tensor
    target_sizes: Tensor
    params: AugmentParams
    sample_keys: Sequence[str]
    characters: Sequence[str]
    captions: Sequence[str] | None = None

    def pictures(self) -> np.ndarray:
        """The pixels as uint8 RGB ``[B, h, w, 3]``, to look at or to store; waits for the device."""
        values = ((self.pixel_values.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return values.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> AugmentedBatch:
        """The same batch with its pixels and mask on a device."""
        return dataclasses.replace(
            self,
            pixel_values=self.pixel_values.to(device, non_blocking=non_blocking),
            mask=self.mask.to(device, non_blocking=non_blocking),
        )


def _check_sizes(name: str, sizes: Tensor | None, count: int, canvas: tuple[int, int] | None) -> None:
    if sizes is None:
        return
    if sizes.shape != (count, 2) or sizes.is_floating_point() or sizes.device.type != "cpu":
        found = f"{sizes.dtype} {list(sizes.shape)} on {sizes.device}"
        raise BatchError(f"{name} must be whole numbers [{count}, 2] on the CPU, got {found}")
    for row, (height, width) in enumerate(sizes.tolist()):
        if min(height, width) < 1 or (canvas is not None and (height > canvas[0] or width > canvas[1])):
            limit = "" if canvas is None else f" and at most the canvas {canvas}"
            raise BatchError(f"{name}[{row}] is ({height}, {width}), expected at least (1, 1){limit}")


def _check_faces(faces: Tensor | None, count: int) -> None:
    if faces is None:
        return
    if faces.shape != (count, 4) or not faces.is_floating_point() or faces.device.type != "cpu":
        raise BatchError(
            f"faces must be floats [{count}, 4] on the CPU, got {faces.dtype} {list(faces.shape)} on {faces.device}"
        )
    for row, (x0, y0, x1, y1) in enumerate(faces.tolist()):
        unknown = [math.isnan(v) for v in (x0, y0, x1, y1)]
        if all(unknown):
            continue
        if any(unknown) or not (x0 < x1 and y0 < y1) or max(abs(v) for v in (x0, y0, x1, y1)) > 1e6:
            raise BatchError(f"faces[{row}] is {[x0, y0, x1, y1]}, expected (x0 < x1, y0 < y1) or NaN in all four")
