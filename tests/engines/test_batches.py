from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from lora_data.blobs import Blob, Blobs
from lora_data.engines import batches
from lora_data.engines.batches import NetworkPass
from lora_data.interrupt import Interrupt
from lora_data.manifest import Record
from lora_data.record_bytes import from_bytes
from lora_data.results import NEXT
from lora_data.sample import Instance
from lora_data.stage import NetworkStage, Resources
from lora_data.store import decode_webp, encode_webp
from lora_data.work import Item, Made


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


def filled(blobs: Blobs, count: int) -> list[Item]:
    rng = np.random.default_rng(0)
    full = np.full((9, 12), 255, np.uint8)
    return [
        Item(
            Record(source=f"{i}.png", key=str(i)),
            blobs.put(encode_webp(rng.integers(0, 255, (9, 12, 3), np.uint8), full)),
        )
        for i in range(count)
    ]


def pixels(blobs: Blobs, blob: Blob | None) -> np.ndarray:
    assert blob is not None
    return decode_webp(blobs.read(blob))[0]


@pytest.mark.parametrize(("count", "chunk", "workers"), [(0, 4, 1), (1, 4, 2), (10, 4, 1), (10, 3, 3), (10, 50, 2)])
def test_everything_arrives_in_order_whatever_the_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, chunk: int, workers: int
):
    monkeypatch.setattr(batches, "CHUNK", chunk)
    blobs, stage = Blobs(tmp_path), Brighter()
    items = filled(blobs, count)
    done: list[tuple[int, Made]] = []
    NetworkPass((stage,), blobs, Resources(workers=workers)).run(items, lambda i, made: done.append((i, made)))
    assert [i for i, _ in done] == list(range(count))
    assert sum(stage.company) == count
    assert max(stage.company, default=0) <= chunk
    assert stage.threads <= {1}
    for number, made in done:
        before, after = pixels(blobs, items[number].picture), pixels(blobs, made.pictures[NEXT])
        if number % 3 == 0 and number % 5:
            assert np.array_equal(after, before // 2 + 100)
        else:  # the same stored picture
            assert made.pictures[NEXT] == items[number].picture
        assert bool(made.answers) == (number % 5 == 0)
        if made.answers:
            accepted, refused = made.answers["accept"], made.answers["refuse"]
            assert np.array_equal(pixels(blobs, accepted.pictures[NEXT]), 255 - before)
            assert refused.pictures[NEXT] == items[number].picture
            assert from_bytes(accepted.fields)["deblur"] == "applied"
            assert from_bytes(refused.fields) == {"deblur": "taken_back", "deblur_reason": "person"}
    assert torch.get_num_threads() >= 1


def test_a_picture_that_is_damaged_is_named_and_the_others_are_done(tmp_path: Path):
    blobs = Blobs(tmp_path)
    items = filled(blobs, 3)
    assert items[1].picture is not None
    blobs.path(items[1].picture).write_bytes(b"something else")
    done: dict[int, Made] = {}
    NetworkPass((Brighter(),), blobs, Resources()).run(items, done.__setitem__)
    assert done[1].damaged == items[1].picture
    assert all(done[i].damaged is None and done[i].pictures for i in (0, 2))


def test_who_asks_to_stop_gets_what_was_in_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batches, "CHUNK", 2)
    blobs, interrupt, done = Blobs(tmp_path), Interrupt(), dict[int, Made]()

    def arrived(number: int, made: Made) -> None:
        done[number] = made
        interrupt.asked = True

    with pytest.raises(KeyboardInterrupt):
        NetworkPass((Brighter(),), blobs, Resources()).run(filled(blobs, 40), arrived, interrupt)
    assert sorted(done) == list(range(len(done)))
    assert 0 < len(done) < 40
