"""AuditTrail: what was done to one state, line by line, from all the places where that is kept.

Versions are on the branch, those that were pruned in the archive; failures, changes that made no version, and what was
imported have refs of their own.
"""

from __future__ import annotations

import heapq
from datetime import datetime
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from gitstate.audit import Archive, as_in_the_trail, line_of
from gitstate.draft import ARCHIVE, FAILURES, IMPORTED, UNVERSIONED
from gitstate.errors import StateReadError
from gitstate.imports import Imports
from gitstate.policy import check_count
from gitstate.repository import BRANCH, EMPTY_TREE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gitstate.repository import Commit
    from gitstate.store import Store

_Entry = tuple[tuple[int, bool, datetime], dict[str, Any]]
"""A line behind what puts it in its place."""


class AuditTrail:
    """The trail of the state in `store`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def lines(self, limit: int | None) -> list[dict[str, Any]]:
        """The newest lines, newest first, `limit` of them at most.

        Raises:
            StateReadError: a part of it is missing or damaged.
            ValueError: the limit makes no sense.
        """
        limit = check_count(limit, "limit")
        refs = self._store.reader.refs()
        events = [self._events(refs.get(ref)) for ref in (UNVERSIONED, FAILURES)]
        trails = [self._versions(refs.get(BRANCH)), *events, self._imported(refs.get(IMPORTED))]
        # Ordered by serial, never by time alone (PITFALLS O6): what came upon a version stands behind it.
        merged = heapq.merge(*trails, key=itemgetter(0), reverse=True)
        return [line for _, line in islice(merged, limit)]

    def archived(self, serial: int) -> Iterator[dict[str, Any]]:
        """The lines of the archive of versions before a number, newest first.

        Raises:
            StateReadError: it is missing or damaged; raised when the walk comes to that.
        """
        while True:
            archive = self._archive()
            try:
                for line in archive.before(serial):
                    serial = line["serial"]
                    yield line
            except StateReadError:
                # A prune may have put another one in its place, and given the space of this one back.
                if self._archive().tip == archive.tip:
                    raise
            else:
                return

    def _versions(self, head: str | None) -> Iterator[_Entry]:
        """The lines of the versions, newest first, pruned ones from the archive."""
        oldest = 1
        for commit in self._store.chain.walk(head):
            oldest = commit.note.serial
            yield _entry(commit)
        if oldest > 1:
            # Asked behind the walk: what was pruned in its course is there by now.
            for line in self.archived(oldest):
                moment = datetime.fromisoformat(line["timestamp"])
                yield (line["serial"], False, moment), as_in_the_trail(line)

    def _events(self, tip: str | None) -> Iterator[_Entry]:
        return map(_entry, self._store.chain.trail(tip))

    def _imported(self, tip: str | None) -> Iterator[_Entry]:
        while True:
            try:
                # Only the newest files are ever written anew, and these are read first.
                lines = Imports(self._store.repository, tip).newest_first()
                newest = list(islice(lines, 1))
                break
            except StateReadError:
                tried, tip = tip, self._store.reader.refs().get(IMPORTED)
                if tip == tried:
                    raise
        for serial, moment, line in chain(newest, lines):
            yield (serial, True, moment), line

    def _archive(self) -> Archive:
        return Archive(self._store.repository, self._store.reader.refs().get(ARCHIVE))


def _entry(commit: Commit) -> _Entry:
    order = commit.note.serial, commit.tree == EMPTY_TREE, commit.note.time
    return order, line_of(commit)
