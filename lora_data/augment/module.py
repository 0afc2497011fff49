"""CharacterAugment: a batch of cut-outs becomes what a trainer eats, within the strategy's limits, on the GPU.

Drawing and applying are apart. `draw` is a pure function of seed, epoch, key and variant; `apply` is a pure function of
the batch and what was drawn. The module keeps no state between calls and touches no global generator.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol, overload

import torch
from torch import Tensor, nn

from lora_data.augment.batch import AugmentedBatch, Batch
from lora_data.augment.crop import MatteShape, measure_mattes, resolve_crop
from lora_data.augment.draw import PolicyTable
from lora_data.augment.geometry import Interpolation, Output, premultiply, warp
from lora_data.augment.params import AugmentParams, Crop, check_params
from lora_data.augment.photometry import finish, noise_table
from lora_data.augment.table import Table, make_table
from lora_data.errors import BatchError, MissingExtraError
from lora_data.remote import local_shards
from lora_data.shards import INDEX, read_index

if TYPE_CHECKING:
    from lora_data.config import Config

Backend = Literal["auto", "eager", "numba", "triton"]


class PixelPath(Protocol):
    """One of three ways from uint8 cut-outs and table rows to pixels and mask; they agree within one 8-bit level."""

    def __call__(self, images: Tensor, table: Table, gaussian: Tensor, output: Output) -> tuple[Tensor, Tensor]:
        """Pixels ``[B, 3, h, w]`` in [-1, 1] and mask ``[B, 1, h, w]``."""
        ...


class CharacterAugment(nn.Module):
    """The strategy's Phase 3 as one module: crop, rotation, light, noise and background in one warp.

    Args:
        config: Policies, characters, seed, background and interpolation.
        counts: Kept images by character; read from the index of ``config.data.shards`` where None and that is there.
            Decides ``enabled = "auto"`` (on below 300) and which characters exist.
        dtype: Of the pixels: float32, bfloat16 or float16.
        mask_dtype: Of the mask: the same, or uint8; ``dtype`` where None.
        backend: "auto": on CUDA the Triton kernel where Triton is installed, on the CPU the numba kernel where numba is
            (extra ``cpu``), else plain torch. The others force one.

    Raises:
        ConfigError: The configuration names a character that the data does not have.
        BatchError: A dtype is not one of those, or Triton was forced and is not there.
        ShardError: The index is there and damaged.
        MissingExtraError: numba was forced and is not installed.
    """

    def __init__(
        self,
        config: Config,
        *,
        counts: Mapping[str, int] | None = None,
        dtype: torch.dtype = torch.float32,
        mask_dtype: torch.dtype | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if counts is None:
            shards = local_shards(config.data.shards)
            counts = read_index(shards).counts() if (shards / INDEX).is_file() else None
        for name, wanted in (("dtype", dtype), ("mask_dtype", mask_dtype or dtype)):
            allowed = (torch.float32, torch.bfloat16, torch.float16, *([torch.uint8] if name == "mask_dtype" else []))
            if wanted not in allowed:
                raise BatchError(f"{name} must be one of {', '.join(map(str, allowed))}, got {wanted}")
        if backend == "numba" and find_spec("numba") is None:
            raise MissingExtraError("numba", "cpu", 'CharacterAugment(backend="numba")')
        if backend == "triton" and find_spec("triton") is None:
            raise BatchError('backend="triton" needs Triton, which torch brings on Linux: use "auto" or "eager"')
        own = {name: settings.augment for name, settings in config.characters.items()}
        self.policies = PolicyTable(config.augment, own, counts, config.data.background)
        self.seed = config.data.seed
        self.interpolation: Interpolation = config.data.interpolation
        self.dtype = dtype
        self.mask_dtype = mask_dtype or dtype
        self.backend: Backend = backend

    def draw(
        self,
        keys: Sequence[str],
        epoch: int,
        *,
        characters: Sequence[str] | None = None,
        variants: Sequence[int] | None = None,
    ) -> AugmentParams:
        """Draw for samples; no pixel is looked at.

        Args:
            keys: The samples' names.
            epoch: At least 0.
            characters: Whose policy each follows; None: the shared ``[augment]``.
            variants: Which of several draws; None: the first.

        Raises:
            BatchError: Lengths differ, a character is unknown, or a number is out of range.
        """
        return self.policies.draw(self.seed, epoch, keys, characters, variants or [0] * len(keys))

    @torch.no_grad()
    def resolve(self, batch: Batch, params: AugmentParams) -> AugmentParams:
        """Find where the drawn crops fall on the batch's pictures; `apply` does it where it was not done.

        With ``batch.mattes`` on the CPU everything stays there; without, the mattes are measured where the pictures
        are, and nothing waits for the device.
        """
        check_params(params, len(batch.images))
        mattes = batch.mattes if batch.mattes is not None else self._measure(batch.images)
        if self.policies.needs_coverage and mattes.coverage is None:
            raise BatchError('a policy has ratio_of = "matte": mattes need coverage, see measure_mattes')
        device = mattes.rows.device
        faces = None if batch.faces is None else batch.faces.to(device, non_blocking=True)
        params = params.to(device, non_blocking=True)
        crop = resolve_crop(params, mattes, _sizes_of(batch, device), _target_of(batch), faces)
        return dataclasses.replace(params, crop=crop)

    @overload
    def apply(self, batch: Batch, params: AugmentParams) -> AugmentedBatch: ...

    @overload
    def apply(self, batch: Callable[[nn.Module], None]) -> CharacterAugment: ...

    @torch.no_grad()
    def apply(  # pyright: ignore[reportIncompatibleMethodOverride]  # the base's call is served too, see below
        self, batch: Batch | Callable[[nn.Module], None], params: AugmentParams | None = None
    ) -> AugmentedBatch | CharacterAugment:
        """Make the output; the same batch and parameters give the same bits.

        Called with a function alone it is ``nn.Module.apply``, which a parent module calls on all its children.

        Raises:
            BatchError: The parameters are for another number of samples, or not finite.
        """
        if not isinstance(batch, Batch):
            return super().apply(batch)
        if params is None:
            raise BatchError("apply needs the parameters that draw gave")
        if params.crop is None:
            params = self.resolve(batch, params)
        else:
            check_params(params, len(batch.images))
        assert params.crop is not None
        images, target = batch.images, _target_of(batch)
        sizes = _sizes_of(batch, params.scale.device)
        table = make_table(params, sizes, (images.shape[2], images.shape[3]), target).to(images.device)
        path = self._path(images)
        output = Output(target=target, interpolation=self.interpolation, dtype=self.dtype, mask_dtype=self.mask_dtype)
        with torch.autocast(images.device.type, enabled=False):
            pixels, mask = path(images, table, noise_table(images.device), output)
        original = sizes if batch.original_sizes is None else batch.original_sizes
        return AugmentedBatch(
            pixel_values=pixels,
            mask=mask,
            original_sizes=original.to(torch.int64),
            crop_top_lefts=_top_lefts(params.crop, params.flip, sizes, target),
            target_sizes=_pairs(*target, len(images), sizes.device),
            params=params,
            sample_keys=batch.sample_keys,
            characters=batch.characters,
            captions=batch.captions,
        )

    def forward(self, batch: Batch) -> AugmentedBatch:
        """Draw for a batch and apply it."""
        return self.apply(batch, self._drawn(batch))

    def still(self, batch: Batch) -> AugmentedBatch:
        """The whole pictures on the backgrounds that are drawn for them, nothing else changed."""
        return self.apply(batch, self._drawn(batch).still())

    def _drawn(self, batch: Batch) -> AugmentParams:
        return self.draw(batch.sample_keys, batch.epoch, characters=batch.characters, variants=batch.variants)

    def _measure(self, images: Tensor) -> MatteShape:
        if self._path(images) is not run_eager and images.device.type == "cpu" and not self.policies.needs_coverage:
            from lora_data.augment.fused_numba import outline

            return MatteShape(rows=outline(images))
        mattes = measure_mattes(images[:, 3], coverage=self.policies.needs_coverage)
        # Only the CPU and CUDA surely have float64, in which crops are resolved.
        return mattes if images.device.type in ("cpu", "cuda") else mattes.to("cpu")

    def _path(self, images: Tensor) -> PixelPath:
        kind = images.device.type
        if kind == "cuda" and (self.backend == "triton" or (self.backend == "auto" and _triton_works())):
            from lora_data.augment.fused_triton import run

            return run
        if kind == "cpu" and (self.backend == "numba" or (self.backend == "auto" and find_spec("numba"))):
            from lora_data.augment.fused_numba import run

            return run
        if self.backend in ("numba", "triton"):
            raise BatchError(f'backend "{self.backend}" does not run on {kind}: use "auto" or "eager"')
        return run_eager


def run_eager(images: Tensor, table: Table, gaussian: Tensor, output: Output) -> tuple[Tensor, Tensor]:
    """The path in plain torch, for any device; the reference of the other two."""
    sampled, inside = warp(premultiply(images), table, output.target, output.interpolation)
    return finish(sampled, inside, table, gaussian, output.dtype, output.mask_dtype)


@cache
def _triton_works() -> bool:
    """Whether Triton is here and can build its launcher, for which it needs a C compiler; says so where it cannot."""
    if find_spec("triton") is None:
        return False
    if os.environ.get("CC") or any(shutil.which(name) for name in ("cc", "gcc", "clang", "cl")):
        return True
    warnings.warn(
        "CharacterAugment runs in plain torch, which is slower: Triton is installed but finds no C compiler "
        "(install gcc, or name one in CC)",
        stacklevel=2,
    )
    return False


def _target_of(batch: Batch) -> tuple[int, int]:
    return batch.target or (batch.images.shape[2], batch.images.shape[3])


def _sizes_of(batch: Batch, device: torch.device) -> Tensor:
    """The pictures' sizes on a device; made there where it can, since a copy from the host would wait."""
    if batch.sizes is not None:
        return batch.sizes.to(device, non_blocking=True)
    return _pairs(batch.images.shape[2], batch.images.shape[3], len(batch.images), device)


def _pairs(first: int, second: int, count: int, device: torch.device) -> Tensor:
    """int64 ``[count, 2]``, every row (first, second)."""
    return torch.stack([torch.full((count,), v, dtype=torch.int64, device=device) for v in (first, second)], dim=1)


def _top_lefts(crop: Crop, flip: Tensor, sizes: Tensor, target: tuple[int, int]) -> Tensor:
    """Where the crop starts in the picture resized by the crop's own factor; mirrored where the picture was.

    Source: the SDXL report's crop conditioning, as kohya's sd-scripts and diffusers fill it (offsets after the resize).
    """
    size = sizes.to(torch.float64)
    corner = crop.centre.flip(1) - crop.size / 2
    left = torch.where(flip, size[:, 1] - crop.size[:, 1] - corner[:, 1], corner[:, 1])
    pixel = crop.size[:, 1:] / target[1]
    return torch.stack([corner[:, 0], left], dim=1).div(pixel).round().clamp(min=0).to(torch.int64)
