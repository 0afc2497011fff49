"""What a process that computes pixels asks of its libraries: one thread, so that the same sums come out."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


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
