"""Changes: how values, and the changes between them, are shown to people and to programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gitstate.cli.escapes import as_json, on_a_line
from gitstate.cli.views.cells import filled, width_of
from gitstate.diff import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.text import Text

    from gitstate.diff import Change

_SIGNS: Final = {"add": ("+", "green"), "remove": ("-", "red"), "replace": ("~", "yellow")}
_WIDEST_PLACE: Final = 48
WIDEST_VALUE: Final = 400
"""Characters of a value where there is no terminal, whose width would be the limit."""

_MOST_ENTRIES: Final = 12
"""Entries of an object, or items of an array, that are shown one by one."""

_INDENT: Final = 4
_WHOLE: Final = 10**9


def text_of(value: Any) -> str:
    """A value as JSON, on lines of its own."""
    return as_json(value, indent=2)


def place_of(pointer: str) -> str:
    """A pointer on one line, whatever the keys are that it leads through."""
    return on_a_line(pointer) or "(everything)"


def brief(value: Any, width: int) -> str:
    """A value on one line of at most `width` columns: as JSON, or what it is where that is longer."""
    text = as_json(value)
    if width_of(text) <= width:
        return text
    match value:
        case dict():
            return f"{{{len(value)} {'key' if len(value) == 1 else 'keys'}}}"
        case list():
            return f"[{len(value)} {'item' if len(value) == 1 else 'items'}]"
        case _:
            return text[: max(0, width - 4)] + '..."'


def lines_of(changes: Iterable[Change], width: int, *, whole: bool) -> Iterator[Text]:
    """Each change, `~ /phase4/status  "running" -> "success"`, on a line; on more where its values need them.

    Large values are given as what they are, long ones of the same kind as where they differ; with `whole` all of both.
    """
    changes = list(changes)
    longest = max((width_of(place_of(change.pointer)) for change in changes), default=0)
    column = min(longest, _WIDEST_PLACE, max(width // 2, 8))
    for change in changes:
        sign, color = _SIGNS[change.op]
        line = _line(f"{sign} ", color, whole=whole)
        line.append(filled(place_of(change.pointer), column), style="bold")
        room = max(min(width, WIDEST_VALUE) - line.cell_len - 2, 12)
        if change.op == "replace":
            yield from _replaced(line, change, room, width, whole=whole)
        elif change.new is MISSING:
            yield from _alone(line, change.old, "red", room, whole=whole)
        else:
            yield from _alone(line, change.new, "green", room, whole=whole)


def document_of(change: Change) -> dict[str, Any]:
    """A change as JSON; a value that there is not is left out."""
    row = {"op": change.op, "pointer": change.pointer, "old": change.old, "new": change.new}
    return {name: value for name, value in row.items() if value is not MISSING}


def _alone(line: Text, value: Any, color: str, room: int, *, whole: bool) -> Iterator[Text]:
    """A value that came or went, behind the place in `line`, and below it where it is an object or an array."""
    if width_of(as_json(value)) <= room:
        rows = [brief(value, room)]
    elif whole:
        rows = text_of(value).split("\n")
    else:
        rows = _outline(value, room)
    yield line.append("  ").append(rows[0], style=color)
    for row in rows[1:]:
        yield _line(" " * _INDENT + row, color, whole=whole)


def _outline(value: Any, room: int) -> list[str]:
    """A value on lines: what it holds, each on one; on a line alone where that is too much."""
    if not isinstance(value, (dict, list)) or len(value) > _MOST_ENTRIES:
        return [brief(value, room)]
    if isinstance(value, list):
        entries = [("", item) for item in value]
    else:
        entries = [(f"{as_json(key)}: ", item) for key, item in value.items()]
    begin, end = "{}" if isinstance(value, dict) else "[]"
    inside = [f"  {key}{brief(item, max(room - width_of(key), 12))}" for key, item in entries]
    return [begin, *(f"{row}," for row in inside[:-1]), *inside[-1:], end]


def _replaced(line: Text, change: Change, room: int, width: int, *, whole: bool) -> Iterator[Text]:
    """Both values, beside each other where there is room, else below each other."""
    old, new = as_json(change.old), as_json(change.new)
    if width_of(old) + width_of(new) + 4 > room:
        below = _WHOLE if whole else max(min(width, WIDEST_VALUE) - _INDENT - 2, 12)
        if isinstance(change.old, str) and isinstance(change.new, str):
            old, new = _apart(old, new, below)
        else:
            old, new = brief(change.old, below), brief(change.new, below)
        if width_of(old) + width_of(new) + 4 > room:
            yield line
            for sign, text, color in (("-", old, "red"), ("+", new, "green")):
                row = _line(" " * _INDENT, "", whole=whole)
                yield row.append(f"{sign} {text}", style=color)
            return
    line.append("  ").append(old, style="red")
    yield line.append(" -> ").append(new, style="green")


def _apart(old: str, new: str, width: int) -> tuple[str, str]:
    """Of two long texts the part of each, at most `width` characters of it, in which they differ."""
    pairs = enumerate(zip(old, new, strict=False))
    same = next((place for place, (one, other) in pairs if one != other), min(len(old), len(new)))
    start = max(same - width // 3, 0) if max(len(old), len(new)) > width else 0
    return _part(old, start, width), _part(new, start, width)


def _part(text: str, start: int, width: int) -> str:
    """`width` characters of the text from `start` on, with dots where there is more of it."""
    before = "..." if start else ""
    if len(text) - start + len(before) <= width:
        return before + text[start:]
    return before + text[start : start + width - len(before) - 3] + "..."


def _line(text: str, color: str, *, whole: bool) -> Text:
    """The beginning of a line that is cut off where it is too long; `whole` leaves that to the terminal."""
    from rich.text import Text  # noqa: PLC0415  JSON output does without it

    return Text(text, style=color, no_wrap=True, overflow="ignore" if whole else "ellipsis")
