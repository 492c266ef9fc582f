"""Changes: how values, and the changes between them, are shown to people and to programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gitstate.cli.output import as_json, printable
from gitstate.diff import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.text import Text

    from gitstate.diff import Change

_SIGNS: Final = {"add": ("+", "green"), "remove": ("-", "red"), "replace": ("~", "yellow")}
_WIDEST_PLACE: Final = 48


def text_of(value: Any) -> str:
    """A value as JSON, on lines of its own."""
    return as_json(value, indent=2)


def brief(value: Any, width: int) -> str:
    """A value on one line of at most `width` characters: as JSON, or what it is where that is longer."""
    text = as_json(value)
    if len(text) <= width:
        return text
    match value:
        case dict():
            return f"{{{len(value)} {'key' if len(value) == 1 else 'keys'}}}"
        case list():
            return f"[{len(value)} {'item' if len(value) == 1 else 'items'}]"
        case _:
            return text[: max(0, width - 4)] + '..."'


def lines_of(changes: Iterable[Change], width: int, *, whole: bool) -> Iterator[Text]:
    """A line for each change, `~ /phase4/status  "running" -> "success"`; with `whole` values are not shortened."""
    from rich.text import Text  # noqa: PLC0415  JSON does without it

    changes = list(changes)
    longest = max((len(printable(change.pointer)) for change in changes), default=0)
    column = min(longest, _WIDEST_PLACE, max(width // 2, 8))
    room = max(width - column - 4, 12)
    for change in changes:
        sign, color = _SIGNS[change.op]
        line = Text(f"{sign} ", style=color, no_wrap=not whole, overflow="ellipsis")
        line.append(f"{printable(change.pointer) or '(everything)':{column}}  ", style="bold")
        both = change.op == "replace"
        most = 10**9 if whole else (room - 4) // 2 if both else room
        if change.old is not MISSING:
            line.append(brief(change.old, most), style="red")
        if both:
            line.append(" -> ")
        if change.new is not MISSING:
            line.append(brief(change.new, most), style="green")
        yield line


def document_of(change: Change) -> dict[str, Any]:
    """A change as JSON; a value that there is not is left out."""
    row = {"op": change.op, "pointer": change.pointer, "old": change.old, "new": change.new}
    return {name: value for name, value in row.items() if value is not MISSING}
