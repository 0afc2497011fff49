"""The engine of several machines: passes as Ray Data pipelines, with actors that stay and hold what they need.

The driver keeps the records and does the corpus stages, as with the local engine; workers read sources and pictures
where they lie and store what they make there, so only small records travel. OUT and INPUT must therefore be reachable
from every machine under the same name: a shared folder or a URL.

Source: Ray Data's documentation, "Transforming data" and "Actor pools" (https://docs.ray.io/en/latest/data).
"""

from __future__ import annotations

import logging
import os
import pickle
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, cast

import pyarrow as pa

from lora_data.engines.batches import NetworkPass
from lora_data.engines.process import single_thread
from lora_data.errors import RunError
from lora_data.freed_memory import keep_freed_memory
from lora_data.interrupt import Interrupt
from lora_data.ray_settings import RaySettings
from lora_data.storage import AT_ONCE
from lora_data.threads import side_by_side
from lora_data.work import Item, Made

if TYPE_CHECKING:
    from typing_extensions import Self

Thing = TypeVar("Thing")
Result = TypeVar("Result")

_OURS = "LORA_DATA_"
"""Environment variables that workers are given: where weights are, and the like."""
_RETRIES = 3
"""Tries of a block after the first, when its worker died: a picture that kills workers must not go round forever."""
_LIGHT_BLOCK = 256
"""Things in a block where each takes a read or a write."""


