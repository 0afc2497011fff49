"""What ``--engine ray`` asks of a cluster: the ``[ray]`` table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings:
    """How passes are laid over a Ray cluster. Results do not depend on it.

    Args:
        address: Of a running cluster, as `ray.init` takes it ("auto", "host:6379"); None: ``RAY_ADDRESS``, and where
            that is not set, a cluster on this machine that ends with the run.
        cpus: Cores of a worker: one, since each computes with one thread.
        network_cpus: Cores of a worker that holds networks; as many threads read, measure and write beside the GPU, or
            run the networks where there is none.
        gpus: GPUs of such a worker where networks run on a GPU. A fraction lets several share one: .5 is two workers
            on each, with half of its memory each.
        min_workers: A pass begins when so many are there.
        max_workers: As many at most; None: as many as the cluster has room for when the pass begins. Set it for a
            cluster that grows when it is asked to.
        block: Instances that are handed out and come back together. What was on its way when a run is killed is
            computed again: at most a few blocks a worker.

    Raises:
        ValueError: A field is out of range.
    """

    address: str | None = None
    cpus: float = 1.0
    network_cpus: int = 1
    gpus: float = 1.0
    min_workers: int = 1
    max_workers: int | None = None
    block: int = 16

    def __post_init__(self) -> None:
        for name in ("cpus", "gpus"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("network_cpus", "min_workers", "block"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_workers is not None and self.max_workers < self.min_workers:
            raise ValueError(f"max_workers must be at least min_workers ({self.min_workers}), got {self.max_workers}")
