"""Edit: edit, apply: changes that somebody writes down."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gitstate import patch as patches
from gitstate.cli import options
from gitstate.cli.arguments.place import PointerName, json_of, parts_of, put_at, value_at
from gitstate.cli.output import agreed
from gitstate.cli.process.editor import Editing
from gitstate.cli.proposal import propose, show
from gitstate.cli.refusal import CONFLICT, USAGE, Refusal, document_of, status_of
from gitstate.cli.views.changes import text_of
from gitstate.diff import MISSING, find, same
from gitstate.errors import StateValidationError

if TYPE_CHECKING:
    from gitstate.cli.session import Session


@options.verb("edit")
@click.argument("pointer", type=PointerName(), default="")
@options.message
@options.expect
@options.dry_run
@click.pass_obj
def edit(session: Session, /, pointer: str, **how: Any) -> None:
    """Edit the state, or the value at POINTER, in an editor.

    That is $GITSTATE_EDITOR, $VISUAL or $EDITOR, which may have options ("code --wait"), else vi. Nobody is kept
    waiting meanwhile. What is no JSON, or against the schema, can be edited again.

    Nothing is changed where the file is left as it was, or empty, or the editor fails. It is a conflict (13) if somebody
    else changed the value meanwhile; other parts of the state may have changed. Whatever is refused, what you wrote is
    kept in a file, which is named.
    """
    session.refuse_stale(how["expect"])
    document = session.state.read()
    parts = parts_of(pointer)
    base = value_at(document, pointer)
    with Editing(text_of(base) + "\n", session.output) as editing:
        new = _valid(session, editing, document, parts)
        if new is MISSING:
            show(session, [], None, dry_run=how["dry_run"])
            return

        def change(current: dict[str, Any]) -> Any:
            """Puts it there, if that is what was edited."""
            if not same(find(current, parts), base):
                raise Refusal(
                    f"{pointer or 'the state'} was changed by somebody else meanwhile; theirs is there",
                    status=CONFLICT,
                    code="edited",
                    hint="gitstate diff shows what they did; gitstate edit begins with it",
                )
            return _put(current, parts, new)

        propose(session, change, operation="edit", **how)


@options.verb("apply")
@click.argument("patch", type=click.Path())
@options.message
@options.expect
@options.dry_run
@click.pass_obj
def apply(session: Session, /, patch: str, **how: Any) -> None:
    """Apply PATCH, a file of JSON, to the state; - reads it from the standard input.

    \b
    An array is a JSON Patch (RFC 6902):
      [{"op": "replace", "path": "/phase4/status", "value": "failed"}]
    An object is a JSON Merge Patch (RFC 7396), in which null takes a key away:
      {"phase4": {"status": "failed", "errors": null}}

    All of it is done, or nothing. A "test" that fails is a conflict (13).
    """  # noqa: D301  what click has for a paragraph that stays as it is
    allow_nan = session.options.allow_nan
    if patch == "-":
        given = json_of(sys.stdin.buffer.read(), "the standard input", allow_nan=allow_nan)
    else:
        given = json_of(Path(patch).read_bytes(), patch, allow_nan=allow_nan)
    if not isinstance(given, (dict, list)):
        raise Refusal(
            "a patch is an array (RFC 6902) or an object (RFC 7396)",
            status=USAGE,
            code="not-a-patch",
            hint="gitstate apply --help shows one of each",
        )
    how_applied = patches.apply_json_patch if isinstance(given, list) else patches.apply_merge_patch
    propose(session, lambda document: how_applied(document, given), operation="apply", **how)


def _valid(session: Session, editing: Editing, document: dict[str, Any], parts: list[str]) -> Any:
    """The value that was written, once the state would take it; MISSING for none.

    Raises:
        Refusal: as the editor; or it is no JSON, or the state would not take it, and nobody edits it again.
        StateValidationError: the state would not take it, and there is nobody to ask.
    """
    while (content := editing.edited()) is not None:
        try:
            value = json_of(content, "what you wrote", allow_nan=session.options.allow_nan)
            session.state.validate(_put(copy.deepcopy(document), parts, value))
        except (Refusal, StateValidationError) as error:
            if session.output.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise
            status = status_of(error)
            session.output.error(document_of(error, status))
            if not agreed("Edit again?", default=True):
                raise Refusal("nothing was changed", status=status, code="declined") from error
        else:
            return value
    return MISSING


def _put(document: dict[str, Any], parts: list[str], value: Any) -> Any:
    """The document with the value there."""
    if not parts:
        return value
    put_at(document, parts, value)
    return document
