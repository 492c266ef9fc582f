"""Places and values: JSON pointers and JSON texts as they are typed, and what may have been meant by a wrong one."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from gitstate import pointer
from gitstate.cli.escapes import typed
from gitstate.cli.refusal import USAGE, Refusal, meant, usage
from gitstate.errors import StateError, StateReadError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gitstate import PipelineState


_PYTHON: Final = {"True": "true", "False": "false", "None": "null"}


def parts_of(text: str) -> list[str]:
    """The parts of a JSON pointer that was typed; none for the whole document.

    Raises:
        Refusal: it is no pointer.
    """
    try:
        return pointer.split(text)
    except ValueError as error:
        raise usage(
            str(error),
            hint=_meant_by(text),
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
    value, known = _reached(document, parts)
    before = pointer.join(parts[:known])
    keys = {key: pointer.join([*parts[:known], key]) for key in _keys(value)}
    hint = meant(parts[known], keys)
    if hint is None:
        places = list(keys.values())
        inside = ", ".join(map(typed, places[:5])) + (", ..." if len(places) > 5 else "")
        hint = (
            f"there is {inside}"
            if inside
            else f"there is nothing below {typed(before) if before else 'the top'}"
        )
    return Refusal(f"there is no {pointer.join(parts)}", code="no-such-place", hint=hint)


def put_at(document: Any, parts: list[str], value: Any, *, parents: bool = False) -> None:
    """Puts `value` where `parts`, at least one of them, lead; with `parents` objects are made that it is to be in.

    Raises:
        Refusal: what it would be part of is not there, and cannot be made.
    """
    try:
        for known in range(1, len(parts)) if parents else ():
            if _reached(document, parts[:known])[1] < known:
                pointer.put(document, parts[:known], {})
        pointer.put(document, parts, value)
    except LookupError as error:
        # A key that an object lacks could be made, if it is not the last one; an item of an array could not.
        if not isinstance(_reached(document, parts)[0], dict):
            raise nothing_at(document, parts) from error
        missing = nothing_at(document, parts[:-1])
        missing.hint = f"{missing.hint}; --parents makes what is missing"
        raise missing from error


def value_of(text: str, *, allow_nan: bool = False) -> Any:
    """The JSON value that was typed; of `-` the one on the standard input; with `allow_nan` NaN and infinities pass.

    Raises:
        Refusal: it is not JSON; says how a string is written.
    """
    if text == "-":
        return json_of(sys.stdin.buffer.read(), "the standard input", allow_nan=allow_nan)
    try:
        return json_of(text.encode("utf-8", "surrogateescape"), repr(text), allow_nan=allow_nan)
    except Refusal as error:
        if text.lstrip().startswith(("{", "[", '"')):
            raise  # what is wrong with it helps more
        raise Refusal(
            f"{text!r} is not JSON",
            status=USAGE,
            code=error.code,
            hint=_as_json_is_typed(text),
        ) from error


def json_of(content: bytes, what: str, *, allow_nan: bool = False) -> Any:
    """The JSON value in `content`; `what` it is called in a message; with `allow_nan` NaN and infinities pass.

    Raises:
        Refusal: it is not JSON, with its keys told apart.
    """
    from gitstate import codec  # noqa: PLC0415  who only looks, and --help, do without pydantic

    try:
        if content.lstrip().startswith(b"{"):
            return codec.decode_foreign(content, allow_nan=allow_nan)
        # The decoder takes objects alone, which a value need not be.
        found = codec.decode_foreign(b'{"value":' + content + b"\n}", allow_nan=allow_nan)
        if len(found) == 1:
            return found["value"]
        cause, why = None, "something follows the value"
    except StateReadError as error:
        cause, why = error, _why(content, error)
    raise Refusal(f"{what} is not JSON: {why}", status=USAGE, code="not-json") from cause


class Offered(click.ParamType[str]):
    """What the shell can complete by what a state has."""

    def offered(self, state: PipelineState, incomplete: str) -> dict[str, str | None]:
        """What may be meant, and what each is; errors are for whoever runs the command."""
        raise NotImplementedError

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Those of what is offered that begin so."""
        session: Any = ctx.find_object(object)
        with suppress(StateError, Refusal, LookupError, ValueError):
            return [
                CompletionItem(name, help=what)
                for name, what in self.offered(session.state, incomplete).items()
                if name.startswith(incomplete)
            ]
        return []


class PointerName(Offered):
    """A JSON pointer."""

    name = "pointer"

    def offered(self, state: PipelineState, incomplete: str) -> dict[str, str | None]:
        """The places in the current state, one level below what is typed."""
        above = incomplete.rpartition("/")[0]
        value = pointer.get(state.read(), pointer.split(above))
        return {above + pointer.join([key]): None for key in _keys(value)}


def _meant_by(text: str) -> str | None:
    """A hint at the pointer that `text` may have been meant to be."""
    if text.startswith("/") or not text.isprintable():
        return None
    return f"did you mean {typed('/' + text.replace('.', '/'))}?"


def _as_json_is_typed(text: str) -> str:
    """A hint at how `text`, which is not JSON, is typed as JSON."""
    if text in _PYTHON:
        return f"JSON has {_PYTHON[text]} for that"
    return f"quote a string twice, {typed(json.dumps(text, ensure_ascii=False))}, or use --string"


def _reached(document: Any, parts: list[str]) -> tuple[Any, int]:
    """The last value on the way that `parts` lead in `document`, and how many of them lead to it."""
    value = document
    for known, part in enumerate(parts):
        try:
            value = pointer.get(value, [part])
        except LookupError:
            return value, known
    return value, len(parts)


def _why(content: bytes, error: StateReadError) -> str:
    """What is wrong with `content`, by its own lines and columns."""
    try:
        json.loads(content)
    except (ValueError, RecursionError) as wrong:
        return "there is nothing" if not content.strip() else str(wrong)
    return str(error).removeprefix("not valid JSON: ")


def _keys(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        return list(value)
    return list(map(str, range(len(value)))) if isinstance(value, list) else []
