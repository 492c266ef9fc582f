"""Where values come from: blame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gitstate.cli import options
from gitstate.cli.answers import compare
from gitstate.cli.answers.origins import origins
from gitstate.cli.arguments.place import PointerName, parts_of, value_at
from gitstate.cli.escapes import on_a_line
from gitstate.cli.times import shown
from gitstate.cli.views import changes, documents
from gitstate.cli.views.cells import filled, sized, width_of
from gitstate.pointer import join

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from gitstate.cli.answers.origins import Origin
    from gitstate.cli.session import Session

_WIDEST_AUTHOR = 14
_WIDEST_PLACE = 32


@options.verb("blame")
@click.argument("pointer", type=PointerName(), default="")
@click.option("-r", "--recursive", is_flag=True, help="Each value below, however deep.")
@click.pass_obj
def blame(session: Session, /, pointer: str, recursive: bool) -> None:
    """Say which version last changed each key, or item, of the value at POINTER.

    A ^ before the number is said of what is as old as the oldest version that is kept, or older. What was edited in the file
    and is no version yet has none. An item of an array is followed to where it stood before.

    \b
      gitstate blame
      gitstate blame /phase4
      gitstate blame -r /phase4/metrics
    """  # noqa: D301  click's sign
    parts = parts_of(pointer)
    newest, document = compare.now(session.state)
    value_at(document, pointer)
    found = origins(session.state, newest, document, parts, leaves=recursive)
    if session.options.json:
        session.output.document({"pointer": pointer, "values": [_document(each) for each in found]})
    else:
        session.output.paged(_lines(session, found, len(parts)))


def _document(origin: Origin) -> dict[str, Any]:
    version = origin.version
    return {
        "pointer": join(origin.parts),
        "value": origin.value,
        "version": None if version is None else documents.of_version(version),
        "boundary": origin.boundary,
    }


def _lines(session: Session, found: list[Origin], known: int) -> Iterator[Text]:
    """A line for each; of the place what is behind the first `known` parts, which all have."""
    from rich.text import Text  # noqa: PLC0415  JSON output does without it

    output = session.output
    places = [changes.place_of(join(each.parts[known:] or each.parts)) for each in found]
    column = min(max(map(width_of, places), default=0), _WIDEST_PLACE)
    digits = max((len(str(each.version.serial)) for each in found if each.version), default=1) + 1
    for place, each in zip(places, found, strict=True):
        line = Text(no_wrap=True, overflow="ignore" if output.exactly else "ellipsis")
        version = each.version
        if version is None:
            # As wide as a number, a hash, a time and an author are.
            line.append(f"{'not committed':{digits + 8 + 11 + _WIDEST_AUTHOR}} ", style="yellow")
        else:
            serial = f"{'^' if each.boundary else ''}{version.serial}"
            line.append(f"{serial:>{digits}} ", style="bold")
            line.append(f"{version.short_id} ", style="yellow")
            line.append(f"{shown(version.timestamp, exactly=output.exactly):>10} ", style="dim")
            author = on_a_line(version.author.partition(" <")[0])
            line.append(f"{sized(author, _WIDEST_AUTHOR)} ")
        line.append(f"{filled(place, column)}  ", style="bold")
        room = max(min(output.width, changes.WIDEST_VALUE) - line.cell_len, 12)
        yield line.append(changes.brief(each.value, 10**9 if output.exactly else room))
