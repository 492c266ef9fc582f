"""Progress: how far something is, told to whoever wants to know, and what comes of it if that fails."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_Each = TypeVar("_Each")

_PARTS: Final = 100
"""How often it is told in a phase, about, where the total is known; else every so many steps."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far something is that takes its time.

    Attributes:
        phase: `"sending"`, `"receiving"`, `"checking"`, `"reading"`, `"following"`, `"archiving"`, `"packing"`,
            `"writing"` or `"importing"`; one may come again, and begins anew then.
        done: how many of what the phase is about; while they are received, how many bytes.
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


class Telling:
    """A block in which `progress` is told how far it is, if there is one; what that raises comes out of the block as it is.

    Within the block it is a `ProgressError`, which nobody takes for trouble with the remote, the disk or what is read.
    """

    def __init__(self, progress: Callable[[Progress], None] | None) -> None:
        self._progress = progress

    def __enter__(self) -> ProgressCallback:
        return self._tell

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ProgressError) and (raised := error.__cause__) is not None:
            raise raised from raised.__cause__

    def _tell(self, phase: str, done: int, total: int | None) -> None:
        if self._progress is not None:
            try:
                self._progress(Progress(phase, done, total))
            except Exception as error:
                raise ProgressError from error


def silent(phase: str, done: int, total: int | None) -> None:
    """Tells nobody."""


@contextlib.contextmanager
def counting(
    tell: ProgressCallback, phase: str, total: int | None = None
) -> Iterator[Callable[[], None]]:
    """What the block calls at each step of a phase; how far that is is told now and then, and at its beginning and end."""
    every = _PARTS if total is None else max(1, total // _PARTS)
    done = told = 0

    def step() -> None:
        """One more is done."""
        nonlocal done, told
        done += 1
        if done - told >= every:
            told = done
            tell(phase, done, total)

    tell(phase, 0, total)
    yield step
    if told != done:
        tell(phase, done, total)


def counted(each: Iterable[_Each], seen: Callable[[], None]) -> Iterator[_Each]:
    """What is in `each`; `seen` is called before it is given."""
    for one in each:
        seen()
        yield one
