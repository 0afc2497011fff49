"""What a stage is.

A recipe is a list of stages; a stage is a frozen dataclass whose fields are its configuration. A *map stage* sees one
instance at a time, pixels and record, so it runs anywhere and in any order. A *corpus stage* sees all records and no
pixels, so a changed threshold costs no pixel work. A *network stage* sees several instances at a time, so that a GPU is
filled. Consecutive stages of one kind run as one pass.

A stage module imports at its top only what the training half has (numpy, pydantic); OpenCV, scikit-learn and the like
are imported inside the methods, so that a configuration can be read where the offline half is not installed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

from lora_data.manifest import Record
from lora_data.sample import Instance
from lora_data.threads import side_by_side

Item = TypeVar("Item")
Result = TypeVar("Result")


class MapStage(ABC):
    """A stage that sees one instance. Pure: the result depends on the instance and the fields alone."""

    name: ClassVar[str]
    """The stage's name in the table, in the configuration and in error messages."""
    version: ClassVar[int] = 1
    """Raised when the same input would give other pixels or numbers than before."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """Fields of the incoming record that it may read, or overwrite where others wrote before; all others it sees empty
    (see `lora_data.content_key`)."""
    foreign: ClassVar[frozenset[str]] = frozenset()
    """Fields of the configuration that other stages use and `apply` does not."""

    def prepare(self) -> None:  # noqa: B027  # most need nothing
        """Open what `apply` needs, so that what is missing is said before anything is touched.

        Raises:
            ConfigError: What is configured is not there, or is something else.
            ModelError: Weights cannot be used.
        """

    @abstractmethod
    def apply(self, instance: Instance) -> Instance:
        """Return the instance with changed pixels or fields.

        Raises:
            ImageError: This image cannot be used; it becomes an error row.
        """


class CorpusStage(ABC):
    """A stage that sees every record, in the order of their keys, and no pixels."""

    name: ClassVar[str]
    version: ClassVar[int] = 1

    def prepare(self) -> None:  # noqa: B027  # most need nothing
        """As for `MapStage`."""

    @abstractmethod
    def apply(self, records: Sequence[Record]) -> list[Record]:
        """Return the records, changed, in the same order and number. Only active records may be decided on."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What network stages work with.

    Args:
        device: "cpu" or "cuda".
        workers: Threads: each runs a network on the CPU, or measures an instance.
        embedder: The network that says whose face it is, by name or path; None: nobody looks at faces.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    workers: int = 1
    embedder: str | None = None

    @property
    def batch(self) -> int:
        """Tiles in one forward pass.

        On the CPU one: more are no faster there, and sums then do not depend on the company. On a GPU eight tiles of
        256 px fit an 8 GB card with most networks; where not, half as many run.
        """
        return 8 if self.device == "cuda" else 1

    def each(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Apply a function to every item, in threads; results in their order. OpenCV, torch and ONNX run outside
        Python's lock."""
        return side_by_side(function, items, self.workers)


class NetworkStage(ABC):
    """A stage that runs a network over several instances at a time, in one process.

    The result for each is what it would be alone (on a GPU up to the rounding of float sums).
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset()
    """As for `MapStage`."""
    foreign: ClassVar[frozenset[str]] = frozenset()
    """The same."""

    @abstractmethod
    def apply_many(self, instances: Sequence[Instance], resources: Resources) -> list[Instance]:
        """Return the instances with changed pixels or fields, in the same order and number.

        Raises:
            ConfigError: The configured network does something else.
            ModelError: Its weights cannot be used.
        """

    @abstractmethod
    def prepare(self, resources: Resources) -> None:
        """Load what `apply_many` needs, so that what is missing is said before anything is touched. Raises as it."""


Stage = MapStage | CorpusStage | NetworkStage
