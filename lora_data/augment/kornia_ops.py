"""The same operations as Kornia augmentations, for people who compose their own chain.

    chain = AugmentationSequential(
        CharacterCrop((768, 768)), CharacterLight(), CharacterNoise(), data_keys=["input", "mask"]
    )

They take floats in [0, 1], RGB or RGBA with straight alpha (on the fourth channel, which is then the matte), and draw
from torch's generator as Kornia's own do. The crop must know the matte: give RGBA, or use `CharacterSequential`, which
hands the mask of RGB images to the crop. `CharacterAugment` is the same arithmetic in one pass.
"""

from __future__ import annotations

from typing import Any

import torch
from kornia.augmentation import AugmentationSequential, GeometricAugmentationBase2D, IntensityAugmentationBase2D
from kornia.constants import DataKey
from torch import Tensor

import lora_data.augment.table as t
from lora_data.augment import geometry, photometry
from lora_data.augment.crop import measure_mattes, resolve_crop
from lora_data.augment.params import AugmentParams, Crop
from lora_data.augment.policy import AugmentPolicy
from lora_data.errors import BatchError

Params = dict[str, Any]


class CharacterCrop(GeometricAugmentationBase2D):
    """The mask-aware crop, the rotation and the resize to one size, as one warp.

    Args:
        size: (height, width) of the output, px.
        policy: ``crop_scales``, ``min_character_ratio``, ``ratio_of``, ``rotation`` and ``horizontal_flip`` count. The
            caller answers for the flip: only a symmetric character may have one.
        interpolation: "bicubic" or "bilinear".

    Shape: ``[B, 3, H, W]`` or ``[B, 4, H, W]`` to ``[B, C, h, w]``; masks are sampled softly, zero beyond the picture.
    Beyond the picture the border continues (strategy 3.2).
    """

    def __init__(
        self,
        size: tuple[int, int],
        policy: AugmentPolicy | None = None,
        *,
        interpolation: geometry.Interpolation = "bicubic",
    ) -> None:
        super().__init__(p=1.0)
        self.size = size
        self.policy = policy or AugmentPolicy()
        self.interpolation: geometry.Interpolation = interpolation
        self.flags = {"size": size, "interpolation": interpolation}

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> Params:
        """Draw what needs no pixel: ``scale``, ``position``, ``degrees`` and ``flip``, each ``[B]``."""
        count = batch_shape[0]
        u = torch.rand(4, count, dtype=torch.float64)
        scales = torch.tensor(self.policy.crop_scales, dtype=torch.float64)
        low, high = self.policy.rotation
        return {
            "scale": scales[(u[0] * len(scales)).long()],
            "position": u[1],
            "degrees": low + u[2] * (high - low),
            "flip": u[3] < self.policy.horizontal_flip,
            "output_size": torch.tensor(self.size).expand(count, 2),
        }

    def resolve(self, params: Params, mask: Tensor) -> None:
        """Find where the drawn crops fall and write it into ``params`` (``centre``, ``crop_size``, ``outcome``).

        Args:
            params: From `forward_parameters`.
            mask: ``[B, 1, H, W]`` in [0, 1]; a NaN is an error where looking costs no wait for a device.
        """
        _check_finite(mask, "mask")
        count, _, height, width = mask.shape
        by_matte = self.policy.ratio_of == "matte"
        alpha = (mask[:, 0].float() * 255).round().to(torch.uint8)
        drawn = _drawn(params, self.policy).to(mask.device)
        sizes = torch.tensor([[height, width]], device=mask.device).expand(count, 2)
        crop = resolve_crop(drawn, measure_mattes(alpha, coverage=by_matte), sizes, self.size)
        params.update({"centre": crop.centre, "crop_size": crop.size, "outcome": crop.outcome})

    def compute_transformation(self, input: Tensor, params: Params, flags: Params) -> Tensor:
        """The map from input to output pixel centres, ``[B, 3, 3]``."""
        if "centre" not in params:
            if input.shape[1] != 4:
                raise BatchError(
                    f"CharacterCrop needs the matte: give RGBA instead of {input.shape[1]} channels, or use "
                    "CharacterSequential with a mask"
                )
            self.resolve(params, input[:, 3:])
            # A container works on a copy of the parameters; the draw it came from is what is replayed and what the
            # masks are sampled by, so it must know too where the crops fell.
            drawn = self._params
            if drawn is not params and "position" in drawn and torch.equal(drawn["position"], params["position"]):
                drawn.update({name: params[name] for name in ("centre", "crop_size", "outcome")})
        matrix = t.sampling_matrix(_crop(params), params["degrees"], params["flip"], self.size)
        last = torch.tensor([0.0, 0.0, 1.0], dtype=matrix.dtype, device=matrix.device).expand(len(matrix), 1, 3)
        return torch.linalg.inv(torch.cat([matrix, last], dim=1)).to(input.dtype)

    def apply_transform(
        self,
        input: Tensor,
        params: Params,
        flags: Params,
        transform: Tensor | None = None,
    ) -> Tensor:
        """Sample pictures."""
        _check_finite(input, "input")
        if input.shape[1] == 4:
            rgb, alpha = input[:, :3], input[:, 3:]
            sampled, _ = self._sample(torch.cat([rgb * alpha, alpha], dim=1), params)
            alpha = sampled[:, 3:]
            rgb = torch.minimum(sampled[:, :3], alpha) / alpha.clamp(min=photometry.TINY)
            return torch.cat([rgb, alpha], dim=1).to(input.dtype)
        return self._sample(input, params)[0].to(input.dtype)

    def apply_transform_mask(
        self,
        input: Tensor,
        params: Params,
        flags: Params,
        transform: Tensor | None = None,
    ) -> Tensor:
        """Sample masks: softly, and zero where the border was continued."""
        sampled, inside = self._sample(input, params)
        return (sampled * inside).to(input.dtype)

    def _sample(self, pixels: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        canvas = (pixels.shape[2], pixels.shape[3])
        drawn = _drawn(params, self.policy, _crop(params)).to(pixels.device)
        sizes = torch.tensor([canvas], device=pixels.device).expand(len(pixels), 2)
        table = t.make_table(drawn, sizes, canvas, self.size)
        with torch.autocast(pixels.device.type, enabled=False):
            return geometry.warp(pixels.float(), table, self.size, self.interpolation)


class CharacterLight(IntensityAugmentationBase2D):
    """Brightness and contrast on the value alone: hue and saturation stay exactly. RGB or RGBA in [0, 1].

    Args:
        brightness: Range of the factor; defaults: strategy 3.3.
        contrast: Range of the factor.
        p: Share of the samples.
    """

    def __init__(
        self, brightness: tuple[float, float] = (0.9, 1.1), contrast: tuple[float, float] = (0.95, 1.05), p: float = 1.0
    ) -> None:
        super().__init__(p=p)
        # The policy checks the strategy's limits.
        AugmentPolicy(brightness=brightness, contrast=contrast)
        self.flags = {"brightness": brightness, "contrast": contrast}

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> Params:
        """Draw ``brightness`` and ``contrast``, each ``[B]``."""
        u = torch.rand(2, batch_shape[0], dtype=torch.float64)
        names = ("brightness", "contrast")
        return {n: self.flags[n][0] + v * (self.flags[n][1] - self.flags[n][0]) for n, v in zip(names, u, strict=True)}

    def apply_transform(
        self,
        input: Tensor,
        params: Params,
        flags: Params,
        transform: Tensor | None = None,
    ) -> Tensor:
        """Scale the channels together."""
        _check_finite(input, "input")
        brightness, contrast = (params[n].to(input.device)[:, None, None, None] for n in ("brightness", "contrast"))
        rgb = input[:, :3].float().clamp(0, 1)
        one = torch.ones_like(rgb[:, :1])
        lit = photometry.light(rgb, one, (brightness * contrast).float(), ((1 - contrast) * t.PIVOT).float())
        return torch.cat([lit.to(input.dtype), input[:, 3:]], dim=1)


class CharacterNoise(IntensityAugmentationBase2D):
    """Gaussian noise, on the character only where the input is RGBA. RGB or RGBA in [0, 1]; the output is cut to it.

    Args:
        std: Standard deviation in [0, 0.01] (strategy 3.4).
        p: Share of the samples.
    """

    def __init__(self, std: float = 0.01, p: float = 0.3) -> None:
        super().__init__(p=p)
        AugmentPolicy(noise_std=std)
        self.flags = {"std": std}

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> Params:
        """Draw ``noise_seed``, int64 ``[B]``."""
        return {"noise_seed": torch.randint(0, 2**32, (batch_shape[0],))}

    def apply_transform(
        self,
        input: Tensor,
        params: Params,
        flags: Params,
        transform: Tensor | None = None,
    ) -> Tensor:
        """Add noise."""
        _check_finite(input, "input")
        seed, gaussian = params["noise_seed"].to(input.device), photometry.noise_table(input.device)
        values = photometry.noise(gaussian, seed, 0, (input.shape[2], input.shape[3]))
        noisy = (input[:, :3].float() + flags["std"] * values).clamp(0, 1)
        return torch.cat([noisy.to(input.dtype), input[:, 3:]], dim=1)


class CharacterSequential(AugmentationSequential):
    """An `AugmentationSequential` whose `CharacterCrop` sees the mask, so that the input may be RGB.

    ``data_keys`` must have a mask; the crop must come before anything else that moves pixels.
    """

    def forward(self, *args: Any, params: Any = None, data_keys: Any = None) -> Any:
        """As the base class."""
        keys = [DataKey.get(k) for k in (data_keys or self.data_keys or [])]
        if params is None and DataKey.MASK in keys and len(args) == len(keys):
            image, mask = args[keys.index(DataKey.INPUT)], args[keys.index(DataKey.MASK)]
            params = self.forward_parameters(image.shape)
            for item in params:
                module = self.get_submodule(item.name)
                if isinstance(module, CharacterCrop):
                    module.resolve(item.data, mask)
        return super().forward(*args, params=params, data_keys=data_keys)


def _drawn(params: Params, policy: AugmentPolicy, crop: Crop | None = None) -> AugmentParams:
    """The crop's part of the parameters; nothing else was drawn."""
    count = len(params["scale"])
    zeros, off = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.bool)
    return AugmentParams(
        scale=params["scale"].to(torch.float64),
        position=params["position"].to(torch.float64),
        rotation=params["degrees"].to(torch.float64),
        flip=params["flip"],
        brightness=zeros + 1,
        contrast=zeros + 1,
        noise_std=zeros,
        noise_everywhere=off,
        noise_seed=torch.zeros(count, dtype=torch.int64),
        min_ratio=zeros + policy.min_character_ratio,
        by_matte=off | (policy.ratio_of == "matte"),
        background=torch.zeros(count, 8, dtype=torch.float64),
        crop=crop,
    )


def _crop(params: Params) -> Crop:
    return Crop(
        centre=params["centre"].to(torch.float64),
        size=params["crop_size"].to(torch.float64),
        ratio=torch.zeros(len(params["centre"]), dtype=torch.float64, device=params["centre"].device),
        outcome=params["outcome"],
    )


def _check_finite(pixels: Tensor, name: str) -> None:
    """Refuse NaN and infinity, on the CPU: elsewhere looking would wait for the device."""
    if pixels.device.type == "cpu" and not bool(torch.isfinite(pixels).all()):
        sample = int((~torch.isfinite(pixels)).flatten(1).any(dim=1).nonzero()[0])
        raise BatchError(f"{name}[{sample}] holds NaN or infinity, expected numbers in [0, 1]")
