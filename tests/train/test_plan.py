from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.errors import BatchError, ConfigError
from lora_data.train.plan import MAX_ASPECT, Plan, PlannedBatch, PlanSample, auto_repeats, buckets


def many(count: int, seed: int = 0, characters: int = 2) -> list[PlanSample]:
    random = np.random.default_rng(seed)
    sides = random.integers(120, 1400, (count, 2)).tolist()
    return [PlanSample(f"key_{i}", f"c{i % characters}", w, h) for i, (w, h) in enumerate(sides)]


def plan(samples: list[PlanSample], **changes: Any) -> Plan:
    wanted: dict[str, Any] = {"batch_size": 4, "resolution": 512, **changes}
    return Plan(samples, **wanted)


def named(batches: list[PlannedBatch], samples: list[PlanSample]) -> list[tuple[Any, ...]]:
    return [(b.target, tuple((samples[i].key, v) for i, v in zip(b.samples, b.variants, strict=True))) for b in batches]


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(1, 7), st.integers(0, 2**40), st.integers(0, 1000), st.randoms())
def test_an_epoch_depends_on_seed_and_epoch_and_not_on_the_order_of_the_samples(
    count: int, batch_size: int, seed: int, epoch: int, random: Any
):
    samples = many(count)
    shuffled = random.sample(samples, count)
    first, second = (plan(s, batch_size=batch_size, seed=seed) for s in (samples, shuffled))
    assert named(first.batches(epoch), samples) == named(second.batches(epoch), shuffled)
    assert first.digest == second.digest
    assert first.batches(epoch) == first.batches(epoch)


@settings(max_examples=40)
@given(
    st.integers(1, 60), st.integers(1, 7), st.one_of(st.just("auto"), st.floats(0.05, 4)), st.integers(0, 50),
    st.sampled_from(["keep", "fill"]),
)  # fmt: skip
def test_every_image_comes_as_often_as_it_should(count: int, batch_size: int, repeats: Any, epoch: int, short: Any):
    samples = many(count, characters=1)
    made = plan(samples, batch_size=batch_size, repeats={"c0": repeats}, short=short)
    number = auto_repeats(count) if repeats == "auto" else repeats
    epochs = [made.batches(e) for e in range(epoch, epoch + 3)]
    assert {len(e) for e in epochs} == {made.length}
    rounds = {b.round: [c for e in epochs for c in e if c.round == b.round] for e in epochs for b in e}
    if number == int(number):
        assert [*rounds] == [epoch, epoch + 1, epoch + 2]
        whole_rounds = [*rounds]
    else:  # the first and the last may have begun before or end after
        whole_rounds = [*rounds][1:-1] if epoch else [*rounds][:-1]
    for batches in (rounds[r] for r in whole_rounds):
        drawn = [(i, v) for b in batches for i, v in zip(b.samples, b.variants, strict=True)]
        assert len(set(drawn)) == len(drawn)
        if short == "fill":
            assert all(len(b.samples) == batch_size for b in batches)
            continue
        found = Counter(i for i, _ in drawn)
        assert {found[i] for i in range(count)} <= {int(number), int(number) + 1}
        whole = int(number) * count
        more = 0 if number == int(number) else max(1, round((number - int(number)) * count))
        assert len(drawn) == whole + more
        assert all({v for j, v in drawn if j == i} == set(range(found[i])) for i in found)


def test_rounds_lie_end_to_end():
    samples = many(37)
    made = plan(samples, repeats={"c0": 1.3, "c1": 0.4})
    lengths = {len(made._round(r)) for r in range(12)}
    assert len(lengths) > 1  # else there is nothing to lay end to end
    stream = [b for epoch in range(10) for b in made.batches(epoch)]
    assert stream == [b for r in range(12) for b in made._round(r)][: len(stream)]


def test_without_buckets_every_batch_is_a_square():
    made = plan(many(30), enable_bucket=False)
    assert {b.target for b in made.batches(0)} == {(512, 512)}


def test_auto_aims_at_400_to_600_an_epoch_and_at_most_3_an_image():
    assert [auto_repeats(n) for n in (1, 100, 166, 400, 5000)] == [3, 3, 3, 1, 1]
    for images in range(170, 601):
        assert 399 <= images * auto_repeats(images) <= 600


