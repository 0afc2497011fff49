"""Colour: white balance, then a mild equalisation of lightness that leaves hue where it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lora_data.manifest import Outcome
from lora_data.sample import Instance
from lora_data.stage import MapStage

_WORK_SIZE = 384
"""Longest side, px, at which gains are found. They vary slowly: finer would only follow noise."""
_MIN_PIXELS = 4096
"""Fewest inside pixels to equalise, at the working size: 16 samples for each of 256 bins; less is a noisy histogram."""
_RADIUS = 1 / 16
"""Half the guided filter's window, as a share of the longer side: half a tile of the default grid."""
_FLAT = 0.02
"""Standard deviation (0..1) of luma below which a window counts as flat: noise and compression blocks (5 levels)."""
_BLACK = 0.002
"""Added to luminance before ratios: L* 1.8, below which a ratio is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Colour(MapStage):
    """Standardise light and colour inside the matte, mildly. Runs after the matte stage.

    First the gains that `stages.cast.WhiteBalance` decided, in linear light. Then lightness is equalised with
    statistics from inside the matte only. With ``preserve_hue`` the change becomes a gain of luminance, smoothed along
    the picture's own edges (a locally affine function of lightness: texture, noise and compression blocks are scaled
    with their surroundings, not reshaped) and applied to the three linear channels together, no further than the first
    channel that would clip. The result is measured; it is taken back where hue moved or local structure changed.

    Args:
        method: ``clahe`` (adaptive), ``equalise`` (one curve for the whole character; per channel without
            ``preserve_hue``), ``none`` (white balance only).
        engine: Library that equalises.
        clip_limit: CLAHE's clip limit, multiples of the mean bin.
        tiles: CLAHE's tiles a side.
        strength: How much of the equalised lightness is taken, 0..1. "Mild" in the strategy: at .5 median structure is
            .999 of the input's, and light and mood stay as they are to the eye.
        max_lightness_shift: Most that the character's mean lightness L* (0..100) may move: night stays night. Without
            it full strength lifts night shots by 10 to 12 (measured on 117 instances).
        max_gain: Largest gain of luminance, and its inverse the smallest (with ``preserve_hue``): a black glove alone
            in its tiles would be lifted without it. 1.5 is half a stop.
        preserve_hue: Scale the three channels together, and take the step back beyond ``max_hue_shift``.
        max_hue_shift: Largest 95th percentile of the hue-angle change, degrees (8-bit rounding alone gives 1.2).
        min_structure: Smallest `colour.structure` against the input.
        white_balance: Apply the gains found by the corpus stage.

    Raises:
        ValueError: A field is out of range.

    Source: clip limit, tiles and hue preservation: the enhancement strategy, 2.1. Gain by luminance ratio: Naik and
        Murthy, Hue-preserving color image enhancement without gamut problem, IEEE TIP 2003. Smoothing: He, Sun and
        Tang, Guided image filtering, PAMI 2013; at low resolution as He and Sun, Fast guided filter, 2015.
    """

    name: ClassVar[str] = "colour"
    reads: ClassVar[frozenset[str]] = frozenset({"colour_review", "wb_red", "wb_green", "wb_blue"})

    method: Literal["clahe", "equalise", "none"] = "clahe"
    engine: Literal["opencv", "skimage"] = "opencv"
    clip_limit: float = 2.0
    tiles: int = 8
    strength: float = 0.5
    max_lightness_shift: float = 3.0
    max_gain: float = 1.5
    preserve_hue: bool = True
    max_hue_shift: float = 1.5
    min_structure: float = 0.98
    white_balance: bool = True

    def __post_init__(self) -> None:
        if self.method not in ("clahe", "equalise", "none"):
            raise ValueError(f'method must be "clahe", "equalise" or "none", got {self.method!r}')
        if self.engine not in ("opencv", "skimage"):
            raise ValueError(f'engine must be "opencv" or "skimage", got {self.engine!r}')
        if not 1 <= self.clip_limit <= 40:
            raise ValueError(f"clip_limit must be in [1, 40], got {self.clip_limit}")
        if not 1 <= self.tiles <= 64:
            raise ValueError(f"tiles must be in [1, 64], got {self.tiles}")
        if not 1 <= self.max_gain <= 4:
            raise ValueError(f"max_gain must be in [1, 4], got {self.max_gain}")
        for field, high in (
            ("strength", 1),
            ("max_lightness_shift", 100),
            ("max_hue_shift", 180),
            ("min_structure", 1),
        ):
            if not 0 <= getattr(self, field) <= high:
                raise ValueError(f"{field} must be in [0, {high}], got {getattr(self, field)}")

    def apply(self, instance: Instance) -> Instance:
        """Correct, equalise, measure; write ``colour``, ``colour_reason`` and ``colour_hue_shift``.

        The hue shift is that of the equalisation, after white balance. Reasons: ``white balance`` where it acted,
        joined to ``hue``, ``structure`` (taken back), ``small`` or ``off`` (nothing to equalise). ``person``: taken
        back whole, the picture stays as it is.
        """
        if instance.record.colour_review == "refuse":
            return instance.replace(colour="taken_back", colour_reason="person")
        balanced = self._balance(instance)
        reasons = [] if balanced is instance.rgb else ["white balance"]
        outcome: Outcome = "no"
        shift: float | None = None
        rgb = balanced
        if self.method == "none" or self.strength == 0:
            reasons.append("off")
        else:
            outcome, reason, shift, rgb = self._equalise(balanced, instance.alpha)
            reasons += [reason] if reason else []
        if balanced is not instance.rgb:
            outcome = "applied"
        return instance.replace(
            rgb=rgb, colour=outcome, colour_reason=", ".join(reasons) or None, colour_hue_shift=shift
        )

    def _balance(self, instance: Instance) -> np.ndarray:
        """The colours after white balance: one table a channel, in linear light."""
        import cv2

        from lora_data.colour import to_linear, to_srgb

        record = instance.record
        if not self.white_balance or record.wb_red is None or record.wb_green is None or record.wb_blue is None:
            return instance.rgb
        levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
        gains = np.array([record.wb_red, record.wb_green, record.wb_blue], np.float32)
        table = to_srgb(to_linear(levels) * gains)
        return cv2.LUT(instance.rgb, table[None])

    def _equalise(self, rgb: np.ndarray, alpha: np.ndarray) -> tuple[Outcome, str | None, float | None, np.ndarray]:
        """Outcome, reason, hue shift and pixels."""
        from lora_data.colour import hue_shift, structure
        from lora_data.matte import bounding_box, interior

        box = bounding_box(alpha, threshold=0)
        if box is None:
            return "no", "small", None, rgb
        x, y, width, height = box
        view = (slice(y, y + height), slice(x, x + width))
        part = np.ascontiguousarray(rgb[view])
        inside = interior(alpha[view], erode=1)
        changed = self._by_gain(part, inside) if self.preserve_hue else self._by_channel(part, inside)
        if changed is None:
            return "no", "small", None, rgb
        every = slice(None, None, max(1, max(width, height) // _WORK_SIZE))
        shift = hue_shift(part[every, every], changed[every, every], inside[every, every])
        if self.preserve_hue and shift is not None and shift > self.max_hue_shift:
            return "taken_back", "hue", shift, rgb
        likeness = structure(part, changed, inside)
        if likeness is not None and likeness < self.min_structure:
            return "taken_back", "structure", shift, rgb
        result = rgb.copy()
        result[view] = changed
        return "applied", None, shift, result

    def _by_gain(self, rgb: np.ndarray, inside: np.ndarray) -> np.ndarray | None:
        """Scale the three linear channels by one smooth gain; None where there is too little to measure."""
        import cv2

        from lora_data.backends.equalise import smooth_gain
        from lora_data.colour import from_lightness, lightness, luminance, to_linear, to_srgb

        height, width = inside.shape
        scale = min(1.0, _WORK_SIZE / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        linear = to_linear(rgb)
        guide = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        mask = inside.astype(np.float32)
        stack = cv2.merge([luminance(linear) * mask, guide * mask, mask])
        small = stack if scale == 1 else cv2.resize(stack, size, interpolation=cv2.INTER_AREA)
        known = small[..., 2] > 0.5
        if int(known.sum()) < _MIN_PIXELS:
            return None
        small_luminance, small_guide = (small[..., c] / np.maximum(small[..., 2], 1e-6) for c in (0, 1))
        before = lightness(np.clip(small_luminance, 0, 1)).astype(np.float32)
        after = self._equalised(before, known)
        wanted = np.log((from_lightness(after) + _BLACK) / (from_lightness(before) + _BLACK)).astype(np.float32)
        limit = math.log(self.max_gain)
        wanted = np.clip(wanted, -limit, limit)
        radius = max(4, round(max(size) * _RADIUS))
        slope, offset = (
            cv2.resize(x, (width, height), interpolation=cv2.INTER_LINEAR)
            for x in smooth_gain(wanted, small_guide, known, radius=radius, epsilon=_FLAT**2)
        )
        gain = cv2.exp(np.clip(slope * guide + offset, -limit, limit))
        red, green, blue = cv2.split(linear)
        highest = cv2.max(cv2.max(red, green), blue)
        gain = np.minimum(gain, 1 / np.maximum(highest, 1e-6))
        return to_srgb(cv2.multiply(linear, cv2.merge([gain] * 3)))

    def _by_channel(self, rgb: np.ndarray, inside: np.ndarray) -> np.ndarray | None:
        """The usual way: equalise Lab's lightness (CLAHE), or each channel (equalise); hue moves."""
        import cv2

        from lora_data.backends.equalise import equalise
        from lora_data.colour import lab

        if int(inside.sum()) < _MIN_PIXELS:
            return None
        if self.method == "equalise":
            flat = [equalise(np.ascontiguousarray(rgb[..., c]), inside, engine=self.engine) for c in range(3)]
            mixed = rgb + self.strength * (np.dstack(flat) - rgb)
            return np.where(inside[..., None], np.rint(mixed), rgb).astype(np.uint8)
        image = lab(rgb)
        image[..., 0] = np.where(inside, self._equalised(image[..., 0], inside), image[..., 0])
        return np.rint(np.clip(cv2.cvtColor(image, cv2.COLOR_Lab2RGB), 0, 1) * 255).astype(np.uint8)

    def _equalised(self, level: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Lightness (0..100) equalised by ``strength``, its mean moved by ``max_lightness_shift`` at most."""
        from lora_data.backends.equalise import clahe, equalise

        channel = np.rint(np.clip(level, 0, 100) * 2.55).astype(np.uint8)
        if self.method == "clahe":
            flat = clahe(channel, inside, clip_limit=self.clip_limit, tiles=self.tiles, engine=self.engine)
        else:
            flat = equalise(channel, inside, engine=self.engine)
        change = self.strength * (flat - channel) / 2.55
        mean = float(change[inside].mean())
        change += np.clip(mean, -self.max_lightness_shift, self.max_lightness_shift) - mean
        return np.clip(level + change, 0, 100).astype(np.float32)
