"""The augmentation's preview: what training will see of some kept pictures, by training's own code."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lora_data.errors import ConfigError, ShardError
from lora_data.evenly import evenly
from lora_data.manifest import Record
from lora_data.report.kept import Kept
from lora_data.report.pictures import Pictures
from lora_data.report.words import number
from lora_data.shards import INDEX, Index, read_index

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

_LIBRARIES = ("torch", "kornia", "numpy", "opencv-python", "opencv-python-headless", "pillow")


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
    shards: Path,
    config: Mapping[str, Any],
    records: Sequence[Record],
    names: Sequence[str],
    pictures: Pictures,
    kept: Kept | None = None,
) -> Augmentation:
    """Draw the preview.

    Args:
        shards: ``OUT/shards``.
        config: The run's configuration, a tree of tables; training's part of it counts.
        records: The table; shards that hold anything else than its kept pictures are of another run.
        names: The characters, in the order of the page.
        pictures: Take in what is drawn.
        kept: Where the last preview is; None: it is drawn anew.
    """
    if not any(r.active for r in records):
        return Augmentation([], "nothing was kept")
    if not (shards / INDEX).is_file():
        return Augmentation([], "there are no shards beside this report")
    if not config:
        return Augmentation([], "run.json does not say the configuration")
    training = {name: config[name] for name in ("data", "augment", "characters") if name in config}
    try:
        index = read_index(shards)
        if {(s.key, s.character) for s in index.samples} != {(r.key, r.character) for r in records if r.active}:
            return Augmentation([], "the shards do not hold what the table says was kept: they are of another run")
        chosen = {name: _chosen(index, name) for name in names}
        chosen = {name: places for name, places in chosen.items() if places}

        def made() -> bytes:
            preview = _draw(shards, training, chosen, pictures)
            drawings = {name: b64encode(data).decode() for name, data in pictures.drawn().items()}
            return json.dumps([asdict(preview), drawings]).encode()

        if kept is None:
            return _draw(shards, training, chosen, pictures)
        samples = [[asdict(index.samples[place]) for place in places] for places in chosen.values()]
        decides = [training, list(chosen), index.counts(), samples, _bytes_of(shards, index, chosen)]
        preview, drawings = json.loads(kept.made("draws", decides, _LIBRARIES, made))
    except (ConfigError, ShardError) as error:
        # the report must not depend on where OUT lies
        return Augmentation([], str(error).replace(str(shards), "OUT/shards"))
    for name, data in drawings.items():
        pictures.put(name, b64decode(data))
    return _read(preview)


def _chosen(index: Index, name: str) -> list[int]:
    """The places of the pictures of a character that are drawn."""
    own = [place for place, sample in enumerate(index.samples) if sample.character == name]
    return evenly(sorted(own, key=lambda place: index.samples[place].key), SAMPLES)


def _bytes_of(shards: Path, index: Index, chosen: Mapping[str, Sequence[int]]) -> list[str]:
    """Digests of what lies in the shards where the index says that these samples are."""
    found: list[str] = []
    for sample in (index.samples[place] for places in chosen.values() for place in places):
        try:
            with (shards / sample.shard).open("rb") as file:
                for offset, size in sample.files.values():
                    file.seek(offset)
                    found.append(hashlib.sha256(file.read(size)).hexdigest())
        except OSError as error:
            raise ShardError(f"shard {sample.shard} cannot be read: {error.strerror}") from None
    return found


def _draw(
    shards: Path, training: Mapping[str, Any], chosen: Mapping[str, Sequence[int]], pictures: Pictures
) -> Augmentation:
    # torch takes seconds to import: not before there is something to draw
    import torch

    from lora_data.augment import CharacterAugment
    from lora_data.config import parse_config
    from lora_data.draws import drawn
    from lora_data.train.dataset import ShardDataset

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads wait for each other longer than pictures this small take
    try:
        parsed = parse_config(dict(training))
        dataset = ShardDataset(shards)
        counts = dataset.index.counts()
        # numba compiles for longer than this draws
        augment = CharacterAugment(parsed, counts=counts, backend="eager")
        found: list[Previewed] = []
        for name, places in chosen.items():
            rows: list[Row] = []
            for place in places:
                sample = dataset.samples[place]
                made = drawn(sample, _small(dataset.image(place)), augment, draws=DRAWS, side=SIDE)
                rows.append(Row(sample.key, [_drawn(sample.key, i, draw, pictures) for i, draw in enumerate(made)]))
            settings = parsed.characters.get(name)
            policy = parsed.augment if settings is None else settings.augment
            on = augment.policies.is_on(name)
            found.append(Previewed(name, counts[name], _says(policy) if on else "not augmented, as configured", rows))
    finally:
        torch.set_num_threads(threads)
    return Augmentation(found, background=parsed.data.background, resolution=parsed.data.resolution)


def _read(said: dict[str, Any]) -> Augmentation:
    """A preview from its tables."""
    characters = [
        Previewed(c["name"], c["images"], c["policy"], [_row(row) for row in c["rows"]]) for c in said["characters"]
    ]
    return Augmentation(characters, said["remark"], said["background"], said["resolution"])


def _row(said: dict[str, Any]) -> Row:
    return Row(said["key"], [Drawn(d["url"], d["numbers"], d["missed"]) for d in said["draws"]])


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
