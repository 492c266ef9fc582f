"""Series: how large the state was at each of its versions, and how long that took."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, Any

from gitstate.cli.progress import progress_bar
from gitstate.cli.times import exact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from gitstate import PipelineState, Version
    from gitstate.cli.session import Session


@dataclass(frozen=True, slots=True)
class Point:
    """A version, as it is drawn.

    Attributes:
        serial: its number.
        id: its hash.
        timestamp: when it was made.
        size: of the state, in bytes.
        seconds: since the version before; None where there is none, or none any more.
    """

    serial: int
    id: str
    timestamp: datetime
    size: int
    seconds: float | None


def read(
    session: Session, limit: int | None, *, operation: str | None, since: datetime | None
) -> list[Point]:
    """The last `limit` versions, made by `operation` and at `since` or later, oldest first; reads the state of each."""
    pairs = [*islice(_chosen(session.state, operation, since), limit)]
    found = []
    with progress_bar(session) as tell:
        for version, before in reversed(pairs):
            found.append(point_of(version, before))
            if tell is not None:
                from gitstate import Progress  # noqa: PLC0415  only where somebody sees it

                tell(Progress("reading", len(found), len(pairs)))
    return found


def point_of(version: Version, before: Version | None) -> Point:
    """The point that a version is, behind the one before it; reads its state."""
    seconds = None if before is None else (version.timestamp - before.timestamp).total_seconds()
    size = len(version.content())
    return Point(version.serial, version.id, version.timestamp, size, seconds)


def as_json(points: list[Point]) -> dict[str, Any]:
    """The points, oldest first, for a program."""
    return {"versions": [{**asdict(each), "timestamp": exact(each.timestamp)} for each in points]}


def _chosen(
    state: PipelineState, operation: str | None, since: datetime | None
) -> Iterator[tuple[Version, Version | None]]:
    """The versions, newest first, each with the one before it."""
    for version, before in pairwise(chain(state.log(), [None])):
        if version is None or (since is not None and version.timestamp < since):
            return  # a version is never older than the one before it
        if operation in (None, version.operation):
            yield version, before
