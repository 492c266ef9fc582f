"""The document: get, set, unset."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import click

from gitstate import pointer as pointers
from gitstate.cli import options
from gitstate.cli.arguments.naming import VersionName, version_of
from gitstate.cli.arguments.place import PointerName, parts_of, put_at, value_at, value_of
from gitstate.cli.proposal import propose
from gitstate.cli.refusal import usage
from gitstate.cli.views.changes import text_of

if TYPE_CHECKING:
    from gitstate.cli.session import Session

_NEGATIVE: Final = re.compile(r"-[0-9.]|-Infinity$")


@options.verb("get")
@click.argument("pointer", type=PointerName(), default="")
@click.option("--at", metavar="VERSION", type=VersionName(), help="As it was in that version.")
@click.option(
    "-r",
    "--raw",
    is_flag=True,
    help="A string without its quotes; no control character of it on a terminal.",
)
@click.pass_obj
def get(session: Session, /, pointer: str, at: str | None, raw: bool) -> None:
    """Write the state, or the value at POINTER, as JSON."""
    document = session.state.read() if at is None else version_of(session.state, at).read()
    value = value_at(document, pointer)
    if session.options.json:
        session.output.document(value)
    elif raw and isinstance(value, str):
        session.output.raw(value)
    else:
        session.output.text(text_of(value))


class _Set(options.Verb):
    """The verb set, whose VALUE may be a negative number."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the arguments, with such a number put behind `--`, as click would take it for an option."""
        valued = {
            name
            for option in self.params
            if isinstance(option, click.Option) and not (option.is_flag or option.count)
            for name in option.opts
        }
        numbers = (
            place
            for place, (before, word) in enumerate(pairwise(args), 1)
            if _NEGATIVE.match(word) and before not in valued
        )
        place = next(numbers, None)
        if place is not None and "--" not in args:
            args = [*args[:place], *args[place + 1 :], "--", args[place]]
        return super().parse_args(ctx, args)


@options.verb("set", cls=_Set)
@click.argument("pointer", type=PointerName())
@click.argument("value")
@click.option("-s", "--string", is_flag=True, help="VALUE is a string, not JSON.")
@click.option("-p", "--parents", is_flag=True, help="Make the objects that it is to be in.")
@options.message
@options.expect
@options.dry_run
@click.pass_obj
def set_value(
    session: Session, /, pointer: str, value: str, string: bool, parents: bool, **how: Any
) -> None:
    """Put VALUE, which is JSON, at POINTER; - reads it from the standard input.

    A number puts it over an item of an array, - at its end: /chunks/-
    """
    parts = parts_of(pointer)
    new = value if string else value_of(value, allow_nan=session.options.allow_nan)

    def change(document: dict[str, Any]) -> Any:
        """Puts it there."""
        if not parts:
            return new
        put_at(document, parts, new, parents=parents)
        return document

    propose(session, change, operation="set", **how)


@options.verb("unset")
@click.argument("pointer", type=PointerName())
@options.message
@options.expect
@options.dry_run
@click.pass_obj
def unset(session: Session, /, pointer: str, **how: Any) -> None:
    """Take away the value at POINTER, key or item and all."""
    parts = parts_of(pointer)
    if not parts:
        raise usage("the whole state cannot be taken away; gitstate set '' '{}' empties it")

    def change(document: dict[str, Any]) -> Any:
        """Takes it away."""
        value_at(document, pointer)
        pointers.remove(document, parts)
        return document

    propose(session, change, operation="unset", **how)
