"""Restore: an earlier state, or a part of one, is committed on top. History is never rewound, so each can be undone.

An undo says which version it takes back, and whose state it shows; a redo, which undo. So where things stand is told from
the newest version alone, by whichever handle made it. A prune may take the version that a state was first made by: then
an undo or redo that shows the same stands for it, as long as one is kept.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, Literal

from gitstate import codec
from gitstate import pointer as pointers
from gitstate.diff import MISSING, find, same
from gitstate.errors import (
    Problem,
    StateReadError,
    StateValidationError,
    VersionNotFoundError,
)
from gitstate.repository import BRANCH, blob_id
from gitstate.version import SHORT_ID_LENGTH

if TYPE_CHECKING:
    from gitstate.codec import Document
    from gitstate.draft import Draft
    from gitstate.history import History
    from gitstate.repository import Commit
    from gitstate.statefile import Found
    from gitstate.version import Version
    from gitstate.writer import Writer

_RESTORES: Final = "Restores"
_UNDOES: Final = "Undoes"
_REDOES: Final = "Redoes"
_POINTER: Final = "Pointer"


class Restorer:
    """Puts back what is in `history`."""

    def __init__(self, writer: Writer, history: History) -> None:
        self._writer = writer
        self._history = history

    def restore_part(
        self, name: Version | int | str, pointer: str, timeout: float | None
    ) -> Version | None:
        """Makes the value at `pointer` what it was at a version, or removes it if it was not there then.

        Gives the new version, None where it was so already.

        Raises:
            VersionNotFoundError: no such version; nothing was changed.
            StateValidationError: what it is part of is not there any more, or the whole is against the schema; nothing was
                changed.
            ValueError: the pointer is none.
            StateError: as a transaction; nothing was changed.
        """
        parts = pointers.split(pointer)
        policy = self._writer.policy
        with self._writer.changing("restore", timeout) as found:
            target = self._history.version(name)
            document = self._writer.document(found)
            value = find(target.read(), parts)
            if same(value, find(document, parts)):
                return None  # somebody's edit keeps its layout, and waits for a change
            try:
                _put(document, parts, value)
            except LookupError as error:
                raise _nothing_there(pointer, target) from error
            content = codec.encode(document, allow_nan=policy.allow_nan)
            if policy.validate is not None:
                policy.validate(content)
            draft = self._writer.draft(found)
            self._writer.change(
                draft,
                found,
                content,
                operation="restore",
                message=f"restore: {pointer} of {_named(target.serial, target.id)}",
                extra={_RESTORES: target.id, _POINTER: pointer},
                versioned=policy.versioned,
            )
            self._writer.commit(draft, found)
            return self._made(draft) if policy.versioned else None

    def restore(self, name: Version | int | str, timeout: float | None) -> Version | None:
        """Makes a version current by committing its state on top of whatever is there.

        Gives the new version, None where the newest one shows that state, be the file damaged or not.

        Raises:
            VersionNotFoundError: no such version; nothing was changed.
            StateError: as a transaction; nothing was changed.
        """
        with self._writer.changing("restore", timeout) as found:
            target = self._history.kept(self._history.version(name).id)
            draft = self._writer.draft_over(found)
            self._put_back(
                draft,
                found,
                target,
                message=f"restore: {_named(target.note.serial, target.id)}",
                extra={},
            )
            return self._made(draft)

    def undo(self, timeout: float | None) -> Version:
        """Commits the state before the last change that has not been undone yet, and gives that new version.

        Where the state file is gone or damaged, that is what is undone: the newest version is put back, and given.

        Raises:
            VersionNotFoundError: nothing is left to undo, or no version that is kept shows that state; nothing was changed.
            StateError: as a transaction; nothing was changed.
        """
        with self._writer.changing("undo", timeout) as found:
            draft = self._writer.draft_over(found)
            head = draft.head
            if head is not None and head.blob != found.blob:  # which a state would have become
                message = f"undo: back to {_named(head.commit.note.serial, head.commit.id)}"
                return self._put_back(draft, found, head.commit, message=message, extra={})
            undone, target = self._undoable(head.commit if head else None)
            message, extra = f"undo: {_named(undone.note.serial, undone.id)}", {_UNDOES: undone.id}
            return self._put_back(draft, found, target, message=message, extra=extra)

    def redo(self, timeout: float | None) -> Version:
        """Commits the state that the last undo took back, and gives that new version.

        Raises:
            VersionNotFoundError: nothing is left to redo, or no version that is kept shows that state; nothing was changed.
            StateError: as a transaction; nothing was changed.
        """
        with self._writer.changing("redo", timeout) as found:
            draft = self._writer.draft_over(found)
            undo, target = self._redoable(draft.head.commit if draft.head else None)
            message, extra = f"redo: {_named(target.note.serial, target.id)}", {_REDOES: undo.id}
            return self._put_back(draft, found, target, message=message, extra=extra)

    def undo_target(self) -> Version:
        """The version whose state an `undo` would show, as things stand. Changes nothing, and waits for nobody.

        Raises:
            VersionNotFoundError: nothing is left to undo, or no version that is kept shows that state.
            StateReadError: the history is damaged, or the state file cannot be read.
        """
        head, file = self._standing()
        if head is not None and file == "lost":
            return self._history.made(head)
        if head is not None and file == "edited":  # what would be undone is the edit
            return self._history.made(self._stands_for(head))
        return self._history.made(self._undoable(head)[1])

    def redo_target(self) -> Version:
        """The version whose state a `redo` would show, as things stand. Changes nothing, and waits for nobody.

        Raises:
            VersionNotFoundError: nothing is left to redo, or no version that is kept shows that state.
            StateReadError: as `undo_target`.
        """
        head, file = self._standing()
        if file == "edited":
            raise self._nothing_left("redo")
        return self._history.made(self._redoable(head)[1])

    def _standing(self) -> tuple[Commit | None, Literal["clean", "edited", "lost"]]:
        """The newest version, and the state file beside it: it holds a state that would become one on top, or none."""
        store, allow_nan = self._writer.store, self._writer.policy.allow_nan
        while True:
            at = store.reader.refs().get(BRANCH)
            content = self._content()
            if store.reader.refs().get(BRANCH) == at:  # else somebody has committed in between
                break
        head = store.repository.commit(at) if at is not None else None
        kept = store.repository.file_id(head.tree, store.layout.file_name) if head else None
        if content is None:
            return head, "lost"
        if blob_id(content) == kept:
            return head, "clean"
        try:
            codec.decode_foreign(content, allow_nan=allow_nan)
        except StateReadError:
            return head, "lost"  # it would be kept, as bytes that are no state
        return head, "edited"

    def _content(self) -> bytes | None:
        """What the state file holds, None where there is none."""
        try:
            return self._writer.store.reader.read(look=True)[0]
        except StateReadError as error:
            if error.code != "state-missing":
                raise
            return None

    def _put_back(
        self, draft: Draft, found: Found, target: Commit, *, message: str, extra: dict[str, str]
    ) -> Version:
        """The version that shows the state of `target`; its operation is what the message begins with."""
        self._writer.change(
            draft,
            found,
            self._history.made(target).content(),
            operation=message.partition(":")[0],
            message=message,
            extra={_RESTORES: target.id, **extra},
        )
        self._writer.commit(draft, found)
        return self._history.made(draft.head.commit if draft.head else target)

    def _made(self, draft: Draft) -> Version | None:
        """The newest version where the draft has made one."""
        moved = any(change.name == BRANCH for change in draft.refs)
        return self._history.made(draft.head.commit) if moved and draft.head else None

    def _undoable(self, head: Commit | None) -> tuple[Commit, Commit]:
        """The change to undo where `head` is the newest version, and the version whose state was there before it."""
        if head is None:
            raise self._nothing_left("undo")
        undone = self._stands_for(head)
        return undone, self._stands_for(self._before(undone, head))

    def _before(self, undone: Commit, head: Commit) -> Commit:
        """A version that shows the state before that which `undone` and `head` show."""
        if undone.parents and not _moves(undone):
            with contextlib.suppress(VersionNotFoundError):
                return self._history.kept(undone.parents[0])
        # What came first is gone, but an undo or redo since may have shown the same. Whatever is no undo is a step
        # forward from its parent, and each undo takes one back: they pair as brackets do.
        steps, commit = 1, head
        while steps:
            if not commit.parents:
                raise self._nothing_left("undo")
            steps += 1 if _UNDOES in commit.note.extra else -1
            commit = self._history.kept(commit.parents[0])
        return commit

    def _redoable(self, head: Commit | None) -> tuple[Commit, Commit]:
        """The undo to take back where `head` is the newest version, and a version whose state it took back."""
        commit = head
        while commit is not None and _REDOES in commit.note.extra:
            # What that undo was built on is where things stand again.
            undo = self._history.kept(commit.note.extra[_REDOES])
            commit = self._history.kept(undo.parents[0]) if undo.parents else None
        if commit is None or _UNDOES not in commit.note.extra:
            raise self._nothing_left("redo")
        with contextlib.suppress(VersionNotFoundError):
            return commit, self._history.kept(commit.note.extra[_UNDOES])
        return commit, self._history.kept(commit.parents[0])  # which shows the same

    def _stands_for(self, commit: Commit) -> Commit:
        """The version whose state an undo or redo shows again, as long as that is kept; else `commit` itself."""
        first = commit
        with contextlib.suppress(VersionNotFoundError):
            while _moves(first):
                first = self._history.kept(first.note.extra[_RESTORES])
            return first
        return commit

    def _nothing_left(self, what: str) -> VersionNotFoundError:
        return self._history.not_found(what, f"There is nothing left to {what}")


def _moves(commit: Commit) -> bool:
    """Whether a commit is an undo or a redo."""
    extra = commit.note.extra
    return _RESTORES in extra and (_UNDOES in extra or _REDOES in extra)


def _named(serial: int, commit_id: str) -> str:
    what = f"version {serial}" if serial else "an imported backup"
    return f"{what} ({commit_id[:SHORT_ID_LENGTH]})"


def _put(document: Document, parts: list[str], value: object) -> None:
    """Puts the value there, or leaves none there where it is `MISSING`."""
    if value is MISSING:
        pointers.remove(document, parts)
    else:
        pointers.put(document, parts, value)


def _nothing_there(pointer: str, target: Version) -> StateValidationError:
    expected = "a place in what the state holds now"
    return StateValidationError(
        f"{pointer} of {_named(target.serial, target.id)} cannot be put back: what it was part of is not there any"
        " more. Nothing was changed. Restore that part of the version first, or all of it.",
        problems=(Problem(pointer, expected, "nothing"),),
        code="no-such-place",
    )
