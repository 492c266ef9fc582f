"""Upkeep: whether a state is well, what mends it, and what gives space back. It delegates, as state.py does."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gitstate.first_use import FIRST_USE

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitstate.errors import Holder
    from gitstate.parts import Parts
    from gitstate.policy import Policy
    from gitstate.progress import Progress
    from gitstate.repair import RepairReport
    from gitstate.retention import PruneReport
    from gitstate.verify import VerifyReport


class Upkeep:
    """What is done to a state as a whole, none of which is a version: a part of `PipelineState`."""

    _parts: Parts
    _policy: Policy

    def verify(self, *, progress: Callable[[Progress], None] | None = None) -> VerifyReport:
        """Checks state file, journal, objects, chain and refs. Changes nothing.

        `progress` is told how far that is: `"checking"` counts objects, `"reading"` versions, `"following"` what refs lead to.
        Where something is found it is looked at again, and counted anew. What the callback raises comes out as it is.

        Raises:
            StateLockError: somebody held the lock all the while.
        """
        with FIRST_USE:
            from gitstate.progress import Telling
            from gitstate.verify import verify
        with Telling(progress) as tell:
            return verify(self._parts.store, self._policy.timeout, tell)

    def repair(self, source: str | os.PathLike[str] | None = None) -> RepairReport:
        """What was mended, put aside and lost: behind it `verify` finds nothing that is not among the `lost`.

        All that can still be read, in the journal, the packs, the state file, and `source`, is put into a new repository,
        under the same hashes, which then takes the place of the old one. That is kept as it was, in
        `.pipeline/quarantine/`, with whatever else was replaced. `source` is another repository of the same history on
        this machine, such as a clone; what the history is it says only where nothing here does. A version that cannot be
        brought back is left out; older ones are kept as backups called `recovered-<number>`. Where the settings are lost,
        `max_backups` is None from then on. Where nothing is wrong, nothing is changed, and an edited state file is
        nothing wrong. It holds the state's lock all the while, and reads everything.

        Raises:
            StateLockError: somebody else is at work; nothing was changed.
            StateReadError: the store is not to be trusted, a newer gitstate wrote it, or the system does not let us read
                a part of it, or of `source`; nothing was changed.
            StateWriteError: the disk refused; nothing is lost, and the next use of the state, or repair, goes on.
            StateTransactionError: a transaction is open in this thread, or an earlier flush failed; nothing was changed.
            ValueError: there is no repository at `source`; nothing was changed.
        """
        with FIRST_USE:
            from gitstate.repair.mending import Repair
            from gitstate.repair.source import Source
        if source is None:
            return Repair(self._parts.mender, None).run(self._policy.timeout)
        with contextlib.closing(Source(Path(os.path.abspath(source)))) as other:
            return Repair(self._parts.mender, other).run(self._policy.timeout)

    def lock_holder(self) -> Holder | None:
        """Who holds the state's lock now, None for nobody. Nothing is made or changed, nor waited for.

        Of a holder whom the lock file does not name the `pid` is 0. Where the lock is free, it is held for the
        microseconds that it takes to see that: a writer that comes just then waits for as long, or, with a timeout of 0, is
        refused.

        Raises:
            StateReadError: the system does not let us look at the lock file.
        """
        with FIRST_USE:
            from gitstate.held import holder_now
        return holder_now(self._parts.store.layout.lock)

    def unlock(self, holder: Holder | None = None, *, dry_run: bool = False) -> Holder | None:
        """Takes the lock from a process that is gone, and gives its name; None where nobody holds it, and nothing was done.

        That is for the rare case that a program which it had started has inherited the open file and still runs: else no
        lock outlives its process. Another lock file takes the place of the old one, in a tenth of a second. A holder that lives where
        nobody here can see it, as in another container by the same host name, commits nothing any more: code
        `"lock-lost"` or `"edited"`. One that is gone, but was not waited for by its parent, counts as living.
        With a `holder`, as `lock_holder` gives it, it is taken from that one and nobody else. With `dry_run` nothing is
        changed: whom it would be taken from is given, or why it would not be is raised.

        Raises:
            StateLockError: the holder lives, is on another host, is not named, or is another one; nothing was changed.
            StateReadError: the system does not let us look at the lock file; nothing was changed.
            StateWriteError: it does not let us put another lock file there; nothing was changed.
        """
        with FIRST_USE:
            from gitstate.held import take_away
        return take_away(self._parts.store.layout.lock, holder, dry_run=dry_run)

    def checkpoint(self) -> None:
        """Packs the history and empties the journal, which transactions else do when it is full.

        Raises:
            StateLockError: somebody held the lock; everything is still in the journal.
            StateWriteError: the disk refused; everything is still in the journal.
        """
        self._parts.writer.store.checkpoint(self._policy.timeout)

    def prune(
        self,
        *,
        planned: PruneReport | None = None,
        dry_run: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> PruneReport:
        """Forgets the versions that are older than the `max_backups` before the current one, and gives their space back.

        Named backups stay, and every line of `get_transaction_history`. With `dry_run` nothing is changed: the report
        says which versions would be forgotten. What was forgotten before is not among them: the space of versions that were
        left to a name, and have lost it since, comes back with a prune, though a dry run before it says nothing of them.
        With the report of a dry run, as `planned`, nothing newer than what that says is forgotten, whatever has come since.

        `progress` is told how far that is, never under the state's lock: `"archiving"` counts versions that are forgotten,
        `"following"` objects that are needed, `"packing"` those that are written anew. What the callback raises comes out as
        it is; the history is whole, and the next prune goes on.

        Raises:
            StateReadError: something that is needed is damaged; nothing was given back.
            StateLockError: somebody held the lock, or is at a checkpoint; the history is whole, with more or fewer versions in it.
            StateWriteError: the disk refused; the history is whole, with more or fewer versions in it.
            StateConflictError: somebody moved the branch, or the archive of the audit trail; as above.
        """
        with FIRST_USE:
            from gitstate.progress import Telling
        with Telling(progress) as tell:
            last = None if planned is None else planned.versions.stop - 1
            retention, window = self._parts.retention(tell, last), self.max_backups
            return retention.plan(window) if dry_run else retention.prune(window)

    @property
    def max_backups(self) -> int | None:
        """How many versions before the current one are kept, None for all: as this handle was told, else as the store says.

        Raises:
            StateReadError: the store's settings cannot be read.
        """
        settings = self._policy.settings or self._parts.store.layout.settings()
        return settings.max_backups
