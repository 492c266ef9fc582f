"""Checkpoint: packs what the journal holds, and begins a new journal without it.

Most of it runs beside the writers: objects never change. Only the switch to the new journal needs the lock.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gitstate import files, large
from gitstate.errors import StateLockError, StateWriteError
from gitstate.lock import StateLock
from gitstate.record import merge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from gitstate.effects import Effects
    from gitstate.journal import Journal, Mark
    from gitstate.layout import Layout
    from gitstate.ledger import Ledger
    from gitstate.record import Record
    from gitstate.repository import Repository


class _OvertakenError(Exception):
    """Somebody has recovered meanwhile: what was packed is in their generation too."""


class Checkpoint:
    """One checkpoint; `exclusive` holds the state's lock for a block, with everything caught up."""

    def __init__(
        self,
        layout: Layout,
        repository: Repository,
        ledger: Ledger,
        effects: Effects,
        exclusive: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._layout = layout
        self._repository = repository
        self._ledger = ledger
        self._effects = effects
        self._exclusive = exclusive

    def run(self, most: int, *, maintained: bool) -> bool:
        """Whether the journal holds nothing any more that was in it at the beginning.

        Small packs are written anew with it, no more of them than weigh `most`: see `Repository.pack`. Whoever is
        `maintaining` says so.

        Raises:
            StateLockError: somebody else held the lock; everything is still in the journal.
            StateWriteError: the disk refused; everything is still in the journal.
        """
        safe = "The journal still holds everything."
        refused = files.Refused(
            StateWriteError, "cannot pack the journal", self._layout.store, safe
        )
        with refused, contextlib.ExitStack() as alone:
            if not maintained:
                try:
                    alone.enter_context(maintaining(self._layout, "checkpoint", 0))
                except StateLockError:
                    return False  # the other one's serves us as well
            return self._run(most)

    def _run(self, most: int) -> bool:
        with self._exclusive():
            settle(self._ledger, self._effects)
            journal = self._ledger.journal
            records, mark = journal.reread(), journal.mark
        merged = merge(records)
        with self._layout.scratch() as scratch:
            packed = merged.objects if merged is not None else ()
            # Whatever comes next, the pack stays: a `git gc` that has seen it deletes the loose objects that it holds.
            self._repository.pack(packed, scratch, most)
        try:
            done = self._switch(journal, mark, merged) if records else True
        except _OvertakenError:
            return False
        self._repository.drop_loose(made.id for made in packed)
        return done

    def _switch(self, journal: Journal, mark: Mark, packed: Record | None) -> bool:
        """Begins a generation without the records up to `mark`; whether it holds none."""
        refs = self._repository.refs
        names = {change.name for change in packed.refs} if packed else set()
        with self._flushing():
            # A flush for each: under the lock everybody would wait for all of them. What a crash leaves is as without.
            refs.flush(names)
        with self._exclusive():
            if self._ledger.journal is not journal:
                raise _OvertakenError
            settle(self._ledger, self._effects)
            newer = journal.reread(mark)
            moved = {change.name for record in newer for change in record.refs}
            with self._flushing():
                # Flushed first, forgotten afterwards: the state file's name, then the refs; the pack is already.
                files.sync_directory(self._layout.state.parent)
                refs.drop_spares(names)
                refs.flush(names & moved)
            # A crash in here, before the new journal has its name, leaves the old one: it is applied once more.
            self._ledger.begin(self._ledger.now, newer, mark.sequence)
            # A crash before this leaves files that no record names: the next recovery removes them.
            large.sweep(self._layout.store, (made for record in newer for made in record.objects))
            return not newer

    def _flushing(self) -> files.Refused:
        safe = "The journal still holds everything."
        return files.Refused(
            StateWriteError, "cannot flush the history", self._layout.git_dir, safe
        )


@contextlib.contextmanager
def maintaining(layout: Layout, operation: str, patience: float | None) -> Iterator[None]:
    """Nobody else rewrites what is packed, for a block: one at a time (PITFALLS O7).

    Raises:
        StateLockError: others were at it for longer than `patience`, in seconds.
        StateWriteError: the disk refused.
    """
    maintenance = StateLock(layout.maintenance_lock)
    with contextlib.closing(maintenance):
        maintenance.acquire(patience, operation)
        try:
            layout.sweep_scratch()
            yield
        finally:
            maintenance.release()


def settle(ledger: Ledger, effects: Effects) -> None:
    """Makes the pending records durable and puts them in place. Under the lock.

    Raises:
        StateWriteError: the disk refused; they are still pending.
        StateConflictError: somebody else moved a ref.
    """
    if ledger.pending:
        ledger.flush()
        while ledger.pending:
            effects.apply(ledger.pending[0])
            del ledger.pending[0]
