"""Writer: what every change has in common, a transaction's, a restore's, a backup's.

Under the lock it finds the state file, takes in what somebody else wrote into it, puts the change on top, and commits
both as one record.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from gitstate import codec, trailers
from gitstate.codec import Encoded
from gitstate.draft import FAILURES, UNVERSIONED, Head
from gitstate.errors import (
    StateConflictError,
    StateError,
    StateReadError,
    StateValidationError,
    VersionNotFoundError,
    corrupt,
    gone,
)
from gitstate.repository import BRANCH, blob_id, make_blob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gitstate.codec import Document
    from gitstate.draft import Draft
    from gitstate.policy import Policy
    from gitstate.statefile import Found
    from gitstate.store import Store
    from gitstate.version import Version

# Versions made by these hold somebody's bytes as they were, which need not be as our encoder writes them.
_VERBATIM = frozenset({"external_edit", "import", "restore", "undo", "redo", "backup"})
_log = logging.getLogger("gitstate")


class Writer:
    """Changes to one state by one handle; where that is `expecting` a version, only while the state is that version's.

    Attributes:
        store: where they go.
        policy: what the handle was told.
        committed: whether there were any.
    """

    def __init__(
        self,
        store: Store,
        policy: Policy,
        after_commit: Callable[[Writer, Head], None] | None = None,
        expecting: Version | None = None,
    ) -> None:
        self.store = store
        self.policy = policy
        self.committed = False
        self._after_commit = after_commit
        self._expecting = expecting
        self._made: Head | None = None

    @contextlib.contextmanager
    def writing(self, operation: str, timeout: float | None) -> Iterator[Found]:
        """Holds the lock for a block, and gives the state file as it is.

        If the block has committed a version, what is to be done after a commit is done once the lock is free.

        Raises:
            StateConflictError: another version was expected; code `"stale"`.
            StateError: as `Store.writing` and `StateFile.find`.
        """
        network = self.policy.allow_network
        made: Head | None = None
        try:
            with self.store.writing(operation, timeout, network=network):
                try:
                    yield self._find()
                finally:
                    # Under the lock: another thread's block may commit as soon as that is free.
                    made, self._made = self._made, None
        finally:
            if made is not None:
                self.announce(made)

    @contextlib.contextmanager
    def alone(self, operation: str, timeout: float | None) -> Iterator[Found]:
        """As `writing`, for whoever holds other locks, too: what follows a commit is for them to `announce`.

        Raises:
            StateError: as `writing`.
        """
        with self.store.writing(operation, timeout, network=self.policy.allow_network):
            yield self._find()

    def announce(self, head: Head) -> None:
        """Does what is to be done after a commit; no lock is held."""
        if self._after_commit is not None:
            self._after_commit(self, head)

    @contextlib.contextmanager
    def changing(self, operation: str, timeout: float | None) -> Iterator[Found]:
        """As `writing`; what goes wrong in the block is in the history, but for a version that does not exist.

        Raises:
            StateError: as `writing`.
        """
        with self.writing(operation, timeout) as found:
            try:
                yield found
            except VersionNotFoundError:
                raise
            except BaseException as error:
                self.record_failure(operation, "", describe(error), reason_of(error))
                raise

    def document(self, found: Found) -> Document:
        """The document that the state file holds; `{}` where there is neither file nor history.

        Raises:
            StateReadError: it is gone although there is history, or is not a JSON object.
        """
        if found.content is None:
            if self.store.has_history:
                raise gone(self.store.layout.state)
            return {}
        if found.known is not None and (document := found.known.take()) is not None:
            return document
        decode = codec.decode_foreign if found.foreign else codec.decode
        try:
            return decode(found.content, allow_nan=self.policy.allow_nan)
        except StateReadError as error:
            raise corrupt(self.store.layout.state, error) from error

    def draft(self, found: Found) -> Draft:
        """A draft on top of the newest version; if somebody else edited the state file, on top of that edit's version.

        Raises:
            StateReadError: what is in the state file is not a JSON object.
        """
        draft = self.store.draft(self.policy.author)
        if found.foreign:
            self._add_found(draft, found, "external_edit")
        return draft

    def draft_over(self, found: Found) -> Draft:
        """As `draft`, for a change that replaces whatever is there: everything that is not in the history goes in.

        Bytes that are not a state are kept under a ref of their own, a state without a version becomes one.
        """
        try:
            draft = self.draft(found)
            self.keep_state(draft, found)
        except (StateReadError, StateValidationError):  # deeper than we write it, for one
            draft = self.store.draft(self.policy.author)
            if found.content is not None:
                draft.keep_corrupt(found.content)
        return draft

    def keep_state(self, draft: Draft, found: Found) -> None:
        """Makes the state as it stands a version, if it is not the newest one."""
        self._add_found(draft, found, "backup")

    def change(
        self,
        draft: Draft,
        found: Found,
        content: bytes,
        *,
        encoded: Encoded | None = None,
        operation: str,
        message: str = "",
        extra: dict[str, str] | None = None,
        versioned: bool = True,
    ) -> None:
        """Puts `content` into the draft: as the state, and as a version of it unless the newest one holds the same.

        `encoded` is what the encoder makes of the same document, where the caller has it.
        """
        blob = make_blob(content)
        encoded = encoded or self._encoded(content)
        if content != found.content:
            draft.state = content, blob
        if versioned and not (draft.head and draft.head.blob == blob.id):
            keys = encoded.difference(self.newest(draft, found)).keys
            draft.add_version(blob, operation, keys, message=message, extra=extra)
        elif draft.state is not None:
            keys = encoded.difference(self._found(found)).keys
            draft.add_event(UNVERSIONED, operation, keys, message=message, extra=extra or {})

    def commit(self, draft: Draft, found: Found) -> None:
        """Makes the draft happen, unless there is nothing in it.

        Raises:
            StateTransactionError: as `Store.commit`.
        """
        if not draft.empty:
            self.store.commit(draft, found, self.policy.settings)
            self.committed = True
            if any(change.name == BRANCH for change in draft.refs):
                self._made = draft.head

    def record_failure(self, operation: str, message: str, error: str, reason: str) -> None:
        """Puts a failure into the history, where the disk can take it. Under the lock."""
        if self.store.outcome_unknown:
            return  # recovery decides whether it was one
        try:
            draft = self.store.draft(self.policy.author)
            extra = {"Error": trailers.one_line(error)[:500], "Reason": reason}
            draft.add_event(FAILURES, operation, (), message=message, extra=extra)
            # What is rolled back changes no setting of a store that is there.
            settings = None if self.store.layout.exists() else self.policy.settings
            self.store.note(draft, settings)
        except (StateError, OSError) as refusal:
            # The error that brought us here is the one to raise.
            _log.warning("a failed transaction could not be recorded: %s", str(refusal))

    def newest(self, draft: Draft, found: Found) -> Encoded:
        """The state of the draft's newest version, as the encoder writes it."""
        head = draft.head
        if head is None:
            return Encoded(b"{}")
        if head.blob == found.blob and found.content is not None:
            if found.known is not None:
                return found.known.encoded
            content = found.content
        else:
            content = self.store.repository.read(head.blob)
        if head.commit.note.operation in _VERBATIM:
            return self._encoded(content)
        return Encoded(content)

    def _find(self) -> Found:
        """The state file as it is. Every change begins here, under the lock, with everything in place."""
        found = self.store.file.find()
        if self._expecting is not None:
            self._refuse_stale(self._expecting, self.store.head, found.blob)
        return found

    def check_expected(self) -> None:
        """Sees that a change would find the version that is expected, if one is, beside any other writer.

        Raises:
            StateConflictError: it would not; code `"stale"`.
            StateReadError: the history is damaged, or the state file cannot be read.
        """
        if self._expecting is None:
            return
        head, repository = self.store.reader.refs().get(BRANCH), self.store.repository
        content = None
        try:
            content, _ = self.store.reader.read(look=True)
        except StateReadError as error:
            if error.code != "state-missing":
                raise
        newest = None
        if head is not None:
            commit = repository.commit(head)
            newest = Head(commit, repository.file_id(commit.tree, self.store.layout.file_name))
        self._refuse_stale(self._expecting, newest, None if content is None else blob_id(content))

    def _refuse_stale(self, expected: Version, head: Head | None, blob: str | None) -> None:
        """Refuses a state that is not `expected`: of which `head` is the newest version, and the file holds `blob`."""
        path = self.store.layout.state
        unedited = head is not None and head.blob == blob
        if unedited and head is not None and head.commit.id == expected.id:
            return
        newest = f"{head.commit.note.serial} ({head.commit.id})" if head else "none"
        besides = "" if unedited else ", and the state file holds something else"
        if blob is None:
            besides = ", and the state file is gone"
        raise StateConflictError(
            f"version {expected.serial} ({expected.id}) was expected, and the newest is {newest}{besides}: {path}. Nothing"
            " was changed. Look at what has come since, and expect that.",
            path=path,
            code="stale",
        )

    def _add_found(self, draft: Draft, found: Found, operation: str) -> None:
        if found.content is None or (draft.head and draft.head.blob == found.blob):
            return
        encoded = codec.encoded(self.document(found), allow_nan=self.policy.allow_nan)
        keys = encoded.difference(self.newest(draft, found)).keys
        draft.add_version(make_blob(found.content), operation, keys)

    def _found(self, found: Found) -> Encoded:
        """The state as it was found, as the encoder writes it; of what is no state, an empty one."""
        try:
            return self._encoded(found.content or b"{}")
        except (StateReadError, StateValidationError):
            return Encoded(b"{}")

    def _encoded(self, content: bytes) -> Encoded:
        return codec.encoded(codec.decode(content, allow_nan=True), allow_nan=True)


def describe(error: BaseException) -> str:
    """The type and the message of an exception, even of one that cannot be printed."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  a stranger's __str__ may raise anything
        return type(error).__name__


def reason_of(error: BaseException) -> str:
    """What a failure is called in the history."""
    match error:
        case StateValidationError():
            return "validation"
        case StateConflictError():
            return "conflict"
        case StateError():
            return "write"
        case _:
            return "exception"
