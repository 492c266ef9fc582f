"""Ledger: the journal as far as this process has read it, and what that says.

That is: where the branch and the audit trails are, what the state file holds, and which records are still to be put in
place. It is changed under the lock only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gitstate.errors import StateReadError, StateTransactionError, StateWriteError
from gitstate.generations import sync_published
from gitstate.journal import NOWHERE, Journal
from gitstate.record import Standing, standing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from gitstate.record import Record


class Ledger:
    """What the journal in `directory` says.

    Attributes:
        follows: the names of the refs that it keeps track of.
        now: where things stand once every record is in place.
        pending: records that are in the journal and not in place yet, in order.
        unknown: whether a commit was interrupted where only recovery can tell if it has happened.
    """

    def __init__(self, directory: Path, follows: Collection[str]) -> None:
        self._directory: Final = directory
        self.follows: Final = follows
        self._journal: Journal | None = None
        self._known = NOWHERE
        self._failure = ""
        self.unknown = False
        self.pending: list[Record] = []
        self.now = Standing()

    @property
    def journal(self) -> Journal:
        """The generation that is open.

        Raises:
            StateReadError: none is: somebody deleted the store.
        """
        if self._journal is None:
            raise StateReadError(
                f"the store is gone: {self._directory}. The state file is untouched.",
                path=self._directory,
                code="repository-missing",
            )
        return self._journal

    @property
    def opened(self) -> bool:
        """Whether a generation is open."""
        return self._journal is not None

    @property
    def poisoned(self) -> bool:
        """Whether a flush failed, so that nothing more may be written (PITFALLS O2)."""
        return bool(self._failure)

    def open(self) -> None:
        """Opens the generation that counts, without its records: `catch_up` reads them.

        Raises:
            FileNotFoundError: there is none.
            StateReadError: it is damaged.
        """
        self.close()
        self._journal = Journal.open(self._directory)
        self._forget(self._journal.base)

    def begin(self, base: Standing, records: Iterable[Record], sequence: int) -> None:
        """Publishes a new generation, durable, with `records` behind `base`, and goes on in it.

        Raises:
            StateWriteError: the disk refused; the older one still counts.
        """
        older = self._journal
        self.unknown = True  # an interrupt on the way leaves it to recovery
        self._journal = Journal.start(self._directory, base, records, sequence)
        if older is not None:
            older.close()
        self._forget(self._journal.base)
        self.now = standing(base, self._journal.scan())
        self.unknown = False

    def catch_up(self) -> Record | None:
        """The last record that others have appended, None for none; what it says is known from here on.

        Raises:
            StateReadError: the journal is damaged.
            StateWriteError: the disk refused to flush it.
        """
        live = self.journal
        if not live.current():
            self.open()
        self._known = self.journal.mark
        last = self.journal.latest()
        if self.journal is not live and not self.journal.named:
            # It is flushed before anything is appended; its records were flushed before it had a name.
            sync_published(self._directory)
        if last is not None:
            self.now = last.after
        return last

    def theirs(self) -> list[Record]:
        """All the records that others have appended, of which `catch_up` gave the last.

        Raises:
            StateReadError: the journal is damaged.
        """
        self.journal.resume(self._known)
        return self.journal.follow()

    def append(self, record: Record) -> Record:
        """Makes `record` durable: it has happened. Given as it was appended; what it says is not known before `know`.

        Raises:
            StateWriteError: it has not happened; with code `"flush-failed"` nobody knows.
        """
        # Whatever interrupts this, a Ctrl-C too, leaves the outcome to recovery.
        self.unknown = True
        try:
            record = self.complete(record, self.now)
            self.journal.append(record)
        except StateWriteError as error:
            self.unknown = error.code == "flush-failed"
            raise
        return record

    def know(self, record: Record) -> None:
        """Takes in what an appended record says."""
        self.now = record.after

    def note(self, record: Record) -> None:
        """Appends `record` without a flush, to be put in place by whoever flushes next.

        Raises:
            StateWriteError: nothing was appended.
        """
        self.unknown = True  # an interrupt on the way leaves it to recovery
        try:
            record = self.complete(record, self.now)
            self.journal.note(record)
            self.pending.append(record)
            self.know(record)
        except StateWriteError:
            self.unknown = False
            raise
        self.unknown = False

    def complete(self, record: Record, before: Standing) -> Record:
        """`record` as it goes into a journal behind `before`."""
        return record._replace(after=before.after(record, self.follows))

    def flush(self) -> None:
        """Makes the notes durable.

        Raises:
            StateWriteError: with code `"flush-failed"`.
        """
        self.journal.flush()

    def poison(self, error: StateWriteError) -> None:
        """Refuses everything from here on, until `reset`."""
        self._failure = str(error)

    def refuse_poisoned(self) -> None:
        """Refuses to go on after a failed flush.

        Raises:
            StateTransactionError: there was one; code `"reopen"`.
        """
        if self._failure:
            raise StateTransactionError(
                "an earlier flush failed, so nothing more is written until the state is opened again:"
                f" {self._directory}. Check the disk, call close(), and go on. It was: {self._failure}",
                path=self._directory,
                code="reopen",
            )

    def reset(self) -> None:
        """Closes the journal and forgets everything, a failed flush too."""
        self.close()
        self._forget()
        self._failure = ""
        self.unknown = False

    def close(self) -> None:
        """Closes the journal."""
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    def _forget(self, base: Standing | None = None) -> None:
        self.now = base or Standing()
        self.pending.clear()
