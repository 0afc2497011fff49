"""Export shards for trainers that load folders; with pre-rendered draws for those that train from cached latents."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from PIL import Image

from lora_data.augment import Batch, CharacterAugment
from lora_data.errors import ConfigError
from lora_data.train.dataset import ShardDataset
from lora_data.train.plan import auto_repeats, targets_of
from lora_data.train.settings import CharacterSettings

if TYPE_CHECKING:
    from lora_data.config import Config
    from lora_data.shards import SampleEntry

Format = Literal["kohya", "imagefolder", "onetrainer"]
FORMATS: tuple[Format, ...] = ("kohya", "imagefolder", "onetrainer")
PNG_LEVEL = 3
"""Compression of the exported PNG: a third larger than the default at a fraction of its time."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture on its way into a folder.

    Args:
        name: File name without suffix.
        character: Whose it is.
        token: The character's trigger word.
        repeats: How often the trainer should show it, a whole number of at least 1.
        rgb: uint8 ``[H, W, 3]``, on its background.
        matte: uint8 ``[H, W]``.
        caption: Its text.
    """

    name: str
    character: str
    token: str
    repeats: int
    rgb: np.ndarray
    matte: np.ndarray
    caption: str


def export(shards: Path, config: Config, out: Path, layout: Format, *, variants: int = 0) -> int:
    """Write a folder that a trainer loads.

    Args:
        shards: Folder of shards with its index.
        config: Characters, background, resolution, policies and seed.
        out: Where to; must be new or empty.
        layout: "kohya": ``<repeats>_<token>/<name>.png`` with the matte as its alpha (for ``--alpha_mask``; ignored
            without) and ``.txt``. "imagefolder": one folder with ``metadata.jsonl`` (``file_name``, ``text``).
            "onetrainer": a concept folder per character, with ``<name>-masklabel.png``.
        variants: Draws per image, made by `CharacterAugment` at the sizes of the training's buckets; 0: the pictures as
            they are, on the background.

    Pictures of which files would have one name, also where the file system ignores case (``A.png`` and ``a.png``), all
    get eight digits of a hash of character and key behind their own; a warning names two of them.

    Returns:
        How many pictures were written.

    Raises:
        ConfigError: ``out`` is not empty, a number is out of range, a configured character is not there, or two
            characters would share a folder.
        ShardError: A shard or a sample in it is missing or damaged.
    """
    if variants < 0:
        raise ConfigError(f"variants must be at least 0, got {variants}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out must be new or empty, got {out}")
    dataset = ShardDataset(shards)
    # The first picture makes the folder: what is wrong with the configuration shows before.
    _check_folders(dataset.index.counts(), config, layout)
    names = _names(dataset.samples, layout, variants)
    lines = [_write(out, picture, layout) for picture in _pictures(dataset, config, variants, names)]
    out.mkdir(parents=True, exist_ok=True)
    if layout == "imagefolder":
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (out / "metadata.jsonl").write_text(text, encoding="utf-8")
    return len(lines)


def _check_folders(characters: Iterable[str], config: Config, layout: Format) -> None:
    """Refuse characters whose folders would be one, also where the file system ignores case."""
    if layout == "imagefolder":
        return
    by_folder: dict[str, tuple[str, str]] = {}
    for character in characters:
        settings = config.characters.get(character, CharacterSettings())
        text = settings.token_of(character) if layout == "kohya" else character
        other, theirs = by_folder.setdefault(_as_name(text).casefold(), (character, text))
        if theirs != text:  # who has the same token on purpose shares its folder
            what = "token" if layout == "kohya" else "name"
            raise ConfigError(
                f"characters {other!r} and {character!r} would share a folder: their {what}s are {theirs!r} and "
                f"{text!r}, which file systems that ignore case do not tell apart; give one another {what}"
            )


def _names(samples: Sequence[SampleEntry], layout: Format, variants: int) -> list[str]:
    """What the names of each sample's files begin with."""

    def files(sample: SampleEntry) -> set[str]:
        stems = [f"{sample.key}_v{i}" for i in range(variants)] if variants else [sample.key]
        ends = ("", "-masklabel") if layout == "onetrainer" else ("",)
        return {(stem + end).casefold() for stem in stems for end in ends}

    used = Counter(name for sample in samples for name in files(sample))
    names: list[str] = []
    met: list[str] = []
    for sample in samples:
        if all(used[name] == 1 for name in files(sample)):
            names.append(sample.key)
            continue
        met.append(sample.key)
        names.append(f"{sample.key}-{hashlib.sha256(f'{sample.character}/{sample.key}'.encode()).hexdigest()[:8]}")
    if met:
        warnings.warn(
            f"{len(met)} pictures would have had the files of another one where case is ignored, such as "
            f"{sorted(met, key=str.casefold)[:2]}: a hash is added to their names",
            stacklevel=3,
        )
    return names


def _pictures(dataset: ShardDataset, config: Config, variants: int, names: Sequence[str]) -> Iterator[Picture]:
    counts = dataset.index.counts()
    augment = CharacterAugment(config, counts=counts)
    data = config.data
    sizes = [(s.height, s.width) for s in dataset.samples]
    targets = targets_of(sizes, data.resolution, data.bucket_step, data.max_upscale) if sizes else []
    for place, sample in enumerate(dataset.samples):
        settings = config.characters.get(sample.character, CharacterSettings())
        repeats = auto_repeats(counts[sample.character]) if settings.repeats == "auto" else settings.repeats
        caption = settings.caption_of(dataset.caption(place).strip(), sample.character)
        number = max(1, variants)
        target = targets[place] if variants else None
        batch = Batch.of_one(
            dataset.image(place), sample.key, sample.character, variants=number, target=target, face=sample.face
        )
        made = augment(batch) if variants else augment.still(batch)
        rgb = made.pictures()
        mattes = (made.mask[:, 0] * 255).round().to(torch.uint8).numpy()
        for variant in range(number):
            name = f"{names[place]}_v{variant}" if variants else names[place]
            shown = max(1, round(repeats / number))
            yield Picture(
                name,
                sample.character,
                settings.token_of(sample.character),
                shown,
                rgb[variant],
                mattes[variant],
                caption,
            )


def _write(out: Path, picture: Picture, layout: Format) -> dict[str, str]:
    """Write one picture and what goes beside it; its line in ``metadata.jsonl``."""
    folder = out
    image = Image.fromarray(picture.rgb)
    if layout == "kohya":
        folder = out / f"{picture.repeats}_{_as_name(picture.token)}"
        image = Image.fromarray(np.dstack([picture.rgb, picture.matte]))
    elif layout == "onetrainer":
        folder = out / _as_name(picture.character)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{picture.name}.png"
    image.save(path, compress_level=PNG_LEVEL)
    if layout == "onetrainer":
        Image.fromarray(picture.matte).save(folder / f"{picture.name}-masklabel.png", compress_level=PNG_LEVEL)
    if layout != "imagefolder":
        path.with_suffix(".txt").write_text(picture.caption + "\n", encoding="utf-8")
    return {"file_name": path.name, "text": picture.caption}


def _as_name(text: str) -> str:
    """A text as a folder's name: what separates paths becomes "-"."""
    return "".join("-" if c in '/\\:*?"<>|' or ord(c) < 32 else c for c in text).strip(" .") or "-"
