"""Reader: the current state and its history beside any writer. It waits for nobody (store invariant S6).

Where a writer was killed behind its commit point, and recovery is not possible just now, it answers from the journal.
"""

from __future__ import annotations

import contextlib
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from gitstate import codec, files
from gitstate.draft import FAILURES
from gitstate.errors import StateError, StateReadError, gone, store_unreadable, unreadable
from gitstate.finding import Finding, Remedy
from gitstate.journal import NOWHERE, Mark, read_all
from gitstate.record import Record, RefChange, Standing, merge, standing
from gitstate.repository import BRANCH, Repository, blob_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from weakref import WeakMethod

    from gitstate.effects import Effects
    from gitstate.layout import Layout


_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _typed(method: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Turns what the system says to a reader into a typed error."""

    # No context manager: two of those cost a third of a small read.
    @wraps(method)
    def call(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        """The method, with typed errors."""
        try:
            return method(*arguments, **options)
        except StateError:
            raise
        except OSError as error:
            raise store_unreadable(Path(error.filename or ".pipeline"), error) from error

    return call


class Reader:
    """Reads one state file and its repository.

    `recover` refers to what puts in place what the journal holds, or refuses quietly.
    """

    def __init__(
        self,
        layout: Layout,
        repository: Repository,
        effects: Effects,
        recover: WeakMethod[Callable[[], None]],
    ) -> None:
        self._layout = layout
        self._repository = repository
        self._effects = effects
        self._recover = recover
        self._in_place = NOWHERE
        self._now = Standing()
        self._trusted: str | None = None
        # Comparing all bytes takes a tenth of hashing them.
        self._checked: bytes | None = None

    @_typed
    def read(self, *, look: bool) -> tuple[bytes | None, bool]:
        """The bytes of the current state, None where there is neither file nor history; and whether the file has them.

        Where it has not, or with `look`, they come from the journal.

        Raises:
            StateReadError: the state file is gone although there is history, or cannot be read.
        """
        content = self._unplaced() if look else None
        if content is not None:
            return content, False
        path = self._layout.state
        with contextlib.suppress(FileNotFoundError):
            return self._file(), True
        content = self._unplaced()
        if content is None and self._ever_committed():
            # Was it renamed into place just now? Else somebody deleted it.
            try:
                return self._file(), True
            except FileNotFoundError:
                raise gone(path) from None
        return content, content is None

    @_typed
    def look(self, *, recover: bool = True) -> Record | None:
        """Sees that all records are in place, and recovers if not. What could not be is given, to answer from.

        Without `recover` nothing is changed.

        Raises:
            StateReadError: the store is damaged, or not to be trusted.
        """
        behind = self._behind()
        if recover and (behind is not None or self._repository.lost):
            if recovery := self._recover():
                recovery()
            behind = self._behind()
        return behind

    @_typed
    def refs(self, *, recover: bool = True) -> dict[str, str]:
        """Every ref and the id it is at, once all records are in place; without `recover` nothing is changed.

        Raises:
            StateReadError: a ref cannot be read, or the store is damaged.
        """
        behind = self.look(recover=recover)
        if not self._layout.exists():
            return {}
        known = {change.name: change.new for change in behind.refs} if behind else {}
        return self._repository.refs.all("refs/", known)

    @_typed
    def in_place(self) -> bool:
        """Whether all records are in place, but for notes of failures, which may wait for the next commit. Changes nothing.

        Raises:
            StateReadError: the journal is damaged.
        """
        return self._are_in_place(self._snapshot(NOWHERE)[1])

    @_typed
    def finding(self) -> Finding | None:
        """What is wrong with the journal or the state file, the first of it; None for nothing. Changes nothing.

        Raises:
            StateReadError: the journal is damaged, or the state file cannot be read.
        """
        base, records, _ = self._snapshot(NOWHERE)
        path = self._layout.state
        if not self._are_in_place(records):
            line = "the journal holds records that are not in place: the next use of the state puts them there"
            return Finding(line, Remedy.PUT_IN_PLACE)
        now = standing(base, records)
        # A note of a failure may be in place, while a later one waits.
        noted = {standing(base, _but_failures(records)).refs.get(FAILURES)}
        noted.update(c.new for record in records for c in record.refs if c.name == FAILURES)
        merged = merge(records)
        # Of names that no record moves nobody knows where they were left.
        moved = {change.name: change.new for change in merged.refs} if merged else {}
        for name, known in {**now.refs, **moved}.items():
            at = self._effects.ref(name)
            if at != known and not (name == FAILURES and at in noted):
                return Finding(
                    f"{name} is at {at or 'nothing'}, and was left at {known or 'nothing'}"
                )
        try:
            content = self._file()
        except FileNotFoundError:
            line = f"the state file is gone, although there is history: {path}"
            return Finding(line, Remedy.PUT_IN_PLACE) if now.state else None
        if blob_id(content) == now.state:
            return None
        if not codec.is_document(content):
            return Finding(
                f"the state file is damaged, it is no state: {path}", Remedy.PUT_IN_PLACE
            )
        line = (
            f"the state file is not what was written last, somebody edited it: {path}; the next transaction keeps"
            " the edit as a version of its own"
        )
        return Finding(line, Remedy.TRANSACTION)

    @_typed
    def trusts(self, content: bytes) -> bool:
        """Whether gitstate wrote these very bytes, or checked them before: they need no second careful look.

        Raises:
            StateReadError: the store is damaged, or not to be trusted.
        """
        if content == self._checked:
            return True
        blob = blob_id(content)
        if blob not in (self._trusted, self._now.state):
            self._behind()  # somebody else may have written them since
        trusted = blob in (self._trusted, self._now.state)
        if trusted and len(content) <= codec.MAX_REMEMBERED:
            self._checked = content
        return trusted

    def trust(self, content: bytes) -> None:
        """Says that `content` has been checked."""
        self._trusted = blob_id(content)

    def _file(self) -> bytes:
        try:
            return files.read(self._layout.state)[0]
        except FileNotFoundError:
            raise
        except OSError as error:
            raise unreadable(self._layout.state, error) from error

    def _unplaced(self) -> bytes | None:
        """What the state file will hold when everything is in place; None where it does."""
        try:
            return self._pending_content()
        except StateReadError:
            # A large object's file goes when a checkpoint has packed it: then everything is in place now.
            return self._pending_content()

    def _pending_content(self) -> bytes | None:
        behind = self.look()
        return self._effects.pending_content(behind) if behind else None

    def _are_in_place(self, records: list[Record]) -> bool:
        merged = merge(_but_failures(records))
        return merged is None or not self._effects.behind(merged)

    def _behind(self) -> Record | None:
        """The records not known to be in place, as one, if they are not."""
        base, records, mark = self._snapshot(self._in_place)
        merged = merge(records)
        if merged is not None and self._effects.behind(merged):
            return merged
        same = mark.generation == self._in_place.generation
        self._now = standing(self._now if same else base, records)
        branch = self._now.refs.get(BRANCH)
        self._in_place = mark
        if branch is not None and not self._effects.names_commit(BRANCH, branch):
            # A power cut, or somebody, has taken the branch: the journal knows where it was.
            return Record(mark.sequence, refs=(RefChange(BRANCH, (None,), branch),))
        return None

    def _snapshot(self, since: Mark) -> tuple[Standing, list[Record], Mark]:
        """The base of the journal, its records behind `since`, and where they end."""
        if not self._layout.exists():
            self._layout.refuse_remains()
            return Standing(), [], NOWHERE
        self._layout.check()
        return read_all(self._layout.store, since)

    def _ever_committed(self) -> bool:
        base, records, _ = self._snapshot(NOWHERE)
        if standing(base, records).state is not None:
            return True
        return self._layout.exists() and self._effects.ref(BRANCH) is not None


def _but_failures(records: Iterable[Record]) -> list[Record]:
    return [
        record
        for record in records
        if not record.refs or any(change.name != FAILURES for change in record.refs)
    ]
