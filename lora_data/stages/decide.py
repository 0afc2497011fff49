"""Decide: what a person said, about who is who and about what is kept, over what the run found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lora_data.decisions import WHO, Decision
from lora_data.manifest import UNKNOWN, Record
from lora_data.stage import CorpusStage


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide(CorpusStage):
    """Apply decisions, one after the other: a later one sees what an earlier one did.

    They change ``character``, ``look`` and, where instances leave their cluster, ``cluster``; ``found_character``,
    ``found_cluster`` and ``found_look`` keep what was there before where something changed. An instance that is named
    by a decision itself is a character's from then on, even where nobody could say whose it is before (reason
    "unknown"); what was rejected for anything else stays rejected. Nothing is recomputed from pixels.

    Then a person's word about single instances counts (``reviewed``, see `lora_data.decisions.told`): the rejected
    ones leave (reason "person"), the restored ones are in the running again, unless they never had a picture; the
    stages after this one let them pass.

    Args:
        decisions: In order, none of them undone; those about something else than who is who are passed over.
    """

    name: ClassVar[str] = "decide"
    version: ClassVar[int] = 2

    decisions: tuple[Decision, ...]

    def apply(self, records: Sequence[Record]) -> list[Record]:
        """Return the records, decided on. Instances that are not there are passed over (`decisions.missing`)."""
        result = list(records)
        place: dict[str, int] = {}
        for i, record in enumerate(records):
            place[record.key] = place[record.source] = i
        for decision in self.decisions:
            named = sorted({place[name] for name in decision.instances if name in place})
            named = [i for i in named if result[i].status != "error"]
            if not named or decision.do not in WHO:
                continue
            if decision.do in ("name", "merge"):
                _unite(result, named, decision)
            else:
                _set_apart(result, named, decision)
        return [_worded(_traced(new, old)) for new, old in zip(result, records, strict=True)]


def _traced(record: Record, before: Record) -> Record:
    """With who the run found, where a person decided otherwise."""
    found = before.character, before.cluster, before.look
    if before.found_character is not None or (record.character, record.cluster, record.look) == found:
        return record
    return record.replace(found_character=found[0], found_cluster=found[1], found_look=found[2])


def _worded(record: Record) -> Record:
    """After a person's word about this very one."""
    if record.reviewed == "reject" and record.active:
        return record.decide("rejected", Decide.name, "person")
    if record.reviewed == "restore" and record.status == "rejected" and record.stage != "ingest":
        return _kept(record)
    return record


def _unite(result: list[Record], named: list[int], decision: Decision) -> None:
    """Give everybody who is of these instances' characters one name."""
    characters = {result[i].character for i in named} - {UNKNOWN}
    clusters = {result[i].cluster for i in named} - {None, -1}
    sizes = Counter(r.character for r in result if r.active and r.character in characters)
    largest = min(characters, key=lambda name: (-sizes[name], name)) if characters else None
    name = decision.character or largest or _free_name(result)
    of_all = [i for i, record in enumerate(result) if record.character in characters]
    for i in of_all:
        look = decision.look if decision.look is not None and result[i].cluster in clusters else result[i].look
        result[i] = result[i].replace(character=name, look=look)
    cluster = _cluster_of(result, name)
    for i in named:
        if result[i].character == UNKNOWN:
            result[i] = _revived(result[i]).replace(character=name, look=decision.look, cluster=cluster)


def _set_apart(result: list[Record], named: list[int], decision: Decision) -> None:
    """Give these instances alone a name, and a cluster: a new one, or ("move") that of the character."""
    name = decision.character or _free_name(result)
    cluster = _free_cluster(result) if decision.do == "split" else _cluster_of(result, name)
    for i in named:
        result[i] = _revived(result[i]).replace(character=name, look=decision.look, cluster=cluster)


def _revived(record: Record) -> Record:
    """Whoever was rejected because nobody knew it is in the running again."""
    if record.status == "rejected" and record.reason == "unknown":
        return _kept(record)
    return record


def _kept(record: Record) -> Record:
    return record.replace(status="kept", stage=None, reason=None, value=None, limit=None)


def _cluster_of(records: Sequence[Record], character: str) -> int:
    """The largest cluster of a character; a new one where it has none."""
    sizes = Counter(r.cluster for r in records if r.character == character and r.cluster is not None and r.cluster >= 0)
    return min(sizes, key=lambda cluster: (-sizes[cluster], cluster)) if sizes else _free_cluster(records)


def _free_cluster(records: Sequence[Record]) -> int:
    return 1 + max((r.cluster for r in records if r.cluster is not None), default=-1)


def _free_name(records: Sequence[Record]) -> str:
    """The next name of the form that identity gives."""
    taken = {r.character for r in records}
    return next(name for n in range(len(taken) + 1) if (name := f"character_{n:02d}") not in taken)
