"""What the figures of `compare.py` are to reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sections import DEPENDENCIES, FLOOR, PLAIN, STEPS
from timing import ratio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sections import Memory, Together
    from timing import Figure, Ratio

OURS = "gitstate"
NO_SCHEMA = "gitstate, no schema"
SQLITE = "SQLite + file"
LARGE_KILOBYTES = 5000
"""From here on a document is a large one."""


class Results(NamedTuple):
    """What was measured, by the size in KB, the number of writers, the name of the step, or the schema."""

    transactions: dict[int, dict[str, Figure]]
    writers: dict[int, Together]
    reads: dict[int, dict[str, Figure]]
    cold_start: dict[str, Figure]
    memory: dict[str, Memory]


class Target(NamedTuple):
    """A row: a ratio, None where it was not measured, what it is to be, and what it would be at best."""

    what: str
    found: Ratio | None
    limit: float
    most: bool = True
    goal: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the middle of the ratio is on the right side of the limit; None where it was not measured."""
        if self.found is None:
            return None
        return self.found.middle <= self.limit if self.most else self.found.middle >= self.limit


def named(kilobytes: int) -> str:
    """A size as people say it."""
    return f"{kilobytes / 1000:g} MB" if kilobytes >= 1000 else f"{kilobytes} KB"


def compared(figures: dict[str, Figure] | None, one: str, base: str) -> Ratio | None:
    """How often `one` is `base`; None where one of them was not measured."""
    if figures is None or one not in figures or base not in figures:
        return None
    return ratio(figures[one], figures[base])


def targets(results: Results) -> Iterator[Target]:
    """All rows."""
    sizes = results.transactions
    for size in (10, 43):
        for who in (OURS, NO_SCHEMA):
            found = compared(sizes.get(size), who, FLOOR)
            yield Target(f"{named(size)}, {who}: times the floor", found, 2.2, goal="1.5")
    for size in (10, 43):
        found = compared(sizes.get(size), OURS, SQLITE)
        yield Target(f"{named(size)}: times SQLite + file", found, 1.5, goal="below 1")
    for peer in ("git add, git commit", "dulwich porcelain"):
        found = compared(sizes.get(43), peer, OURS)
        yield Target(f"43 KB: {peer}, times gitstate", found, 6.0, most=False)
    for size in (5000, 50_000):
        found = compared(sizes.get(size), NO_SCHEMA, STEPS)
        yield Target(f"{named(size)}, no schema: times {STEPS}", found, 1.7)
    for size, figures in results.reads.items():
        found = compared(figures, "read()", PLAIN)
        yield Target(f"{named(size)}, read(): times {PLAIN}", found, 1.3)
    eight = results.writers.get(8)
    yield Target("8 writers together: times one alone", eight and eight.alone, 0.9, most=False)
    yield Target("8 writers together: times the floor each", eight and eight.floor, 3.0)
    found = compared(results.cold_start, "import, first read", DEPENDENCIES)
    yield Target("import and first read: times the dependencies'", found, 1.1)
    for schema, figure in results.memory.items():
        # What lies between two processes is noise where the document is small. Transactions in a row do not all do the same
        # work, and it is the one that takes most which has to fit.
        worst = figure.ratio._replace(middle=figure.ratio.highest)
        found = worst if figure.kilobytes >= LARGE_KILOBYTES else None
        what = f"{named(figure.kilobytes)}, most memory, schema {schema}: times the document"
        yield Target(what, found, 6.0)
