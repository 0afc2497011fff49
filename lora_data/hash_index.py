"""Exact search of near hashes: 64 bits, Hamming distance, up to millions, one core.

A hash is cut into bands. Two hashes within ``radius`` bits of each other are near in at least one band, so that only
what is near in a band is compared as a whole: nothing is missed, and memory is linear.

Source: Norouzi, Punjani and Fleet, Fast Search in Hamming Space with Multi-Index Hashing, CVPR 2012.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import combinations

import numpy as np
from numba import njit

BITS = 64
_LOOK = 10.0
"""Cost of opening a bucket in comparisons of two hashes (measured at 1e6 hashes: 14 ns and 1.3 ns)."""
_WIDEST = 24
"""Bits of a band at most: its table of buckets has 2^bits entries."""
_SMALL = 1024
"""Hashes that are not worth an index of their own."""
_C1, _C2, _C4, _C56 = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)
_M1, _M2, _M4 = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
_BYTES = np.uint64(0x0101010101010101)


class HashIndex:
    """Hashes in an order of their own, and which of them are near a value.

    12 bytes a hash and band (at most 10 bands at the default radius of 8, 3 to 5 from 100 000 hashes on). Few hashes or
    a wide radius have no bands: every hash is then compared, which is faster.

    Args:
        hashes: uint64 ``[N]``, N below 2^31.
        radius: Largest Hamming distance that counts as near, 0..64.

    Raises:
        ValueError: ``radius`` is out of range.
    """

    def __init__(self, hashes: np.ndarray, radius: int) -> None:
        if not 0 <= radius <= BITS:
            raise ValueError(f"radius must be in [0, {BITS}], got {radius}")
        self._hashes = np.ascontiguousarray(hashes, np.uint64)
        self._radius = np.uint64(radius)
        self._found = np.empty(len(hashes), np.int32)
        self._bands = bands = bands_for(len(hashes), radius)
        if bands:
            sizes = [2**width + 1 for width, _ in bands]
            masks = [_masks(width, limit) for width, limit in bands]
            ends = np.cumsum([width for width, _ in bands])
            self._shifts = (BITS - ends).astype(np.uint64)
            self._lows = np.array([2**width - 1 for width, _ in bands], np.uint64)
            self._limits = np.array([limit for _, limit in bands], np.uint64)
            self._first_start = np.cumsum([0, *sizes])
            self._first_mask = np.cumsum([0, *map(len, masks)])
            self._masks = np.concatenate(masks)
            self._starts = np.zeros(sum(sizes), np.int32)
            self._order = np.empty((len(bands), len(hashes)), np.int32)
            self._words = np.empty((len(bands), len(hashes)), np.uint64)
            for i, (first, size) in enumerate(zip(self._first_start, sizes, strict=False)):
                starts = self._starts[first : first + size]
                _sort(self._hashes, self._shifts[i], self._lows[i], starts, self._order[i], self._words[i])

    def near(self, value: int | np.uint64, among: np.ndarray) -> np.ndarray:
        """Places of the hashes within the radius of ``value``, ascending: int32.

        Args:
            value: The hash to look for.
            among: bool ``[N]``; only these are given.
        """
        wanted = np.uint64(value)
        if not self._bands:
            count = _scan(wanted, self._radius, among, self._hashes, self._found)
        else:
            count = _search(
                wanted, self._radius, among,
                self._shifts, self._lows, self._limits, self._first_start, self._starts,
                self._first_mask, self._masks, self._order, self._words, self._found,
            )  # fmt: skip
        return np.sort(self._found[:count])

    def accompanied(self) -> np.ndarray:
        """Which hashes have another one within the radius: bool ``[N]``.

        The same as to ask for each, but bucket by bucket, as they lie in memory (measured: of 1e6 hashes five times as
        fast), and a hash is left as soon as one companion is found.
        """
        flags = np.zeros(len(self._hashes), bool)
        if not self._bands:
            _scan_all(self._radius, self._hashes, flags)
        else:
            _search_all(
                self._radius, self._shifts, self._lows, self._first_start, self._starts,
                self._first_mask, self._masks, self._order, self._words, flags,
            )  # fmt: skip
        return flags


def leaders(hashes: np.ndarray, radius: int, confirm: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
    """Group hashes around leaders: the first takes every confirmed one near it, then the first of the rest, and so on.

    Every member is within ``radius`` of its leader, and so any two of a group within twice that, however long a chain
    of near ones runs on. No leader is a confirmed neighbour of another.

    Time: what has nobody near is never asked (`HashIndex.accompanied`), what was taken is not looked at again, and once
    half is taken the rest gets an index of its own. So equal hashes cost one look for all, however many, where they are
    confirmed. ``n`` hashes that are all near and never confirmed are asked about ``n (n - 1) / 2`` times: that is what
    it takes to know. Memory is linear in any case.

    Args:
        hashes: uint64 ``[N]``, the one to keep before the one to give up.
        radius: Largest Hamming distance, 0..64.
        confirm: Called with the place of a leader and those near it, later and not taken, ascending: which of them it
            takes, bool.

    Returns:
        The place of each one's leader (its own, where it leads), int64 ``[N]``.

    Raises:
        ValueError: ``radius`` is out of range.
    """
    leader = np.arange(len(hashes))
    places = np.flatnonzero(HashIndex(hashes, radius).accompanied())
    while len(places):
        words = hashes[places]
        index, left, remaining = HashIndex(words, radius), np.ones(len(places), bool), len(places)
        for i in range(len(places)):
            if not left[i]:
                continue
            left[i] = False
            remaining -= 1
            near = index.near(words[i], left)
            if len(near):
                taken = near[confirm(int(places[i]), places[near])]
                left[taken] = False
                leader[places[taken]] = places[i]
                remaining -= len(taken)
            if _SMALL < 2 * remaining < len(places):
                break
        places = places[left]
    return leader


def bands_for(count: int, radius: int) -> list[tuple[int, int]]:
    """Width in bits and search radius of each band, from the top of the hash down; none: compare every hash.

    Of ``m`` bands and ``radius = q m + r``, one of the first ``r + 1`` is within ``q`` or one of the others within
    ``q - 1`` (else at least ``(r + 1)(q + 1) + (m - r - 1) q = radius + 1`` bits would differ). ``m`` is the number
    that costs least for uniform hashes; those of pictures are like them but for copies and neighbouring frames
    (measured on 398 renders: of other pairs 22 to 36 bits differ, and each bit but one is set in a third to two thirds
    of them).
    """
    best: list[tuple[int, int]] = []
    least = float(count)
    for number in range(1, BITS + 1):
        quotient, rest = divmod(radius, number)
        widths = [BITS // number + (i < BITS % number) for i in range(number)]
        limits = [quotient - (i > rest) for i in range(number)]
        bands = [(width, limit) for width, limit in zip(widths, limits, strict=True) if limit >= 0]
        if widths[0] > _WIDEST:
            continue
        looks = [sum(math.comb(width, bits) for bits in range(limit + 1)) for width, limit in bands]
        cost = sum(n * (_LOOK + count / 2**width) for n, (width, _) in zip(looks, bands, strict=True))
        if cost < least:
            best, least = bands, cost
    return best


@cache
def _masks(width: int, limit: int) -> np.ndarray:
    """Every pattern of at most ``limit`` of ``width`` bits, the nearest first."""
    patterns = [sum(1 << b for b in bits) for n in range(limit + 1) for bits in combinations(range(width), n)]
    return np.array(patterns, np.uint64)


@njit(inline="always")
def _ones(word: np.uint64) -> np.uint64:
    """Bits that are set; compilers know this form and make one instruction of it."""
    word = word - ((word >> _C1) & _M1)
    word = (word & _M2) + ((word >> _C2) & _M2)
    word = (word + (word >> _C4)) & _M4
    return (word * _BYTES) >> _C56


@njit(nogil=True, cache=True)
def _sort(
    hashes: np.ndarray, shift: np.uint64, low: np.uint64, starts: np.ndarray, order: np.ndarray, words: np.ndarray
) -> None:
    """Counting sort by one band: where each bucket starts, and the hashes in that order."""
    for i in range(len(hashes)):
        starts[np.int64((hashes[i] >> shift) & low) + 1] += 1
    for k in range(1, len(starts)):
        starts[k] += starts[k - 1]
    for i in range(len(hashes)):
        key = np.int64((hashes[i] >> shift) & low)
        order[starts[key]] = i
        words[starts[key]] = hashes[i]
        starts[key] += 1
    for k in range(len(starts) - 1, 0, -1):
        starts[k] = starts[k - 1]
    starts[0] = 0


@njit(nogil=True, cache=True)
def _search(
    value: np.uint64, radius: np.uint64, among: np.ndarray,
    shifts: np.ndarray, lows: np.ndarray, limits: np.ndarray, first_start: np.ndarray, starts: np.ndarray,
    first_mask: np.ndarray, masks: np.ndarray, order: np.ndarray, words: np.ndarray, found: np.ndarray,
) -> int:  # fmt: skip
    count = 0
    for b in range(len(shifts)):
        key = (value >> shifts[b]) & lows[b]
        for m in range(first_mask[b], first_mask[b + 1]):
            bucket = first_start[b] + np.int64(key ^ masks[m])
            for p in range(starts[bucket], starts[bucket + 1]):
                apart = value ^ words[b, p]
                if _ones(apart) > radius or not among[order[b, p]]:
                    continue
                again = False  # a band before this one has given it
                for e in range(b):
                    again |= _ones((apart >> shifts[e]) & lows[e]) <= limits[e]
                if not again:
                    found[count] = order[b, p]
                    count += 1
    return count


@njit(nogil=True, cache=True)
def _search_all(
    radius: np.uint64, shifts: np.ndarray, lows: np.ndarray, first_start: np.ndarray, starts: np.ndarray,
    first_mask: np.ndarray, masks: np.ndarray, order: np.ndarray, words: np.ndarray, flags: np.ndarray,
) -> None:  # fmt: skip
    for b in range(len(shifts)):
        base = first_start[b]
        for k in range(np.int64(lows[b]) + 1):
            key = np.uint64(k)
            for p in range(starts[base + k], starts[base + k + 1]):
                if flags[order[b, p]]:
                    continue
                value = words[b, p]
                for m in range(first_mask[b], first_mask[b + 1]):
                    bucket = base + np.int64(key ^ masks[m])
                    for q in range(starts[bucket], starts[bucket + 1]):
                        if _ones(value ^ words[b, q]) <= radius and q != p:
                            flags[order[b, p]] = True
                            flags[order[b, q]] = True
                            break
                    if flags[order[b, p]]:
                        break


@njit(nogil=True, cache=True)
def _scan(value: np.uint64, radius: np.uint64, among: np.ndarray, hashes: np.ndarray, found: np.ndarray) -> int:
    count = 0
    for i in range(len(hashes)):
        if _ones(value ^ hashes[i]) <= radius and among[i]:
            found[count] = i
            count += 1
    return count


@njit(nogil=True, cache=True)
def _scan_all(radius: np.uint64, hashes: np.ndarray, flags: np.ndarray) -> None:
    for i in range(len(hashes)):
        for j in range(len(hashes)):
            if flags[i]:
                break
            if _ones(hashes[i] ^ hashes[j]) <= radius and i != j:
                flags[i] = True
                flags[j] = True
