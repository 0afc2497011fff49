"""Many things of which only those in hand are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, overload

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


class Mapped(Sequence[_Made], Generic[_Item, _Made]):
    """What a function makes of each item, made whenever it is asked for.

    Args:
        function: Pure and cheap.
        items: To what it is applied.
    """

    def __init__(self, function: Callable[[_Item], _Made], items: Sequence[_Item]) -> None:
        self._function, self._items = function, items

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> _Made: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_Made]: ...
    def __getitem__(self, index: int | slice) -> _Made | Sequence[_Made]:
        if isinstance(index, slice):
            return Mapped(self._function, self._items[index])
        return self._function(self._items[index])