def test_a_fraction_chooses_other_images_in_other_epochs():
    samples = many(40, characters=1)
    half = plan(samples, repeats={"c0": 0.5})
    stream = [b for epoch in range(28) for b in half.batches(epoch)]
    chosen = [{i for b in stream if b.round == number for i in b.samples} for number in range(25)]
    assert all(len(c) == 20 for c in chosen)
    assert len({tuple(sorted(c)) for c in chosen}) == 25
    assert set().union(*chosen) == set(range(40))


@pytest.mark.parametrize(("resolution", "step"), [(512, 64), (1024, 64), (768, 32), (64, 8)])
def test_buckets_fill_the_area_and_stay_below_it(resolution: int, step: int):
    found = buckets(resolution, step)
    assert (resolution, resolution) in found
    for height, width in found:
        assert height % step == 0
        assert width % step == 0
        assert height * width <= resolution**2
        assert (height + step) * (width + step) > resolution**2
        assert max(height, width) <= MAX_ASPECT * min(height, width)
        assert (width, height) in found


@settings(max_examples=60)
@given(st.integers(16, 4000), st.integers(16, 4000))
def test_a_picture_goes_to_the_nearest_bucket_and_is_not_enlarged_beyond_the_limit(height: int, width: int):
    (batch,) = plan([PlanSample("k", "c", width, height)], repeats={"c": 1}, max_upscale=2.0).batches(0)
    side = min(512.0, 2.0 * (height * width) ** 0.5)
    level = max(int(side // 64) * 64, 64)
    distance = abs(np.log(batch.target[0] / batch.target[1]) - np.log(height / width))
    assert all(distance <= abs(np.log(h / w) - np.log(height / width)) + 1e-12 for h, w in buckets(level, 64))
    if level > 64:
        assert batch.target[0] * batch.target[1] <= 4.0 * height * width + 1e-6


def test_a_batch_is_of_one_bucket_and_batches_are_mixed():
    samples = many(300)
    made = plan(samples)
    batches = made.batches(0)
    alone = {s.key: plan([s], repeats={s.character: 1}).batches(0)[0].target for s in samples}
    assert all(alone[samples[i].key] == b.target for b in batches for i in b.samples)
    changes = sum(a.target != b.target for a, b in itertools.pairwise(batches))
    assert changes > len(batches) / 2
    assert named(batches, samples) != named(made.batches(1), samples)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_ranks_share_an_epoch_evenly(world: int):
    samples = many(50)
    parts = [plan(samples, rank=rank, world=world).batches(2) for rank in range(world)]
    whole = plan(samples).batches(2)
    assert len({len(p) for p in parts}) == 1
    together = [parts[i % world][i // world] for i in range(len(parts[0]) * world)]
    assert together[: len(whole)] == whole
    assert together[len(whole) :] == whole[: len(together) - len(whole)]


def test_it_stops_after_every_batch_and_goes_on_the_same():
    samples = many(23)
    made = plan(samples)
    for epoch in range(2):
        made.set_epoch(epoch)
        expected = made.rest()
        for done in range(len(expected) + 1):
            again = plan(samples)
            again.load_state_dict(made.state_dict())
            assert (again.epoch, again.position) == (epoch, done)
            assert again.rest() == expected[done:]
            made.advance()


def test_a_state_of_something_else_is_refused():
    samples = many(10)
    state = plan(samples).state_dict()
    for other in (plan(samples, seed=1), plan(samples[:-1]), plan(samples, batch_size=3), plan(samples, world=2)):
        with pytest.raises(BatchError, match="other samples or settings"):
            other.load_state_dict(state)
    larger = [dataclasses.replace(samples[0], width=5000), *samples[1:]]
    with pytest.raises(BatchError):
        plan(larger).load_state_dict(state)


@pytest.mark.parametrize(
    ("changes", "needle"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"rank": 2, "world": 2}, "2 of 2"),
        ({"max_upscale": 0.5}, "max_upscale"),
        ({"repeats": {"nobody": 2}}, "nobody, which is not in the data; it has: c0, c1"),
        ({"repeats": {"c0": 0.0}}, "repeats for c0"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any], needle: str):
    with pytest.raises(ConfigError, match=needle):
        plan(many(6), **changes)
    with pytest.raises(ConfigError, match="at least one sample"):
        plan([])
    with pytest.raises(ConfigError, match="key_0 comes twice"):
        plan([*many(3), *many(1)])
