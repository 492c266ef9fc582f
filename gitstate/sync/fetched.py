"""Fetched: what was fetched from a remote, once it has been judged; as a value, and as JSON between two processes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeGuard

from gitstate.draft import ARCHIVE, ASIDE, BACKUPS, FAILURES, IMPORTED, UNVERSIONED
from gitstate.errors import StateValidationError
from gitstate.names import check_name, may_be_named
from gitstate.repository import BRANCH

TRAILS: Final = frozenset({FAILURES, UNVERSIONED})
"""The refs of audit trails whose lines are commits."""

FILES: Final = frozenset({ARCHIVE, IMPORTED})
"""Those whose lines stand in files."""

_MAX_NAME_BYTES: Final = 240
_ID: Final = re.compile("[0-9a-f]{40}")


class Oldest(NamedTuple):
    """The last commit that was reached along the branch: its id, its number, and what it names as its parents."""

    id: str
    serial: int
    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class History:
    """The history that refs of a remote lead to, as far as it is new.

    Attributes:
        head: the newest version of the branch; None where the remote has none.
        refs: the refs that are kept, and where they are.
        ignored: the names of those that are not looked at.
        versions: how many of the branch are new.
        joins: the version that was here before on which the branch stands; None where it goes back to its first one, or to
            where the remote's history ends.
        oldest: the oldest of the new versions of the branch, or the head where none is.
        ends: the new commits whose parents nobody has.
        tree: the tree of the head.
        blob: the blob of its state.
    """

    head: str | None
    refs: dict[str, str]
    ignored: tuple[str, ...]
    versions: int
    joins: str | None
    oldest: Oldest | None
    ends: tuple[str, ...]
    tree: str | None
    blob: str | None

    def to_json(self) -> str:
        """The history as one line of JSON."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> History:
        """What `to_json` gave; from a process that has seen what is hostile, and is not believed blindly.

        Raises:
            ValueError: it is something else.
        """
        try:
            said = json.loads(text)
            if isinstance(said, dict) and said.keys() == set(cls.__slots__) and _is_sound(said):
                return cls(**{**said, **_with_tuples(said)})
        except (TypeError, RecursionError) as error:
            raise ValueError("what was fetched is not told as it should be") from error
        raise ValueError("what was fetched is not told as it should be")


def is_kept(name: str) -> bool:
    """Whether a ref of this name is taken over.

    Raises:
        ValueError: it names a backup in a way that gitstate does not.
    """
    if name in {BRANCH, *TRAILS, *FILES}:
        return True
    if not name.startswith(BACKUPS):
        return False
    short = name.removeprefix(BACKUPS)
    try:
        if name.startswith(ASIDE):
            last = name.removeprefix(ASIDE)
            if "/" in last or not may_be_named(last) or len(last.encode()) > _MAX_NAME_BYTES:
                raise ValueError("it is no name of a backup that was imported")
        else:
            check_name(short)
    except (ValueError, StateValidationError) as error:
        raise ValueError(
            f"the remote has a backup that cannot be called so: {short[:80]!r}"
        ) from error
    return True


def _is_sound(said: dict[str, Any]) -> bool:
    """Whether each field is of its type, and all that should be ids are."""
    ids = [said["head"], said["joins"], said["tree"], said["blob"]]
    refs, oldest = said["refs"], said["oldest"]
    return (
        all(each is None or _is_id(each) for each in ids)
        and isinstance(refs, dict)
        and all(map(_is_id, refs.values()))
        and all(map(is_kept, refs))
        and _is_number(said["versions"])
        and (oldest is None or _is_oldest(oldest))
        and _are_ids(said["ends"])
        and isinstance(said["ignored"], list)
        and all(isinstance(name, str) for name in said["ignored"])
    )


def _with_tuples(said: dict[str, Any]) -> dict[str, Any]:
    """The fields that are lists in JSON."""
    fields = {name: tuple(said[name]) for name in ("ignored", "ends")}
    if said["oldest"] is None:
        return fields
    made_id, serial, parents = said["oldest"]
    return {**fields, "oldest": Oldest(made_id, serial, tuple(parents))}


def _is_oldest(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and _is_id(value[0])
        and _is_number(value[1])
        and _are_ids(value[2])
    )


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_id, value))


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _ID.fullmatch(value) is not None
