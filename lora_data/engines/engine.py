"""What an engine is: it runs passes over items, on the processes or machines that it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, Protocol, TypeVar

from lora_data.engines.batches import NetworkPass
from lora_data.work import Item, Made

Thing = TypeVar("Thing")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs passes. What comes out does not depend on which engine does it, or with how many workers.

    ``arrived`` is called in the driver's process with an item's number and what was made of it as soon as it is there,
    in any order.

    Every method raises:
        RunError: What worked ended, and going on is not possible.
        KeyboardInterrupt: Somebody asked to stop; what has arrived is kept.
    """

    name: ClassVar[Literal["local", "ray"]]
    """As the command line names it."""

    @property
    def workers(self) -> int:
        """Things that it does at once."""
        ...

    def run(
        self, function: Callable[[Thing], Result], items: Sequence[Thing], arrived: Callable[[int, Result], None]
    ) -> None:
        """Apply a picklable, small, pure function to every item (small too: paths and records, not pixels)."""
        ...

    def run_networks(self, work: NetworkPass, items: Sequence[Item], arrived: Callable[[int, Made], None]) -> None:
        """Take items through a pass of network stages."""
        ...

    def each(self, function: Callable[[Thing], Result], items: Sequence[Thing]) -> list[Result]:
        """Apply a function that mostly waits for a disk or a store; return its results in the order of the items."""
        ...
