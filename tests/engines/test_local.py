from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import cv2
import psutil
import pytest

from lora_data.engines.local import LocalEngine
from lora_data.errors import RunError
from lora_data.interrupt import Interrupt
from tests.conftest import ROOT
from tests.engines.runs import results


def run(function: Callable[[int], int], items: Sequence[int], workers: int) -> list[int]:
    with LocalEngine(workers) as engine:
        return results(engine, function, items)


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
def test_every_item_has_its_result(workers: int):
    assert run(square, range(20), workers) == [i * i for i in range(20)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bug_crashes_loudly(workers: int):
    with pytest.raises(ZeroDivisionError, match="three"):
        run(fail_on_three, range(8), workers)


def test_a_dead_worker_is_named():
    with pytest.raises(RunError, match="worker process died"):
        run(die, range(8), 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_who_asks_to_stop_gets_what_was_in_hand(workers: int):
    interrupt, seen = Interrupt(), list[int]()

    def arrived(number: int, result: int) -> None:
        seen.append(number)
        interrupt.asked = True

    with LocalEngine(workers, interrupt) as engine, pytest.raises(KeyboardInterrupt):
        engine.run(square, range(100), arrived)
    assert 1 <= len(seen) <= 4 * workers
    assert sorted(seen) == list(range(len(seen)))


def test_workers_end_with_who_gave_them_work():
    code = (
        "import os, signal, tests.engines.test_local as t\n"
        "from lora_data.engines.local import LocalEngine\n"
        "with LocalEngine(2) as engine:\n"
        "    print(*t.results(engine, t.process, range(8)), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    workers = {int(word) for word in done.stdout.split()}
    assert workers
    for _ in range(200):
        workers = {pid for pid in workers if psutil.pid_exists(pid)}
        if not workers:
            return
        time.sleep(0.05)
    raise AssertionError(f"{workers} still run")


@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_computed_with_one_thread(workers: int):
    before = cv2.getNumThreads()
    assert set(run(threads, range(4), workers)) == {1}
    assert cv2.getNumThreads() == before


def test_the_processes_serve_every_run():
    with LocalEngine(2) as engine:
        first = set(results(engine, process, range(30)))
        assert os.getpid() not in first
        assert len(first | set(results(engine, process, range(30)))) <= 2


def test_no_worker_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        run(square, [1], 0)
