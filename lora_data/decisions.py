"""What a person decided about who is who; from the configuration, or from a page where people look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from lora_data.manifest import UNKNOWN

Act = Literal["name", "merge", "split", "move"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision. Clusters are meant by their members, because their numbers change with every new picture.

    Args:
        do: "name": whoever is on these instances is ``character``, and so is everybody whom the run takes for the
            same. "merge": whoever is on these instances is one character. "split": these instances are one character
            of their own. "move": these instances, and no others, are ``character``.
        instances: Keys or sources, as the table has them.
        character: A name. "merge" and "split" may go without: the larger character's, and the next free one.
        look: What the character wears there, where it has several looks; for the whole clusters with "name" and
            "merge", for these instances otherwise.
        where: Where it stands, for messages.

    Raises:
        ValueError: What ``do`` needs is missing.
    """

    do: Act
    instances: tuple[str, ...]
    character: str | None = None
    look: str | None = None
    where: str = "precompute.identity"

    def __post_init__(self) -> None:
        if self.do not in get_args(Act):
            raise ValueError(f"do must be one of {', '.join(get_args(Act))}, got {self.do!r}")
        least = 2 if self.do == "merge" else 1
        if len(set(self.instances)) < least:
            raise ValueError(f"{self.do} needs at least {least} instances, got {list(self.instances)}")
        if self.do in ("name", "move") and self.character is None:
            raise ValueError(f"{self.do} needs a character")
        if self.character is not None and (not self.character.strip() or self.character == UNKNOWN):
            raise ValueError(f"{self.character!r} is no character's name")


def missing(decisions: Sequence[Decision], known: Iterable[str]) -> list[str]:
    """A line for each decision about instances that are not there: where it stands and which.

    Args:
        decisions: To be checked.
        known: Keys and sources of the run.
    """
    there = set(known)
    lines: list[str] = []
    for decision in decisions:
        gone = [name for name in decision.instances if name not in there]
        if gone:
            lines.append(f"{decision.where}: {decision.do} names instances that are not in INPUT: {', '.join(gone)}")
    return lines
