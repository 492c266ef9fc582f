"""Store: the one door to the disk. A transaction, a restore, a backup: each is a `Draft` that ends in `commit`.

Invariants, cited by comments and tests:

(S1) No effect before the journal is durable: the state file and the refs change only after the record's flush.
(S2) Applying is idempotent: a record holds finished bytes, so replaying it gives the same files and ids.
(S3) Every ref moves by a record: from the id it names, or in recovery from any id the journal has seen it at.
(S4) Every opener recovers first, under the lock, and from a freshly flushed generation.
(S5) What a record replaces is known by identity: a file that no record wrote is somebody's edit and is never lost.
(S6) A read waits for no writer: where it cannot recover it answers from the journal.
(S7) Records are applied in order; who finds another's records makes sure they are in place before appending.
(S8) After a failed flush nothing is written until the state is opened again.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import weakref
from functools import partial
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.chain import Chain
from gitstate.checkpoint import Checkpoint, settle
from gitstate.draft import ARCHIVE, FAILURES, IMPORTED, UNVERSIONED, Draft, Head
from gitstate.due import Due
from gitstate.effects import Effects
from gitstate.errors import (
    StateConflictError,
    StateError,
    StateLockError,
    StateTransactionError,
    StateWriteError,
)
from gitstate.journal import read_all
from gitstate.large import LargeObjects
from gitstate.layout import DEFAULT_SETTINGS
from gitstate.ledger import Ledger
from gitstate.lock import StateLock
from gitstate.reader import Reader
from gitstate.record import GitObject, Record, effective
from gitstate.recovery import Recovery
from gitstate.repository import BRANCH, Repository
from gitstate.repository.objects import checked_loose
from gitstate.statefile import StateFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gitstate.finding import Finding
    from gitstate.layout import Layout, Settings
    from gitstate.statefile import Found

BRIEF: Final = 2000
"""Weight of the packs that a transaction's own checkpoint writes anew at most; close() does the rest."""

CHECKPOINT_WAIT_SECONDS: Final = 2.0
"""How long a transaction's own checkpoint waits for the lock: with many writers at it, trying once never succeeds."""

KNOWN_REFS: Final = (BRANCH, FAILURES, UNVERSIONED, ARCHIVE, IMPORTED)
"""The refs that the journal keeps track of; of the last two an older store's tells nothing until they move."""

_log = logging.getLogger("gitstate")


