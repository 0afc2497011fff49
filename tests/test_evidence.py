from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_data.evidence import adapted, film_mean, units


def test_everybody_counts_once():
    vectors = np.array([[1, 0]] * 50 + [[0, 1]], np.float32)
    assert film_mean(vectors, [range(50), [50]], 0.0) == pytest.approx([0.5, 0.5])
    assert film_mean(vectors, [range(50), [50]], 2.0) == pytest.approx([0.25, 0.25])


def test_where_nobody_is_known_nothing_is_common():
    assert film_mean(np.ones((3, 4), np.float32), [], 1.0).tolist() == [0, 0, 0, 0]


def test_what_is_common_hides_differences():
    common, rng = np.array([1.0, *[0.0] * 8]), np.random.default_rng(0)
    own = 0.4 * np.eye(8)[:4]
    vectors = units(np.array([np.append(common[:1], own[c] + rng.normal(0, 0.05, 8)) for c in range(4) for _ in "abc"]))
    groups = [list(range(3 * c, 3 * c + 3)) for c in range(4)]
    before, after = vectors @ vectors.T, (rest := adapted([(vectors, 1.0)], [film_mean(vectors, groups, 1.0)])) @ rest.T
    same = np.kron(np.eye(4), np.ones((3, 3))).astype(bool)
    assert before[same].min() - before[~same].max() < 0.1 < after[same].min() - after[~same].max()


@given(st.floats(0.05, 0.95), st.integers(0, 99))
def test_a_cosine_of_joined_vectors_is_the_weighted_mean(weight: float, seed: int):
    a, b = (units(np.random.default_rng([seed, n]).normal(size=(2, 5))) for n in range(2))
    both = adapted([(a, 1 - weight), (b, weight)], [np.zeros(5), np.zeros(5)])
    assert np.allclose(np.linalg.norm(both, axis=1), 1, atol=1e-6)
    assert both[0] @ both[1] == pytest.approx((1 - weight) * (a[0] @ a[1]) + weight * (b[0] @ b[1]), abs=1e-5)


def test_nothing_stays_nothing():
    assert units(np.zeros((1, 3))).tolist() == [[0, 0, 0]]
