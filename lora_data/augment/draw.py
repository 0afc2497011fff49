"""Draw: the policies of the characters and the keys of a batch become parameters, without a look at any pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from lora_data.augment.params import AugmentParams
from lora_data.augment.policy import AUGMENT_BELOW, AugmentPolicy
from lora_data.errors import BatchError, ConfigError
from lora_data.rng import random_words, sample_ids, uniforms

BACKGROUND_NOISE = (0.02, 0.2)
"""Deviation of a noisy random background, in units of [0, 1]: from barely visible to strong. Ours."""

_COLOURS = {"gray": (0.5, 0.5, 0.5), "white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
_OFF = AugmentPolicy(
    min_character_ratio=0.0,
    crop_scales=(1.0,),
    rotation=(0.0, 0.0),
    brightness=(1.0, 1.0),
    contrast=(1.0, 1.0),
    noise_probability=0.0,
)
_SCALE, _POSITION, _ROTATION, _FLIP, _BRIGHTNESS, _CONTRAST, _GATE, _SEED, _KIND = range(9)
_FIRST, _SECOND, _EXTRA, _WORDS = slice(9, 12), slice(12, 15), 15, 16


class PolicyTable:
    """The policies of all characters as arrays, so that a batch draws at once.

    Args:
        shared: The policy of every character that has none of its own.
        policies: Policies by character.
        counts: Kept images by character, or None where that is not known. Decides ``enabled = "auto"``; where it is not
            known, "auto" is on.
        background: "gray", "white", "black", "random" or "#rrggbb".

    Raises:
        ConfigError: A policy names a character that ``counts`` does not have.
    """

    def __init__(
        self,
        shared: AugmentPolicy,
        policies: Mapping[str, AugmentPolicy],
        counts: Mapping[str, int] | None,
        background: str,
    ) -> None:
        for name in policies:
            if counts is not None and name not in counts:
                raise ConfigError(
                    f"[characters.{name}] names a character that is not in the data; it has: {_listed(counts)}"
                )
        self._counts = counts
        self._background = background
        self._rows: dict[str, int] = {}
        names = [None, *dict.fromkeys([*policies, *(counts or ())])]
        active: list[AugmentPolicy] = []
        for row, name in enumerate(names):
            policy = shared if name is None else policies.get(name, shared)
            count = None if counts is None or name is None else counts[name]
            on = policy.enabled if policy.enabled != "auto" else count is None or count < AUGMENT_BELOW
            active.append(policy if on else _OFF)
            if name is not None:
                self._rows[name] = row
        width = max(len(p.crop_scales) for p in active)
        self._on = np.array([p is not _OFF for p in active])
        self._scales = np.array([list(p.crop_scales) + [1.0] * (width - len(p.crop_scales)) for p in active])
        self._scale_count = np.array([len(p.crop_scales) for p in active])
        self._ranges = np.array([[p.rotation, p.brightness, p.contrast] for p in active], np.float64)
        self._flip = np.array([p.horizontal_flip for p in active])
        self._noise = np.array([[p.noise_std, p.noise_probability] for p in active])
        self._everywhere = np.array([p.noise_area == "everywhere" for p in active])
        self._min_ratio = np.array([p.min_character_ratio for p in active])
        self._by_matte = np.array([p.ratio_of == "matte" for p in active])

    def is_on(self, character: str) -> bool:
        """Whether a character is augmented."""
        return bool(self._on[self.rows_of([character])[0]])

    @property
    def needs_coverage(self) -> bool:
        """Whether any policy counts the matte's area."""
        return bool(self._by_matte.any())

    def rows_of(self, characters: Sequence[str]) -> np.ndarray:
        """The table's row of each character.

        Raises:
            BatchError: A character is not in the data.
        """
        if self._counts is not None:
            for name in characters:
                if name not in self._counts:
                    raise BatchError(f"the batch has character {name!r}, the data only has: {_listed(self._counts)}")
        return np.array([self._rows.get(name, 0) for name in characters], np.int64)

    def draw(
        self, seed: int, epoch: int, keys: Sequence[str], characters: Sequence[str] | None, variants: Sequence[int]
    ) -> AugmentParams:
        """Draw for a batch, by the shared policy where no characters are named.

        The same key, epoch, variant and seed always draw the same.

        Raises:
            BatchError: The lists differ in length, a character is unknown, or a number is out of range.
        """
        for name, values in (("characters", characters), ("variants", variants)):
            if values is not None and len(values) != len(keys):
                raise BatchError(f"got {len(keys)} keys and {len(values)} {name}; expected one per sample")
        row = np.zeros(len(keys), np.int64) if characters is None else self.rows_of(characters)
        try:
            words = random_words(seed, epoch, sample_ids(keys), np.asarray(variants, np.int64), _WORDS)
        except ValueError as error:
            raise BatchError(str(error)) from None
        u = uniforms(words)
        low, high = self._ranges[row, :, 0], self._ranges[row, :, 1]
        drawn = low + u[:, [_ROTATION, _BRIGHTNESS, _CONTRAST]] * (high - low)
        index = np.minimum((u[:, _SCALE] * self._scale_count[row]).astype(np.int64), self._scale_count[row] - 1)
        noise_std, noise_probability = self._noise[row, 0], self._noise[row, 1]
        arrays = {
            "scale": self._scales[row, index],
            "position": np.where(self._on[row], u[:, _POSITION], 0.5),
            "rotation": drawn[:, 0],
            "flip": u[:, _FLIP] < self._flip[row],
            "brightness": drawn[:, 1],
            "contrast": drawn[:, 2],
            "noise_std": np.where(u[:, _GATE] < noise_probability, noise_std, 0.0),
            "noise_everywhere": self._everywhere[row],
            "noise_seed": words[:, _SEED].astype(np.int64),
            "min_ratio": self._min_ratio[row],
            "by_matte": self._by_matte[row],
            "background": self._backgrounds(u),
        }
        tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
        return AugmentParams(**tensors, crop=None)

    def _backgrounds(self, u: np.ndarray) -> np.ndarray:
        """One background a sample, ``[B, 8]``; "random" is a colour, a gradient or a noisy colour, a third each."""
        out = np.zeros((len(u), 8))
        if self._background != "random":
            colour = _COLOURS.get(self._background) or tuple(
                int(self._background[i : i + 2], 16) / 255 for i in (1, 3, 5)
            )
            out[:, 0:3] = out[:, 3:6] = colour
            return out
        kind = (u[:, _KIND] * 3).astype(np.int64)
        low, high = BACKGROUND_NOISE
        out[:, 0:3] = u[:, _FIRST]
        out[:, 3:6] = np.where(kind[:, None] == 1, u[:, _SECOND], u[:, _FIRST])
        out[:, 6] = 360 * u[:, _EXTRA]
        out[:, 7] = np.where(kind == 2, low + u[:, _EXTRA] * (high - low), 0.0)
        return out


def _listed(names: Mapping[str, int]) -> str:
    return ", ".join(sorted(names)) or "no character"
