"""Retention: versions that fall out of the window are forgotten on purpose; their lines of the audit trail are kept.

In this order, so that whatever a crash leaves is a history without a hole: the lines go into the archive, by a record of
the journal; then the boundary moves, behind which Git looks for nothing; then packs are written anew without what
nothing reaches any more. Who is interrupted leaves too much, and the next one goes on.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.audit import LINES_OF_A_FILE, Archive
from gitstate.checkpoint import maintaining
from gitstate.draft import ARCHIVE, BACKUPS
from gitstate.errors import StateError, StateReadError, StateWriteError
from gitstate.repository import BRANCH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gitstate.policy import Policy
    from gitstate.repository import Commit
    from gitstate.store import Store

_FILES_OF_A_RECORD: Final = 5
"""Files of the archive that are made at once."""

_IN_PASSING: Final = 0.25
"""The share of a pack that must be of no use before `close` writes it anew."""

_TRACKING: Final = re.compile(f"refs/remotes/(.+)/{BRANCH.rpartition('/')[2]}")
"""What a remote is known to have received, as `git push` and `git fetch` note it: gitglossary(7), remote-tracking branch."""

_log = logging.getLogger("gitstate")


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What has gone, or would go.

    Attributes:
        versions: the numbers of the versions that are forgotten, one behind the other, but for those that are `kept`.
        kept: the names of the backups among them, which stay.
        held: the remotes that lack versions older than the window, which stay until they have received them.
        freed: bytes of packs that were given back; 0 where nothing has been done.
    """

    versions: range
    kept: tuple[str, ...]
    held: tuple[str, ...] = ()
    freed: int = 0


