"""The engine of network stages: one process, several instances at a time, decoding and encoding beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from lora_data.engines.local import single_thread
from lora_data.manifest import Record
from lora_data.sample import Instance
from lora_data.stage import NetworkStage, Resources
from lora_data.store import PixelStore

CHUNK = 16
"""Instances in memory at once, as many again being read and written: some 500 MB of pictures and network outputs."""
PROPOSED = "proposed"
"""Kind of picture in the cache: enhancements that wait for a person."""


@contextmanager
def single_threaded_torch() -> Generator[None]:
    """Let a forward pass use one thread, so that the order of its sums is fixed; passes run side by side instead."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with single_thread():
            yield
    finally:
        torch.set_num_threads(before)


def run_networks(
    stages: Sequence[NetworkStage],
    records: Sequence[Record],
    store: PixelStore,
    kinds: tuple[str, str],
    resources: Resources,
    advance: Callable[[int], None],
) -> list[Record]:
    """Take instances through network stages.

    Args:
        stages: Applied in order.
        records: Their pictures are in the store.
        store: The pictures' folder.
        kinds: What to read and what to leave there. Pictures that did not change are moved.
        resources: What to run on.
        advance: Called with the number of instances that have just been finished.

    Returns:
        The records in their order.
    """
    read, write = kinds
    chunks = [records[i : i + CHUNK] for i in range(0, len(records), CHUNK)]
    done: list[Record] = []
    saving: deque[Future[None]] = deque()

    def load(record: Record) -> Instance:
        return Instance(record, *store.load(read, record.key))

    def save(before: Instance, after: Instance) -> None:
        key = after.record.key
        if after.proposed is not None:
            store.save(PROPOSED, key, after.proposed, after.alpha)
        if after.rgb is before.rgb and after.alpha is before.alpha:
            store.move(read, write, key)
        else:
            store.save(write, key, after.rgb, after.alpha)

    with single_threaded_torch(), ThreadPoolExecutor(max(2, resources.workers)) as pool:
        loading = [pool.submit(load, record) for record in chunks[0]] if chunks else []
        for number, chunk in enumerate(chunks):
            given = [future.result() for future in loading]
            following = chunks[number + 1] if number + 1 < len(chunks) else []
            loading = [pool.submit(load, record) for record in following]
            instances = given
            for stage in stages:
                instances = stage.apply_many(instances, resources)
            while len(saving) > 2 * CHUNK:
                saving.popleft().result()
            saving += [pool.submit(save, b, a) for b, a in zip(given, instances, strict=True)]
            done += [instance.record for instance in instances]
            advance(len(chunk))
        while saving:
            saving.popleft().result()
    return done
