"""What a stage is.

A recipe is a list of stages; a stage is a frozen dataclass whose fields are its configuration. A *map stage* sees one
instance at a time, pixels and record, so it runs anywhere and in any order. A *corpus stage* sees all records and no
pixels, so a changed threshold costs no pixel work. Consecutive map stages run as one pass.

A stage module imports at its top only what the training half has (numpy, pydantic); OpenCV, scikit-learn and the like
are imported inside the methods, so that a configuration can be read where the offline half is not installed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from lora_data.manifest import Record
from lora_data.sample import Instance


class MapStage(ABC):
    """A stage that sees one instance. Pure: the result depends on the instance and the fields alone."""

    name: ClassVar[str]
    """The stage's name in the table, in the configuration and in error messages."""
    version: ClassVar[int] = 1
    """Raised when the same input would give other pixels or numbers than before."""

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

    @abstractmethod
    def apply(self, records: Sequence[Record]) -> list[Record]:
        """Return the records, changed, in the same order and number. Only active records may be decided on."""


Stage = MapStage | CorpusStage
