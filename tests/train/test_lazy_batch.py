from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from lora_data.augment import Batch
from lora_data.errors import ShardError
from lora_data.train.lazy_batch import Assembled, LazyBatch


class Maker:
    """Counts how often it is asked for what."""

    def __init__(self) -> None:
        self.assembled = self.finished = 0

    def assemble(self) -> Assembled:
        self.assembled += 1
        image = np.full((6, 5, 4), 7, np.uint8)
        return Batch.of_one(image, "k", "c", variants=2), {"captions": ["a", "b"], "ids": [torch.zeros(2)]}

    def finish(self, batch: Batch) -> dict[str, Any]:
        self.finished += 1
        return {"images": batch.images.float(), "nested": {"t": (torch.ones(1),)}}


def finish(batch: Batch) -> dict[str, Any]:
    return {"images": batch.images.float()}


def test_it_is_made_once_when_it_is_moved():
    maker = Maker()
    batch = LazyBatch(maker.assemble, maker.finish)
    assert (maker.assembled, maker.finished) == (0, 0)
    assert batch.to("cpu") is batch
    assert batch.to(torch.device("cpu"), non_blocking=True) is batch
    assert (maker.assembled, maker.finished) == (1, 1)
    assert {*batch} == {"captions", "ids", "images", "nested"}
    assert torch.equal(batch["images"], torch.full((2, 4, 6, 5), 7.0))


def test_every_tensor_moves_with_it():
    maker = Maker()
    batch = LazyBatch(maker.assemble, maker.finish)
    batch["own"] = torch.zeros(3)
    batch.to("meta")  # a device that a test without a GPU has
    moved = [batch["ids"][0], batch["images"], batch["nested"]["t"][0], batch["own"]]
    assert [t.device.type for t in moved] == ["meta"] * 4
    assert batch["captions"] == ["a", "b"]


@pytest.mark.parametrize("look", [
    lambda b: b["images"], lambda b: "images" in b, lambda b: b.get("images"), len, list, dict, lambda b: [*b.items()],
    lambda b: b.update(x=1), lambda b: {**b},
])  # fmt: skip
def test_a_look_makes_it_where_nobody_moved_it(look: Any):
    maker = Maker()
    batch = LazyBatch(maker.assemble, maker.finish)
    assert look(batch) is not False
    assert maker.finished == 1


def test_it_travels_before_it_is_made_and_after():
    batch = LazyBatch(Maker().assemble, finish)
    again = pickle.loads(pickle.dumps(batch))
    assert again._fields is None
    assert torch.equal(again["images"], batch["images"])
    third = pickle.loads(pickle.dumps(again))
    assert torch.equal(third["images"], batch["images"])
    assert third["captions"] == ["a", "b"]


def test_a_type_error_inside_is_not_taken_for_an_older_signature():
    """accelerate calls `.to` again without arguments after a TypeError, and the error is lost."""

    def wrong(_: Batch) -> dict[str, Any]:
        raise TypeError("a bug")

    batch = LazyBatch(Maker().assemble, wrong)
    for _ in range(2):  # nothing was used up by the first try
        with pytest.raises(RuntimeError, match="a bug"):
            batch.to("cpu", non_blocking=True)


@pytest.mark.parametrize(("error", "found"), [(ShardError("shard 3"), ShardError), (KeyError("bug"), RuntimeError)])
def test_what_goes_wrong_in_a_worker_is_said_in_the_main_process(error: Exception, found: type[Exception]):
    def wrong() -> Assembled:
        raise error

    travelled = pickle.loads(pickle.dumps(LazyBatch(wrong, finish)))
    for _ in range(2):
        with pytest.raises(found, match=r"shard 3|bug"):
            travelled.to("cpu")


def test_entries_may_be_replaced_as_trainers_do():
    batch = LazyBatch(Maker().assemble, finish)
    batch["images"] = batch["images"] + 1
    del batch["ids"]
    assert batch.get("ids") is None
    assert "ids" not in copy.copy(batch)
    assert float(batch["images"].min()) == 8