class Retention:
    """Keeps the history of `store` to a window."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self._store = store
        self._policy = policy

    def plan(self, window: int | None) -> PruneReport:
        """What would go, were no more kept than the current version and `window` before it; None for all.

        Raises:
            StateReadError: the history is damaged.
        """
        refs = self._store.reader.refs()
        head = refs.get(BRANCH)
        if head is None or window is None:
            return PruneReport(range(0), ())
        first = self._store.chain.oldest()
        oldest = max(self._store.repository.commit(head).note.serial - window, first)
        received = self._received(refs, head)
        goes = range(first, max(first, min((oldest, *received.values()))))
        named = self._named(refs, head)
        return PruneReport(
            goes,
            tuple(name for name, at in named.items() if at.note.serial in goes),
            tuple(name for name, serial in received.items() if serial < oldest),
        )

    def prune(self, window: int | None) -> PruneReport:
        """Forgets what is older than the window, and gives its space back.

        Raises:
            StateError: as `cut`, `Store.checkpoint` and `collect`; the history is whole, whatever was done.
        """
        report = self.cut(window)
        self._store.checkpoint(self._policy.timeout)
        return replace(report, freed=self.collect(thoroughly=True))

    def cut(self, window: int | None) -> PruneReport:
        """Moves the boundary; does nothing where somebody else is at it.

        Raises:
            StateReadError: the history is damaged; nothing was changed.
            StateWriteError: the disk refused; the boundary is where it was.
            StateLockError, StateConflictError: as a transaction; the boundary is where it was.
        """
        layout = self._store.layout
        safe = "No version was forgotten."
        refused = files.Refused(StateWriteError, "cannot prune", layout.store, safe)
        nothing = PruneReport(range(0), ())
        if not layout.exists():
            return nothing
        with refused, maintaining(layout, "prune") as alone:
            report = self.plan(window) if alone else nothing
            if report.versions:
                self._archive(report.versions.stop - 1)
            if alone:
                self._move_boundary(report.versions)
        return report

    def collect(self, *, thoroughly: bool) -> int:
        """Gives back what nothing reaches any more, as bytes; does nothing where somebody else is at it.

        Raises:
            StateReadError: something that is needed is damaged; nothing was deleted.
            StateWriteError: the disk refused; nothing that is needed was deleted.
            StateLockError, StateConflictError: as a transaction.
        """
        store, layout = self._store, self._store.layout
        safe = "The history is as it was."
        refused = files.Refused(
            StateWriteError, "cannot write the history anew", layout.store, safe
        )
        if not layout.exists():
            return 0
        with refused, maintaining(layout, "prune") as alone:
            if not alone:
                return 0
            with store.writing("prune", self._policy.timeout):
                store.settle()
                needed = store.journalled()
                roots = store.repository.roots()
            needed |= store.repository.reachable(roots)
            before = _size(layout.git_dir)
            with layout.scratch() as scratch:
                share = 0.0 if thoroughly else _IN_PASSING
                packs = store.repository.rewrite(needed, scratch, share)
            with store.writing("prune", self._policy.timeout):
                store.settle()
                needed |= store.journalled()
                if not needed.issuperset(store.repository.roots()):
                    return 0  # somebody has named what nothing reached: the next one looks again
                store.repository.collect(needed, packs)
            return max(0, before - _size(layout.git_dir))

    def _archive(self, last: int) -> None:
        """Puts the lines of the versions up to `last` into the archive, durably."""
        store = self._store
        while True:
            refs = store.reader.refs()
            archive = Archive(store.repository, refs.get(ARCHIVE))
            if archive.last >= last:
                store.repository.forget()  # what such a walk has left in memory
                return
            # So many that the memory is not filled.
            some = min(last, archive.last + _FILES_OF_A_RECORD * LINES_OF_A_FILE)
            newest = self._at(refs[BRANCH], some)
            commits = list(islice(store.chain.walk(newest.id), some - archive.last))
            self._note(archive, commits[::-1])

    def _note(self, archive: Archive, commits: Sequence[Commit]) -> None:
        # What takes time comes before the lock: nobody else changes the archive meanwhile, or it is done again.
        lines, known = archive.extended(commits), archive.files()
        store = self._store
        with store.writing("prune", self._policy.timeout):
            if store.ref(ARCHIVE) == archive.tip:
                draft = store.draft(self._policy.author)
                draft.keep_archive(lines, known, commits[-1].note.serial)
                store.note(draft, None)
                store.settle()

    def _move_boundary(self, goes: range) -> None:
        store, shallow = self._store, self._store.repository.shallow
        with store.writing("prune", self._policy.timeout):
            store.settle()
            refs = store.reader.refs()
            head = refs.get(BRANCH)
            oldest = goes.stop if goes else store.chain.oldest()
            if head is None or oldest == 1:
                return
            begins = self._at(head, oldest)
            named = self._named(refs, head).values()
            ours = {begins.id, *(each.id for each in named if each.note.serial < oldest)}
            known = shallow.read()
            theirs = {each for each in known if self._is_theirs(each, head)}
            if ours | theirs != known:
                shallow.write(ours | theirs)

    def _at(self, head: str, serial: int) -> Commit:
        found = self._store.chain.at(head, serial)
        if found is None:
            raise self._store.chain.pruned(serial, serial)
        return found

    def _received(self, refs: Mapping[str, str], head: str) -> dict[str, int]:
        """The number of the newest version that each remote has, 0 where that is none of the branch."""
        found = {}
        for name, at in refs.items():
            if match := _TRACKING.fullmatch(name):
                commit = self._on_the_branch(at, head)
                found[match[1]] = commit.note.serial if commit else 0
        return found

    def _named(self, refs: Mapping[str, str], head: str) -> dict[str, Commit]:
        """The named backups that are versions of the branch."""
        found = {}
        for name, at in refs.items():
            if name.startswith(BACKUPS) and (commit := self._on_the_branch(at, head)) is not None:
                found[name.removeprefix(BACKUPS)] = commit
        return found

    def _is_theirs(self, commit_id: str, head: str) -> bool:
        """Whether a boundary is that of some other history."""
        there = self._store.repository.readable(commit_id)
        return there and self._on_the_branch(commit_id, head) is None

    def _on_the_branch(self, commit_id: str, head: str) -> Commit | None:
        """The commit, if it is a version of the branch.

        Raises:
            StateReadError: it is damaged.
        """
        try:
            commit = self._store.repository.commit(commit_id)
        except StateReadError as error:
            if error.code in {"object-missing", "not-a-commit"}:
                return None
            raise
        found = self._store.chain.at(head, commit.note.serial)
        return commit if found is not None and found.id == commit_id else None


def keep_window(store: Store, policy: Policy) -> None:
    """What closing a handle does, if something was written: keeps to the window, and packs. Refusals are warnings."""
    if not store.dirty or store.poisoned or store.lock.held_here():
        return
    retention, cut = Retention(store, policy), False
    try:
        settings = policy.settings or store.layout.settings()
        cut = bool(retention.cut(settings.max_backups).versions)
    except StateError as error:
        _log.warning("older versions could not be pruned: %s", str(error))
    store.checkpoint_quietly(policy.timeout)
    if cut and not store.poisoned:
        try:
            retention.collect(thoroughly=False)
        except StateError as error:
            _log.warning("the space of pruned versions is still taken: %s", str(error))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("objects/pack/*"))
