from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_samples

from lora_data.silhouette import silhouettes


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.integers(2, 9))
def test_is_the_silhouette(seed: int, size: int, groups: int):
    rng = np.random.default_rng(seed)
    labels = np.unique(rng.integers(0, min(groups, size - 1), size), return_inverse=True)[1].astype(np.int64)
    labels[:2] = 0, 1
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    points = rng.normal(size=(size, 3))
    away = np.linalg.norm(points[:, None] - points, axis=2)
    assert silhouettes(away, labels) == pytest.approx(silhouette_samples(away, labels, metric="precomputed"), abs=1e-9)


def test_who_is_alone_or_a_copy_of_all_has_none():
    assert silhouettes(np.zeros((4, 4)), np.array([0, 0, 1, 1])).tolist() == [0, 0, 0, 0]
    away = np.array([[0.0, 1, 4], [1, 0, 4], [4, 4, 0]])
    assert silhouettes(away, np.array([0, 0, 1])).tolist() == [0.75, 0.75, 0]
