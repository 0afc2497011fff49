"""The local engine: map functions over items in this process, or over a few.

One worker is the plain readable path. More workers are spawned processes (never forked: OpenCV and BLAS threads do not
survive a fork), started once for all passes and fed with a bounded number of items, so that memory does not grow with
the corpus. Each worker computes with one thread: results then do not depend on the number of cores.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from lora_data.errors import RunError
from lora_data.interrupt import Interrupt

if TYPE_CHECKING:
    from typing_extensions import Self

Item = TypeVar("Item")
Result = TypeVar("Result")

_IN_FLIGHT = 4
"""Items handed out per worker: enough to keep it busy while results are collected."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


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


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of freed pictures instead of giving it back to the system after each one.

    Every picture is followed by one of about the same size; without this, mapping its pages anew is up to half of the
    time of a stage (measured: colour 43 against 26 ms at 1024 px). For processes that are ours alone. Does nothing
    where the C library is another one.

    Source: mallopt(3). 32 MiB is the largest threshold that glibc takes on 64 bit.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, 256 << 20)


class LocalEngine:
    """Worker processes for the passes of one run. A context manager: leaving it ends the processes.

    Args:
        workers: 1 computes in this process; more spawn that many processes at the first `run`.
        interrupt: Whether somebody asked to stop.

    Raises:
        ValueError: ``workers`` is below 1.
    """

    def __init__(self, workers: int, interrupt: Interrupt | None = None) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        self.workers = workers
        self._interrupt = interrupt or Interrupt()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=error is None, cancel_futures=True)
            self._pool = None

    def run(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        arrived: Callable[[int, Result], None] | None = None,
    ) -> list[Result]:
        """Apply ``function`` to every item.

        Args:
            function: Picklable, small, pure.
            items: Picklable, small (paths and records, not pixels).
            arrived: Called in this process with an item's number and its result as soon as it is there, in any order.

        Returns:
            The results in the order of the items.

        Raises:
            RunError: A worker process died.
            KeyboardInterrupt: Somebody asked to stop; what was in hand has arrived.
        """
        if self.workers > 1 and len(items) > 1:
            return self._run_processes(function, items, arrived)
        results: list[Result] = []
        with single_thread():
            for number, item in enumerate(items):
                self._interrupt.check()
                results.append(function(item))
                if arrived is not None:
                    arrived(number, results[-1])
        return results

    def _run_processes(
        self, function: Callable[[Item], Result], items: Sequence[Item], arrived: Callable[[int, Result], None] | None
    ) -> list[Result]:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_begin)
        done: dict[int, Result] = {}
        pending: dict[Future[Result], int] = {}
        queue = iter(enumerate(items))
        try:
            while len(done) < len(items):
                if not pending:
                    self._interrupt.check()
                while (
                    not self._interrupt.asked
                    and len(pending) < self.workers * _IN_FLIGHT
                    and (entry := next(queue, None)) is not None
                ):
                    pending[self._pool.submit(_work, function, entry[1])] = entry[0]
                finished, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    number = pending.pop(future)
                    done[number] = future.result()
                    if arrived is not None:
                        arrived(number, done[number])
        except BrokenProcessPool:
            raise RunError(
                "a worker process died (killed by the system, perhaps for memory); what is done is kept: run the same "
                "command again, perhaps with fewer --workers"
            ) from None
        return [done[i] for i in range(len(items))]


def _begin() -> None:
    """Make a worker: Ctrl-C is for the process that gives it work, and without that it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    giver = multiprocessing.parent_process()
    assert giver is not None

    def end_with() -> None:
        giver.join()
        os._exit(1)

    Thread(target=end_with, daemon=True).start()


def _work(function: Callable[[Item], Result], item: Item) -> Result:
    with single_thread():
        return function(item)
