"""Compare: what versions held, what each of them changed, and the state as its file has it now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gitstate import pointer
from gitstate.diff import MISSING, Change, diff, find
from gitstate.errors import VersionNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gitstate import PipelineState, Version


class Past:
    """What the versions of a state held. The last two that were read are kept: the one before is asked for next."""

    def __init__(self, state: PipelineState) -> None:
        self._state = state
        self._read: dict[str, dict[str, Any]] = {}

    def document(self, version: Version) -> dict[str, Any]:
        """What the version holds, not to be changed.

        Raises:
            VersionPrunedError: it is not kept any more.
        """
        found = self._read.pop(version.id, None)
        self._read[version.id] = version.read() if found is None else found
        if len(self._read) > 2:
            del self._read[next(iter(self._read))]
        return self._read[version.id]

    def value(self, version: Version, parts: Sequence[str]) -> Any:
        """The value to which `parts` lead in it, `MISSING` where there is none."""
        return find(self.document(version), parts)

    def before(self, version: Version) -> Version | None:
        """The version that it was built on; None where there is none, or none any more."""
        try:
            return self._state.version(version.parents[0]) if version.parents else None
        except VersionNotFoundError:
            return None

    def changes(self, version: Version, parts: Sequence[str] = ()) -> list[Change] | None:
        """What it changed, at `parts` and below; None where the version before is not kept, so that nobody can tell."""
        if is_first(version):
            return between({}, self.document(version), parts)
        before = self.before(version)
        try:
            old = None if before is None else self.document(before)
        except VersionNotFoundError:  # pruned just now
            old = None
        return None if old is None else between(old, self.document(version), parts)


def is_first(version: Version) -> bool:
    """Whether there was nothing before it: the first of all, or one that was imported beside the others."""
    return version.serial <= 1


def between(old: Any, new: Any, parts: Sequence[str]) -> list[Change]:
    """The changes that lead from one document to another, at `parts` and below."""
    place = pointer.join(parts)
    was, now = find(old, parts), find(new, parts)
    if was is MISSING or now is MISSING:
        if was is now:
            return []
        return [Change("remove" if now is MISSING else "add", place, was, now)]
    return [replace(each, pointer=place + each.pointer) for each in diff(was, now)]


def now(state: PipelineState) -> tuple[Version | None, dict[str, Any]]:
    """The newest version, None before the first, and what the state file holds: that, unless somebody edited it.

    Raises:
        StateReadError: the file, or the history, cannot be read.
    """
    newest = next(state.log(1), None)
    while True:
        document = state.read()
        after = next(state.log(1), None)
        if after == newest:
            return newest, document
        newest = after  # which was committed just now, before the file was read or behind it
