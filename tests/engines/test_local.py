from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import cv2
import pytest

from lora_data.engines.local import LocalEngine
from lora_data.errors import RunError


def run(
    function: Callable[[int], int], items: Sequence[int], workers: int, advance: Callable[[int], None] | None = None
) -> list[int]:
    with LocalEngine(workers) as engine:
        return engine.run(function, items, advance)


def square(value: int) -> int:
    return value * value


def fail_on_three(value: int) -> int:
    if value == 3:
        raise ZeroDivisionError("three")
    return value


def die(value: int) -> int:
    if value == 3:
        os._exit(9)
    return value


def process(_: int) -> int:
    return os.getpid()


def threads(_: int) -> int:
    return cv2.getNumThreads()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_keep_the_order_of_the_items(workers: int):
    seen: list[int] = []
    assert run(square, range(20), workers, seen.append) == [i * i for i in range(20)]
    assert sum(seen) == 20


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bug_crashes_loudly(workers: int):
    with pytest.raises(ZeroDivisionError, match="three"):
        run(fail_on_three, range(8), workers)


def test_a_dead_worker_is_named():
    with pytest.raises(RunError, match="worker process died"):
        run(die, range(8), 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_computed_with_one_thread(workers: int):
    before = cv2.getNumThreads()
    assert set(run(threads, range(4), workers)) == {1}
    assert cv2.getNumThreads() == before


def test_the_processes_serve_every_run():
    with LocalEngine(2) as engine:
        first = set(engine.run(process, range(30)))
        assert os.getpid() not in first
        assert len(first | set(engine.run(process, range(30)))) <= 2


def test_no_worker_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        run(square, [1], 0)
