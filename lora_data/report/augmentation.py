"""The augmentation's preview: what training will see of some kept pictures, by training's own code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lora_data.errors import ConfigError, ShardError
from lora_data.evenly import evenly
from lora_data.manifest import Record
from lora_data.report.pictures import Pictures
from lora_data.report.words import number
from lora_data.shards import INDEX

if TYPE_CHECKING:
    from lora_data.augment.policy import AugmentPolicy
    from lora_data.draws import Draw

SAMPLES, DRAWS = 3, 5
"""Pictures of each character, and draws of each."""
SIDE = 160
"""Longest side of a drawn picture, px."""
_SOURCE = 3 * SIDE // 2
"""Longest side, px, of what is drawn from: the stored picture made smaller, for plain torch filters every one of its
pixels. It is still larger than the narrowest crop needs."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A drawn picture: where it lies and what was drawn, in words; ``missed``: the constraint that does not hold."""

    url: str
    numbers: list[str]
    missed: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """A kept picture and its draws."""

    key: str
    draws: list[Drawn]


@dataclass(frozen=True, slots=True)
class Previewed:
    """One character's draws; ``policy`` is what they may do, in words."""

    name: str
    images: int
    policy: str
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """The preview, or a remark that says why there is none.

    Args:
        characters: In the order of the page.
        remark: Empty where there is a preview.
        background: Of the training's configuration.
        resolution: The same, px.
    """

    characters: list[Previewed]
    remark: str = ""
    background: str = ""
    resolution: int = 0

    @property
    def policy(self) -> str:
        """What all characters' draws may do; empty where they differ."""
        found = {character.policy for character in self.characters}
        return found.pop() if len(found) == 1 else ""


def augmentation(
    shards: Path, config: Mapping[str, Any], records: Sequence[Record], names: Sequence[str], pictures: Pictures
) -> Augmentation:
    """Draw the preview.

    Args:
        shards: ``OUT/shards``.
        config: The run's configuration, a tree of tables; training's part of it counts.
        records: The table; shards that hold anything else than its kept pictures are of another run.
        names: The characters, in the order of the page.
        pictures: Take in what is drawn.
    """
    if not any(r.active for r in records):
        return Augmentation([], "nothing was kept")
    if not (shards / INDEX).is_file():
        return Augmentation([], "there are no shards beside this report")
    if not config:
        return Augmentation([], "run.json does not say the configuration")
    # torch takes seconds to import: not before there is something to draw
    import torch

    from lora_data.augment import CharacterAugment
    from lora_data.config import parse_config
    from lora_data.draws import drawn
    from lora_data.train.dataset import ShardDataset

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads wait for each other longer than pictures this small take
    try:
        parsed = parse_config({name: config[name] for name in ("data", "augment", "characters") if name in config})
        dataset = ShardDataset(shards)
        there = {(sample.key, sample.character) for sample in dataset.samples}
        if there != {(r.key, r.character) for r in records if r.active}:
            return Augmentation([], "the shards do not hold what the table says was kept: they are of another run")
        counts = dataset.index.counts()
        # numba compiles for longer than this draws
        augment = CharacterAugment(parsed, counts=counts, backend="eager")
        found: list[Previewed] = []
        for name in (name for name in names if name in counts):
            own = [place for place, sample in enumerate(dataset.samples) if sample.character == name]
            own.sort(key=lambda place: dataset.samples[place].key)
            rows: list[Row] = []
            for place in evenly(own, SAMPLES):
                sample = dataset.samples[place]
                made = drawn(sample, _small(dataset.image(place)), augment, draws=DRAWS, side=SIDE)
                rows.append(Row(sample.key, [_drawn(sample.key, i, draw, pictures) for i, draw in enumerate(made)]))
            settings = parsed.characters.get(name)
            policy = parsed.augment if settings is None else settings.augment
            on = augment.policies.is_on(name)
            found.append(Previewed(name, counts[name], _says(policy) if on else "not augmented, as configured", rows))
    except (ConfigError, ShardError) as error:
        # the report must not depend on where OUT lies
        return Augmentation([], str(error).replace(str(shards), "OUT/shards"))
    finally:
        torch.set_num_threads(threads)
    return Augmentation(found, background=parsed.data.background, resolution=parsed.data.resolution)


def _small(picture: np.ndarray) -> np.ndarray:
    """A copy whose longest side is `_SOURCE` px at most, averaged premultiplied."""
    scale = _SOURCE / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def _drawn(key: str, place: int, draw: Draw, pictures: Pictures) -> Drawn:
    numbers = [
        f"crop {draw.crop:.2f}",
        f"turn {draw.turn:+.1f}°",
        f"fills {draw.fills:.0%}",
        f"light {draw.light:.3f}",
        f"contrast {draw.contrast:.3f}",
        f"noise {draw.noise:.3f}" if draw.noise else "no noise",
        *(["flipped"] if draw.flipped else []),
    ]
    return Drawn(pictures.add(key, place, draw.picture), numbers, draw.missed)


def _says(policy: AugmentPolicy) -> str:
    """A policy's ranges in words."""
    parts = [
        "crop " + ", ".join(number(scale) for scale in policy.crop_scales),
        f"at least {policy.min_character_ratio:.0%} of it the character’s {policy.ratio_of}",
        f"turn {number(policy.rotation[0])} to {number(policy.rotation[1])}°",
        f"light {number(policy.brightness[0])} to {number(policy.brightness[1])}",
        f"contrast {number(policy.contrast[0])} to {number(policy.contrast[1])}",
        f"noise {number(policy.noise_std)} on {policy.noise_probability:.0%}",
        f"flipped {policy.horizontal_flip:.0%}" if policy.horizontal_flip else "never flipped",
    ]
    return "; ".join(parts)
