"""Retention: versions that fall out of the window are forgotten on purpose; their lines of the audit trail are kept.

A version is pruned by the record that puts its line into the archive: see chain.py. In this order, so that whatever a
crash leaves is a history without a hole: the lines, durably; then Git's boundary, behind which it looks for nothing;
then packs are written anew without what nothing reaches any more. Who is interrupted leaves too much, and the next one
goes on.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.audit import LINES_OF_A_FILE, Archive
from gitstate.boundary import Boundary
from gitstate.checkpoint import maintaining
from gitstate.draft import ARCHIVE, backups_among
from gitstate.errors import StateError, StateLockError, StateReadError, StateWriteError, moved
from gitstate.progress import counting, silent
from gitstate.repository import BRANCH
from gitstate.store import BRIEF

if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from pathlib import Path

    from gitstate.policy import Policy
    from gitstate.progress import ProgressCallback
    from gitstate.remotes import Remote
    from gitstate.repository import Commit
    from gitstate.store import Store

_TRACKING: Final = re.compile(f"refs/remotes/(.+)/{BRANCH.rpartition('/')[2]}")
"""What a remote is known to have received, as `git push` and `git fetch` note it: gitglossary(7), remote-tracking branch."""

_VERSIONS_AT_ONCE: Final = 3 * LINES_OF_A_FILE
"""Fewer mean more packs beside the prune; more, a longer wait for whoever writes meanwhile."""

_log = logging.getLogger("gitstate")


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What has gone, or would go.

    Attributes:
        versions: the numbers of the versions that are forgotten, one behind the other, but for those that are `kept`.
        kept: the names of the backups among them, which stay.
        held: the remotes that lack versions older than the window, which stay until they have received them.
        freed: bytes of packs that were given back, those of versions that have lost their names since they fell out of the
            window included; always 0 in a dry run, which does not know.
    """

    versions: range
    kept: tuple[str, ...]
    held: tuple[str, ...] = ()
    freed: int = 0


