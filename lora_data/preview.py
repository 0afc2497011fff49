"""The preview: what training will see, a grid per character; originals left, draws right, by the training's code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from lora_data.augment import AugmentSummary, Batch, CharacterAugment
from lora_data.draws import Draw, drawn, target_of
from lora_data.errors import ShardError
from lora_data.evenly import evenly
from lora_data.shards import SampleEntry
from lora_data.train.dataset import ShardDataset

if TYPE_CHECKING:
    from lora_data.config import Config

CELL, GAP, TEXT, HEADER = 256, 8, 34, 36
PAPER, INK, WARN, OUTLINE = (246, 246, 244), (40, 40, 40), (176, 0, 32), (0, 200, 120)


def write_preview(
    shards: Path, config: Config, out: Path, *, samples: int = 4, draws: int = 5, epoch: int = 0
) -> AugmentSummary:
    """Draw the grid.

    Args:
        shards: Folder of shards with its index.
        config: The training's configuration.
        out: Picture to write (PNG by its name).
        samples: Rows per character, at most; spread evenly over its keys.
        draws: Draws per row.
        epoch: Whose draws.

    Returns:
        How often the crop's constraints held.

    Raises:
        ShardError: A shard or a picture in it is missing or damaged.
        ConfigError: The configuration names a character that the shards do not have.
    """
    dataset = ShardDataset(shards)
    counts = dataset.index.counts()
    if not counts:
        raise ShardError(f"{shards} holds no sample: nothing to preview")
    augment = CharacterAugment(config, counts=counts)
    summary = AugmentSummary()
    parts: list[Image.Image] = []
    for character, count in sorted(counts.items()):
        state = "augmented" if augment.policies.is_on(character) else "not augmented"
        parts.append(_header(f"{character}   {count} images, {state}", draws))
        own = [place for place, sample in enumerate(dataset.samples) if sample.character == character]
        own.sort(key=lambda place: dataset.samples[place].key)
        for place in evenly(own, samples):
            parts.append(_row(dataset.samples[place], dataset.image(place), augment, draws, epoch, summary))
    page = Image.new("RGB", (parts[0].width, sum(p.height for p in parts) + GAP), PAPER)
    top = 0
    for part in parts:
        page.paste(part, (0, top))
        top += part.height
    out.parent.mkdir(parents=True, exist_ok=True)
    page.save(out)
    return summary


def _row(
    sample: SampleEntry, picture: np.ndarray, augment: CharacterAugment, draws: int, epoch: int, summary: AugmentSummary
) -> Image.Image:
    one = Batch.of_one(picture, sample.key, sample.character, epoch=epoch, target=target_of(picture, CELL))
    row = Image.new("RGB", (_width(draws), CELL + TEXT + GAP), PAPER)
    pen = ImageDraw.Draw(row)
    _place(row, Image.fromarray(augment.still(one).pictures()[0]), 0)
    pen.text((GAP, CELL + 2), f"{_short(sample.key)}\n{sample.width} x {sample.height}", INK, _font(12))
    made = drawn(sample, picture, augment, draws=draws, side=CELL, epoch=epoch, summary=summary)
    for place, draw in enumerate(made, start=1):
        _place(row, _outlined(draw), place)
        pen.text((GAP + place * (CELL + GAP), CELL + 2), _numbers(draw), WARN if draw.missed else INK, _font(12))
    return row


def _outlined(draw: Draw) -> Image.Image:
    """A draw with its matte's outline."""
    cell = Image.fromarray(draw.picture)
    matte = Image.fromarray(draw.matte.astype(np.uint8) * 255)
    cell.paste(OUTLINE, (0, 0), ImageChops.subtract(matte, matte.filter(ImageFilter.MinFilter(3))))
    return cell


def _numbers(draw: Draw) -> str:
    flip = "  flipped" if draw.flipped else ""
    missed = f"  ({draw.missed})" if draw.missed else ""
    noise = f"  noise {draw.noise:.3f}" if draw.noise else ""
    return (
        f"crop {draw.crop:.2f}  turn {draw.turn:+.1f}°  fills {draw.fills:.0%}{flip}{missed}\n"
        f"light {draw.light:.3f}  contrast {draw.contrast:.3f}{noise}"
    )


def _place(row: Image.Image, cell: Image.Image, place: int) -> None:
    left = GAP + place * (CELL + GAP)
    row.paste(cell, (left + (CELL - cell.width) // 2, (CELL - cell.height) // 2))


def _header(text: str, draws: int) -> Image.Image:
    header = Image.new("RGB", (_width(draws), HEADER), PAPER)
    ImageDraw.Draw(header).text((GAP, 8), text, INK, _font(18))
    return header


def _short(key: str) -> str:
    return key if len(key) <= 34 else f"{key[:16]}…{key[-16:]}"


def _width(draws: int) -> int:
    return GAP + (1 + draws) * (CELL + GAP)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
