"""The difference: diff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gitstate.cli import options
from gitstate.cli.answers import compare
from gitstate.cli.arguments.naming import VersionOrPointer, apart, range_of, version_of
from gitstate.cli.arguments.place import parts_of, value_at
from gitstate.cli.refusal import DIFFERENT, Refusal
from gitstate.cli.views import changes, documents
from gitstate.cli.views.entries import called
from gitstate.diff import same, to_json_patch
from gitstate.errors import StateError

if TYPE_CHECKING:
    from gitstate import Change, Version
    from gitstate.cli.session import Session


@options.verb("diff")
@click.argument("names", nargs=-1, metavar="[A] [B] [POINTER]", type=VersionOrPointer())
@click.option("--exit-code", is_flag=True, help="End with 3 where there are differences.")
@click.option(
    "--json-patch", is_flag=True, help="As an RFC 6902 patch, which gitstate apply takes."
)
@click.pass_obj
def diff(session: Session, /, names: tuple[str, ...], exit_code: bool, json_patch: bool) -> None:
    """Show what changed, value by value; with POINTER only there.

    \b
      gitstate diff          what the newest version changed
      gitstate diff A        from A to the state as it is now
      gitstate diff HEAD     what was edited in the file, and is no version yet
      gitstate diff A B      from A to B, as A..B; what is left out of that is HEAD
      gitstate diff A --json-patch | gitstate -C copy apply -
    """  # noqa: D301  click's sign
    named, pointer = apart(names)
    before, after, found = _compared(session, named, pointer)
    output = session.output
    if json_patch:
        output.document(to_json_patch(found))
    elif output.json:
        ends = {"from": before, "to": after}
        made = {name: each and documents.of_version(each) for name, each in ends.items()}
        output.document(made | {"changes": [changes.document_of(change) for change in found]})
    else:
        output.paged(changes.lines_of(found, output.width, whole=output.exactly))
        _note_compared(session, before, after, found)
        if not named:
            _note_edit(session)
    if exit_code and found:
        click.get_current_context().exit(DIFFERENT)


def _compared(
    session: Session, named: list[str], pointer: str
) -> tuple[Version | None, Version | None, list[Change]]:
    """From which version to which, None for a state that is none, and what changed between them."""
    parts = parts_of(pointer)
    past = compare.Past(session.state)
    if not named:
        newest = version_of(session.state, "HEAD")
        found = past.changes(newest, parts)
        if found is None:
            raise Refusal(
                f"the version before {newest.serial} is pruned: what that changed cannot be told",
                code="version-pruned",
            )
        _refuse_nowhere(found, past.document(newest), pointer)
        return past.before(newest), newest, found
    a, b = range_of(named)
    before = version_of(session.state, a)
    if b is None:
        after, document = compare.now(session.state)
        if after is not None and not same(past.document(after), document):
            after = None
    else:
        after = version_of(session.state, b)
        document = past.document(after)
    found = compare.between(past.document(before), document, parts)
    _refuse_nowhere(found, document, pointer)
    return before, after, found


def _refuse_nowhere(found: list[Change], document: dict[str, Any], pointer: str) -> None:
    """Refuses a pointer that leads nowhere on both sides."""
    if not found:
        value_at(document, pointer)


def _note_compared(
    session: Session, before: Version | None, after: Version | None, found: list[Change]
) -> None:
    """Says what was compared, behind what came of it."""
    count = f"{len(found)} {'change' if len(found) == 1 else 'changes'}" if found else "no changes"
    start = "nothing" if before is None else called(before)
    end = "the file, which was edited" if after is None else called(after)
    session.output.note(f"{count} from {start} to {end}")


def _note_edit(session: Session) -> None:
    """Says so where the file is not the newest version's."""
    if session.options.quiet:
        return
    try:
        newest, document = compare.now(session.state)
        edited = newest is not None and not same(newest.read(), document)
    except StateError:
        session.output.note("the state file cannot be read: gitstate status")
        return
    if edited:
        session.output.note("the file was edited since: gitstate diff HEAD")