class Store:
    """The state file, its journal and its repository, as one thing that changes by records.

    Attributes:
        layout: where everything is.
        lock: who may write.
        file: the state file, for the lock's holder.
        repository: the history, as far as the records are in place.
        reader: the state and its history, for everybody.
        chain: the versions along the branch.
        dirty: whether something was written since the last checkpoint of this process.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.lock = StateLock(layout.lock, layout.queue)
        self.repository = Repository(layout.git_dir, partial(_journalled, layout))
        self._effects = Effects(layout, self.repository)
        # Weakly, or the two would keep each other, and their open files, alive behind the last handle.
        recover = weakref.WeakMethod(self._recover_quietly)
        self.chain = Chain(layout, self.repository)
        self.reader = Reader(layout, self.repository, self._effects, recover)
        self._ledger = Ledger(layout.store, KNOWN_REFS)
        self.file = StateFile(layout, self._ledger)
        self._large = LargeObjects(layout.store)
        self._recovery = Recovery(layout, self.repository, self._ledger, self._effects)
        self._head: Head | None = None
        self._due = Due()
        self.dirty = False

    # -- under the lock ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(
        self, operation: str, timeout: float | None, *, network: bool = True
    ) -> Iterator[None]:
        """Holds the lock for a block, with everything in place that came before; a checkpoint follows if one is due.

        Raises:
            StateLockError: somebody else held the lock for `timeout` seconds.
            StateTransactionError: this thread holds it already, or an earlier flush failed.
            StateWriteError: the place cannot be written, or is on a network filesystem and not `network`.
            StateReadError: the store is damaged, or not to be trusted.
            StateConflictError: somebody else moved the branch.
        """
        try:
            with self._exclusive(operation, timeout, network=network):
                yield
        finally:
            self._checkpoint_if_due()

    @property
    def head(self) -> Head | None:
        """The newest version, None before the first. Under the lock.

        Raises:
            StateReadError: it cannot be read from the repository.
        """
        at = self._ledger.now.refs.get(BRANCH)
        if at is None:
            return None
        if self._head is None or self._head.commit.id != at:
            # Somebody else's version may have been read in the journal just now.
            recent = {made.id: made for made in self._recovery.last_objects}
            commit = self.repository.commit(at, recent.get(at))
            name, tree = self.layout.file_name, recent.get(commit.tree)
            self._head = Head(commit, self.repository.file_id(commit.tree, name, tree))
        return self._head

    @property
    def has_history(self) -> bool:
        """Whether anything was ever committed. Under the lock."""
        return self._ledger.now.state is not None or BRANCH in self._ledger.now.refs

    @property
    def poisoned(self) -> bool:
        """Whether a flush failed, so that nothing more is written before the state is opened again (S8)."""
        return self._ledger.poisoned

    @property
    def outcome_unknown(self) -> bool:
        """Whether a commit was interrupted where only recovery can tell if it has happened."""
        return self._ledger.unknown

    def draft(self, author: str) -> Draft:
        """An empty draft on top of the newest version. Under the lock."""
        return Draft(self.head, file_name=self.layout.file_name, author=author, ref=self.ref)

    def ref(self, name: str) -> str | None:
        """The id that a ref is at once every record is in place; None if there is no such ref. Under the lock."""
        if (known := self._ledger.now.refs.get(name)) is not None:
            return known
        for record in reversed(self._ledger.pending):
            for change in record.refs:
                if change.name == name:
                    return change.new
        return self.repository.refs.read(name) if self._ledger.opened else None

    def commit(self, draft: Draft, found: Found, settings: Settings | None) -> None:
        """Makes everything in `draft` happen, or nothing of it. `settings` that differ are stored. Under the lock.

        Raises:
            StateWriteError: the disk refused; nothing has happened. With code `"flush-failed"` the outcome is unknown
                until the state is opened again.
            StateConflictError: the state file was edited since `found`, or the lock was lost; nothing has happened.
        """
        self.ensure(settings)
        ledger = self._ledger
        self.file.settle(found)
        kept = draft.head is not None and draft.head.blob == found.blob
        adopts = found.blob if found.foreign and kept and draft.state is None else None
        # Preparing and flushing the new file first makes a full disk show before the commit point (PITFALLS O5).
        state = self.file.prepare(draft, found)
        objects = self._large.keep(draft.objects)  # what a record names is durable before it is
        record = Record(ledger.journal.next_sequence, objects, draft.refs, state, adopts)
        self.file.refuse_edit(found)
        self._refuse_lost_lock()
        record = ledger.append(record)
        self.file.hand_over()
        self._large.hand_over()
        in_place = self._finish(record, found)
        ledger.know(record)
        self._recovery.last_objects = record.objects
        self._head = draft.head
        self._note_size()
        ledger.unknown = not in_place

    def note(self, draft: Draft, settings: Settings | None) -> None:
        """Records what may be lost in a power cut, a failure; it is put in place by the next commit. Under the lock.

        Raises:
            StateWriteError: the disk refused; nothing was changed.
            StateConflictError: the lock was lost; nothing was changed.
        """
        self.ensure(settings)
        self._refuse_lost_lock()
        sequence = self._ledger.journal.next_sequence
        self._ledger.note(Record(sequence, draft.objects, draft.refs))
        self._note_size()

    def ensure(self, settings: Settings | None) -> None:
        """Makes the store if there is none, and stores `settings` that differ. Under the lock.

        Raises:
            StateWriteError: the disk refused; there is no store, or it has the old settings.
        """
        if not self._ledger.opened:
            self.layout.create(settings or DEFAULT_SETTINGS)
            with self._refused_store():
                self._recovery.attach()
        elif settings is not None and settings != self._recovery.settings:
            safe = "The state, its history and its settings are untouched."
            with files.Refused(
                StateWriteError, "cannot store the settings", self.layout.store, safe
            ):
                self.layout.store_settings(settings)
            self._recovery.settings = settings

    def settle(self) -> None:
        """Makes what was noted durable, and puts everything in place. Under the lock.

        Raises:
            StateWriteError: the disk refused; the notes are still to be put in place.
            StateConflictError: somebody else moved a ref.
        """
        settle(self._ledger, self._effects)

    def journalled(self) -> set[str]:
        """The ids of the objects that the journal holds.

        Raises:
            StateReadError: it is damaged.
        """
        return {made.id for made in _journalled(self.layout)}

    def damaged_large_objects(self) -> set[Path]:
        """The files of large objects that the journal names, as far as they are damaged or missing.

        Raises:
            StateReadError: the journal is damaged.
            OSError: the system does not let us read one.
        """
        named = ((made, made.held) for made in _journalled(self.layout))
        return {
            held
            for made, held in named
            if not isinstance(held, bytes) and checked_loose(made) is None
        }

    # -- without the lock ----------------------------------------------------------------------------------------

    def finding(self, timeout: float | None) -> Finding | None:
        """What is wrong with the journal or the state file; None for nothing. Changes nothing.

        Raises:
            StateLockError: the lock was held for `timeout` seconds.
            StateReadError: the journal is damaged, or the state file cannot be read.
        """
        if self.lock.held_here():
            return self.reader.finding()
        try:
            # Where no lock file can be made, nobody writes.
            with contextlib.suppress(StateWriteError):
                self.lock.acquire(timeout, "verify")
            return self.reader.finding()
        finally:
            if self.lock.held_here():
                self.lock.release()

    def checkpoint(
        self, timeout: float | None, most: int = sys.maxsize, *, maintained: bool = False
    ) -> None:
        """Packs what the journal holds and begins a new one; does nothing where somebody else is at it.

        Small packs are written anew, no more of them than weigh `most`. Whoever is `maintaining` says so.

        Raises:
            StateLockError: the lock was held for `timeout` seconds; everything is still in the journal.
            StateWriteError: the disk refused; everything is still in the journal.
            StateReadError, StateConflictError: as `writing`.
        """
        if self.layout.exists():
            exclusive = partial(self._exclusive, "checkpoint", timeout)
            checkpoint = Checkpoint(
                self.layout, self.repository, self._ledger, self._effects, exclusive
            )
            if checkpoint.run(most, maintained=maintained):
                self.dirty = False
                self._due.made()
            self._large.weigh()
            if (head := self._ledger.now.refs.get(BRANCH)) is not None:
                self.chain.extend(head, most)

    def checkpoint_quietly(
        self, timeout: float | None, most: int = sys.maxsize, *, maintained: bool = False
    ) -> None:
        """As `checkpoint`, if something was written here since the last one; a refusal is a warning in the log.

        What brought us here is done, and the journal keeps everything until the next try. Whoever is `maintaining` packs
        what others have written, too.
        """
        wanted = self.dirty or maintained
        if wanted and not self.poisoned and not self.lock.held_here():
            try:
                self.checkpoint(timeout, most, maintained=maintained)
            except StateError as error:
                # As text: who keeps the records would keep the files open that the error's frames have.
                _log.warning("the journal could not be packed and grows meanwhile: %s", str(error))
                self._due.refused(self._weight() if self._ledger.opened else 0)

    @contextlib.contextmanager
    def repairing(self, timeout: float | None) -> Iterator[None]:
        """Holds the lock for a block, whatever is wrong with the store; behind it everything is read anew.

        Raises:
            StateLockError, StateTransactionError: as `writing`.
        """
        self.refuse_nested()
        try:
            self.lock.acquire(timeout, "repair")
            self._ledger.refuse_poisoned()
            yield
        finally:
            if self.lock.held_here():
                self._ledger.reset()
                self._recovery.done = False
                self._head = None
                self.repository.forget()
                self.lock.release()

    def release(self) -> None:
        """Closes all files. The store opens again when it is used."""
        self._ledger.reset()
        self._recovery.done = False
        self.lock.close()
        self.repository.close()

    def __del__(self) -> None:
        self.release()

    def refuse_nested(self) -> None:
        """Sees that this thread has no transaction open.

        Raises:
            StateTransactionError: it has; code `"nested"`.
        """
        if self.lock.held_here():
            raise StateTransactionError(
                f"a transaction on this state is open in this thread already: {self.layout.state}. Nothing was"
                " changed. End the outer block first, or change its txn.data.",
                path=self.layout.state,
                code="nested",
            )

    # -- entering ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _exclusive(
        self, operation: str, timeout: float | None, *, network: bool = True
    ) -> Iterator[None]:
        self.refuse_nested()
        self.repository.prepare()
        safe = "Nothing was changed."
        if not self._recovery.done:
            with files.Refused(StateWriteError, "cannot write here", self.layout.state, safe):
                files.make_directories(self.layout.state.parent)
                self.layout.check_writable_place(network=network)
        held = False
        try:
            self.lock.acquire(timeout, operation)
            held = True
            self._ledger.refuse_poisoned()
            with self._refused_store():
                if self._recovery.catch_up():
                    self._note_recovered()
            yield
        except StateWriteError as error:
            if error.code == "flush-failed":
                self._ledger.poison(error)
            raise
        finally:
            # A block may be left in another thread than it was entered in; an interrupt may come before `held` is set.
            try:
                if held or self.lock.held_here():
                    self.file.drop_staged()
                    self._large.drop(unknown=self._ledger.unknown)
                    self.lock.release()
            finally:  # an interrupt just there must not keep everybody out
                if self.lock.held_here():
                    self.lock.close()

    def _recover_quietly(self) -> None:
        # Refused, by a lock or a read-only disk, a reader answers from the journal.
        with (
            contextlib.suppress(StateLockError, StateTransactionError),
            self.writing("recovery", 0.0),
        ):
            pass

    # -- committing ----------------------------------------------------------------------------------------------

    def _refused_store(self) -> contextlib.AbstractContextManager[None]:
        safe = "Nothing was changed."
        return files.Refused(StateWriteError, "cannot open the store", self.layout.store, safe)

    def _finish(self, record: Record, found: Found) -> bool:
        """Everything behind the commit point; whether recovery need not look into it.

        What fails in the repository follows at the next use.
        """
        ledger = self._ledger
        if record.state is not None:
            try:
                # Last look: a save between here and the rename, microseconds, is not promised.
                self.file.refuse_edit(found)
                self._effects.place(record.state)
            except (StateConflictError, StateWriteError) as error:
                # Else it is renamed, and committed: recovery goes on from here.
                if error.code != "flush-failed":
                    self._take_back(record)
                raise
        # Without the state: that is in place, and a later transaction's must not be replaced by it.
        ledger.pending.append(record._replace(state=None))
        try:
            self._recovery.apply_pending()
        except StateConflictError as error:
            _log.warning("committed, but the Git history cannot follow: %s", str(error))
            return False  # recovery refuses with this error, and says what to do
        return True

    def _take_back(self, record: Record) -> None:
        """Appends an abort record: the transaction has not happened, though its record is in the journal."""
        ledger = self._ledger
        with contextlib.suppress(OSError):
            self._effects.discard(record.state)
        try:
            ledger.append(Record(ledger.journal.next_sequence, aborts=record.sequence))
        except StateWriteError as error:
            ledger.unknown = True
            raise StateWriteError(
                f"the transaction could neither be finished nor taken back: {error.__cause__}: {self.layout.state}."
                " Whether it happened is decided when the state is opened again; nothing older is lost. Check the disk,"
                " then open it again.",
                path=self.layout.state,
                code="flush-failed",
            ) from error
        ledger.unknown = False

    def _refuse_lost_lock(self) -> None:
        # A lock file that somebody deletes lets a second writer in (PITFALLS L3): its records would be here.
        live = self._ledger.journal
        safe = "The transaction has not happened; the state and its history are untouched."
        with files.Refused(StateWriteError, "cannot read the journal", live.path, safe):
            ours = self.lock.intact() and live.in_place() and live.clean_tail()
        if not ours:
            raise StateConflictError(
                f"the lock was lost while the transaction ran, somebody removed the lock file: {self.layout.lock}."
                " The transaction has not happened. Run it again, and leave the lock file where it is.",
                path=self.layout.lock,
                code="lock-lost",
            )

    def _checkpoint_if_due(self) -> None:
        if self._due.take():
            self.checkpoint_quietly(CHECKPOINT_WAIT_SECONDS, BRIEF)

    def _note_recovered(self) -> None:
        self._large.weigh()
        self.dirty |= self._ledger.journal.count > 0
        self._due.recovered(self._weight())

    def _note_size(self) -> None:
        self.dirty = True
        self._due.appended(self._weight(), self._ledger.journal.count)

    def _weight(self) -> int:
        return self._ledger.journal.size + self._large.weight


def _journalled(layout: Layout) -> list[GitObject]:
    """The objects in the journal: what the repository lacks is answered from there."""
    records = read_all(layout.store)[1] if layout.exists() else []
    return [made for record in effective(records) for made in record.objects]
