from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_data.rng import gaussian_table, philox4x32, random_words, sample_ids, uniforms

FULL = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((FULL, FULL, FULL, FULL), (FULL, FULL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_known_answers_of_random123(counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]):
    assert tuple(philox4x32(np.array(counter, np.uint64), key)) == expected


@given(st.lists(st.text(max_size=12), min_size=1, max_size=8, unique=True), st.integers(0, 2**64 - 1), st.data())
def test_a_sample_draws_the_same_in_any_company(keys: list[str], seed: int, data: st.DataObject):
    epoch = data.draw(st.integers(0, 2**32 - 1))
    variants = np.array(data.draw(st.lists(st.integers(0, 2**20 - 1), min_size=len(keys), max_size=len(keys))))
    together = random_words(seed, epoch, sample_ids(keys), variants, 10)
    order = data.draw(st.permutations(range(len(keys))))
    shuffled = random_words(seed, epoch, sample_ids([keys[i] for i in order]), variants[order], 10)
    assert np.array_equal(together[order], shuffled)
    for i, key in enumerate(keys):
        alone = random_words(seed, epoch, sample_ids([key]), variants[i : i + 1], 6)
        assert np.array_equal(alone[0], together[i, :6])


def test_seed_epoch_key_and_variant_all_count():
    def words(seed: int, epoch: int, key: str, variant: int) -> bytes:
        return random_words(seed, epoch, sample_ids([key]), np.array([variant]), 4).tobytes()

    drawn = [words(0, 0, "a", 0), words(1, 0, "a", 0), words(2**33, 0, "a", 0), words(0, 1, "a", 0)]
    drawn += [words(0, 0, "b", 0), words(0, 0, "a", 1)]
    assert len(set(drawn)) == len(drawn)


def test_streams_and_variants_share_no_word():
    ids = sample_ids(["a"])
    drawn = [random_words(0, 0, ids, np.array([v]), 4096, stream=s)[0] for v in (0, 1) for s in range(3)]
    together = np.concatenate(drawn)
    assert len(np.unique(together)) > len(together) - 8
    with pytest.raises(ValueError, match="must be in"):
        random_words(0, 0, ids, np.array([0]), 4097)


def test_uniforms_are_uniform_and_open():
    u = uniforms(random_words(3, 0, sample_ids([str(i) for i in range(5000)]), np.zeros(5000, int), 4))
    assert u.min() > 0
    assert u.max() < 1
    counts = np.histogram(u, bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-square, 19 degrees of freedom, p = .001
    assert uniforms(np.array([0, FULL], np.uint32)).tolist() == [0.5 / 2**32, (2**32 - 0.5) / 2**32]


@pytest.mark.parametrize(
    ("seed", "epoch", "variant"), [(-1, 0, 0), (2**64, 0, 0), (0, -1, 0), (0, 0, 2**20), (0, 0, -1)]
)
def test_numbers_out_of_range_are_refused(seed: int, epoch: int, variant: int):
    with pytest.raises(ValueError, match="must be in"):
        random_words(seed, epoch, sample_ids(["a"]), np.array([variant]), 4)


def test_the_table_is_normal_and_fixed():
    table = gaussian_table(1 << 16, 5)
    assert abs(table.mean()) < 1e-6
    assert table.std() == pytest.approx(1, abs=1e-6)
    assert np.mean(np.abs(table) < 1) == pytest.approx(0.6827, abs=0.006)
    assert np.mean(np.abs(table) > 3) == pytest.approx(0.0027, abs=0.0008)
    lags = [float(np.mean(table[:-lag] * table[lag:])) for lag in (1, 2, 3, 7, 64)]
    assert max(map(abs, lags)) < 4 / 256
    assert np.array_equal(table, gaussian_table(1 << 16, 5))
    assert not np.array_equal(table, gaussian_table(1 << 16, 6))


def test_no_global_generator_is_touched():
    before = random.getstate(), np.random.get_state()[1].tobytes()  # pyright: ignore
    random_words(0, 0, sample_ids(["a", "b"]), np.zeros(2, int), 8)
    gaussian_table(64, 0)
    assert before == (random.getstate(), np.random.get_state()[1].tobytes())  # pyright: ignore
