"""Reports: what a push or a pull has moved, and how far it is."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a push, a pull or a clone is.

    Attributes:
        phase: `"sending"`, `"receiving"` or `"checking"`.
        done: how many objects; while they are received, how many bytes.
        total: of how many, None where nobody knows.
    """

    phase: str
    done: int
    total: int | None


class ProgressError(Exception):
    """Whoever was told how far it is has raised; why is its cause."""


class ProgressCallback(Protocol):
    """Who is told how far it is."""

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        """Tells it."""


@contextlib.contextmanager
def telling(progress: Callable[[Progress], None] | None) -> Iterator[ProgressCallback]:
    """A callback that tells `progress`, if there is one; what that raises comes out of the block as it is.

    Within the block it is a `ProgressError`, which nobody takes for trouble with the remote or with the disk.
    """

    def tell(phase: str, done: int, total: int | None) -> None:
        """Tells it."""
        if progress is not None:
            try:
                progress(Progress(phase, done, total))
            except Exception as error:
                raise ProgressError from error

    try:
        yield tell
    except ProgressError as error:
        raise (error.__cause__ or error) from None
