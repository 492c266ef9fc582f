"""Graph: how large versions are, and how far apart, beside each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from gitstate.cli.drawing.plot import bars
from gitstate.cli.drawing.series import point_of
from gitstate.cli.times import duration, size

if TYPE_CHECKING:
    from gitstate import Version
    from gitstate.cli.answers.compare import Past

_BAR: Final = 8


class Graph:
    """The size of each version, and the time since the one before it, as numbers and bars."""

    def __init__(self, past: Past, versions: list[Version]) -> None:
        points = [point_of(version, past.before(version)) for version in versions]
        # Milliseconds in a loop and a night without one are to be seen beside each other.
        waits = [math.log1p(each.seconds * 1000) if each.seconds else 0 for each in points]
        sizes = [each.size for each in points]
        rows = zip(points, bars(sizes, _BAR), bars(waits, _BAR), strict=True)
        self._rows = {point.id: (point, large, late) for point, large, late in rows}

    def document(self, version: Version) -> dict[str, Any]:
        """The numbers, as JSON."""
        point = self._rows[version.id][0]
        return {"size": point.size, "seconds": point.seconds}

    def drawn(self, version: Version) -> str:
        """Numbers and bars, in columns."""
        point, large, late = self._rows[version.id]
        waited = "" if point.seconds is None else duration(point.seconds)
        return f"{size(point.size):>6} {large:{_BAR}} {waited:>11} {late:{_BAR}} "
