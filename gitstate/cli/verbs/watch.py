"""New versions as they come: watch."""

from __future__ import annotations

import select
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from gitstate.cli import options
from gitstate.cli.arguments.naming import VersionName, version_of
from gitstate.cli.arguments.place import PointerName, parts_of
from gitstate.cli.views.entries import Entries
from gitstate.errors import VersionPrunedError

if TYPE_CHECKING:
    from datetime import datetime

    from gitstate import Version
    from gitstate.cli.session import Session

_PAUSE: Final = 0.2
_REMEMBERED: Final = 1000
"""Versions that are known again where the newest ones are lost, as behind a repair."""


@options.verb("watch")
@click.argument("pointer", type=PointerName(), default="")
@click.option(
    "--since", metavar="VERSION", type=VersionName(), help="First those that came after it."
)
@click.option("-n", "--limit", metavar="N", type=click.IntRange(min=1), help="End after so many.")
@click.option("-p", "--patch", is_flag=True, help="With what each changed.")
@click.pass_obj
def watch(
    session: Session, /, pointer: str, since: str | None, limit: int | None, patch: bool
) -> None:
    """Follow new versions as they come, oldest first; with POINTER those that change the value there.

    None is left out; of those that are pruned before they are seen it says so. Ctrl-C ends it.

    \b
      gitstate watch -p
      gitstate watch /phase4/status -n 1 --json
    """  # noqa: D301  click's sign
    parts = parts_of(pointer)
    newest = next(session.state.log(1), None)
    following = _Following(session, newest if since is None else version_of(session.state, since))
    entries = Entries(session, pointer, patch=patch)
    session.output.note("following new versions, Ctrl-C ends it")
    written = 0
    while True:
        new = following.new()
        if new:
            entries.look(mark_newest=False)
        for version in new:
            if not _changes(entries, version, parts):
                continue
            _write(session, entries, version)
            written += 1
            if written == limit:
                return
        _pause()


class _Mark(NamedTuple):
    """What tells a version from others, also where all have got new hashes."""

    serial: int
    made: datetime


class _Following:
    """The versions behind the last that was seen, each once."""

    def __init__(self, session: Session, last: Version | None) -> None:
        self._session = session
        self._last = 0 if last is None else last.serial
        self._seen: dict[_Mark, None] = {}
        if last is not None:
            self._seen[_Mark(last.serial, last.timestamp)] = None

    def new(self) -> list[Version]:
        """Those that have come since, oldest first; says so where some of them cannot be given."""
        found: list[Version] = []
        known = None
        for version in self._session.state.log():
            if _Mark(version.serial, version.timestamp) in self._seen:
                known = version
                break
            found.append(version)
        found.reverse()
        self._tell(found, known)
        for version in found:
            self._seen[_Mark(version.serial, version.timestamp)] = None
            self._last = version.serial
        for mark in [*self._seen][:-_REMEMBERED]:
            del self._seen[mark]
        return found

    def _tell(self, found: list[Version], known: Version | None) -> None:
        """Says what is between the last that was seen and those that were found, behind one that is known."""
        warn, last = self._session.output.warn, self._last
        if known is not None:
            if known.serial < last:
                warn(f"versions {known.serial + 1} to {last} are lost, it goes on without them")
                self._last = known.serial
                self._seen = {mark: None for mark in self._seen if mark.serial <= known.serial}
        elif self._seen and not found:
            warn("the history is gone")
            self._seen, self._last = {}, 0
        elif self._seen and found[0].serial > last + 1:
            first, end = last + 1, found[0].serial - 1
            one = f"version {first} was pruned before it was seen"
            warn(
                one
                if first == end
                else f"versions {first} to {end} were pruned before they were seen"
            )
        elif self._seen and found[0].serial <= last:
            warn("there is another history now, this is all of it")


def _changes(entries: Entries, version: Version, parts: list[str]) -> bool:
    """Whether the version changed the value at `parts`, or may have."""
    if not parts:
        return True
    if parts[0] not in version.changed_keys:
        return False
    try:
        return entries.past.changes(version, parts) != []
    except VersionPrunedError:
        return True


def _write(session: Session, entries: Entries, version: Version) -> None:
    """Writes what is listed of a version, at once."""
    try:
        if session.options.json:
            session.output.line(entries.document(version))
        else:
            session.output.print(*entries.texts(version))
    except VersionPrunedError:
        session.output.warn(f"version {version.serial} was pruned before it was seen")


def _pause() -> None:
    """Waits a little.

    Raises:
        BrokenPipeError: nobody reads the output any more, which else would be noticed with the next version.
    """
    if sys.platform != "linux":
        time.sleep(_PAUSE)
        return
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if poll.poll(_PAUSE * 1000):
        raise BrokenPipeError
