"""Parts: what one handle is made of. Each part is imported, and made, when it is first asked for.

So a program that only reads starts without most of the package, and without dulwich, pydantic's models and filelock.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gitstate.first_use import FIRST_USE
from gitstate.registry import forget_store, open_store
from gitstate.writer import Writer

if TYPE_CHECKING:
    from pathlib import Path

    from gitstate.draft import Head
    from gitstate.export import Exporter
    from gitstate.history import History
    from gitstate.policy import Policy
    from gitstate.progress import ProgressCallback
    from gitstate.restore import Restorer
    from gitstate.retention import Retention
    from gitstate.store import Store
    from gitstate.sync.book import Remotes
    from gitstate.sync.contacts import Activity
    from gitstate.sync.courier import Courier
    from gitstate.sync.reroot import Reroot
    from gitstate.trail import AuditTrail
    from gitstate.version import Version


class Parts:
    """The parts of a handle on the state file `path` that writes by `policy`; made anew in a forked child.

    Where it is `expecting` a version, it changes no other.
    """

    def __init__(self, path: Path, policy: Policy, expecting: Version | None = None) -> None:
        self._path = path
        self._policy = policy
        self._expecting = expecting
        self._opened: Writer | None = None
        self._pid = 0

    @property
    def store(self) -> Store:
        """Where everything is."""
        return self._open().store

    @property
    def writer(self) -> Writer:
        """Who changes it."""
        return self._open()

    @property
    def mender(self) -> Writer:
        """Who repairs it, whatever was expected: of a damaged state nobody can say that it is as it was."""
        if self._expecting is None:
            return self.writer
        return Writer(self.store, self._policy, self.after_commit)

    @property
    def history(self) -> History:
        """The versions."""
        with FIRST_USE:
            from gitstate.history import History
        return History(self.writer)

    @property
    def trail(self) -> AuditTrail:
        """What was done."""
        with FIRST_USE:
            from gitstate.trail import AuditTrail
        return AuditTrail(self.store)

    @property
    def exporter(self) -> Exporter:
        """Who takes versions out."""
        with FIRST_USE:
            from gitstate.export import Exporter
        return Exporter(self.store, self.history)

    @property
    def restorer(self) -> Restorer:
        """Who puts versions back."""
        with FIRST_USE:
            from gitstate.restore import Restorer
        return Restorer(self.writer, self.history)

    @property
    def courier(self) -> Courier:
        """Who carries the history to remotes and from them."""
        with FIRST_USE:
            from gitstate.sync.courier import Courier
        return Courier(self.writer)

    @property
    def remotes(self) -> Remotes:
        """The remotes."""
        with FIRST_USE:
            from gitstate.sync.book import Remotes
        return Remotes(self.writer)

    @property
    def rerooting(self) -> Reroot:
        """Who gives versions new hashes."""
        with FIRST_USE:
            from gitstate.sync.reroot import Reroot
        return Reroot(self.writer)

    def activity(self, name: str) -> Activity:
        """What the automatic pushing of this process is at with a remote."""
        with FIRST_USE:
            from gitstate.sync.worker import worker_of
        return worker_of(self._path).activity(name)

    def retention(self, tell: ProgressCallback, last: int | None = None) -> Retention:
        """Who forgets versions, none newer than the `last`, and tells how far that is."""
        with FIRST_USE:
            from gitstate.retention import Retention
        return Retention(self.store, self._policy, tell, last)

    @staticmethod
    def after_commit(writer: Writer, head: Head) -> None:
        """What follows a commit of `writer` that has made `head` the newest version. The lock is free again.

        Nothing of it can undo the commit, or fail it. Of no handle: nobody may keep that of the block which committed.
        """
        layout = writer.store.layout
        if os.path.lexists(layout.hook):  # all that it costs who has none
            with FIRST_USE:
                from gitstate import hooks
            hooks.run(layout, head)
        if layout.pushes_by_itself():
            with FIRST_USE:
                from gitstate.sync.worker import worker_of
            worker_of(layout.state).wake(writer.policy)

    def close(self) -> None:
        """Packs, prunes if this handle has committed, and lets go of everything; the next use opens it again."""
        writer, self._opened = self._open(), None
        try:
            if writer.committed:
                self._drain(writer)  # first, as what a remote has not received is not pruned
                self._retention(writer.store).keep()
            else:
                writer.store.checkpoint_quietly(self._policy.timeout)
        finally:
            forget_store(writer.store)

    def _drain(self, writer: Writer) -> None:
        """Gives what is to be pushed by itself some seconds to go."""
        if writer.store.layout.pushes_by_itself():
            with FIRST_USE:
                from gitstate.sync.worker import DRAIN_SECONDS, worker_of
            worker_of(self._path).drain(DRAIN_SECONDS)

    def _retention(self, store: Store) -> Retention:
        with FIRST_USE:
            from gitstate.retention import Retention
        return Retention(store, self._policy)

    def _open(self) -> Writer:
        if self._opened is None or self._pid != os.getpid():
            store = open_store(self._path)
            self._opened = Writer(store, self._policy, self.after_commit, self._expecting)
            self._pid = os.getpid()
        return self._opened
