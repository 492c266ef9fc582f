"""StateTransaction: a block that happens as a whole, or not at all."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Self

from gitstate import codec
from gitstate.errors import StateTransactionError
from gitstate.statefile import Known
from gitstate.version import Version
from gitstate.writer import describe, reason_of

if TYPE_CHECKING:
    from types import TracebackType

    from gitstate.codec import Document, Encoded
    from gitstate.policy import Validator
    from gitstate.statefile import Found
    from gitstate.writer import Writer


class StateTransaction:
    """The block of `with state.transaction() as txn`. It runs alone: every other writer waits until it ends.

    Attributes:
        data: the working copy; mutate it, or assign another dict.
        operation: the name it goes by in the history.
        message: the commit message, None for one made of the operation and the changed keys.
        committed: whether it has happened; False until the block has ended.
        version: the newest version after the block; None before, after a rollback, and where none was made.
    """

    data: Any

    def __init__(
        self,
        writer: Writer,
        *,
        operation: str,
        message: str | None,
        validate: bool,
        seed: bytes | None,
        timeout: float | None,
    ) -> None:
        self.operation = operation
        self.message = message
        self.committed = False
        self.version: Version | None = None
        self._writer = writer
        self._validate = validate
        self._seed = seed
        self._timeout = timeout
        self._resources = contextlib.ExitStack()
        self._found: Found | None = None
        self._before = b"{}"
        self._pid = 0
        self._rolled_back = False

    @property
    def original_data(self) -> Document:
        """What the state file held when the block began; a copy, changing it changes nothing."""
        return codec.decode(self._before, allow_nan=True)

    def rollback(self) -> None:
        """Gives the transaction up: when the block ends nothing is committed, and no exception is raised."""
        self._rolled_back = True

    def __enter__(self) -> Self:
        if self._found is not None:
            raise StateTransactionError(
                "a transaction is used once: call transaction() again for another.", code="used"
            )
        with contextlib.ExitStack() as resources:
            found = resources.enter_context(self._writer.writing(self.operation, self._timeout))
            document = self._writer.document(found)
            self._before = found.content or b"{}"
            if self._seed is not None:
                document = codec.decode(self._seed, allow_nan=True)
            self._found = found
            self._pid = os.getpid()
            self.data = document
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if os.getpid() != self._pid:
            if error is None:
                self._refuse_fork()
            return
        with self._resources:
            if error is not None:
                self._fail(error, "exception")
            elif self._rolled_back:
                operation, message = _text(self.operation), _text(self.message)
                self._writer.record_failure(operation, message, "", "rollback")
            else:
                try:
                    self._commit()
                except BaseException as refusal:
                    self._fail(refusal, reason_of(refusal))
                    raise

    def _commit(self) -> None:
        found = self._found
        if found is None:
            raise AssertionError
        writer, policy = self._writer, self._writer.policy
        encoded = codec.encoded(self.data, allow_nan=policy.allow_nan)
        content = encoded.content
        changed = content != self._unchanged(found)
        if changed:
            writer.store.file.stage(content, found)
        passed = self._check(encoded, found.known)
        self._refuse_fork()  # a validator is a stranger's
        draft = writer.draft(found)
        if changed:
            writer.change(
                draft,
                found,
                content,
                encoded=encoded,
                operation=_text(self.operation),
                message=_text(self.message),
                versioned=policy.versioned,
            )
        writer.commit(draft, found)
        if draft.state is not None:
            writer.store.file.know(Known(encoded, draft.state[1].id, passed))
        self.committed = True
        head = draft.head
        if policy.versioned and head is not None:
            self.version = Version.of(head.commit, writer.store, allow_nan=policy.allow_nan)

    def _check(self, encoded: Encoded, known: Known | None) -> Validator | None:
        """Validates, if that is asked for, and gives the validator if it found nothing at all to say."""
        validate = self._writer.policy.validate
        if not self._validate or validate is None:
            return None
        part = encoded.document
        if part is None and encoded.plain:
            # As good as a copy: the default schema, which alone looks at it, changes nothing.
            part = self.data
        if known is not None and known.passed is validate and part is not None:
            part = encoded.difference(known.encoded).part_of(part)
        return validate if validate(encoded.content, part=part) else None

    def _refuse_fork(self) -> None:
        if os.getpid() != self._pid:
            # The lock, and the right to commit, are the parent's.
            raise StateTransactionError(
                f"the block was forked: process {self._pid} commits it, not its child {os.getpid()}."
                " Nothing was changed.",
                code="forked",
            )

    def _unchanged(self, found: Found) -> bytes | None:
        """What the encoder makes of the state file as it is: an edit keeps its own layout if nothing else changes."""
        if not found.foreign or found.content is None:
            return found.content
        document = self._writer.document(found)
        return codec.encode(document, allow_nan=self._writer.policy.allow_nan)

    def _fail(self, error: BaseException, reason: str) -> None:
        operation, message = _text(self.operation), _text(self.message)
        self._writer.record_failure(operation, message, describe(error), reason)


def _text(value: object) -> str:
    """What a block set, if it is text: a slip there must not take the transaction, or its own exception, down."""
    return value if isinstance(value, str) else ""
