from __future__ import annotations

import os

import cv2
import pytest

from lora_data.engines import local
from lora_data.errors import RunError


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


def threads(_: int) -> int:
    return cv2.getNumThreads()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_keep_the_order_of_the_items(workers: int):
    seen: list[int] = []
    assert local.run(square, range(20), workers=workers, advance=seen.append) == [i * i for i in range(20)]
    assert sum(seen) == 20


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bug_crashes_loudly(workers: int):
    with pytest.raises(ZeroDivisionError, match="three"):
        local.run(fail_on_three, range(8), workers=workers)


def test_a_dead_worker_is_named():
    with pytest.raises(RunError, match="worker process died"):
        local.run(die, range(8), workers=2)


@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_computed_with_one_thread(workers: int):
    before = cv2.getNumThreads()
    assert set(local.run(threads, range(4), workers=workers)) == {1}
    assert cv2.getNumThreads() == before


def test_no_worker_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        local.run(square, [1], workers=0)
