"""Plot: numbers as drawings made of characters; of ASCII alone where the output has no others."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from gitstate.cli.drawing import scale

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gitstate.cli.drawing.scale import Scale
    from gitstate.cli.drawing.series import Point

_BLOCKS: Final = "▏▎▍▌▋▊▉█"
"""An eighth of a column, two ... all of it."""

_STEPS: Final = "▁▂▃▄▅▆▇█"
"""The same of a row."""

_AXES: Final = "┤│└─"
_WIDEST: Final = 8
_ROWS: Final = 8
"""Two panels, with their titles and axes, are to fit on 24 lines."""


def bars(values: Sequence[float], width: int) -> list[str]:
    """A bar for each value, `████▌`, at most `width` columns long: the longest is that of the greatest value.

    Only what is not above nothing has no bar at all.
    """
    greatest = max(values, default=0)
    steps = _BLOCKS if draws(_BLOCKS) else "#"
    return [_bar(value / greatest * width, steps) if value > 0 else "" for value in values]


def panels(points: Sequence[Point], width: int) -> Iterator[str]:
    """The sizes of some versions, and the seconds between them, over their numbers; on lines of `width` columns.

    Where there are more versions than columns, each column has the greatest of its versions.
    """
    sizes = [float(point.size) for point in points]
    yield "size of the state"
    yield from _panel(points, sizes, scale.of_sizes(sizes), width)
    known = [point.seconds for point in points if point.seconds is not None]
    yield ""
    yield "time since the version before (logarithmic)"
    yield from _panel(points, [point.seconds for point in points], scale.of_durations(known), width)


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


def _panel(
    points: Sequence[Point], values: Sequence[float | None], axis: Scale, width: int
) -> Iterator[str]:
    is_plain = not draws(_STEPS + _AXES)
    steps = "#" if is_plain else _STEPS
    mark, line, corner, floor = "||+-" if is_plain else _AXES
    margin = max(len(label) for _, label in axis.ticks)
    columns = max(width - margin - 2, 8)
    heights = [_height(each, axis, len(steps)) for each in _spread(values, columns)]
    labels = {round(axis.share(value) * _ROWS): label for value, label in axis.ticks}
    for row in reversed(range(_ROWS)):
        label = labels.get(row + 1, "")  # it is the upper edge of a row that has the value
        cells = [_cell(height - row * len(steps), steps) for height in heights]
        side = mark if label else line
        yield f"{label:>{margin}} {side}{''.join(cells)}".rstrip()
    yield f"{labels[0]:>{margin}} {corner}{floor * len(heights)}"
    first = f"version {points[0].serial}"
    last = str(points[-1].serial) if len(points) > 1 else ""
    room = max(len(heights) - len(first), len(last) + 1)
    yield f"{'':{margin}}  {first}{last:>{room}}"


def _spread(values: Sequence[float | None], columns: int) -> list[float | None]:
    """A value for each column: versions share one, or have several."""
    if len(values) <= columns:
        each = min(columns // len(values), _WIDEST)
        return [value for value in values for _ in range(each)]
    bounds = [column * len(values) // columns for column in range(columns + 1)]
    shares = (values[start:end] for start, end in pairwise(bounds))
    return [max((v for v in share if v is not None), default=None) for share in shares]


def _height(value: float | None, axis: Scale, steps: int) -> int:
    """How many steps a column is high; what there is has one at least."""
    return 0 if value is None else max(round(axis.share(value) * _ROWS * steps), 1)


def _cell(height: int, steps: str) -> str:
    return " " if height <= 0 else steps[min(height, len(steps)) - 1]
