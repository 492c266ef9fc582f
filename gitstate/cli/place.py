"""Places and values: JSON pointers and JSON texts as they are typed, and what may have been meant by a wrong one."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from gitstate import codec, pointer
from gitstate.cli.refusal import USAGE, Refusal, meant
from gitstate.errors import StateError, StateReadError

if TYPE_CHECKING:
    from collections.abc import Iterable


def parts_of(text: str) -> list[str]:
    """The parts of a JSON pointer that was typed; none for the whole document.

    Raises:
        Refusal: it is no pointer.
    """
    try:
        return pointer.split(text)
    except ValueError as error:
        raise Refusal(
            str(error),
            status=USAGE,
            code="usage",
            hint=f"did you mean /{text.replace('.', '/')}?" if text.isprintable() else None,
        ) from error


def value_at(document: Any, text: str) -> Any:
    """The value in `document` at the pointer `text`.

    Raises:
        Refusal: there is none; says what may have been meant.
    """
    parts = parts_of(text)
    try:
        return pointer.get(document, parts)
    except LookupError as error:
        raise nothing_at(document, parts) from error


def nothing_at(document: Any, parts: list[str]) -> Refusal:
    """The refusal where `parts` lead nowhere in `document`: how far they lead, and what is like the rest."""
    value, known = document, 0
    with suppress(LookupError):
        for known, part in enumerate(parts):  # noqa: B007  how far it came is what matters
            value = pointer.get(value, [part])
    before = pointer.join(parts[:known])
    keys = {key: pointer.join([*parts[:known], key]) for key in _keys(value)}
    hint = meant(parts[known], keys)
    if hint is None:
        places = list(keys.values())
        inside = ", ".join(places[:5]) + (", ..." if len(places) > 5 else "")
        hint = f"there is {inside}" if inside else f"there is nothing below {before or 'the top'}"
    return Refusal(f"there is no {pointer.join(parts)}", code="no-such-place", hint=hint)


def value_of(text: str) -> Any:
    """The JSON value that was typed; of `-` the one on the standard input.

    Raises:
        Refusal: it is not JSON; says how a string is written.
    """
    if text == "-":
        return json_of(sys.stdin.buffer.read(), "the standard input")
    try:
        return json_of(text.encode("utf-8", "surrogateescape"), repr(text))
    except Refusal as error:
        raise Refusal(
            str(error),
            status=USAGE,
            code=error.code,
            hint=f"quote a string twice, '\"{text}\"', or use --string",
        ) from error


def json_of(content: bytes, what: str) -> Any:
    """The JSON value in `content`; `what` it is called in a message.

    Raises:
        Refusal: it is not JSON, with its keys told apart.
    """
    try:
        # The decoder takes objects alone, which a value need not be.
        return codec.decode_foreign(b'{"value":' + content + b"\n}", allow_nan=False)["value"]
    except StateReadError as error:
        why = f": {error}" if error.code == "duplicate-key" else ""
        raise Refusal(f"{what} is not JSON{why}", status=USAGE, code="not-json") from error


class PointerName(click.ParamType[str]):
    """A JSON pointer, which the shell can complete."""

    name = "pointer"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The places in the current state, one level below what is typed."""
        session: Any = ctx.find_object(object)
        with suppress(StateError, Refusal, LookupError, ValueError):
            above = incomplete.rpartition("/")[0]
            value = pointer.get(session.state.read(), pointer.split(above))
            places = (above + pointer.join([key]) for key in _keys(value))
            return [CompletionItem(each) for each in places if each.startswith(incomplete)]
        return []


def _keys(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        return list(value)
    return list(map(str, range(len(value)))) if isinstance(value, list) else []
