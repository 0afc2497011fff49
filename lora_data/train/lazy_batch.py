"""A batch that makes itself when it is moved or first read: augmentation without a line changed in a trainer's loop.

accelerate calls ``batch.to(device)`` once for each batch that is about to be trained on, in the main process, before it
looks whether the batch is a mapping (accelerate 0.31 to 1.15). So a worker sends uint8 cut-outs, and what the loop
reads was made on the device. A loader that nobody prepared never calls ``to``: then the first look makes it, where the
cut-outs are.
"""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

from lora_data.augment import Batch
from lora_data.errors import LoraDataError

Assembled = tuple[Batch, dict[str, Any]]
"""Cut-outs, and what the trainer reads beside what is made of them (captions, tokens)."""


class LazyBatch(MutableMapping[str, Any]):
    """A mapping with a trainer's keys.

    Args:
        assemble: Reads the cut-outs; called once, where the batch is first pickled, moved or read.
        finish: Makes what the trainer reads of the cut-outs, where they are; called once. Picklable.
    """

    def __init__(self, assemble: Callable[[], Assembled], finish: Callable[[Batch], Mapping[str, Any]]) -> None:
        self._assemble: Callable[[], Assembled] | None = assemble
        self._finish = finish
        self._assembled: Assembled | None = None
        self._fields: dict[str, Any] | None = None
        self._error: Exception | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> LazyBatch:
        """Make the batch on a device, or move there what is made; calling it again changes nothing.

        Raises:
            RuntimeError: In place of a TypeError from inside, which accelerate would take for an older signature of
                this method and swallow.
        """
        try:
            if self._fields is None:
                batch, ready = self._assembled_now()
                self._fields = {**ready, **self._finish(batch.to(device, non_blocking=non_blocking))}
                self._assembled = None
            self._fields = _moved(self._fields, device, non_blocking)
        except TypeError as error:
            raise RuntimeError(f"the batch could not be made: {error}") from error
        return self

    def pin_memory(self) -> LazyBatch:
        """Put the cut-outs into memory that the device copies from by itself; torch's DataLoader asks for it."""
        if self._fields is None:
            batch, ready = self._assembled_now()
            self._assembled = dataclasses.replace(batch, images=batch.images.pin_memory()), ready
        return self

    def _assembled_now(self) -> Assembled:
        if self._error is not None:
            raise self._error
        if self._assembled is None:
            assert self._assemble is not None
            self._assembled, self._assemble = self._assemble(), None
        return self._assembled

    def _made(self) -> dict[str, Any]:
        if self._fields is None:
            self.to(self._assembled_now()[0].images.device)
        assert self._fields is not None
        return self._fields

    def __getitem__(self, name: str) -> Any:
        if self._fields is None and name in self._assembled_now()[1]:
            return self._assembled_now()[1][name]  # a pass that only reads captions makes no picture
        return self._made()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._made()[name] = value

    def __delitem__(self, name: str) -> None:
        del self._made()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made())

    def __len__(self) -> int:
        return len(self._made())

    def __getstate__(self) -> dict[str, Any]:
        if self._fields is None:
            # A worker pickles in a thread whose errors are lost, and the main process would wait for ever.
            try:
                self._assembled_now()
            except LoraDataError as error:
                self._error = error
            except Exception:  # noqa: BLE001  # raised again where the batch arrives
                self._error = RuntimeError(f"a batch could not be read in a worker process:\n{traceback.format_exc()}")
        return {**self.__dict__, "_assemble": None}


def _moved(value: Any, device: torch.device | str, non_blocking: bool) -> Any:
    """A value with every tensor in it on a device; lists, tuples and dictionaries are gone into."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=non_blocking)
    if isinstance(value, list | tuple):
        return type(value)(_moved(v, device, non_blocking) for v in value)
    if isinstance(value, dict):
        return {name: _moved(v, device, non_blocking) for name, v in value.items()}
    return value
