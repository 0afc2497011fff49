"""Threads for work that waits for a disk or a store, or computes outside Python's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")

_HANDED_OUT = 1024
"""At a time: what waits takes a kilobyte or two each, whatever it is."""


def side_by_side(function: Callable[[Item], Done], items: Iterable[Item], workers: int) -> list[Done]:
    """Apply a function to every item.

    Args:
        function: What to do; what it raises is raised here.
        items: To what.
        workers: Threads at most; with one, none or a single item all is done in this one.

    Returns:
        Its results, in the order of the items.
    """
    things = list(items)
    if workers <= 1 or len(things) <= 1:
        return [function(thing) for thing in things]
    done: list[Done] = []
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(things), _HANDED_OUT):
            done += pool.map(function, things[start : start + _HANDED_OUT])
    return done
