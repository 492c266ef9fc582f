"""Proposals: a document that is to take the place of the current one; shown, or committed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

from gitstate.cli import changes, documents
from gitstate.cli.output import write
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
        show(session, diff(before, after), None)
        return
    with session.changing(expect) as state:
        with state.transaction(operation=operation, message=message) as txn:
            before = txn.original_data
            txn.data = change(txn.data)
        show(session, diff(before, txn.data), txn.version)


def show(session: Session, found: list[Change], version: Version | None) -> None:
    """Shows what was changed; without a version what would be, which is the data of that run."""
    output = session.output
    if output.json:
        made = None if version is None else documents.of_version(version)
        output.document({"version": made, "changes": [changes.document_of(c) for c in found]})
        return
    if version is None:
        output.paged(changes.lines_of(found, output.width, whole=output.exactly))
    elif not session.options.quiet:
        some = found if output.exactly else found[:_MOST_LINES]
        for line in changes.lines_of(some, output.errors.width, whole=output.exactly):
            write(output.errors, line)
        if len(found) > len(some):
            output.note(f"and {len(found) - len(some):,} more: gitstate show {version.serial}")
    if not found:
        output.note("nothing to change")
    elif version is not None:
        output.note(f"version {version.serial} ({version.short_id}) {version.message}")
