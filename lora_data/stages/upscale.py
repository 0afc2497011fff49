"""Super-resolution of small cut-outs, with a network, gated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from lora_data.sample import Instance
from lora_data.stage import MapStage

if TYPE_CHECKING:
    from lora_data.models.network import Network

MARGIN = 16
"""px around the character that the network sees too: colour continued under the matte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upscale(MapStage):
    """Enlarge small characters twice with a super-resolution network (strategy 1.1).

    The network sees colour continued under the matte, so no edge of the silhouette and no hidden colour; the matte is
    resampled apart. A network that enlarges four times is averaged down. The picture's own low frequencies are put
    back, and the result is held against limits (`lora_data.gate`): where one breaks, the picture stays as it was.

    Args:
        enabled: "auto" (with the preset "full"), or always, or never.
        model: A name from ``lora-data models list``, or the path of a network that spandrel recognises.
        below: px: characters whose longest side is smaller are enlarged; the strategy's 512.
        tile: px: side of the tiles in which large pictures run; 256 fits 8 GB cards.
        max_hue_shift: Most that hue may move, degrees (95th percentile inside the matte).
        min_low_psnr: Least agreement of the network's low frequencies with the picture's, dB.
        min_gain: Least gain of Laplacian variance over a picture enlarged without a network.

    Raises:
        ValueError: A field is out of range.
    """

    name: ClassVar[str] = "upscale"
    version: ClassVar[int] = 1

    enabled: Literal["auto"] | bool = "auto"
    model: str = "realesrgan-x2plus"
    below: int = 512
    scale: Literal[2] = 2
    tile: int = 256
    max_hue_shift: float = 1.0
    min_low_psnr: float = 30.0
    min_gain: float = 1.1

    def __post_init__(self) -> None:
        if not 1 <= self.below <= 4096:
            raise ValueError(f"below must be in [1, 4096], got {self.below}")
        if not 96 <= self.tile <= 2048:
            raise ValueError(f"tile must be in [96, 2048], got {self.tile}")
        for field, low, high in (("max_hue_shift", 0, 180), ("min_low_psnr", 0, 100), ("min_gain", 0, 10)):
            if not low <= getattr(self, field) <= high:
                raise ValueError(f"{field} must be in [{low}, {high}], got {getattr(self, field)}")

    def apply(self, instance: Instance) -> Instance:
        """Enlarge, measure; write ``upscale``, its reason, value, limit and hue shift, and ``upscale_scale``.

        Reasons for taking back: "hue", "low_frequencies", "no_gain", "network" (its output was no picture), "memory".
        """
        import cv2
        import torch

        from lora_data.errors import ModelError
        from lora_data.gate import Limits, judge, keep_low_frequencies
        from lora_data.matte import bounding_box, fill_hidden, interior

        box = bounding_box(instance.alpha)
        if box is None or max(box[2:]) >= self.below:
            return instance
        x, y, width, height = box
        top, left = max(0, y - MARGIN), max(0, x - MARGIN)
        part = (slice(top, y + height + MARGIN), slice(left, x + width + MARGIN))
        alpha = instance.alpha[part]
        filled = fill_hidden(np.ascontiguousarray(instance.rgb[part]), np.ascontiguousarray(alpha))
        try:
            raw = self._enlarged(filled)
        except ModelError:
            return instance.replace(upscale="taken_back", upscale_reason="network")
        except torch.OutOfMemoryError:
            return instance.replace(upscale="taken_back", upscale_reason="memory")
        final = np.rint(keep_low_frequencies(filled, raw)).clip(0, 255).astype(np.uint8)
        limits = Limits(hue=self.max_hue_shift, low_psnr=self.min_low_psnr, gain=self.min_gain)
        verdict = judge(filled, raw, final, interior(alpha), limits)
        if verdict.reason is not None:
            return instance.replace(
                upscale="taken_back",
                upscale_reason=verdict.reason,
                upscale_value=verdict.value,
                upscale_limit=verdict.limit,
                upscale_hue_shift=verdict.hue_shift,
            )
        size = (2 * instance.alpha.shape[1], 2 * instance.alpha.shape[0])
        larger = cv2.resize(instance.alpha, size, interpolation=cv2.INTER_CUBIC)
        canvas = np.zeros((*larger.shape, 3), np.uint8)
        canvas[2 * top : 2 * top + final.shape[0], 2 * left : 2 * left + final.shape[1]] = final
        return instance.replace(
            rgb=cv2.bitwise_and(canvas, canvas, mask=(larger > 0).astype(np.uint8)),
            alpha=larger,
            upscale="applied",
            upscale_scale=2,
            upscale_hue_shift=verdict.hue_shift,
        )

    def _enlarged(self, rgb: np.ndarray) -> np.ndarray:
        """The network's output at twice the size, float32 in 0..255."""
        import torch
        from torch.nn import functional as F  # noqa: N812

        from lora_data.models.tiles import run_tiled

        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # sums must not depend on the number of cores, see engines.local
        try:
            image = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).float() / 255
            made = run_tiled(network(self.model), image, tile=self.tile)
        finally:
            torch.set_num_threads(threads)
        made = F.interpolate(made[None], (2 * rgb.shape[0], 2 * rgb.shape[1]), mode="area")[0]
        return np.ascontiguousarray(made.permute(1, 2, 0).numpy()) * np.float32(255)


@cache
def network(model: str) -> Network:
    """The network of a name or path, on the GPU where there is one; loaded once in a process.

    Raises:
        ConfigError: There is no such model, or it does something else.
        ModelError: Its weights are missing, damaged, of another architecture, or their licence was not accepted.
        MissingExtraError: spandrel is not installed.
    """
    import torch

    from lora_data.errors import ConfigError
    from lora_data.models.network import load_file, load_network
    from lora_data.models.registry import model_named
    from lora_data.models.weights import Weights, models_folder

    path = path_of(model)
    if path is not None:
        loaded = load_file(path)
    else:
        known = model_named(model)
        if known.task != "upscale":
            raise ConfigError(f"precompute.upscale.model: {model} does {known.task}, not upscale")
        loaded = load_network(known, Weights(models_folder()))
    if loaded.scale not in (2, 4):
        raise ConfigError(f"precompute.upscale.model: {model} enlarges {loaded.scale} times, expected 2 or 4")
    cuda = torch.cuda.is_available()
    half = torch.float16 if loaded.half else torch.bfloat16
    return loaded.to("cuda", half) if cuda else loaded


def path_of(model: str) -> Any:
    """The file that a model's name means, where it is a path (it has a suffix or a separator)."""
    from pathlib import Path

    return Path(model) if Path(model).suffix in (".pth", ".pt", ".ckpt", ".safetensors") else None
