"""Putting back: restore, undo, redo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gitstate import pointer as pointers
from gitstate.cli import options
from gitstate.cli.naming import VersionName, version_of
from gitstate.cli.place import PointerName, nothing_at, parts_of
from gitstate.cli.proposal import show
from gitstate.cli.refusal import SCHEMA, Refusal
from gitstate.diff import MISSING, Change, diff
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
        _show(session, before, after, None)
        return
    with session.changing(expect) as state:
        newest = state.version("HEAD")
        state.restore_backup(target, pointer=pointer or None)
        made = next(state.log(1, operation="restore"), newest)
        current = made if made.serial > newest.serial else newest
        _show(session, before, state.read(), current)


@options.verb("undo")
@options.expect
@options.dry_run
@click.pass_obj
def undo(session: Session, /, **how: Any) -> None:
    """Take the last change back; again, the one before it.

    What is undone stays in the history, and gitstate redo puts it back.
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
    before = _current(session.state)
    try:
        if dry_run:
            session.refuse_stale(expect)
            _show(session, before, step(session.state, True).read(), None)
            return
        with session.changing(expect) as state:
            made = step(state, False)
            _show(session, before, made.read(), made)
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


def _show(
    session: Session, before: dict[str, Any] | None, after: dict[str, Any], version: Version | None
) -> None:
    """Shows what that changes, or, without a version, would."""
    if before is not None:
        show(session, diff(before, after), version)
        return
    if version is None:
        session.output.note("the state file is gone or damaged: all of it would be put back")
    show(session, [Change("add", "", MISSING, after)], version)


def _with_part(document: dict[str, Any], target: Version, parts: list[str]) -> dict[str, Any]:
    """The document, changed: with the value that the target has there, or without one.

    Raises:
        Refusal: neither has one there, or there is nothing that it could be put into.
    """
    then = target.read()
    there = _value(then, parts)
    if there is MISSING:
        if _value(document, parts) is MISSING:
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
            hint=f"gitstate restore {target.short_id} {pointers.join(parts[:1])}",
        ) from error
    return document


def _value(document: dict[str, Any], parts: list[str]) -> Any:
    try:
        return pointers.get(document, parts)
    except LookupError:
        return MISSING
