"""The engine of network stages: one process, several instances at a time, decoding and encoding beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from lora_data.blobs import Blobs, DamagedBlobError
from lora_data.engines.process import single_thread
from lora_data.interrupt import Interrupt
from lora_data.manifest import Answer
from lora_data.record_bytes import changes, to_bytes
from lora_data.results import NEXT
from lora_data.sample import Instance
from lora_data.stage import NetworkStage, Resources
from lora_data.stages.deblur import answered
from lora_data.store import TAKEN_BACK_KINDS, THUMBNAIL, decode_webp, encode_lossy, encode_webp, small
from lora_data.work import Item, Made

CHUNK = 16
"""Instances in memory at once, as many again being read and written: some 500 MB of pictures and network outputs."""


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


@dataclass(frozen=True, slots=True)
class NetworkPass:
    """A pass of network stages.

    Args:
        stages: Applied in order.
        blobs: Where pictures are stored.
        resources: What to run on.
    """

    stages: tuple[NetworkStage, ...]
    blobs: Blobs
    resources: Resources

    def run(
        self, items: Sequence[Item], arrived: Callable[[int, Made], None], interrupt: Interrupt | None = None
    ) -> None:
        """Take instances through.

        Args:
            items: Each with its picture.
            arrived: Called with an item's number and what was made of it, in their order, as soon as it is stored.
            interrupt: Whether somebody asked to stop.

        Raises:
            KeyboardInterrupt: Somebody did; what was in hand has arrived.
        """
        chunks = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
        saving: deque[Future[Made]] = deque()
        count = 0

        def store_until(left: int) -> None:
            nonlocal count
            while len(saving) > left:
                arrived(count, saving.popleft().result())
                count += 1

        with single_threaded_torch(), ThreadPoolExecutor(max(2, self.resources.workers)) as pool:
            loading = [pool.submit(self._load, item) for item in chunks[0]] if chunks else []
            for number in range(len(chunks)):
                if interrupt is not None and interrupt.asked:
                    break
                given = [future.result() for future in loading]
                following = chunks[number + 1] if number + 1 < len(chunks) else []
                loading = [pool.submit(self._load, item) for item in following]
                instances = [instance for instance in given if isinstance(instance, Instance)]
                for stage in self.stages:
                    instances = stage.apply_many(instances, self.resources)
                store_until(2 * CHUNK)
                after = iter(instances)
                pairs = [(g, next(after) if isinstance(g, Instance) else None) for g in given]
                saving += [
                    pool.submit(self._save, item, *pair) for item, pair in zip(chunks[number], pairs, strict=True)
                ]
            store_until(0)
        if interrupt is not None:
            interrupt.check()

    def _load(self, item: Item) -> Instance | DamagedBlobError:
        assert item.picture is not None
        try:
            return Instance(item.record, *decode_webp(self.blobs.read(item.picture)))
        except DamagedBlobError as error:
            return error

    def _save(self, item: Item, before: Instance | DamagedBlobError, after: Instance | None) -> Made:
        if isinstance(before, DamagedBlobError) or after is None:
            return Made(damaged=item.picture)
        made = self._stored(item, before, after)
        answers: dict[Answer, Made] = {
            answer: self._stored(item, before, instance) for answer, instance in answered(after).items()
        }
        return Made(made.fields, made.pictures, answers=answers)

    def _stored(self, item: Item, before: Instance, after: Instance) -> Made:
        assert item.picture is not None
        same = after.rgb is before.rgb and after.alpha is before.alpha
        picture = item.picture if same else self.blobs.put(encode_webp(after.rgb, after.alpha))
        pictures = {NEXT: picture}
        for name, both in after.attempts.items():
            data = encode_lossy(*small(both[..., :3], both[..., 3], 2 * THUMBNAIL))
            pictures[TAKEN_BACK_KINDS[name]] = self.blobs.put(data)
        return Made(to_bytes(changes(item.record, after.record)), pictures)
