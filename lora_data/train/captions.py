"""Captions: tags shuffled, kept and dropped, wildcards and lines chosen; drawn from the sample's own counter.

The order of the steps is that of kohya's sd-scripts (prefix and suffix, dropout, wildcards, tags, secondary separator),
so that a configuration means the same here.
"""

from __future__ import annotations

import re

import numpy as np

from lora_data.rng import CAPTION, random_words, sample_ids, uniforms
from lora_data.train.settings import CaptionSettings

_WILDCARD = re.compile(r"\{([^{}]+)\}")
_OPEN, _CLOSE = "\ue000", "\ue001"
"""Stand for the escaped braces ``{{`` and ``}}`` while wildcards are replaced (private use area)."""


def draw_caption(
    text: str, token: str, settings: CaptionSettings, *, seed: int, epoch: int, key: str, variant: int
) -> str:
    """One caption of a sample.

    Args:
        text: As it is stored, perhaps of several lines; "{token}" in it stands for the token.
        token: The character's trigger word.
        settings: What happens to it.
        seed: With epoch, key and variant decides the draw.
        epoch: At least 0.
        key: The sample's name.
        variant: Which of the sample's repeats in this epoch.

    Returns:
        The caption; empty where it was dropped.
    """
    draws = _Draws(seed, epoch, key, variant)
    caption = text.strip().replace("{token}", token)
    lines = [line.strip() for line in caption.splitlines() if line.strip()] or [""]
    dropped = draws.next() < settings.dropout
    line = int(draws.next() * len(lines)) if settings.wildcard else 0
    if dropped:
        return ""
    caption = " ".join(part for part in (settings.prefix, lines[line], settings.suffix) if part)
    if settings.wildcard:
        caption = _choose(caption, draws)
    if settings.shuffle or settings.tag_dropout > 0 or settings.keep_tokens_separator:
        caption = _tags(caption, settings, draws)
    if settings.secondary_separator:
        caption = caption.replace(settings.secondary_separator, settings.separator)
    return caption


class _Draws:
    """Uniform numbers of one sample's captions, in the order in which they are asked for."""

    def __init__(self, seed: int, epoch: int, key: str, variant: int) -> None:
        self._place = (seed, epoch, sample_ids([key]), np.array([variant]))
        self._numbers: list[float] = []
        self._taken = 0

    def next(self) -> float:
        """The next number, in (0, 1)."""
        if self._taken == len(self._numbers):
            words = random_words(*self._place, 2 * len(self._numbers) + 16, stream=CAPTION)
            self._numbers = uniforms(words[0]).tolist()
        self._taken += 1
        return self._numbers[self._taken - 1]


def _choose(caption: str, draws: _Draws) -> str:
    """Replace each ``{a|b}`` by one of its parts, inner ones first; ``{{`` and ``}}`` are plain braces."""
    caption = caption.replace("{{", _OPEN).replace("}}", _CLOSE)

    def one(match: re.Match[str]) -> str:
        parts = match.group(1).split("|")
        return parts[int(draws.next() * len(parts))]

    while (replaced := _WILDCARD.sub(one, caption)) != caption:
        caption = replaced
    return caption.replace(_OPEN, "{").replace(_CLOSE, "}")


def _tags(caption: str, settings: CaptionSettings, draws: _Draws) -> str:
    """Shuffle and drop the tags that are free to move."""
    head, free, tail = "", caption, ""
    kept = settings.keep_tokens_separator
    if kept and kept in caption:
        head, _, free = caption.partition(kept)
        free, _, tail = free.partition(kept)

    def split(text: str) -> list[str]:
        return [tag.strip() for tag in text.split(settings.separator) if tag.strip()]

    fixed, tags, last = split(head), split(free), split(tail)
    if not (kept and kept in caption):
        fixed, tags = tags[: settings.keep_tokens], tags[settings.keep_tokens :]
    if settings.shuffle:
        order = [draws.next() for _ in tags]
        tags = [tag for _, tag in sorted(zip(order, tags, strict=True), key=lambda pair: pair[0])]
    if settings.tag_dropout > 0:
        tags = [tag for tag in tags if draws.next() >= settings.tag_dropout]
    return f"{settings.separator} ".join(fixed + tags + last)
