"""Reports: what a push or a pull has moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gitstate.version import Version


class RefUpdate(NamedTuple):
    """A ref that was moved: its full name, and the ids before and after, None where it was not there."""

    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push has moved over there.

    Attributes:
        remote: the name of the remote.
        updates: the refs that were moved.
        versions: how many versions it has got.
        notes: what was left as it was, and what is odd about the remote, a line each.
    """

    remote: str
    updates: tuple[RefUpdate, ...] = ()
    versions: int = 0
    notes: tuple[str, ...] = ()

    @property
    def up_to_date(self) -> bool:
        """Whether there was nothing to do."""
        return not self.updates


@dataclass(frozen=True, slots=True)
class PullResult:
    """What a pull has moved here.

    Attributes:
        remote: the name of the remote.
        updates: the refs that were moved.
        versions: how many versions have come.
        notes: as a push's.
        version: the current version behind it, None where there is none.
    """

    remote: str
    updates: tuple[RefUpdate, ...] = ()
    versions: int = 0
    notes: tuple[str, ...] = ()
    version: Version | None = None

    @property
    def up_to_date(self) -> bool:
        """Whether there was nothing to do."""
        return not self.updates
