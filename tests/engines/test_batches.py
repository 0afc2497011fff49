from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from lora_data.engines import batches
from lora_data.engines.batches import PROPOSED, run_networks
from lora_data.manifest import Record
from lora_data.sample import Instance
from lora_data.stage import NetworkStage, Resources
from lora_data.store import PixelStore


class Brighter(NetworkStage):
    """Brightens every third picture, proposes every fifth, leaves the others; remembers its company."""

    name: ClassVar[str] = "brighter"

    def __init__(self) -> None:
        self.company: list[int] = []
        self.threads: set[int] = set()

    def prepare(self, resources: Resources) -> None:
        """Needs nothing."""

    def apply_many(self, instances: Sequence[Instance], resources: Resources) -> list[Instance]:
        self.company.append(len(instances))
        self.threads.add(torch.get_num_threads())
        return [self._one(i) for i in instances]

    def _one(self, instance: Instance) -> Instance:
        number = int(instance.record.key)
        if number % 5 == 0:
            return instance.replace(proposed=255 - instance.rgb, deblur="proposed")
        if number % 3 == 0:
            return instance.replace(rgb=instance.rgb // 2 + 100, upscale="applied")
        return instance


def filled(store: PixelStore, count: int) -> list[Record]:
    for kind in ("a", "b", PROPOSED):
        store.prepare(kind)
    rng = np.random.default_rng(0)
    records = [Record(source=f"{i}.png", key=str(i)) for i in range(count)]
    for record in records:
        store.save("a", record.key, rng.integers(0, 255, (9, 12, 3), np.uint8), np.full((9, 12), 255, np.uint8))
    return records


@pytest.mark.parametrize(("count", "chunk", "workers"), [(0, 4, 1), (1, 4, 2), (10, 4, 1), (10, 3, 3), (10, 50, 2)])
def test_everything_comes_out_in_order_whatever_the_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, chunk: int, workers: int
):
    monkeypatch.setattr(batches, "CHUNK", chunk)
    store, stage, told = PixelStore(tmp_path), Brighter(), []
    records = filled(store, count)
    before = {r.key: store.path("a", r.key).read_bytes() for r in records}
    pixels = {r.key: store.load("a", r.key)[0] for r in records}
    done = run_networks([stage], records, store, ("a", "b"), Resources(workers=workers), told.append)
    assert [r.key for r in done] == [r.key for r in records]
    assert sum(told) == sum(stage.company) == count
    assert max(stage.company, default=0) <= chunk
    assert stage.threads <= {1}
    for record in done:
        number = int(record.key)
        rgb = store.load("b", record.key)[0]
        if number % 3 == 0 and number % 5:
            assert np.array_equal(rgb, pixels[record.key] // 2 + 100)
        else:  # moved, byte for byte
            assert store.path("b", record.key).read_bytes() == before[record.key]
        assert store.path(PROPOSED, record.key).is_file() == (number % 5 == 0)
    assert torch.get_num_threads() >= 1


def test_a_picture_that_vanished_is_a_crash_and_not_a_gap(tmp_path: Path):
    store = PixelStore(tmp_path)
    records = filled(store, 3)
    store.path("a", "1").unlink()
    with pytest.raises(FileNotFoundError):
        run_networks([Brighter()], records, store, ("a", "b"), Resources(), lambda _: None)
