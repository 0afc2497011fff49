"""A Ray cluster of two cores on this machine, for tests."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from tests.conftest import ROOT


@contextmanager
def ray_cluster() -> Generator[str]:
    """A cluster of this process's own; yields its address. Skips where Ray is not installed."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)  # workers import tests
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        try:
            context = ray.init(
                num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=150_000_000,
                logging_level="ERROR",
            )  # fmt: skip
            yield context.address_info["gcs_address"]
        finally:
            ray.shutdown()
