from __future__ import annotations

import cv2
import imagehash
import numpy as np
import pytest
from PIL import Image

from lora_data import fingerprint
from lora_data.fingerprint import THUMBNAIL, unpack_luma, unpack_matte
from lora_data.manifest import Record
from lora_data.sample import Instance
from lora_data.ssim import common_ssim
from lora_data.stages.fingerprint import Fingerprint


def picture(seed: int, height: int = 300, width: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """A smooth random cut-out with margins."""
    rng = np.random.default_rng(seed)
    rgb = cv2.resize(rng.integers(0, 256, (9, 6, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    outline = cv2.resize(rng.random((5, 4), np.float32), (width - 40, height - 40), interpolation=cv2.INTER_CUBIC)
    yy, xx = np.mgrid[-1 : 1 : (height - 40) * 1j, -1 : 1 : (width - 40) * 1j]
    alpha = np.clip((1.3 - np.hypot(yy, xx) - 0.6 * outline) * 900, 0, 255).astype(np.uint8)
    return rgb, np.pad(alpha, 20)


def perceptual_hashes(rgb: np.ndarray, alpha: np.ndarray) -> tuple[int, int]:
    return fingerprint.perceptual_hashes(*fingerprint.bounded(rgb, alpha))


def thumbnail(rgb: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return fingerprint.thumbnail(*fingerprint.bounded(rgb, alpha))


def perceptual_hash(rgb: np.ndarray, alpha: np.ndarray) -> int:
    return perceptual_hashes(rgb, alpha)[0]


def distance(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def test_the_hash_is_imagehashs_bit_for_bit() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
    expected = str(imagehash.phash(Image.fromarray(rgb)))
    assert f"{perceptual_hash(rgb, np.full((90, 70), 255, np.uint8)):016x}" == expected


@pytest.mark.parametrize("seed", range(6))
def test_the_mirror_image_is_known_by_its_own_hash_and_thumbnail(seed: int) -> None:
    rgb, alpha = picture(seed)
    flipped = rgb[:, ::-1].copy(), alpha[:, ::-1].copy()
    plain, mirrored = perceptual_hashes(rgb, alpha)
    assert distance(mirrored, perceptual_hash(*flipped)) <= 2
    assert distance(plain, perceptual_hashes(*flipped)[1]) <= 2
    assert distance(plain, mirrored) > 8
    luma, matte = thumbnail(rgb, alpha)
    assert common_ssim((luma[:, ::-1], matte[:, ::-1]), thumbnail(*flipped)) > 0.99


@pytest.mark.parametrize("seed", range(4))
def test_hidden_colour_and_position_leave_no_trace(seed: int) -> None:
    rgb, alpha = picture(seed)
    noise = np.random.default_rng(seed).integers(0, 256, rgb.shape, np.uint8)
    other = np.where(alpha[..., None] > 0, rgb, noise)
    moved = np.pad(other, ((3, 40), (25, 0), (0, 0))), np.pad(alpha, ((3, 40), (25, 0)))
    assert perceptual_hash(rgb, alpha) == perceptual_hash(*moved)
    for a, b in zip(thumbnail(rgb, alpha), thumbnail(*moved), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("copy", ["jpeg", "smaller", "larger", "cut"])
def test_copies_are_near_and_others_are_not(seed: int, copy: str) -> None:
    rgb, alpha = picture(seed)
    if copy == "jpeg":
        coded = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 86])[1]
        decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        assert decoded is not None
        near = decoded, alpha
    elif copy == "cut":  # shifted by 2 px against a canvas that cuts it
        rgb, alpha = rgb[40:], alpha[40:]
        near = rgb[2:], alpha[2:]
    else:
        factor = 0.97 if copy == "smaller" else 1.03
        small = [cv2.resize(x, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for x in (rgb, alpha)]
        near = small[0], small[1]
    assert distance(perceptual_hash(rgb, alpha), perceptual_hash(*near)) <= 8
    assert common_ssim(thumbnail(rgb, alpha), thumbnail(*near)) >= 0.95
    for other in (picture(seed + 100), (rgb[:, ::-1].copy(), alpha[:, ::-1].copy())):
        far = distance(perceptual_hash(rgb, alpha), perceptual_hash(*other))
        assert far > 8 or common_ssim(thumbnail(rgb, alpha), thumbnail(*other)) < 0.95


def test_thumbnail_keeps_the_aspect() -> None:
    rgb, alpha = np.full((400, 100, 3), 90, np.uint8), np.full((400, 100), 255, np.uint8)
    luma, matte = thumbnail(rgb, alpha)
    rows, columns = np.flatnonzero(matte.any(1)), np.flatnonzero(matte.any(0))
    assert len(rows) == THUMBNAIL
    assert abs(len(columns) - THUMBNAIL / 4) <= 1
    assert np.abs(luma[matte].astype(int) - 90).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (5, 4)])
def test_stage_writes_what_the_table_holds(size: tuple[int, int]) -> None:
    rgb, alpha = np.full((*size, 3), 200, np.uint8), np.full(size, 255, np.uint8)
    record = Fingerprint().apply(Instance(Record(source="a.png", key="a"), rgb, alpha)).record
    assert record.phash is not None
    assert 0 <= record.phash < 2**64
    assert record.phash_mirror is not None
    assert 0 <= record.phash_mirror < 2**64
    assert record.thumb_luma is not None
    assert record.thumb_matte is not None
    assert (record.thumb_luma.dtype, record.thumb_luma.ndim) == (np.dtype(np.uint8), 1)
    assert (record.thumb_matte.dtype, record.thumb_matte.shape) == (np.dtype(np.uint8), (THUMBNAIL**2 // 8,))
    luma, matte = thumbnail(rgb, alpha)
    assert np.array_equal(unpack_luma(record.thumb_luma), luma)
    assert (unpack_luma(record.thumb_luma).dtype, luma.shape) == (np.dtype(np.uint8), (THUMBNAIL, THUMBNAIL))
    assert np.array_equal(unpack_matte(record.thumb_matte), matte)
    assert record.thumb_luma.nbytes + record.thumb_matte.nbytes < THUMBNAIL**2
