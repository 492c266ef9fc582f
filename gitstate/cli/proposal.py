"""Proposals: a document that is to take the place of the current one; shown, or committed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

from gitstate.cli.output import write
from gitstate.cli.views import changes, documents
from gitstate.cli.views.entries import line_of
from gitstate.diff import diff

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitstate import Change, Version
    from gitstate.cli.session import Session

_MOST_LINES: Final = 20
"""Of a change that was made, which are no data; the rest is in the history."""


def propose(
    session: Session,
    change: Callable[[dict[str, Any]], Any],
    *,
    operation: str,
    message: str | None = None,
    expect: str | None = None,
    dry_run: bool = False,
) -> None:
    """Commits what `change` makes of the current document; with `dry_run` only checks and shows it.

    Raises:
        Refusal: as `change`; nothing was changed.
        StateError: as a transaction; nothing was changed.
    """
    if dry_run:
        session.refuse_stale(expect)
        before = session.state.read()
        after = change(copy.deepcopy(before))
        session.state.validate(after)
        show(session, diff(before, after), None, dry_run=True)
        return
    with session.changing(expect) as state:
        with state.transaction(operation=operation, message=message) as txn:
            newest, before = next(state.log(1), None), txn.original_data
            txn.data = change(txn.data)
        made = None if txn.version == newest else txn.version
        show(session, diff(before, txn.data), made)


def show(
    session: Session, found: list[Change], version: Version | None, *, dry_run: bool = False
) -> None:
    """Shows what was changed, and the version that was made, None for none; with `dry_run` what would be, which is data."""
    output = session.output
    if output.json:
        made = None if version is None else documents.of_version(version)
        found_as_json = [changes.document_of(change) for change in found]
        output.document({"dry_run": dry_run, "version": made, "changes": found_as_json})
        return
    if dry_run:
        output.paged(changes.lines_of(found, output.width, whole=output.exactly))
    elif not session.options.quiet:
        some = found if output.exactly else found[:_MOST_LINES]
        for line in changes.lines_of(some, output.errors.width, whole=output.exactly):
            write(output.errors, line)
        if version is not None and len(found) > len(some):
            output.note(f"and {len(found) - len(some):,} more: gitstate show {version.serial}")
    if version is not None:
        output.note(line_of(version))
    elif not found:
        output.note("nothing to change")
