from __future__ import annotations

import torch

from lora_data.augment import AugmentSummary
from tests.augment.pictures import batch_of, blob, module


def test_it_counts_what_could_not_be_held_by_character_and_reason():
    empty = torch.zeros(1, 4, 80, 80, dtype=torch.uint8)
    speck = blob(80, 80, (30, 30, 44, 44))
    full = blob(80, 80, (0, 0, 80, 80))
    faces = torch.tensor([[float("nan")] * 4, [float("nan")] * 4, [float("nan")] * 4, [1.0, 1.0, 79.0, 79.0]])
    augment = module({"crop_scales": [0.8], "rotation": [0, 0]})
    summary = AugmentSummary()
    assert summary.lines() == []
    for epoch in range(2):
        pictures = torch.cat([empty, speck, full, full])
        summary.add(augment(batch_of(pictures, characters=["a", "a", "b", "b"], faces=faces, epoch=epoch)))
    assert summary.counts() == {
        "a": {"held": 0, "ratio": 2, "face": 0, "empty": 2},
        "b": {"held": 2, "ratio": 0, "face": 2, "empty": 0},
    }
    assert summary.lines() == [
        "a: 4 crops, best position taken for: ratio 2 (50%), empty 2 (50%)",
        "b: 4 crops, best position taken for: face 2 (50%)",
    ]
    held = AugmentSummary()
    held.add(augment(batch_of(full)))
    assert held.lines() == ["a: 1 crops, all held"]
