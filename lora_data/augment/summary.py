"""What an epoch's augmentation did: per character, how often a constraint could not be held and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lora_data.augment.batch import AugmentedBatch
from lora_data.augment.params import EMPTY, FACE, HOLDS, RATIO

OUTCOMES = {HOLDS: "held", RATIO: "ratio", FACE: "face", EMPTY: "empty"}
"""`Crop.outcome` in words: the constraints held; the ratio was out of reach; the face was; the matte was empty."""


@dataclass(slots=True)
class AugmentSummary:
    """Counts over the batches that were added. It keeps small tensors and looks at none before `counts` is asked."""

    _characters: list[str] = field(default_factory=list[str])
    _outcomes: list[Tensor] = field(default_factory=list[Tensor])
    _ratios: list[Tensor] = field(default_factory=list[Tensor])

    def add(self, batch: AugmentedBatch) -> None:
        """Add a batch; nothing waits for the device."""
        assert batch.params.crop is not None
        self._characters += batch.characters
        self._outcomes.append(batch.params.crop.outcome)
        self._ratios.append(batch.params.crop.ratio)

    def counts(self) -> dict[str, dict[str, int]]:
        """By character: samples by outcome ("held", "ratio", "face", "empty"), every outcome named."""
        found: dict[str, dict[str, int]] = {}
        outcomes = torch.cat([o.cpu() for o in self._outcomes]).tolist() if self._outcomes else []
        for character, outcome in zip(self._characters, outcomes, strict=True):
            row = found.setdefault(character, dict.fromkeys(OUTCOMES.values(), 0))
            row[OUTCOMES[outcome]] += 1
        return found

    def lines(self) -> Sequence[str]:
        """One sentence per character, to print at the end of an epoch."""
        lines: list[str] = []
        for character, row in sorted(self.counts().items()):
            total = sum(row.values())
            missed = {name: count for name, count in row.items() if count and name != "held"}
            text = ", ".join(f"{name} {count} ({count / total:.0%})" for name, count in missed.items())
            lines.append(f"{character}: {total} crops, " + (f"best position taken for: {text}" if text else "all held"))
        return lines
