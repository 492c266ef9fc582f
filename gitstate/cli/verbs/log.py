"""The history: log, show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gitstate.cli import options
from gitstate.cli.answers import compare
from gitstate.cli.arguments.naming import VersionOrPointer, apart, version_of
from gitstate.cli.arguments.place import PointerName, parts_of, value_at
from gitstate.cli.drawing.graph import Graph
from gitstate.cli.escapes import on_a_line, printable
from gitstate.cli.refusal import usage
from gitstate.cli.times import Moment, shown
from gitstate.cli.views import changes, documents
from gitstate.cli.views.entries import Entries, called, names_of, pruned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.text import Text

    from gitstate import Change, Version
    from gitstate.cli.session import Session


@options.verb("log")
@click.argument("pointer", type=PointerName(), default="")
@click.option("-n", "--limit", metavar="N", type=click.IntRange(min=0), help="At most so many.")
@click.option("--since", metavar="WHEN", type=Moment(), help="Made then or later: 2h, 2026-11-27.")
@click.option("--until", metavar="WHEN", type=Moment(), help="Made then or earlier.")
@click.option("--operation", metavar="NAME", help="Made by that operation.")
@click.option("--reverse", is_flag=True, help="Oldest first; of -n N the newest N.")
@click.option("--graph", is_flag=True, help="With bars of size and of time since the one before.")
@click.option("-p", "--patch", is_flag=True, help="With what each changed.")
@click.pass_obj
def log(
    session: Session, /, pointer: str, reverse: bool, graph: bool, patch: bool, **chosen: Any
) -> None:
    """List versions, newest first; with POINTER those that changed the value there, and the value.

    After the number, the hash and the age stand the operation, the backups that a version is, its message, and the
    keys that it changed. A bar of --graph stands for the time by its logarithm.

    \b
      gitstate log -n 20
      gitstate log /phase4/status --since 2d
      gitstate log -p --operation run
    """  # noqa: D301  click's sign
    parts_of(pointer)
    versions: Iterable[Version] = session.state.log(pointer=pointer or None, **chosen)
    entries = Entries(session, pointer, patch=patch)
    drawing = Graph(entries.past, versions := [*versions]) if graph else None
    listed = _Listed(reversed([*versions]) if reverse else versions)
    if session.options.json:
        for version in listed:
            measured = {} if drawing is None else drawing.document(version)
            session.output.line(entries.document(version) | measured)
    else:
        session.output.paged(
            text
            for version in listed
            for text in entries.texts(version, "" if drawing is None else drawing.drawn(version))
        )
    if listed.ended and all(value is None for value in chosen.values()):
        _note_end(session, listed.oldest, pointer)
    elif listed.ended and listed.oldest is None and chosen["limit"] != 0:
        session.output.note("no version is like that")


@options.verb("show")
@click.argument("names", nargs=-1, metavar="[VERSION] [POINTER]", type=VersionOrPointer())
@click.pass_obj
def show(session: Session, /, names: tuple[str, ...]) -> None:
    """Show VERSION, the newest unless given, and what it changed; with POINTER what it changed there.

    \b
      gitstate show
      gitstate show 41 /phase4
      gitstate show before-speech
    """  # noqa: D301
    named, pointer = apart(names)
    if len(named) > 1:
        raise usage(
            "one version can be shown; gitstate diff A B compares two",
        )
    version = version_of(session.state, named[0] if named else "HEAD")
    past = compare.Past(session.state)
    found = past.changes(version, parts_of(pointer))
    if found == [] and pointer:
        value_at(past.document(version), pointer)
    calls = names_of(session).get(version.id, [])
    if session.options.json:
        made = None if found is None else [changes.document_of(change) for change in found]
        session.output.document(documents.of_version(version) | {"names": calls, "changes": made})
        return
    session.output.paged(_shown(session, version, past.before(version), calls, found))


class _Listed:
    """Versions as they are listed.

    Attributes:
        oldest: the oldest that has been; None for none.
        ended: whether all have been.
    """

    def __init__(self, versions: Iterable[Version]) -> None:
        self._versions = versions
        self.oldest: Version | None = None
        self.ended = False

    def __iter__(self) -> Iterator[Version]:
        for version in self._versions:
            if self.oldest is None or version.serial < self.oldest.serial:
                self.oldest = version
            yield version
        self.ended = True


def _note_end(session: Session, oldest: Version | None, pointer: str) -> None:
    """Says behind a whole list why there is nothing before it, or nothing at all."""
    if oldest is None and pointer:
        value_at(compare.now(session.state)[1], pointer)  # or it is no place at all
        session.output.note(f"no version that is kept changed {pointer}")
    elif oldest is None:
        session.output.note("there is no version yet: the first change makes one")
    elif oldest.serial > 1 and not pointer:
        session.output.note(
            f"what is older than version {oldest.serial} is pruned; gitstate history says what it was"
        )


def _shown(
    session: Session,
    version: Version,
    before: Version | None,
    calls: list[str],
    found: list[Change] | None,
) -> Iterator[Text]:
    """The lines of a version, and of what it changed."""
    from rich.text import Text  # noqa: PLC0415  JSON output does without it

    title = Text(f"version {version.serial}  ", style="bold").append(version.id, style="yellow")
    if calls:
        title.append(f"  ({on_a_line(', '.join(calls))})", style="bold green")
    yield title
    when = shown(version.timestamp, exactly=True)
    if before is not None:
        built = called(before)
    else:
        built = "none, it is the first" if compare.is_first(version) else "pruned"
    for label, text in (
        ("Made", f"{when}, {shown(version.timestamp, exactly=False)}"),
        ("By", version.author),
        ("Operation", version.operation),
        ("Before", built),
    ):
        yield Text(f"{label + ':':11}", style="dim").append(on_a_line(text), style="not dim")
    yield Text()
    for line in printable(version.message).splitlines():
        yield Text(f"    {line}")
    yield Text()
    if found is None:
        yield pruned()
        yield Text(f"its keys: {on_a_line(', '.join(version.changed_keys))}", style="dim")
        return
    if not found:
        yield Text("nothing", style="dim")
    output = session.output
    yield from changes.lines_of(found, output.width, whole=output.exactly)
