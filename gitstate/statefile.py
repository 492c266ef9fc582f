"""StateFile: `pipeline.json` itself, as the lock's holder finds it, and the new file that a record puts in its place."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gitstate import codec, files
from gitstate.codec import Encoded
from gitstate.errors import StateConflictError, StateWriteError, unreadable
from gitstate.record import StateChange
from gitstate.repository import blob_id

if TYPE_CHECKING:
    from gitstate.codec import Document
    from gitstate.draft import Draft
    from gitstate.files import Identity, NewFile
    from gitstate.layout import Layout
    from gitstate.ledger import Ledger

_YOUNG_NS: Final = 20_000_000
"""A file this young may be edited again without a new mtime, so its bytes are compared."""


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
        young: whether it may be edited without a new mtime.
        known: what this process knows about them, because it wrote them.
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


class StateFile:
    """The state file of one store. Everything here happens under the lock."""

    def __init__(self, layout: Layout, ledger: Ledger) -> None:
        self._layout = layout
        self._ledger = ledger
        self._known: Known | None = None
        self._passed: dict[str, object] = {}
        self._staged: NewFile | None = None

    def find(self) -> Found:
        """The file as it is now.

        Raises:
            StateReadError: it cannot be read.
        """
        path = self._layout.state
        try:
            content, status = files.read(path)
        except FileNotFoundError:
            return Found(None, None, None, foreign=False, young=False)
        except OSError as error:
            raise unreadable(path, error) from error
        young = time.time_ns() - status.st_mtime_ns < _YOUNG_NS
        known = self._known
        if known is None or known.encoded.content != content:
            blob = blob_id(content)
            passed = self._passed.get(blob)
            known = Known(Encoded(content), blob, passed) if passed is not None else None
        else:
            blob, content = known.blob, known.encoded.content  # the same bytes once, not twice
        foreign = blob != self._ledger.now.state
        return Found(content, status, blob, foreign, young, None if foreign else known)

    def know(self, known: Known) -> None:
        """Remembers what the current state was made from; of a large one only whether it has passed."""
        large = len(known.encoded.content) > codec.MAX_REMEMBERED
        self._known = None if large else known
        self._passed = {known.blob: known.passed} if large else {}

    def stage(self, content: bytes, found: Found) -> None:
        """Begins to write what a draft will say the state is, so that the disk is at work meanwhile.

        Raises:
            StateWriteError: the disk refused; nothing was changed.
        """
        if self._ledger.opened:  # else the store is made first, and sweeps the place
            self._begin(content, found).hasten()

    def prepare(self, draft: Draft, found: Found) -> StateChange | None:
        """How a record is to put the draft's state in place: its new file is written and flushed. None for no change.

        Raises:
            StateWriteError: the disk refused; nothing was changed.
        """
        if draft.state is None:
            return None
        content, blob = draft.state
        staged = self._staged
        if staged is None or staged.content != content:
            self.drop_staged()
            staged = self._begin(content, found)
        with self._refused():
            identity = staged.finish()
        versioned = any(made.id == blob.id for made in draft.objects)
        replaces = (found.identity,) if found.identity else ()
        own = tuple((change.name, change.new) for change in draft.refs) if not replaces else ()
        content_of_its_own = None if versioned else blob.loose
        return StateChange(
            blob.id, os.path.basename(staged.path), identity, replaces, own, content_of_its_own
        )

    def hand_over(self) -> None:
        """The new file belongs to a record that is durable: `drop_staged` leaves it."""
        self._staged = None

    def drop_staged(self) -> None:
        """Removes the new file that no record speaks of; where that is unknown, recovery may need it."""
        staged, self._staged = self._staged, None
        if staged is not None and not self._ledger.unknown:
            staged.discard()

    def settle(self, found: Found) -> None:
        """Flushes a state file that no record placed, as if we had written it.

        Else a power cut could put an older file back under what is built on this one, where nobody would know it.

        Raises:
            StateWriteError: the disk refused; the file is as it was.
        """
        if found.status is None or found.identity == self._ledger.now.placed:
            return
        path = self._layout.state
        safe = "The state file is as it was; the history is untouched."
        with files.Refused(StateWriteError, "cannot flush the state file", path, safe):
            files.flush_file(path)
            files.sync_directory(path.parent)

    def refuse_edit(self, found: Found) -> None:
        """Sees that the file is still the one in `found`.

        Raises:
            StateConflictError: it is not: somebody edited or deleted it.
        """
        path = self._layout.state
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

    def _begin(self, content: bytes, found: Found) -> NewFile:
        with self._refused():
            path = self._layout.beside(self._layout.new_temporary())
            # Known before it is there: an interrupt at any point leaves it to `drop_staged`.
            self._staged = staged = files.NewFile(path)
            staged.write(content, mode=0o666, like=found.status)
        return staged

    def _refused(self) -> files.Refused:
        safe = "The state and its history are untouched."
        return files.Refused(StateWriteError, "cannot write the state", self._layout.state, safe)
