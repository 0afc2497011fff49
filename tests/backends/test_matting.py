from __future__ import annotations

import cv2
import numpy as np
import pytest

from lora_data.backends.matting import foreground_colour, knn_alpha
from tests.backends.test_geometric import shape


def scene(size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A red disc over a textured blue-green background: the picture and its true alpha in [0, 1]."""
    rng = np.random.default_rng(0)
    true = shape("disc", size)
    stripes = 15 * np.sin(np.arange(size) / 5)[:, None, None]
    back = np.array((40, 140, 160)) + stripes + rng.normal(0, 8, (size, size, 1))
    front = np.array((200, 60, 40)) + rng.normal(0, 8, (size, size, 1))
    rgb = true[..., None] * front + (1 - true[..., None]) * back
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8), true


def trimap_of(mask: np.ndarray, radius: int) -> np.ndarray:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    trimap = np.full(mask.shape, 128, np.uint8)
    trimap[cv2.erode(mask.astype(np.uint8), disc) > 0] = 255
    trimap[cv2.dilate(mask.astype(np.uint8), disc) == 0] = 0
    return trimap


@pytest.mark.parametrize("grow", [-3, 0, 3])
def test_a_rough_mask_finds_the_true_edge(grow: int):
    rgb, true = scene()
    kernel = np.ones((2 * abs(grow) + 1,) * 2, np.uint8)
    mask = (true >= 0.5).astype(np.uint8)
    mask = cv2.dilate(mask, kernel) if grow > 0 else cv2.erode(mask, kernel)
    trimap = trimap_of(mask, 5)
    alpha = knn_alpha(rgb, trimap)
    known = trimap != 128
    np.testing.assert_array_equal(alpha[known], trimap[known])
    before, after = (np.mean((a / 255 - true) ** 2) for a in (mask * 255.0, alpha.astype(float)))
    assert after < (0.5 * before if grow == 0 else 0.1 * before)


def test_the_answer_is_the_same_twice():
    rgb, true = scene(64)
    trimap = trimap_of(true >= 0.5, 3)
    np.testing.assert_array_equal(knn_alpha(rgb, trimap), knn_alpha(rgb, trimap))


def test_a_trimap_without_both_sides_is_refused_and_a_known_one_returned():
    rgb, _ = scene(32)
    with pytest.raises(ValueError, match="foreground and background"):
        knn_alpha(rgb, np.full((32, 32), 128, np.uint8))
    known = np.full((32, 32), 255, np.uint8)
    assert knn_alpha(rgb, known) is known


def test_soft_edges_lose_the_background_colour():
    rgb, true = scene()
    alpha = np.rint(true * 255).astype(np.uint8)
    cleaned = foreground_colour(rgb, alpha)
    soft = (alpha > 30) & (alpha < 225)
    target = np.array((200, 60, 40))
    error = [np.abs(x[soft].astype(float) - target).mean() for x in (rgb, cleaned)]
    assert error[1] < 0.4 * error[0]
    solid = (alpha == 255) | (alpha == 0)
    np.testing.assert_array_equal(cleaned[solid], rgb[solid])
