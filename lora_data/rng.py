"""Counter-based random numbers: a pure function of (seed, epoch, key, variant), the same wherever it is evaluated.

Philox4x32-10 turns a 128-bit counter and a 64-bit key into four random words. The key is the user's seed; the counter
is the sample's id, the epoch and the variant, so nothing is shared between samples and nothing depends on order, batch,
rank, worker or device. The global generators of Python, numpy and torch are never touched.

Source: Salmon, Moraes, Dror, Shaw, Parallel random numbers: as easy as 1, 2, 3, SC 2011 (the Random123 library).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_WORD = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_BLOCKS = 1 << 10
"""Blocks of four words that one (sample, epoch, variant) has in a stream."""
AUGMENT, PLAN, CAPTION = range(3)
"""Streams: who draws for different things draws different words, or a batch's order would say how it is cropped."""
_STREAMS = 4
"""Streams there may be; with the blocks they take 12 bits of the counter's last word, the variant the other 20."""


def philox4x32(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10.

    Args:
        counter: Unsigned integers below 2**32, ``[..., 4]``.
        key: Two words below 2**32.

    Returns:
        uint32 ``[..., 4]``, uniform.
    """
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & _WORD,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & _WORD,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def sample_ids(keys: Sequence[str]) -> np.ndarray:
    """A 64-bit number for each key, uint64 ``[B]``: the first 8 bytes of its BLAKE2b digest, little-endian."""
    digests = b"".join(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest() for key in keys)
    return np.frombuffer(digests, "<u8")


def random_words(
    seed: int, epoch: int, ids: np.ndarray, variants: np.ndarray, count: int, *, stream: int = AUGMENT
) -> np.ndarray:
    """Random words of samples.

    Args:
        seed: In [0, 2**64).
        epoch: In [0, 2**32).
        ids: uint64 ``[B]``, see `sample_ids`.
        variants: Integers ``[B]`` in [0, 2**20): which of a sample's several draws in this epoch.
        count: Words per sample, at most 4,096.
        stream: `AUGMENT`, `PLAN` or `CAPTION`.

    Returns:
        uint32 ``[B, count]``.

    Raises:
        ValueError: A number is outside its range.
    """
    blocks = -(-count // 4)
    if not (0 <= seed < 2**64 and 0 <= epoch < 2**32 and blocks <= _BLOCKS and 0 <= stream < _STREAMS):
        raise ValueError(f"seed must be in [0, 2**64), epoch in [0, 2**32); got seed {seed}, epoch {epoch}")
    if len(variants) and not (variants.min() >= 0 and variants.max() < 2**20):
        raise ValueError(f"variants must be in [0, 2**20), got {variants.min()} to {variants.max()}")
    counter = np.zeros((len(ids), blocks, 4), np.uint64)
    counter[..., 0] = (ids & _WORD)[:, None]
    counter[..., 1] = (ids >> _SHIFT)[:, None]
    counter[..., 2] = epoch
    base = variants.astype(np.uint64) * np.uint64(_BLOCKS * _STREAMS) + np.uint64(stream * _BLOCKS)
    counter[..., 3] = base[:, None] + np.arange(blocks, dtype=np.uint64)
    words = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))
    return words.reshape(len(ids), -1)[:, :count]


def uniforms(words: np.ndarray) -> np.ndarray:
    """Random words as float64 in the open interval (0, 1): the middles of 2**32 equal steps."""
    return (words + 0.5) / 2**32


def gaussian_table(size: int, seed: int) -> np.ndarray:
    """A table of independent standard normal numbers, float32 ``[size]``; a multiple of 4, mean 0 and deviation 1.

    Source: Box and Muller, A note on the generation of random normal deviates, 1958.
    """
    ids = np.arange(size // 4, dtype=np.uint64)
    u = uniforms(random_words(seed, 0, ids, np.zeros(len(ids), np.int64), 4))
    radius, angle = np.sqrt(-2 * np.log(u[:, :2])), 2 * np.pi * u[:, 2:]
    table = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
    return ((table - table.mean()) / table.std()).astype(np.float32)
