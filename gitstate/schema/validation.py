"""Validation against a pydantic model, with messages that say where, what, and what was expected."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from pydantic import BaseModel, ValidationError

from gitstate import codec, pointer
from gitstate.errors import Problem, StateValidationError
from gitstate.schema.pipeline import STATUSES, PipelineSchema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic_core import ErrorDetails

    from gitstate.codec import Document

_MAX_SHOWN: Final = 5
_PHASES: Final = [
    name for name in PipelineSchema.model_fields if re.fullmatch(r"phase[\d_]+", name)
]


def validate(
    content: bytes,
    schema: type[BaseModel] = PipelineSchema,
    *,
    part: Document | None = None,
) -> bool:
    """Checks the bytes of a document against `schema`; what is merely unusual is a `UserWarning`, and False.

    `part` is what `content` parses to, where the caller has it, or of that what differs from a content that has
    passed: the default schema says nothing of one entry that depends on another.

    Raises:
        StateValidationError: it does not fit; `problems` has every place.
    """
    if part is None:
        part = codec.decode(content, allow_nan=True)
    try:
        if schema is PipelineSchema and _fits(part):
            return not _warn_of_statuses(part)
        # A stranger's validators may change what they are given, and strict ones read dates only from JSON.
        schema.model_validate_json(content)
    except ValidationError as error:
        document = codec.decode(content, allow_nan=True)
        problems = tuple(_problems(document, error.errors(include_url=False)))
        raise _refusal(schema, problems) from error
    except Warning:
        raise
    except Exception as error:  # a stranger's validators may raise anything
        what = f"its validation failed with {type(error).__name__}: {error}"
        raise _refusal(schema, (Problem("", what, "the whole state"),)) from error
    return True


def _fits(document: Document) -> bool:
    # Half the time of parsing once more; a refusal is then worded from the JSON, which speaks of objects and arrays.
    # Nobody looks at what it builds, so it need not copy the unknown fields either.
    try:
        PipelineSchema.model_validate(document, extra="ignore")
    except ValidationError:
        return False
    return True


def _refusal(schema: type[BaseModel], problems: tuple[Problem, ...]) -> StateValidationError:
    shown = "; ".join(map(str, problems[:_MAX_SHOWN]))
    more = f"; and {len(problems) - _MAX_SHOWN} more" if len(problems) > _MAX_SHOWN else ""
    return StateValidationError(
        f"against the schema {schema.__name__}: {shown}{more}. Nothing was changed. Mend the values, or pass"
        " validate=False.",
        problems=problems,
        code="schema",
    )


def _problems(document: Document, errors: list[ErrorDetails]) -> Iterator[Problem]:
    """One problem for each place: a value that fits none of several types is one problem, not several."""
    by_place: dict[str, tuple[list[str], object]] = {}
    for error in errors:
        at = pointer.join(_place(document, error["loc"], missing=error["type"] == "missing"))
        expected, _ = by_place.setdefault(at, ([], error["input"]))
        if error["msg"] not in expected:
            expected.append(error["msg"])
    for at, (expected, value) in by_place.items():
        yield Problem(at, ", or ".join(expected), codec.shorten(value))


def _place(document: Document, location: Sequence[str | int], *, missing: bool) -> list[str | int]:
    """The parts of `location` that lead through `document`: pydantic also names the types it tried on the way.

    Of what is `missing` the last part is the place where it should be.
    """
    at: list[str | int] = []
    value: Any = document
    for position, part in enumerate(location):
        absent = missing and position == len(location) - 1
        if isinstance(value, dict) and (part in value or absent):
            at.append(part)
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            at.append(part)
            value = value[part]
    return at


def _warn_of_statuses(document: Document) -> bool:
    """Whether there was anything to warn of."""
    unknown: dict[str, list[str]] = {}
    for status, at in _unknown_statuses(document):
        unknown.setdefault(status, []).append(pointer.join(at))
    for status, places in unknown.items():
        shown = ", ".join(places[:_MAX_SHOWN]) + (" ..." if len(places) > _MAX_SHOWN else "")
        known = ", ".join(sorted(STATUSES))
        warnings.warn(f"unknown status {status!r} at {shown}; known are {known}", stacklevel=4)
    return bool(unknown)


def _unknown_statuses(document: Document) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """The unknown statuses of phases, files and chunks, and where they stand."""
    for name, status in (document.get("phases") or {}).items():
        if _unknown(status):
            yield status, ("phases", name)
    for key in _PHASES:
        if phase := document.get(key):
            yield from _unknown_in(phase, (key,))
            for name, file in (phase.get("files") or {}).items():
                yield from _unknown_in(file or {}, (key, "files", name))


def _unknown_in(
    work: Document, at: tuple[str | int, ...]
) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    if _unknown(status := work.get("status")):
        yield status, (*at, "status")
    for index, chunk in enumerate(work.get("chunks") or ()):
        if isinstance(chunk, dict) and _unknown(status := chunk.get("status")):
            yield status, (*at, "chunks", index, "status")


def _unknown(status: object) -> TypeGuard[str]:
    return isinstance(status, str) and status not in STATUSES
