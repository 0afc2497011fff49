"""What the stages that see only the table cost on large ones: time, spread, memory.

    python -m tests.bench.curation [PART ...] [--rounds 3]

Parts: see `PARTS`. Each measurement runs in a process of its own, so that its peak memory is its own; rounds are
interleaved, for the machine's speed drifts. Tables are synthetic.
"""

from __future__ import annotations

import resource
import statistics
from collections.abc import Callable
from functools import partial

from tests.bench import curation_deduplicate, curation_identity, curation_select
from tests.bench.results import Table, alone, finish, interleaved, parser_for

Measurement = dict[str, float]
"""``seconds`` of CPU time, and whatever else the case counts."""
Case = tuple[str, Callable[[], Measurement]]

PARTS: dict[str, Callable[[], list[Case]]] = {
    "identity": curation_identity.cases,
    "deduplicate": curation_deduplicate.cases,
    "select": curation_select.cases,
}
"""Part: its cases, in the order in which they are shown. A case builds its input and measures once."""


def with_memory(measure: Callable[[], Measurement]) -> Measurement:
    """A measurement, with the most memory that its process ever had."""
    found = measure()
    return {**found, "peak MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def table(part: str, rounds: int) -> Table:
    """All cases of a part."""
    works = {name: partial(alone, partial(with_memory, measure)) for name, measure in PARTS[part]()}
    found = interleaved(works, rounds)
    rows = {name: [m["seconds"] for m in measured] for name, measured in found.items()}
    more = {
        name: {key: round(statistics.median(m[key] for m in measured), 3) for key in measured[0] if key != "seconds"}
        for name, measured in found.items()
    }
    return Table(f"Curation, {part}", "s of CPU time", rows, more=more)


def main() -> None:
    parser = parser_for(__doc__, rounds=3)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"PART must be of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    tables = [table(part, options.rounds) for part in options.parts or PARTS]
    remarks = [f"Left out: {name} is not installed." for name in curation_deduplicate.missing()]
    finish("curation", tables, options, packages=("faiss-cpu", "imagededup", "numba", "scikit-learn"), remarks=remarks)


if __name__ == "__main__":
    main()
