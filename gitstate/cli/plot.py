"""Plot: numbers as drawings made of characters; of ASCII alone where the output has no others."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCKS: Final = "▏▎▍▌▋▊▉█"
"""An eighth of a column, two ... all of it."""


def bars(values: Sequence[float], width: int) -> list[str]:
    """A bar for each value, `████▌`, at most `width` columns long: the longest is that of the greatest value.

    Only what is not above nothing has no bar at all.
    """
    greatest = max(values, default=0)
    steps = _BLOCKS if draws(_BLOCKS) else "#"
    return [_bar(value / greatest * width, steps) if value > 0 else "" for value in values]


def draws(characters: str) -> bool:
    """Whether the standard output has these characters."""
    try:
        characters.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _bar(columns: float, steps: str) -> str:
    count = max(round(columns * len(steps)), 1)
    whole, part = divmod(count, len(steps))
    return steps[-1] * whole + (steps[part - 1] if part else "")
