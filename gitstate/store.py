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
import os
import time
import weakref
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.checkpoint import Checkpoint
from gitstate.draft import FAILURES, UNVERSIONED, Draft, Head
from gitstate.effects import Effects
from gitstate.errors import (
    StateConflictError,
    StateError,
    StateLockError,
    StateTransactionError,
    StateWriteError,
    unreadable,
)
from gitstate.journal import read_all
from gitstate.layout import DEFAULT_SETTINGS
from gitstate.ledger import Ledger
from gitstate.lock import StateLock
from gitstate.reader import Reader
from gitstate.record import GitObject, Record, StateChange, effective
from gitstate.recovery import Recovery
from gitstate.repository import BRANCH, Repository, blob_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gitstate.codec import Document, Encoded
    from gitstate.files import Identity, NewFile
    from gitstate.layout import Layout, Settings

JOURNAL_LIMIT: Final = 1024 * 1024
"""Bytes of journal after which a checkpoint is due."""

RECOVERED_LIMIT: Final = JOURNAL_LIMIT // 4
"""The same after a recovery: what is still live is read and copied by the next one."""

MERGE_LIMIT: Final = 4 * JOURNAL_LIMIT
"""Bytes of packs that a transaction's own checkpoint writes together at most; close() does the rest."""

CHECKPOINT_WAIT_SECONDS: Final = 2.0
"""How long a transaction's own checkpoint waits for the lock: with many writers at it, trying once never succeeds."""

_MIN_RECORDS: Final = 8
"""Records that a checkpoint must find, lest large documents mean a pack for every transaction."""

_MAX_KNOWN: Final = 1024 * 1024
"""Bytes of content up to which a state is remembered for the next transaction."""

_YOUNG_NS: Final = 20_000_000
"""A file this young may be edited again without a new mtime, so its bytes are compared."""

_KNOWN_REFS: Final = (BRANCH, FAILURES, UNVERSIONED)
_log = logging.getLogger("gitstate")


@dataclass(slots=True)
class Known:
    """What this process knows about a state because it wrote it.

    Attributes:
        encoded: its bytes, and a document of them until somebody takes it.
        blob: Git's id of the content.
        passed: the validator that found nothing wrong with it; None for none.
    """

    encoded: Encoded
    blob: str
    passed: object

    def take(self) -> Document | None:
        """The document, once: whoever takes it may change it."""
        document, self.encoded.document = self.encoded.document, None
        return document


@dataclass(frozen=True, slots=True)
class Found:
    """The state file as the lock's holder found it.

    Attributes:
        content: its bytes, None where there is no file.
        status: what the filesystem says about it, None where there is no file.
        blob: Git's id of the content, None where there is no file.
        foreign: whether no record wrote these bytes: somebody else's edit.
        known: what this process knows about them, because it wrote them.
        young: whether it may be edited without a new mtime.
    """

    content: bytes | None
    status: os.stat_result | None
    blob: str | None
    foreign: bool
    young: bool
    known: Known | None = None

    @property
    def identity(self) -> Identity | None:
        """The file's identity, None where there is no file."""
        return files.identity_of(self.status) if self.status else None