class Retention:
    """Keeps the history of `store` to a window; `tell` is told how far that is, never while the state is locked.

    With a `last` version nothing newer goes.
    """

    def __init__(
        self, store: Store, policy: Policy, tell: ProgressCallback = silent, last: int | None = None
    ) -> None:
        self._last = sys.maxsize if last is None else last
        self._store = store
        self._policy = policy
        self._tell = tell

    def plan(self, window: int | None) -> PruneReport:
        """What would go, were no more kept than the current version and `window` before it; None for all.

        Raises:
            StateReadError: the history is damaged.
        """
        refs = self._store.reader.refs()
        head = refs.get(BRANCH)
        if head is None or window is None:
            return PruneReport(range(0), ())
        boundary = self._boundary()
        first = boundary.oldest
        oldest = max(self._store.repository.commit(head).note.serial - window, first)
        received = self._received(boundary, refs)
        goes = range(first, max(first, min((oldest, self._last + 1, *received.values()))))
        named = self._named(refs)
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
        store, patience = self._store, self._policy.timeout
        report = self.cut(window, patience)
        store.checkpoint(patience)
        return replace(report, freed=self.collect(patience))

    def keep(self) -> None:
        """What closing a handle that has committed does: keeps to the window, and packs. Refusals are warnings."""
        store = self._store
        if store.poisoned or store.lock.held_here():
            return
        goes = range(0)
        window = None
        try:
            window = store.layout.settings().max_backups
            goes = self.cut(window).versions
        except StateLockError as error:
            _log.info("older versions are left to whoever closes next: %s", str(error))
        except StateError as error:
            _log.warning("older versions could not be pruned: %s", str(error))
        store.checkpoint_quietly(self._policy.timeout)
        # What is kept is written anew for that, so once in a quarter of the window is enough.
        share = 1 + (window or 0) // 4
        if goes and (goes.stop - 1) // share > (goes.start - 1) // share and not store.poisoned:
            try:
                self.collect()
            except StateError as error:
                _log.warning("the space of pruned versions is still taken: %s", str(error))

    def cut(self, window: int | None, patience: float | None = 0.0) -> PruneReport:
        """Forgets what is older than the window; where somebody else is at the upkeep, waits with `patience`.

        Raises:
            StateReadError: the history is damaged; nothing was changed.
            StateWriteError: the disk refused; fewer versions were forgotten, or none.
            StateLockError, StateConflictError: as a transaction; fewer versions were forgotten, or none.
        """
        layout = self._store.layout
        safe = "No version was forgotten that should be kept."
        refused = files.Refused(StateWriteError, "cannot prune", layout.store, safe)
        first: PruneReport | None = None
        while layout.exists():
            with refused, maintaining(layout, "prune", patience):
                # Anew each time: a remote may have been added that lacks what was to go.
                remotes = layout.remotes()
                planned = self.plan(window)
                first = first or planned
                self._tell_archived(first.versions)
                last = min(first.versions.stop, planned.versions.stop) - 1
                done = last < planned.versions.start or self._archive(last, remotes)
                self._store.repository.forget()  # a walk through a long history leaves much in memory
                if done:
                    self._tell_git()
                    self._tell_archived(first.versions)
                    start, stop = first.versions.start, first.versions.stop
                    goes = range(start, max(start, min(stop, self._boundary().oldest)))
                    kept = self._named_in(goes)
                    names = tuple(name for name in first.kept if name in kept)
                    return replace(planned, versions=goes, kept=names)
                # As behind `_collect`: others write meanwhile.
                self._store.checkpoint(self._policy.timeout, BRIEF, maintained=True)
        return PruneReport(range(0), ())

    def collect(self, patience: float | None = 0.0) -> int:
        """Gives back what nothing reaches any more, as bytes; where somebody else is at the upkeep, as `cut`.

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
        with refused, maintaining(layout, "prune", patience):
            freed = self._collect()
            # Nobody else could make a checkpoint meanwhile: the next to write would have to wait for one of all of this.
            store.checkpoint_quietly(self._policy.timeout, BRIEF, maintained=True)
            return freed

    def _collect(self) -> int:
        store, layout = self._store, self._store.layout
        with store.writing("prune", self._policy.timeout):
            store.settle()
            needed = store.journalled()
            roots = store.repository.roots()
        with counting(self._tell, "following") as seen:
            needed |= store.repository.reachable(roots, self._boundary().ends(), seen)
        before = _size(layout.git_dir)
        try:
            with layout.scratch() as scratch, counting(self._tell, "packing") as seen:
                packs = store.repository.rewrite(needed, scratch, seen)
            with store.writing("prune", self._policy.timeout):
                store.settle()
                needed |= store.journalled()
                if not needed.issuperset(store.repository.roots()):
                    return 0  # somebody has named what nothing reached: the next one looks again
                # A crash behind this leaves objects that nothing reaches, and no end that Git does not know.
                self._forget_ends(needed)
                store.repository.collect(needed, packs)
                self._forget_ends(needed)  # of what is gone now, too
        finally:
            store.repository.release_packs()
        return max(0, before - _size(layout.git_dir))

    def _tell_archived(self, goes: range) -> None:
        if goes:
            done = self._store.chain.oldest() - goes.start
            self._tell("archiving", max(0, min(done, len(goes))), len(goes))

    def _archive(self, last: int, remotes: Mapping[str, Remote]) -> bool:
        """Whether the versions up to `last` are in the archive, durably, and so are pruned; puts some of them there.

        None of them where there are other `remotes` by now.
        """
        store = self._store
        refs = store.reader.refs()
        archive = Archive(store.repository, refs.get(ARCHIVE))
        if archive.last >= last:
            return True
        some = min(last, archive.last + _VERSIONS_AT_ONCE)
        newest = store.chain.at(refs[BRANCH], some)
        if newest is None:
            raise store.chain.missing(some)
        found = store.chain.walk(newest.id)
        # What takes time comes before the lock. Who maintains is alone, so nobody else changes the archive.
        commits = list(islice(found, some - archive.last))[::-1]
        lines, end = archive.extended(commits)
        with store.writing("prune", self._policy.timeout):
            known = store.ref(ARCHIVE)
            if archive.tip != known:
                raise moved(store.layout.git_dir, ARCHIVE, known, archive.tip)
            if store.layout.remotes() != remotes:
                return False
            draft = store.draft(self._policy.author)
            draft.keep_archive(lines, archive.files(), end)
            store.note(draft, None)
            store.settle()  # else whoever looks next takes it for what a crash has left, and recovers
        return end >= last

    def _tell_git(self) -> None:
        """Sees that Git knows where history ends; what it was told before, it still knows."""
        boundary = self._boundary()
        if not boundary.makes_sense or boundary.ends() != boundary.known:
            with self._store.writing("prune", self._policy.timeout):
                self._store.settle()
                self._store.repository.shallow.write(self._boundary().ends())

    def _forget_ends(self, needed: Container[str]) -> None:
        """Takes the ends away that nothing leads to any more; those of other histories are not ours to judge."""
        boundary = self._boundary()
        ends = boundary.ends()
        ours = boundary.numbers(ends)
        left = {end for end in ends if end in needed or end not in ours}
        if left != boundary.known:
            self._store.repository.shallow.write(left)

    def _boundary(self) -> Boundary:
        return Boundary(self._store.repository, self._store.chain, self._store.reader.refs())

    def _received(self, boundary: Boundary, refs: Mapping[str, str]) -> dict[str, int]:
        """The number of the newest version that each remote is known to have, 0 for none of the branch.

        Of one that was never pushed to Git notes nothing, and of a mirror neither.

        Raises:
            StateReadError: which remotes there are cannot be read.
        """
        tracking = {
            match[1]: at for name, at in refs.items() if (match := _TRACKING.fullmatch(name))
        }
        numbers = boundary.numbers(tracking.values())
        known = {remote: numbers.get(at, 0) for remote, at in tracking.items()}
        configured = (*self._store.layout.remotes(), *self._store.repository.remotes())
        names = sorted({*known, *configured})
        return {remote: known.get(remote, 0) for remote in names}

    def _named_in(self, goes: range) -> set[str]:
        """The names of the backups that are among those versions."""
        named = self._named(self._store.reader.refs())
        return {name for name, at in named.items() if at.note.serial in goes}

    def _named(self, refs: Mapping[str, str]) -> dict[str, Commit]:
        """What the names of backups name, as far as those are commits of gitstate."""
        found = {}
        for name, at in backups_among(refs).items():
            with contextlib.suppress(StateReadError):  # verify says so; what it leads to stays
                found[name] = self._store.repository.commit(at)
        return found


def _size(folder: Path) -> int:
    total = 0
    for path in folder.glob("objects/pack/*"):
        with contextlib.suppress(FileNotFoundError):  # a `git repack` took it meanwhile
            total += path.stat().st_size
    return total
