from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_samples

from lora_data.silhouette import silhouettes


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 400), st.integers(2, 9))
def test_is_the_silhouette(seed: int, size: int, groups: int):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, min(groups, size - 1), size)
    labels[:3] = 0, 1, 0
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    vectors = rng.normal(size=(size, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    away = np.clip(1 - vectors @ vectors.T, 0, None)
    np.fill_diagonal(away, 0)
    found = silhouettes(vectors, labels)
    assert found == pytest.approx(silhouette_samples(away, labels, metric="precomputed"), abs=1e-9)


def test_who_is_alone_or_a_copy_of_all_has_none():
    assert silhouettes(np.tile([1.0, 0], (4, 1)), np.array([0, 0, 1, 1])).tolist() == [0, 0, 0, 0]
    vectors = np.array([[1.0, 0], [0.6, 0.8], [-1, 0]])  # distances .4 within the first group, 2 and 1.6 to the other
    assert silhouettes(vectors, np.array([0, 0, 1])) == pytest.approx([0.8, 0.75, 0])
