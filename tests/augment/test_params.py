from __future__ import annotations

import io

import pytest
import torch

from lora_data.augment import AugmentParams
from lora_data.errors import BatchError
from tests.augment.pictures import batch_of, module, smooth, still


def test_saved_parameters_come_back():
    augment = module(background="random")
    batch = batch_of(smooth(3, 40, 32))
    made = augment(batch)
    buffer = io.BytesIO()
    torch.save(made.params.state_dict(), buffer)
    buffer.seek(0)
    again = AugmentParams.from_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(augment.apply(batch, again).pixel_values, made.pixel_values)
    without = {n: v for n, v in made.params.state_dict().items() if not n.startswith("crop.")}
    assert torch.equal(augment.apply(batch, AugmentParams.from_state_dict(without)).pixel_values, made.pixel_values)


def test_rows_are_plain_numbers():
    made = module()(batch_of(smooth(2, 40, 32)))
    rows = made.params.rows()
    assert len(rows) == 2
    assert rows[0]["scale"] in (0.8, 0.9, 1.0)
    assert isinstance(rows[0]["flip"], bool)
    assert "crop.ratio" in rows[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_named(value: float):
    state = still(3).state_dict()
    state["rotation"] = state["rotation"].clone()
    state["rotation"][1] = value
    with pytest.raises(BatchError, match=r"params.rotation\[1\]"):
        AugmentParams.from_state_dict(state)


def test_missing_and_short_tensors_are_named():
    state = still(3).state_dict()
    with pytest.raises(BatchError, match="scale"):
        AugmentParams.from_state_dict({n: v for n, v in state.items() if n != "scale"})
    with pytest.raises(BatchError, match=r"params.flip is for 2 samples, the batch has 3"):
        AugmentParams.from_state_dict({**state, "flip": state["flip"][:2]})
    with pytest.raises(BatchError, match="is for 3 samples, the batch has 2"):
        module().apply(batch_of(smooth(2, 20, 20)), still(3))


def test_select_takes_samples_with_their_crops():
    augment = module()
    batch = batch_of(smooth(4, 40, 32))
    made = augment(batch)
    part = made.params.select(torch.tensor([2, 0]))
    again = augment.apply(batch_of(batch.images[[2, 0]]), part)
    assert torch.equal(again.pixel_values, made.pixel_values[[2, 0]])
