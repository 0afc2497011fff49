"""The local engine: map a function over items in this process, or over a few.

One worker is the plain readable path. More workers are spawned processes (never forked: OpenCV and BLAS threads do not
survive a fork), fed with a bounded number of items, so that memory does not grow with the corpus. Each worker computes
with one thread: results then do not depend on the number of cores.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from lora_data.errors import RunError

Item = TypeVar("Item")
Result = TypeVar("Result")

_IN_FLIGHT = 4
"""Items handed out per worker: enough to keep it busy while results are collected."""


@contextmanager
def single_thread() -> Generator[None, None, None]:
    """Let OpenCV and BLAS use one thread, so that the order of floating-point sums is fixed."""
    import cv2
    from threadpoolctl import threadpool_limits

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(before)


def run(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    advance: Callable[[int], None] | None = None,
) -> list[Result]:
    """Apply ``function`` to every item.

    Args:
        function: Picklable, pure.
        items: Picklable, small (paths and records, not pixels).
        workers: 1 runs here; more spawn that many processes.
        advance: Called with the number of items that have just been finished.

    Returns:
        The results in the order of the items.

    Raises:
        RunError: A worker process died.
        ValueError: ``workers`` is below 1.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if workers == 1 or len(items) < 2:
        results: list[Result] = []
        with single_thread():
            for item in items:
                results.append(function(item))
                if advance is not None:
                    advance(1)
        return results
    return _run_processes(function, items, min(workers, len(items)), advance)


def _run_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, advance: Callable[[int], None] | None
) -> list[Result]:
    done: dict[int, Result] = {}
    pending: dict[Future[Result], int] = {}
    queue = iter(enumerate(items))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(_Task(function),)) as pool:
        try:
            while len(done) < len(items):
                while len(pending) < workers * _IN_FLIGHT and (entry := next(queue, None)) is not None:
                    pending[pool.submit(_work, entry[1])] = entry[0]
                finished, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    done[pending.pop(future)] = future.result()
                if advance is not None:
                    advance(len(finished))
        except BrokenProcessPool:
            raise RunError(
                "a worker process died (killed by the system, perhaps for memory); run the same command again, "
                "perhaps with fewer --workers"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [done[i] for i in range(len(items))]


class _Task:
    """The function of a worker process, sent once at its start."""

    current: ClassVar[_Task | None] = None

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function


def _start(task: _Task) -> None:
    _Task.current = task


def _work(item: object) -> Any:
    task = _Task.current
    if task is None:
        raise RuntimeError("a worker was used before it was started")
    with single_thread():
        return task.function(item)
