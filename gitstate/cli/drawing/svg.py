"""SVG: the series of a history as a drawing that needs nothing beside itself, and can be read aloud.

Sources of the format: SVG 1.1, and WAI-ARIA's graphics roles for who listens to it.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from gitstate.cli import times
from gitstate.cli.drawing import scale
from gitstate.cli.escapes import on_a_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gitstate.cli.drawing.scale import Scale
    from gitstate.cli.drawing.series import Point

_WIDTH: Final = 800
_HEIGHT: Final = 520
_LEFT: Final = 80
_RIGHT: Final = 780
_PANEL: Final = 170
_TOPS: Final = (80, 310)
_STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#333}.title{font-size:16px;font-weight:600}"
    ".grid{stroke:#ddd}.axis{stroke:#333}.end{text-anchor:end}.middle{text-anchor:middle}"
    ".size{fill:none;stroke:#0969da;stroke-width:1.5}.of-size{fill:#0969da}.of-time{fill:#9a6700}"
    ".time{stroke:#9a6700;stroke-width:1.5}"
)

_OPENING: Final = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}"'
    f' height="{_HEIGHT}" role="img" aria-labelledby="title description">'
)


def drawing(points: Sequence[Point], name: str) -> str:
    """The SVG of some versions of the state that is called `name`: its size at each, and the time since the one before."""
    sizes = [float(point.size) for point in points]
    known = [point.seconds for point in points if point.seconds is not None]
    return "\n".join(
        (
            _OPENING,
            f'<title id="title">{_text(_title(points, name))}</title>',
            f'<desc id="description">{_text(_description(points, known))}</desc>',
            f"<style>{_STYLE}</style>",
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
            f'<text class="title" x="{_LEFT}" y="30">{_text(_title(points, name))}</text>',
            *_frame("size of the state", scale.of_sizes(sizes), _TOPS[0]),
            *_sizes(points, scale.of_sizes(sizes), _TOPS[0]),
            *_frame(
                "time since the version before (logarithmic)", scale.of_durations(known), _TOPS[1]
            ),
            *_durations(points, scale.of_durations(known), _TOPS[1]),
            *_serials(points),
            "</svg>\n",
        )
    )


def _title(points: Sequence[Point], name: str) -> str:
    if not points:
        return f"{name}: no versions"
    return f"{name}: versions {points[0].serial} to {points[-1].serial}"


def _description(points: Sequence[Point], seconds: Sequence[float]) -> str:
    """What is to be seen, in words."""
    if not points:
        return "There is nothing to draw."
    sizes = [point.size for point in points]
    text = f"The state had between {times.size(min(sizes))} and {times.size(max(sizes))}."
    if not seconds:
        return text
    shortest, longest = times.duration(min(seconds)), times.duration(max(seconds))
    return f"{text} A version came between {shortest} and {longest} after the one before it."


def _frame(title: str, axis: Scale, top: int) -> Iterator[str]:
    """A panel's title, axes and marks."""
    bottom = top + _PANEL
    yield f'<text x="{_LEFT}" y="{top - 14}">{_text(title)}</text>'
    for value, label in axis.ticks:
        y = _y(axis, value, top)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text class="end" x="{_LEFT - 8}" y="{y + 4:g}">{_text(label)}</text>'
    yield f'<path class="axis" fill="none" d="M{_LEFT},{top}V{bottom}H{_RIGHT}"/>'


def _sizes(points: Sequence[Point], axis: Scale, top: int) -> Iterator[str]:
    """A line of steps: a state stays as large as it is until the next version."""
    path = ""
    for index, point in enumerate(points):
        x, y = _x(index, points), _y(axis, point.size, top)
        path += f"H{x}V{y}" if path else f"M{x},{y}"
    if path:
        yield f'<path class="size" d="{path}"/>'
    for index, point in enumerate(points):
        tip = f"version {point.serial}: {times.size(point.size)}"
        yield _dot(_x(index, points), _y(axis, point.size, top), "of-size", tip)


def _durations(points: Sequence[Point], axis: Scale, top: int) -> Iterator[str]:
    """A stem for each."""
    for index, point in enumerate(points):
        if point.seconds is not None:
            x, y = _x(index, points), _y(axis, point.seconds, top)
            tip = f"version {point.serial}: {times.duration(point.seconds)}"
            yield f'<line class="time" x1="{x}" x2="{x}" y1="{top + _PANEL}" y2="{y}"/>'
            yield _dot(x, y, "of-time", tip)


def _serials(points: Sequence[Point]) -> Iterator[str]:
    """The numbers of the versions, below."""
    y = _TOPS[1] + _PANEL + 18
    shown = sorted({0, (len(points) - 1) // 2, len(points) - 1}) if points else []
    for index in shown:
        x = _x(index, points)
        yield f'<text class="middle" x="{x}" y="{y}">{points[index].serial}</text>'
    yield f'<text class="middle" x="{(_LEFT + _RIGHT) // 2}" y="{y + 16}">version</text>'


def _dot(x: float, y: float, color: str, tip: str) -> str:
    return f'<circle class="{color}" cx="{x}" cy="{y}" r="2"><title>{_text(tip)}</title></circle>'


def _x(index: int, points: Sequence[Point]) -> float:
    steps = max(len(points) - 1, 1)
    return round(_LEFT + 10 + index / steps * (_RIGHT - _LEFT - 20), 1)


def _y(axis: Scale, value: float, top: int) -> float:
    return round(top + (1 - axis.share(value)) * _PANEL, 1)


def _text(text: str) -> str:
    """The text as XML has it, a file's name that is no Unicode included."""
    return escape(on_a_line(text).encode("utf-8", "backslashreplace").decode())
