"""The local engine: map functions over items in this process, or over a few.

One worker is the plain readable path. More workers are spawned processes (never forked: OpenCV and BLAS threads do not
survive a fork), started once for all passes and fed with a bounded number of items, so that memory does not grow with
the corpus. Each worker computes with one thread: results then do not depend on the number of cores.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from lora_data.engines.process import single_thread
from lora_data.errors import RunError
from lora_data.freed_memory import keep_freed_memory
from lora_data.interrupt import Interrupt
from lora_data.threads import side_by_side

if TYPE_CHECKING:
    from typing_extensions import Self

    from lora_data.engines.batches import NetworkPass
    from lora_data.work import Item as Input
    from lora_data.work import Made

Item = TypeVar("Item")
Result = TypeVar("Result")

_IN_FLIGHT = 4
"""Items handed out per worker: enough to keep it busy while results are collected."""


class LocalEngine:
    """Worker processes for the passes of one run. A context manager: leaving it ends the processes.

    Args:
        workers: 1 computes in this process; more spawn that many processes at the first `run`.
        interrupt: Whether somebody asked to stop.

    Raises:
        ValueError: ``workers`` is below 1.
    """

    name: ClassVar[Literal["local", "ray"]] = "local"

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
        self, function: Callable[[Item], Result], items: Sequence[Item], arrived: Callable[[int, Result], None]
    ) -> None:
        """Apply ``function`` to every item.

        Args:
            function: Picklable, small, pure.
            items: Picklable, small (paths and records, not pixels).
            arrived: Called in this process with an item's number and its result as soon as it is there, in any order.

        Raises:
            RunError: A worker process died.
            KeyboardInterrupt: Somebody asked to stop; what was in hand has arrived.
        """
        if self.workers > 1 and len(items) > 1:
            self._run_processes(function, items, arrived)
            return
        with single_thread():
            for number, item in enumerate(items):
                self._interrupt.check()
                arrived(number, function(item))

    def run_networks(self, work: NetworkPass, items: Sequence[Input], arrived: Callable[[int, Made], None]) -> None:
        """Take items through a pass of network stages, in this process: one owner of the GPU."""
        work.run(items, arrived, self._interrupt)

    def each(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Apply a function that mostly waits for a disk or a store, in threads; results in the order of the items."""
        return side_by_side(function, items, self.workers)

    def _run_processes(
        self, function: Callable[[Item], Result], items: Sequence[Item], arrived: Callable[[int, Result], None]
    ) -> None:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_begin)
        done = 0
        pending: dict[Future[Result], int] = {}
        queue = iter(enumerate(items))
        try:
            while done < len(items):
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
                    arrived(pending.pop(future), future.result())
                    done += 1
        except BrokenProcessPool:
            raise RunError(
                "a worker process died (killed by the system, perhaps for memory); what is done is kept: run the same "
                "command again, perhaps with fewer --workers"
            ) from None


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
