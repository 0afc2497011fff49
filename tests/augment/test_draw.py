from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lora_data.augment import AugmentPolicy, CharacterAugment
from lora_data.augment.draw import BACKGROUND_NOISE
from lora_data.augment.policy import AUGMENT_BELOW
from lora_data.config import parse_config
from lora_data.errors import BatchError, ConfigError
from tests.augment.pictures import keys, module, policies

COUNT = 6000


def chi_square(values: torch.Tensor, low: float, high: float, bins: int = 20) -> float:
    counts = torch.histc(values.float(), bins=bins, min=low, max=high)
    expected = len(values) / bins
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.fixture(scope="module")
def drawn():
    return module().draw(keys(COUNT), 0)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("rotation", -5, 5), ("brightness", 0.9, 1.1), ("contrast", 0.95, 1.05), ("position", 0, 1)],
)
def test_ranges_are_the_policys_and_uniform(drawn: Any, name: str, low: float, high: float):
    values = getattr(drawn, name)
    assert low <= values.min()
    assert values.max() <= high
    assert chi_square(values, low, high) < 43.8  # 19 degrees of freedom, p = .001


def test_scales_and_noise_have_the_policys_frequencies(drawn: Any):
    found = [int((drawn.scale == s).sum()) for s in (0.8, 0.9, 1.0)]
    assert sum(found) == COUNT
    assert sum((n - COUNT / 3) ** 2 / (COUNT / 3) for n in found) < 13.8  # 2 degrees of freedom, p = .001
    noisy = float((drawn.noise_std > 0).float().mean())
    assert noisy == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / COUNT) ** 0.5)
    assert set(drawn.noise_std.tolist()) == {0.0, 0.01}
    assert not drawn.flip.any()
    assert len(set(drawn.noise_seed.tolist())) > COUNT - 10


def test_draws_are_independent_of_each_other(drawn: Any):
    names = ("scale", "position", "rotation", "brightness", "contrast", "noise_std")
    table = torch.stack([getattr(drawn, n) for n in names])
    correlations = torch.corrcoef(table) - torch.eye(len(names))
    assert float(correlations.abs().max()) < 5 / COUNT**0.5


@given(policies(), st.permutations(range(6)), st.integers(0, 50))
def test_order_and_company_change_no_draw(policy: dict[str, Any], order: list[int], epoch: int):
    augment = module(policy)
    names, variants = keys(6), [0, 1, 2, 3, 0, 7]
    together = augment.draw(names, epoch, characters=["a"] * 6, variants=variants).state_dict()
    shuffled = augment.draw(
        [names[i] for i in order], epoch, characters=["b"] * 6, variants=[variants[i] for i in order]
    ).state_dict()
    for name, value in together.items():
        assert torch.equal(value[torch.tensor(order)], shuffled[name]), name
    alone = augment.draw(names[4:5], epoch, characters=["a"], variants=[0]).state_dict()
    assert all(torch.equal(value[4:5], alone[name]) for name, value in together.items())


def test_epoch_seed_and_variant_change_the_draw():
    augment, other = module(), module(seed=1)
    drawn = [
        augment.draw(["x"], 0),
        augment.draw(["x"], 1),
        augment.draw(["x"], 0, variants=[1]),
        other.draw(["x"], 0),
    ]
    assert len({float(p.rotation) for p in drawn}) == 4


def test_no_global_generator_is_touched():
    augment = module(background="random")
    before = torch.get_rng_state()
    augment.draw(keys(10), 3)
    assert torch.equal(before, torch.get_rng_state())


def three(counts: dict[str, int] | None) -> CharacterAugment:
    tree = {
        "data": {"shards": "nowhere"},
        "augment": {"rotation": [2, 5]},
        "characters": {
            "still": {"augment": {"enabled": False}},
            "twin": {"symmetric": True, "augment": {"horizontal_flip": 0.5, "rotation": [0, 0]}},
        },
    }
    return CharacterAugment(parse_config(tree), counts=counts)


def test_each_sample_follows_its_characters_policy():
    augment = three({"still": 10, "twin": 10, "other": 10})
    characters = ["still", "twin", "other"] * 300
    params = augment.draw(keys(900), 0, characters=characters)
    by = {name: torch.tensor([c == name for c in characters]) for name in ("still", "twin", "other")}
    assert (params.rotation[by["still"]] == 0).all()
    assert (params.scale[by["still"]] == 1).all()
    assert (params.brightness[by["still"]] == 1).all()
    assert (params.noise_std[by["still"]] == 0).all()
    assert (params.rotation[by["twin"]] == 0).all()
    assert (params.rotation[by["other"]] >= 2).all()
    assert 100 < int(params.flip.sum()) < 200
    assert not params.flip[~by["twin"]].any()


def test_auto_is_on_below_300_images_and_off_from_there():
    augment = CharacterAugment(
        parse_config({"data": {"shards": "nowhere"}}), counts={"few": AUGMENT_BELOW - 1, "many": AUGMENT_BELOW}
    )
    assert augment.policies.is_on("few")
    assert not augment.policies.is_on("many")
    assert (augment.draw(keys(50), 0, characters=["many"] * 50).rotation == 0).all()
    assert (augment.draw(keys(50), 0, characters=["few"] * 50).rotation != 0).any()
    unknown = CharacterAugment(parse_config({"data": {"shards": "nowhere"}}))
    assert unknown.policies.is_on("anybody")


def test_a_character_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"\[characters.still\].*not in the data.*other"):
        three({"other": 3})
    augment = three({"still": 1, "twin": 1, "other": 1})
    with pytest.raises(BatchError, match=r"'ghost'.*other, still, twin"):
        augment.draw(["x"], 0, characters=["ghost"])


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        ({"characters": ["a"]}, "2 keys and 1 characters"),
        ({"variants": [0]}, "2 keys and 1 variants"),
        ({"epoch": -1}, "epoch"),
        ({"variants": [0, -1]}, "variants must be in"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], needle: str):
    named: dict[str, Any] = {"epoch": 0, **arguments}
    with pytest.raises(BatchError, match=needle):
        module().draw(keys(2), **named)


@pytest.mark.parametrize(
    ("background", "colour"),
    [("gray", (0.5, 0.5, 0.5)), ("white", (1, 1, 1)), ("black", (0, 0, 0)), ("#ff8000", (1, 128 / 255, 0))],
)
def test_a_background_of_one_colour(background: str, colour: tuple[float, ...]):
    params = module(background=background).draw(keys(3), 0)
    assert torch.allclose(params.background[:, :3], torch.tensor(colour, dtype=torch.float64))
    assert torch.equal(params.background[:, :3], params.background[:, 3:6])
    assert (params.background[:, 7] == 0).all()


def test_a_random_background_is_a_colour_a_gradient_or_noise():
    background = module(background="random").draw(keys(3000), 0).background
    gradient = (background[:, :3] != background[:, 3:6]).any(dim=1)
    noise = background[:, 7] > 0
    assert not (gradient & noise).any()
    for kind in (gradient, noise, ~gradient & ~noise):
        assert 900 < int(kind.sum()) < 1100
    low, high = BACKGROUND_NOISE
    assert low <= background[noise, 7].min()
    assert background[noise, 7].max() <= high
    assert chi_square(background[:, 1], 0, 1) < 43.8


def test_the_policy_that_draws_nothing_is_within_the_limits():
    off = module({"enabled": False}).draw(keys(20), 0)
    assert (off.position == 0.5).all()
    assert (off.min_ratio == 0).all()
    assert dataclasses.fields(AugmentPolicy)  # and it is an AugmentPolicy, so its own checks hold