class Store:
    """The state file, its journal and its repository, as one thing that changes by records."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.lock = StateLock(layout.lock, layout.queue)
        self.repository = Repository(layout.git_dir, partial(_journalled, layout))
        self._effects = Effects(layout, self.repository)
        # Weakly, or the two would keep each other, and their open files, alive behind the last handle.
        recover = weakref.WeakMethod(self._recover_quietly)
        self.reader = Reader(layout, self.repository, self._effects, recover)
        self._ledger = Ledger(layout.store, _KNOWN_REFS)
        self._recovery = Recovery(layout, self.repository, self._ledger, self._effects)
        self._head: Head | None = None
        self._known: Known | None = None
        self._staged: NewFile | None = None
        self._checkpoint_due = False
        self._next_try = (
            0  # bytes of journal: a checkpoint that was refused is tried again when it has grown
        )
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

    def find(self) -> Found:
        """The state file as it is now. Under the lock.

        Raises:
            StateReadError: it cannot be read.
        """
        path = self.layout.state
        try:
            content, status = files.read(path)
        except FileNotFoundError:
            return Found(None, None, None, foreign=False, young=False)
        except OSError as error:
            raise unreadable(path, error) from error
        young = time.time_ns() - status.st_mtime_ns < _YOUNG_NS
        known = self._known
        if known is not None and known.encoded.content != content:
            known = None
        blob = known.blob if known else blob_id(content)
        foreign = blob != self._ledger.state
        return Found(content, status, blob, foreign, young, None if foreign else known)

    def know(self, known: Known) -> None:
        """Remembers what the current state was made from. Under the lock."""
        self._known = known if len(known.encoded.content) <= _MAX_KNOWN else None

    @property
    def head(self) -> Head | None:
        """The newest version, None before the first. Under the lock.

        Raises:
            StateReadError: it cannot be read from the repository.
        """
        at = self._ledger.refs.get(BRANCH)
        if at is None:
            return None
        if self._head is None or self._head.commit.id != at:
            # Somebody else's version was read in the journal just now.
            recent = {made.id: made for made in self._recovery.last_objects}
            commit = self.repository.commit(at, recent.get(at))
            name, tree = self.layout.file_name, recent.get(commit.tree)
            self._head = Head(commit, self.repository.file_id(commit.tree, name, tree))
        return self._head

    @property
    def has_history(self) -> bool:
        """Whether anything was ever committed. Under the lock."""
        return self._ledger.state is not None or BRANCH in self._ledger.refs

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
        if name in _KNOWN_REFS:
            return self._ledger.refs.get(name)
        for record in reversed(self._ledger.pending):
            for change in record.refs:
                if change.name == name:
                    return change.new
        return self.repository.refs.read(name) if self._ledger.opened else None

    def stage(self, content: bytes, found: Found) -> None:
        """Begins to write what a draft will say the state is, so that the disk is at work meanwhile. Under the lock.

        What no commit takes up is removed with the lock.

        Raises:
            StateWriteError: the disk refused; nothing was changed.
        """
        if self._ledger.opened:  # else the store is made first, and sweeps the place
            self._begin_file(content, found).hasten()

    def commit(self, draft: Draft, found: Found, settings: Settings | None) -> None:
        """Makes everything in `draft` happen, or nothing of it. `settings` that differ are stored. Under the lock.

        Raises:
            StateWriteError: the disk refused; nothing has happened. With code `"flush-failed"` the outcome is unknown
                until the state is opened again.
            StateConflictError: the state file was edited since `found`, or the lock was lost; nothing has happened.
        """
        self._ensure_store(settings)
        ledger = self._ledger
        self._settle_found(found)
        adopts = found.blob if found.foreign and draft.state is None else None
        # Preparing and flushing the new file first makes a full disk show before the commit point (PITFALLS O5).
        state = self._prepare(draft, found)
        record = Record(ledger.journal.next_sequence, draft.objects, draft.refs, state, adopts)
        self._refuse_edit(found)
        self._refuse_lost_lock()
        ledger.append(record)
        self._staged = None
        in_place = self._finish(record, found)
        ledger.know([record])
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
        self._ensure_store(settings)
        self._refuse_lost_lock()
        sequence = self._ledger.journal.next_sequence
        self._ledger.note(Record(sequence, draft.objects, draft.refs))
        self._note_size()

    # -- without the lock ----------------------------------------------------------------------------------------

    def problems(self, timeout: float | None) -> list[str]:
        """What is wrong with the journal and the state file, a line each. Changes nothing.

        Raises:
            StateLockError: the lock was held for `timeout` seconds.
            StateReadError: the journal is damaged, or the state file cannot be read.
        """
        if self.lock.held_here():
            return self.reader.problems()
        try:
            with contextlib.suppress(
                StateWriteError
            ):  # where no lock file can be made, nobody writes
                self.lock.acquire(timeout, "verify")
            return self.reader.problems()
        finally:
            if self.lock.held_here():
                self.lock.release()

    def checkpoint(self, timeout: float | None, *, merge_limit: int | None = None) -> None:
        """Packs what the journal holds and begins a new one; does nothing where somebody else is at it.

        Then writes small packs together, `merge_limit` bytes of them at most, None for no limit.

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
            if checkpoint.run(merge_limit):
                self.dirty = False
                self._next_try = 0

    def checkpoint_quietly(self, timeout: float | None, *, merge_limit: int | None = None) -> None:
        """As `checkpoint`, if something was written since the last one; a refusal is a warning in the log.

        What brought us here is done, and the journal keeps everything until the next try.
        """
        if self.dirty and not self.poisoned and not self.lock.held_here():
            try:
                self.checkpoint(timeout, merge_limit=merge_limit)
            except StateError as error:
                _log.warning("the journal could not be packed and grows meanwhile: %s", error)
                self._next_try = (
                    self._ledger.journal.size + RECOVERED_LIMIT if self._ledger.opened else 0
                )

    def release(self) -> None:
        """Closes all files. The store opens again when it is used."""
        self._ledger.reset()
        self._recovery.done = False
        self.lock.close()
        self.repository.close()

    def __del__(self) -> None:
        self.release()

    # -- entering ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _exclusive(
        self, operation: str, timeout: float | None, *, network: bool = True
    ) -> Iterator[None]:
        if self.lock.held_here():
            raise StateTransactionError(
                f"a transaction on this state is open in this thread already: {self.layout.state}. Nothing was"
                " changed. End the outer block first, or change its txn.data.",
                path=self.layout.state,
                code="nested",
            )
        self._ledger.refuse_poisoned()
        safe = "Nothing was changed."
        if not self._recovery.done:
            with files.Refused(StateWriteError, "cannot write here", self.layout.state, safe):
                files.make_directories(self.layout.state.parent)
                self.layout.check_writable_place(network=network)
        held = False
        try:
            self.lock.acquire(timeout, operation)
            held = True
            with self._refused_store():
                if self._recovery.catch_up():
                    self._note_recovered()
            yield
        finally:
            # A block may be left in another thread than it was entered in; an interrupt may come before `held` is set.
            try:
                if held or self.lock.held_here():
                    self._drop_staged()
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

    def _ensure_store(self, settings: Settings | None) -> None:
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

    def _prepare(self, draft: Draft, found: Found) -> StateChange | None:
        if draft.state is None:
            return None
        content, blob = draft.state
        staged = self._staged
        if staged is None or staged.content != content:
            self._drop_staged()
            staged = self._begin_file(content, found)
        with self._refused_state():
            identity = staged.finish()
        versioned = any(made.id == blob.id for made in draft.objects)
        replaces = (found.identity,) if found.identity else ()
        own = tuple((change.name, change.new) for change in draft.refs) if not replaces else ()
        content_of_its_own = None if versioned else blob.loose
        return StateChange(
            blob.id, os.path.basename(staged.path), identity, replaces, own, content_of_its_own
        )

    def _begin_file(self, content: bytes, found: Found) -> NewFile:
        with self._refused_state():
            path = self.layout.beside(self.layout.new_temporary())
            # Known before it is there: an interrupt at any point leaves it to `_drop_staged`.
            self._staged = staged = files.NewFile(path)
            staged.write(content, mode=0o666, like=found.status)
        return staged

    def _drop_staged(self) -> None:
        """Removes the file that no record speaks of; where that is unknown, recovery may need it."""
        staged, self._staged = self._staged, None
        if staged is not None and not self._ledger.unknown:
            staged.discard()

    def _refused_store(self) -> contextlib.AbstractContextManager[None]:
        safe = "Nothing was changed."
        return files.Refused(StateWriteError, "cannot open the store", self.layout.store, safe)

    def _refused_state(self) -> contextlib.AbstractContextManager[None]:
        safe = "The state and its history are untouched."
        return files.Refused(StateWriteError, "cannot write the state", self.layout.state, safe)

    def _settle_found(self, found: Found) -> None:
        """Flushes a state file that no record placed, as if we had written it.

        Else a power cut could put an older file back under what is built on this one, where nobody would know it.
        """
        if found.status is None or found.identity == self._ledger.placed:
            return
        path = self.layout.state
        safe = "The state file is as it was; the history is untouched."
        with files.Refused(StateWriteError, "cannot flush the state file", path, safe):
            files.flush_file(path)
            files.sync_directory(path.parent)

    def _finish(self, record: Record, found: Found) -> bool:
        """Everything behind the commit point; whether recovery need not look into it.

        What fails in the repository follows at the next use.
        """
        ledger = self._ledger
        if record.state is not None:
            try:
                # Last look: a save between here and the rename, microseconds, is not promised.
                self._refuse_edit(found)
                self._effects.place(record.state)
            except (StateConflictError, StateWriteError) as error:
                if error.code == "flush-failed" and isinstance(error, StateWriteError):
                    ledger.poison(error)  # renamed, and committed: recovery goes on from here
                else:
                    self._take_back(record)
                raise
        # Without the state: that is in place, and a later transaction's must not be replaced by it.
        ledger.pending.append(replace(record, state=None))
        try:
            self._recovery.apply_pending()
        except StateConflictError as error:
            _log.warning("committed, but the Git history cannot follow: %s", error)
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
            unknown = StateWriteError(
                f"the transaction could neither be finished nor taken back: {error.__cause__}: {self.layout.state}."
                " Whether it happened is decided when the state is opened again; nothing older is lost. Check the disk,"
                " then open it again.",
                path=self.layout.state,
                code="flush-failed",
            )
            ledger.poison(unknown)
            raise unknown from error
        ledger.unknown = False

    def _refuse_edit(self, found: Found) -> None:
        path = self.layout.state
        at = None
        try:
            at = files.identity(path)
            edited = at != found.identity or (found.young and files.read(path)[0] != found.content)
        except OSError:
            edited = True
        if edited and at is None:
            raise StateConflictError(
                f"somebody deleted the state file while the transaction ran: {path}. The transaction has not happened,"
                ' and no version is lost. Put the file back with restore_backup("HEAD"), and run it again.',
                path=path,
                code="edited",
            )
        if edited:
            raise StateConflictError(
                f"somebody edited the state file while the transaction ran: {path}. Their edit was left in place and"
                " the transaction has not happened. Run it again: it starts from the edit.",
                path=path,
                code="edited",
            )

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
        if self._checkpoint_due:
            self._checkpoint_due = False
            self.checkpoint_quietly(CHECKPOINT_WAIT_SECONDS, merge_limit=MERGE_LIMIT)

    def _note_recovered(self) -> None:
        self.dirty |= self._ledger.count > 0
        self._checkpoint_due = self._ledger.journal.size >= RECOVERED_LIMIT

    def _note_size(self) -> None:
        self.dirty = True
        live = self._ledger.journal
        full = live.size >= max(JOURNAL_LIMIT, self._next_try)
        self._checkpoint_due |= full and self._ledger.count >= _MIN_RECORDS


def _journalled(layout: Layout) -> list[GitObject]:
    """The objects in the journal: what the repository lacks is answered from there."""
    records = read_all(layout.store)[1] if layout.exists() else []
    return [made for record in effective(records) for made in record.objects]
