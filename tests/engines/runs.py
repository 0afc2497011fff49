"""Runs of an engine whose results are wanted in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lora_data.engines.engine import Engine

_Result = TypeVar("_Result")


def results(engine: Engine, function: Callable[[Any], _Result], items: Sequence[Any]) -> list[_Result]:
    """What arrived for each item, in their order; every item arrives once."""
    arrived: list[tuple[int, _Result]] = []
    engine.run(function, items, lambda number, result: arrived.append((number, result)))
    assert sorted(number for number, _ in arrived) == list(range(len(items)))
    return [result for _, result in sorted(arrived, key=lambda pair: pair[0])]
