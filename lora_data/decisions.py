"""What a person decided: who is who, what is kept, which enhancements stay, what training may do with a character.

A decision comes from the configuration, from ``review.toml`` or from the page where people look. It never changes
pixels by itself: stages read it and do, or leave, what they would do anyway.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from lora_data.manifest import UNKNOWN, Answer, Record, Word

Act = Literal["name", "merge", "split", "move", "reject", "restore", "accept", "refuse", "symmetric", "augment", "undo"]
ENHANCED = ("face_restore", "upscale", "deblur", "colour", "matte")
"""Enhancements that a person may accept or refuse."""

WHO: frozenset[Act] = frozenset({"name", "merge", "split", "move"})
"""Acts that say who is who."""
_ON_INSTANCES: frozenset[Act] = WHO | frozenset[Act](("reject", "restore", "accept", "refuse"))
_ON_CHARACTERS: frozenset[Act] = frozenset({"symmetric", "augment"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision. Clusters are meant by their members, because their numbers change with every new picture.

    Args:
        do: "name": whoever is on these instances is ``character``, and so is everybody whom the run takes for the
            same. "merge": whoever is on these instances is one character. "split": these instances are one character
            of their own. "move": these instances, and no others, are ``character``. "reject": these instances are not
            kept. "restore": these are kept whatever the filter, the deduplication and the selection say, and nothing
            about them is flagged. "accept": the ``enhancement`` that was proposed for these is applied. "refuse": these
            are finished without that ``enhancement``. "symmetric": whether the design of ``character`` has no left and
            right. "augment": the augmentation's policy of ``character``. "undo": decision ``of`` was none.
        instances: Keys or sources, as the table has them.
        character: A name. "merge" and "split" may go without: the larger character's, and the next free one.
        look: What the character wears there, where it has several looks; for the whole clusters with "name" and
            "merge", for these instances otherwise.
        enhancement: One of `ENHANCED`.
        symmetric: For "symmetric"; default: it is.
        augment: For "augment": keys of ``[characters.<name>.augment]`` with their values; what is not in it is as the
            configuration says.
        id: What "undo" calls it; None: `identifier` makes one of what it says.
        of: For "undo": the `identifier` of another one.
        where: Where it stands, for messages.

    Raises:
        ValueError: What ``do`` needs is missing, or something is there that it has no use for.
    """

    do: Act
    instances: tuple[str, ...] = ()
    character: str | None = None
    look: str | None = None
    enhancement: str | None = None
    symmetric: bool | None = None
    augment: Mapping[str, object] | None = None
    id: str | None = None
    of: str | None = None
    where: str = field(default="precompute.identity", compare=False)

    def __post_init__(self) -> None:
        if self.do not in get_args(Act):
            raise ValueError(f"do must be one of {', '.join(get_args(Act))}, got {self.do!r}")
        least = 2 if self.do == "merge" else 1 if self.do in _ON_INSTANCES else 0
        if len(set(self.instances)) < least:
            raise ValueError(f"{self.do} needs at least {least} instances, got {list(self.instances)}")
        needs = {
            "character": self.do in _ON_CHARACTERS | {"name", "move"},
            "enhancement": self.do in ("accept", "refuse"),
            "augment": self.do == "augment",
            "of": self.do == "undo",
        }
        for name, needed in needs.items():
            if needed and getattr(self, name) is None:
                raise ValueError(f"{self.do} needs {'an' if name[0] in 'aeo' else 'a'} {name}")
        useless = {
            "instances": least == 0 and bool(self.instances),
            "character": self.do not in WHO | _ON_CHARACTERS and self.character is not None,
            "look": self.do not in WHO and self.look is not None,
            "enhancement": not needs["enhancement"] and self.enhancement is not None,
            "symmetric": self.do != "symmetric" and self.symmetric is not None,
            "augment": not needs["augment"] and self.augment is not None,
            "of": not needs["of"] and self.of is not None,
        }
        for name, there in useless.items():
            if there:
                raise ValueError(f"{self.do} has no use for {name}, got {getattr(self, name)!r}")
        if self.character is not None and (not self.character.strip() or self.character == UNKNOWN):
            raise ValueError(f"{self.character!r} is no character's name")
        if self.enhancement is not None and self.enhancement not in ENHANCED:
            raise ValueError(f"enhancement must be one of {', '.join(ENHANCED)}, got {self.enhancement!r}")

    @property
    def identifier(self) -> str:
        """Its ``id``, or where it has none a digest of what it says."""
        if self.id is not None:
            return self.id
        said = [self.do, list(self.instances), self.character, self.look, self.enhancement, self.symmetric]
        said += [None if self.augment is None else dict(self.augment), self.of]
        return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a person decided about a character in training; None: nothing.

    Args:
        symmetric: Whether its design has no left and right.
        augment: Keys of ``[characters.<name>.augment]`` with their values.
    """

    symmetric: bool | None = None
    augment: Mapping[str, object] | None = None


def effective(decisions: Sequence[Decision]) -> tuple[Decision, ...]:
    """Those that stand: without the undone and the undoing. "undo" takes back the last of its name before it."""
    standing: list[Decision] = []
    for decision in decisions:
        if decision.do != "undo":
            standing.append(decision)
            continue
        places = [i for i, earlier in enumerate(standing) if earlier.identifier == decision.of]
        if places:
            del standing[places[-1]]
    return tuple(standing)


def words(decisions: Iterable[Decision]) -> dict[str, Word]:
    """By key or source, whether a person rejected or restored it; a later word over an earlier one."""
    found: dict[str, Word] = {}
    for decision in decisions:
        if decision.do in ("reject", "restore"):
            found.update(dict.fromkeys(decision.instances, decision.do))
    return found


def answers(decisions: Iterable[Decision]) -> dict[tuple[str, str], Answer]:
    """By key or source and enhancement, whether a person accepted or refused it; a later word over an earlier one."""
    found: dict[tuple[str, str], Answer] = {}
    for decision in decisions:
        if decision.do in ("accept", "refuse"):
            assert decision.enhancement is not None
            found.update({(name, decision.enhancement): decision.do for name in decision.instances})
    return found


def settings(decisions: Iterable[Decision]) -> dict[str, Settings]:
    """By character, what training was told; a later word over an earlier one. No symmetry, no flip."""
    found: dict[str, Settings] = {}
    for decision in decisions:
        if decision.do not in _ON_CHARACTERS:
            continue
        assert decision.character is not None
        before = found.get(decision.character, Settings())
        if decision.do == "augment":
            found[decision.character] = Settings(before.symmetric, decision.augment)
            continue
        symmetric, augment = decision.symmetric is not False, before.augment
        if not symmetric and augment is not None:
            augment = {key: value for key, value in augment.items() if key != "horizontal_flip"}
        found[decision.character] = Settings(symmetric, augment)
    return found


def told(records: Sequence[Record], decisions: Sequence[Decision]) -> list[Record]:
    """The records with what a person said about each: ``reviewed`` and ``<enhancement>_review``."""
    word, answer = words(decisions), answers(decisions)
    asked = {name for name, _ in answer}
    result = list(records)
    for i, record in enumerate(records):
        changes: dict[str, Word | Answer] = {}
        for name in (record.key, record.source):
            if name in word:
                changes["reviewed"] = word[name]
            if name in asked:
                changes |= {f"{e}_review": answer[name, e] for e in ENHANCED if (name, e) in answer}
        if changes:
            result[i] = record.replace(**changes)
    return result


def missing(decisions: Sequence[Decision], known: Iterable[str]) -> list[str]:
    """A line for each decision about instances, or about a decision, that are not there: where it stands and which.

    Args:
        decisions: To be checked.
        known: Keys and sources of the run.
    """
    there = set(known)
    lines: list[str] = []
    earlier: set[str] = set()
    for decision in decisions:
        gone = [name for name in decision.instances if name not in there]
        if gone:
            lines.append(f"{decision.where}: {decision.do} names instances that are not in INPUT: {', '.join(gone)}")
        if decision.of is not None and decision.of not in earlier:
            lines.append(f"{decision.where}: undo names a decision that is not there before it: {decision.of}")
        earlier.add(decision.identifier)
    return lines
