"""Scale: from a number to its place on an axis, and what stands along that axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gitstate.cli.times import size

if TYPE_CHECKING:
    from collections.abc import Sequence

_TOPS: Final = (1, 2, 4, 6, 8, 10)
"""What the end of an axis begins with: the half of each is as short."""

_DECADES: Final = (
    (0.001, "1 ms"),
    (0.01, "10 ms"),
    (0.1, "100 ms"),
    (1, "1 s"),
    (10, "10 s"),
    (60, "1 min"),
    (600, "10 min"),
    (3600, "1 h"),
    (10 * 3600, "10 h"),
    (4 * 86400, "4 d"),
    (40 * 86400, "40 d"),
    (365 * 86400, "1 y"),
    (3650 * 86400, "10 y"),
)


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis.

    Attributes:
        ticks: the values that are marked, from the lowest to the highest, and what is written there.
        logarithmic: whether a step upwards multiplies.
    """

    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """How far up a value is, from 0 to 1."""
        low, high = self.ticks[0][0], self.ticks[-1][0]
        value = min(max(value, low), high)
        if self.logarithmic:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)


def of_sizes(sizes: Sequence[float]) -> Scale:
    """An axis for bytes, from 0."""
    greatest = max([*sizes, 4])
    unit = 10 ** math.floor(math.log10(greatest))
    top = next(each * unit for each in _TOPS if each * unit >= greatest)
    return Scale(tuple((part, size(part)) for part in (0, top / 2, top)))


def of_durations(seconds: Sequence[float]) -> Scale:
    """An axis for seconds, from below the shortest to above the longest; each mark is some ten times the one before."""
    low, high = min(seconds, default=0.01), max(seconds, default=1)
    below = [i for i, (mark, _) in enumerate(_DECADES[:-1]) if mark < low]
    first = below[-1] if below else 0
    last = next((i for i, (mark, _) in enumerate(_DECADES) if mark >= high), len(_DECADES) - 1)
    return Scale(_DECADES[first : max(last, first + 1) + 1], logarithmic=True)