class RayEngine:
    """Workers on a Ray cluster. A context manager: leaving it disconnects, and ends a cluster that it started.

    Args:
        settings: What to ask of the cluster.
        workers: Cores of a cluster that is started on this machine; None: all.
        interrupt: Whether somebody asked to stop.

    Raises:
        RunError: The cluster cannot be reached or started.
    """

    name: ClassVar[Literal["local", "ray"]] = "ray"

    def __init__(self, settings: RaySettings, workers: int | None = None, interrupt: Interrupt | None = None) -> None:
        self.settings = settings
        self._cores = workers
        self._interrupt = interrupt or Interrupt()
        self._ours = False

    def __enter__(self) -> Self:
        # nothing is sent to anybody; a driver's GPU stays visible to it; no log of Ray's own on the terminal
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray
        import ray.data

        if not ray.is_initialized():
            address = self.settings.address or os.environ.get("RAY_ADDRESS")
            cores = None if address else self._cores
            try:
                ray.init(
                    address=address,
                    num_cpus=cores,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            except (ConnectionError, OSError, ValueError, RuntimeError) as error:
                raise RunError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
            self._ours = True
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.verbose_progress = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what ends a run is raised, and said once
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        if self._ours:
            ray.shutdown()

    @property
    def workers(self) -> int:
        """Workers of a pass of map stages that the cluster has room for now."""
        return self._room(self.settings.cpus, 0.0)

    @property
    def gpus(self) -> float:
        """GPUs of the cluster as it is now."""
        import ray

        return float(ray.cluster_resources().get("GPU", 0.0))

    def run(
        self, function: Callable[[Thing], Result], items: Sequence[Thing], arrived: Callable[[int, Result], None]
    ) -> None:
        """See `lora_data.engines.engine.Engine`. When a worker or its machine dies, others do its part again."""
        self._hand_out(_Each(function), items, arrived, self.settings.cpus, 0.0, self.settings.block)

    def run_networks(self, work: NetworkPass, items: Sequence[Item], arrived: Callable[[int, Made], None]) -> None:
        """The same: each worker holds the networks, on its GPU or a part of one."""
        s = self.settings
        own = replace(work, resources=replace(work.resources, workers=s.network_cpus))
        gpus = s.gpus if work.resources.device == "cuda" else 0.0
        self._hand_out(_Networks(own), items, arrived, float(s.network_cpus), gpus, s.block)

    def each(self, function: Callable[[Thing], Result], items: Sequence[Thing]) -> list[Result]:
        """The same; few things are done here, sooner than workers start."""
        if len(items) <= _LIGHT_BLOCK:
            return side_by_side(function, items, AT_ONCE)
        results: dict[int, Result] = {}
        self._hand_out(_Each(function), items, results.__setitem__, self.settings.cpus, 0.0, _LIGHT_BLOCK)
        return [results[number] for number in range(len(items))]

    def _hand_out(
        self,
        work: _Work,
        items: Sequence[Any],
        arrived: Callable[[int, Any], None],
        cpus: float,
        gpus: float,
        block: int,
    ) -> None:
        """Hand items out in blocks."""
        from ray.exceptions import RayError

        if not items:
            return
        try:
            for number, result in self._streamed(work, items, cpus, gpus, block):
                if isinstance(result, _Failed):
                    raise result.error from RuntimeError(f"in a worker:\n{result.trace}")
                arrived(number, result)
        except RayError as error:
            raise RunError(
                f"the Ray cluster could not go on ({type(error).__name__}: {str(error)[:500]}); what is done is kept: "
                "run the same command again"
            ) from None

    def _streamed(
        self, work: _Work, items: Sequence[Any], cpus: float, gpus: float, block: int
    ) -> Iterator[tuple[int, Any]]:
        import ray

        self._interrupt.check()
        numbers = range(len(items))
        blocks = [
            pa.table({"number": list(part), "item": [pickle.dumps(items[number]) for number in part]})
            for part in (numbers[start : start + block] for start in numbers[::block])
        ]
        most = min(self.settings.max_workers or self._room(cpus, gpus), len(blocks))
        environment = {name: value for name, value in os.environ.items() if name.startswith(_OURS)}
        with warnings.catch_warnings():
            # the only way to bound the tries; Ray 2.64 will have another, which 2.60 has not
            warnings.filterwarnings("ignore", "`ray_remote_args", DeprecationWarning)
            made = ray.data.from_arrow(blocks).map_batches(
                _Worker,
                fn_constructor_args=(work, environment),
                batch_format="pyarrow",
                batch_size=block,
                concurrency=(min(self.settings.min_workers, most), most),
                num_cpus=cpus,
                num_gpus=gpus or None,
                max_task_retries=_RETRIES,
            )
        for batch in made.iter_batches(batch_format="pyarrow", batch_size=None, prefetch_batches=0):
            table = cast(pa.Table, batch)
            for number, data in zip(table["number"].to_pylist(), table["made"].to_pylist(), strict=True):
                yield number, pickle.loads(data)
            self._interrupt.check()

    def _room(self, cpus: float, gpus: float) -> int:
        """How many workers of a size fit into the cluster as it is now; at least one, for which it may grow."""
        import ray

        fits = 0
        for node in ray.nodes():
            there = node["Resources"] if node["Alive"] else {}
            count = there.get("CPU", 0.0) / cpus
            fits += int(min(count, there.get("GPU", 0.0) / gpus) if gpus else count)
        return max(1, fits)


class _Each:
    """A function, item by item."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        with single_thread():
            return [self._function(item) for item in items]


class _Networks:
    """A pass of network stages, a block at a time."""

    def __init__(self, work: NetworkPass) -> None:
        self._work = work

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        made: dict[int, Made] = {}
        self._work.run(items, made.__setitem__)
        return [made[number] for number in range(len(items))]


_Work = _Each | _Networks


@dataclass(frozen=True, slots=True)
class _Failed:
    """What a block's work raised."""

    error: Exception
    trace: str


class _Worker:
    """What Ray keeps alive: the work, and what it has loaded for it."""

    def __init__(self, work: _Work, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        keep_freed_memory()
        self._work = work

    def __call__(self, table: pa.Table) -> pa.Table:
        items = [pickle.loads(data) for data in table["item"].to_pylist()]
        try:
            made = self._work(items)
        except Exception as error:  # noqa: BLE001  # as it is to the driver, which raises it; Ray would wrap it
            made = [_Failed(error, traceback.format_exc())] * len(items)
        return pa.table({"number": table["number"], "made": [pickle.dumps(one) for one in made]})
