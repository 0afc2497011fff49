from __future__ import annotations

import numpy as np

from lora_data.backends.appearance import embed_appearance
from lora_data.manifest import Record
from lora_data.sample import Instance
from lora_data.stages.embed import Embed


def test_writes_the_embedding_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (60, 40, 3), np.uint8)
    alpha = np.full((60, 40), 255, np.uint8)
    before = Instance(Record(source="a.png", key="a"), rgb, alpha)
    after = Embed().apply(before)
    assert after.rgb is rgb
    assert after.alpha is alpha
    assert after.record.embedding is not None
    assert np.array_equal(after.record.embedding, embed_appearance(rgb, alpha))
    changed = {f for f in Record.__slots__ if getattr(after.record, f) is not getattr(before.record, f)}
    assert changed == {"embedding"}
