"""Graph: how large versions are, and how far apart, beside each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from gitstate.cli.plot import bars
from gitstate.cli.times import duration, size

if TYPE_CHECKING:
    from gitstate import Version
    from gitstate.cli.compare import Past

_BAR: Final = 8


class Graph:
    """The size of each version, and the time since the one before it, as numbers and bars."""

    def __init__(self, past: Past, versions: list[Version]) -> None:
        self._sizes = [len(version.content()) for version in versions]
        befores = [past.before(version) for version in versions]
        self._waits = [
            None if before is None else (version.timestamp - before.timestamp).total_seconds()
            for version, before in zip(versions, befores, strict=True)
        ]
        # Milliseconds in a loop and a night without one are to be seen beside each other.
        waits = [math.log1p(wait * 1000) if wait else 0 for wait in self._waits]
        self._bars = list(zip(bars(self._sizes, _BAR), bars(waits, _BAR), strict=True))
        self._row = {version.id: number for number, version in enumerate(versions)}

    def document(self, version: Version) -> dict[str, Any]:
        """The numbers, as JSON."""
        row = self._row[version.id]
        return {"bytes": self._sizes[row], "seconds_since_before": self._waits[row]}

    def drawn(self, version: Version) -> str:
        """Numbers and bars, in columns."""
        row = self._row[version.id]
        large, late = self._bars[row]
        wait = self._waits[row]
        waited = "" if wait is None else duration(wait)
        return f"{size(self._sizes[row]):>6} {large:{_BAR}} {waited:>11} {late:{_BAR}} "
