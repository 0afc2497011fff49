from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lora_data.errors import BatchError
from lora_data.train.masked_loss import loss_mask, masked_mse_loss, weigh
from lora_data.train.settings import DataSettings


@given(st.floats(0.01, 1), st.floats(0, 1), st.integers(0, 99))
def test_a_trainers_mean_over_all_pixels_forgets_the_area(area: float, background: float, seed: int):
    """The same error everywhere gives the same loss, however large the character is."""
    mask = (torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(seed)) < area).float()
    weighed, weights = loss_mask(mask, background)
    loss = (torch.full((3, 1, 32, 32), 0.7) * weighed).mean(dim=(1, 2, 3)) * weights
    expected = torch.where(weighed.mean(dim=(1, 2, 3)) > 0, 0.7, 0.0)
    assert torch.allclose(loss, expected, atol=1e-5)


def test_the_background_counts_what_it_should():
    mask = torch.zeros(2, 1, 4, 4)
    mask[0, 0, :2], mask[1] = 1.0, 0.5
    weighed, weights = loss_mask(mask, 0.1)
    assert weighed[0, 0, 0, 0] == 1
    assert float(weighed[0, 0, 3, 0]) == pytest.approx(0.1)
    assert float(weighed[1, 0, 0, 0]) == pytest.approx(0.55)
    assert weights.tolist() == pytest.approx([1 / 0.55, 1 / 0.55])


def test_bytes_mean_the_same_and_nothing_weighs_nothing():
    mask = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 3, 3)
    weighed, weights = loss_mask(mask, 0.0)
    assert torch.equal(weighed, (mask / 255).float())
    assert weights.tolist() == [0.0, 1.0]


def test_wrong_arguments_are_named():
    with pytest.raises(BatchError, match="background_weight"):
        loss_mask(torch.ones(1, 1, 2, 2), 1.5)
    with pytest.raises(BatchError, match=r"\[B, 1, h, w\]"):
        loss_mask(torch.ones(1, 2, 2), 0.0)


def test_the_configuration_says_whether_the_loss_is_masked():
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    weighed, weights = weigh(mask, DataSettings(background_weight=0.2))
    assert weighed.unique().tolist() == pytest.approx([0.2, 1.0])
    assert float(weights) == pytest.approx(1 / 0.6)
    weighed, weights = weigh(mask, DataSettings(masked_loss=False))
    assert weighed.unique().tolist() == [1.0]
    assert weights.tolist() == [1.0]


def test_the_loss_of_latents_follows_the_mask_of_pixels():
    mask = torch.zeros(2, 1, 16, 16)
    mask[0, :, :8] = 1
    mask[1] = 1
    weighed, weights = loss_mask(mask, 0.0)
    prediction, target = torch.zeros(2, 4, 2, 2), torch.zeros(2, 4, 2, 2)
    prediction[0, :, 1] = 9  # all of it on the background
    prediction[1] = 0.5
    assert float(masked_mse_loss(prediction, target, weighed, weights)) == pytest.approx((0 + 0.25) / 2)
    prediction[0, :, 0] = 0.5
    assert float(masked_mse_loss(prediction, target, weighed, weights)) == pytest.approx(0.25)
