"""Naming: a version as git names it, or by its number.

    41  3f2a91c  HEAD  @  HEAD~2  HEAD^^  before-speech  before-speech~1  @{2h ago}  @{2026-11-27T10:00}

What has only digits is a number, as long as there are so many versions; else the beginning of a hash.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from gitstate.cli.arguments.place import Offered, PointerName
from gitstate.cli.refusal import Refusal, meant, usage
from gitstate.cli.times import moment
from gitstate.errors import VersionNotFoundError, VersionPrunedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gitstate import PipelineState, Version

_STEPS: Final = re.compile(r"(?P<base>.*?)(?P<steps>(?:~[0-9]{0,9}|\^1?)*)")
_STEP: Final = re.compile(r"~[0-9]*|\^1?")
_AT: Final = re.compile(r"(?:HEAD|@)?@\{(.*)\}")
_OFFERED: Final = 50


def version_of(state: PipelineState, name: str) -> Version:
    """The version that goes by `name`.

    Raises:
        Refusal: that can be no name.
        VersionNotFoundError: there is none, or there are several.
    """
    match = _STEPS.fullmatch(name)
    if match is None or not match["base"]:
        raise usage(f"{name!r} names no version", hint=_FORMS)
    steps = sum(
        int(step[1:] or 1) if step.startswith("~") else 1 for step in _STEP.findall(match["steps"])
    )
    try:
        found = _base(state, match["base"])
        if not steps:
            return found
        if match["base"] in {"HEAD", "@"}:
            return state.version(f"HEAD~{steps}")
        # An imported one stands beside the others: there is nothing before it.
        return state.version(found.serial - steps if found.serial > steps else name)
    except VersionNotFoundError as error:
        if next(state.log(1), None) is None:
            raise Refusal(
                "there is no version yet",
                code=error.code,
                hint="the first change makes one, and gitstate backup of the file as it is",
            ) from error
        known = error.candidates or isinstance(error, VersionPrunedError)
        hint = None if known else meant(match["base"], _names(state))
        if hint is None:
            raise
        raise Refusal(str(error), code=error.code, hint=hint) from error


def range_of(names: Sequence[str]) -> tuple[str, str | None]:
    """The names of the two versions to compare: `A B`, `A..B`; the newest two without any.

    The second is None for the state as it is now, edited or not: of `A` alone.

    Raises:
        Refusal: there are more than two.
    """
    if len(names) == 1 and ".." in names[0]:
        a, _, b = names[0].partition("..")
        return a or "HEAD", b or "HEAD"
    if len(names) > 2:
        raise usage(f"two versions can be compared, not {len(names)}")
    if not names:
        return "HEAD~1", "HEAD"
    return names[0], names[1] if len(names) == 2 else None


def apart(names: Sequence[str]) -> tuple[list[str], str]:
    """Versions and pointer, which begins with a slash.

    Raises:
        Refusal: there are several pointers.
    """
    pointers = [name for name in names if name.startswith("/") or not name]
    if len(pointers) > 1:
        raise usage(f"one pointer will do, not {len(pointers)}")
    return [name for name in names if name not in pointers], "".join(pointers)


class VersionName(Offered):
    """The name of a version."""

    name = "version"

    def offered(self, state: PipelineState, incomplete: str) -> dict[str, str | None]:
        """The names of backups, and the newest versions by number."""
        numbers = {str(v.serial): v.message.partition("\n")[0] for v in state.log(_OFFERED)}
        return {"HEAD": "the newest", **dict.fromkeys(_names(state), "a backup"), **numbers}


class VersionOrPointer(VersionName):
    """A version's name, or a pointer, which begins with a slash as no name does."""

    def offered(self, state: PipelineState, incomplete: str) -> dict[str, str | None]:
        """Places behind a slash, versions else."""
        if incomplete.startswith("/"):
            return PointerName().offered(state, incomplete)
        return super().offered(state, incomplete)


_FORMS: Final = "41, 3f2a91c, HEAD~2, HEAD^, @{2h ago}, or a backup's name"


def _base(state: PipelineState, name: str) -> Version:
    if match := _AT.fullmatch(name):
        return _at(state, match[1])
    if name == "@":
        return state.version("HEAD")
    if name.isdecimal() and len(name) < 40:
        # A number that there is not may be the beginning of a hash; as such it has four digits or more.
        with suppress(VersionNotFoundError):
            return state.version(name) if name.startswith("0") else state.version(int(name))
        if len(name) < 4:
            return state.version(int(name))
    return state.version(name)


def _at(state: PipelineState, text: str) -> Version:
    try:
        when = moment(text)
    except ValueError as error:
        raise usage(
            f"{text!r} names no moment",
            hint="@{2026-11-27T10:00}, @{90min}, @{2d ago}",
        ) from error
    found = next(state.log(1, until=when), None)
    if found is None:
        raise Refusal(
            f"no version is kept that was there at {when.isoformat()}", code="version-not-found"
        )
    return found


def _names(state: PipelineState) -> list[str]:
    return sorted(state.named_backups())
