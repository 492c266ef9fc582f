"""Putting back: restore, undo, redo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gitstate import pointer as pointers
from gitstate.cli import options
from gitstate.cli.answers.compare import Past
from gitstate.cli.arguments.naming import VersionName, version_of
from gitstate.cli.arguments.place import PointerName, nothing_at, parts_of
from gitstate.cli.escapes import typed
from gitstate.cli.proposal import show
from gitstate.cli.refusal import SCHEMA, Refusal
from gitstate.diff import MISSING, Change, diff, find
from gitstate.errors import StateReadError, VersionNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitstate import PipelineState, Version
    from gitstate.cli.session import Session

_NO_STATE = frozenset({"state-missing", "not-json", "not-an-object", "duplicate-key"})
"""The codes of a state file that holds no state, which the history is whole beside."""


@options.verb("restore")
@click.argument("version", type=VersionName())
@click.argument("pointer", type=PointerName(), default="")
@options.expect
@options.dry_run
@click.pass_obj
def restore(
    session: Session, /, version: str, pointer: str, expect: str | None, dry_run: bool
) -> None:
    """Make VERSION current again, or of it the value at POINTER alone.

    That is a change like any other, and can be undone. Where the state file is gone, or damaged, this puts it back:

    \b
        gitstate restore HEAD
    """  # noqa: D301  click's own mark for lines that stay as they are
    parts, target = parts_of(pointer), version_of(session.state, version)
    if parts:
        before: dict[str, Any] | None = session.state.read()
        after = _with_part(session.state.read(), target, parts)
    else:
        before, after = _current(session.state), target.read()
    if dry_run:
        session.refuse_stale(expect)
        if parts:
            session.state.validate(after)
        _show_plan(session, before, after)
        return
    with session.changing(expect) as state:
        made = state.restore(target, pointer=pointer or None)
        if made is None and before is None:
            show(session, _put_back(after), None)
        else:
            _show(session, made)


@options.verb("undo")
@options.expect
@options.dry_run
@click.pass_obj
def undo(session: Session, /, **how: Any) -> None:
    """Take the last change back; again, the one before it.

    What is undone stays in the history, and gitstate redo puts it back. Where the state file is gone or damaged, that is
    what is undone first: the newest version is put back, and the file as it was stays under refs/corrupt/.
    """
    _step(session, lambda state, dry_run: state.undo(dry_run=dry_run), **how)


@options.verb("redo")
@options.expect
@options.dry_run
@click.pass_obj
def redo(session: Session, /, **how: Any) -> None:
    """Take the last undo back; again, the one before it. After any other change there is none."""
    _step(session, lambda state, dry_run: state.redo(dry_run=dry_run), **how)


def _step(
    session: Session,
    step: Callable[[PipelineState, bool], Version],
    expect: str | None,
    dry_run: bool,
) -> None:
    """An undo or a redo."""
    try:
        if dry_run:
            session.refuse_stale(expect)
            _show_plan(session, _current(session.state), step(session.state, True).read())
            return
        with session.changing(expect) as state:
            newest = next(state.log(1), None)
            made = step(state, False)
            if made == newest:  # an undo that found no state in the file
                show(session, _put_back(made.read()), None)
            else:
                _show(session, made)
    except VersionNotFoundError as error:
        if error.name not in {"undo", "redo"}:
            raise
        raise Refusal(
            f"there is nothing left to {error.name}",
            code=error.code,
            hint="gitstate log lists the versions, gitstate restore puts any of them back",
        ) from error


def _current(state: PipelineState) -> dict[str, Any] | None:
    """The current document; None where the state file is gone, or holds none."""
    try:
        return state.read()
    except StateReadError as error:
        if error.code not in _NO_STATE:
            raise
        return None


def _show(session: Session, made: Version | None) -> None:
    """Shows what the version that was made has changed: what was there before it, somebody may have put there just then."""
    found = None if made is None else Past(session.state).changes(made)
    show(session, found or [], made)


def _show_plan(session: Session, before: dict[str, Any] | None, after: dict[str, Any]) -> None:
    """Shows what would be changed."""
    if before is None:
        session.output.note("the state file is gone or damaged: all of it would be put back")
    found = _put_back(after) if before is None else diff(before, after)
    show(session, found, None, dry_run=True)


def _put_back(document: dict[str, Any]) -> list[Change]:
    """What a restore changes of a state file that is gone, or holds no state."""
    return [Change("add", "", MISSING, document)]


def _with_part(document: dict[str, Any], target: Version, parts: list[str]) -> dict[str, Any]:
    """The document, changed: with the value that the target has there, or without one.

    Raises:
        Refusal: neither has one there, or there is nothing that it could be put into.
    """
    then = target.read()
    there = find(then, parts)
    if there is MISSING:
        if find(document, parts) is MISSING:
            nothing = nothing_at(then, parts)
            raise Refusal(
                f"{nothing}, neither now nor in version {target.serial}",
                code=nothing.code,
                hint=nothing.hint,
            )
        pointers.remove(document, parts)
        return document
    try:
        pointers.put(document, parts, there)
    except LookupError as error:
        raise Refusal(
            f"{pointers.join(parts)} of version {target.serial} cannot be put back: what it was part of is not there"
            " any more",
            status=SCHEMA,
            code="no-such-place",
            hint=f"gitstate restore {target.short_id} {typed(pointers.join(parts[:1]))}",
        ) from error
    return document
