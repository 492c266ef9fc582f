"""Effects: what a record does to the disk behind the commit point, and whether it has been done.

A commit and a recovery use the same `apply`. How the state file is told from an edit: every file that gitstate renames
into place is a new one, whose identity (inode, size, mtime) was written into the record beforehand (PITFALLS O10).
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from gitstate import files
from gitstate.errors import StateReadError, StateWriteError, journal_damaged
from gitstate.record import RefChange
from gitstate.repository.objects import unpack_loose

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gitstate.files import Identity
    from gitstate.layout import Layout
    from gitstate.record import Record, StateChange
    from gitstate.repository import Repository


class Effects:
    """The effects of records on one state file and its repository."""

    def __init__(self, layout: Layout, repository: Repository) -> None:
        self._layout = layout
        self._repository = repository

    def apply(self, record: Record) -> None:
        """Puts `record` in place: the state file, then the objects, then the refs; idempotent.

        Raises:
            StateWriteError: the disk refused, or Git holds a ref's lock; applying it again goes on from there.
            StateConflictError: somebody else moved one of the refs.
        """
        if record.state is not None:
            self.place(record.state)
        # A crash between any two of these is made good by applying the record again. None is flushed: the journal is.
        self._repository.put(record.objects)
        for change in record.refs:
            self._repository.refs.move(*change)
        # `git gc --prune=now` may have removed the objects before the refs named them (PITFALLS G2).
        lost = [made for made in record.objects if not self._repository.contains(made.id)]
        self._repository.put(lost)

    def place(self, state: StateChange) -> None:
        """Renames the record's temporary file over the state file, unless that has been done.

        Raises:
            StateWriteError: the disk refused; the state file is as it was. With code `"flush-failed"` it is the new one,
                but its name may not last.
        """
        path = self._layout.state
        safe = "The state and its history are untouched."
        with files.Refused(StateWriteError, "cannot replace the state file", path, safe):
            # A crash before this rename leaves the old file, and recovery renames; after it the new one, whole.
            if files.identity(path) != state.identity:
                os.replace(self._layout.beside(state.temporary), path)
        if not state.replaces:
            # Only this tells a file that was never there from one that somebody deleted: see `_replaceable`.
            try:
                files.sync_directory(path.parent)
            except OSError as error:
                raise StateWriteError(
                    f"flushing the directory failed: {error.strerror}: {path.parent}. The transaction has happened, as"
                    " far as the disk can be believed. Check it, then open the state again.",
                    path=path.parent,
                    code="flush-failed",
                ) from error

    def discard(self, state: StateChange | None) -> None:
        """Removes the temporary file of a record that does not happen."""
        if state is not None:
            files.remove(self._layout.beside(state.temporary))

    def in_place(self, record: Record) -> bool:
        """Whether the refs and the state file are as `record` left them; not known of one that takes another back."""
        refs = {**record.after.refs, **{change.name: change.new for change in record.refs}}
        if not record.refs or any(self.ref(name) != at for name, at in refs.items()):
            return False
        state = record.state
        return state is None or files.identity(self._layout.state) == state.identity

    def behind(self, record: Record) -> bool:
        """Whether `record` is not in place: the state file, or a ref, is still where it was before."""
        for name, expected, new in record.refs:
            at = self.ref(name)
            if at != new and (at in expected or not self._repository.readable(at or "")):
                return True
        return self._is_waiting(record)

    def pending_content(self, record: Record) -> bytes | None:
        """What the state file will hold once `record` is in place; None where it does, or holds somebody's edit.

        Raises:
            StateReadError: that is in a large object's file, which is damaged, or has gone: everything was put in place just
                now, or it is lost.
        """
        return _content(record) if self._is_waiting(record) else None

    def _is_waiting(self, record: Record) -> bool:
        """Whether the state of `record` is still to be put in place."""
        if record.state is None:
            return False
        at = files.identity(self._layout.state)
        return at != record.state.identity and self._replaceable(record, at)

    def redo(self, record: Record) -> Record:
        """`record` as recovery has to apply it: with a temporary file that is really there, or without a state change.

        Raises:
            OSError: the disk refused.
        """
        state = record.state
        if state is None:
            return record
        path = self._layout.state
        at = files.identity(path)
        if at == state.identity:
            return record  # though its name may not be durable yet, so the state change stays in the journal
        if not self._replaceable(record, at):
            # An edit, or a file that somebody deleted: both are theirs.
            return record._replace(state=None)
        if files.identity(self._layout.beside(state.temporary)) == state.identity:
            return record
        # The temporary file's name was never flushed: a power cut may have taken it. The record has the bytes.
        made = self._layout.new_temporary()
        status = os.stat(path) if at is not None else None
        path_made, content = self._layout.beside(made), _content(record)
        identity = files.write_new(path_made, content, mode=0o666, like=status)
        return record._replace(state=state._replace(temporary=made, identity=identity))

    def sweep(self, record: Record | None, known: Iterable[str]) -> None:
        """Removes what killed processes left, all but what `record` needs, and every object that fails its hash.

        A lock on a ref is theirs if it holds an id of the record, or one that is `known`.

        Raises:
            OSError: the disk refused.
        """
        ours = set(known)
        needed = None
        if record is not None:
            ours |= {at for change in record.refs for at in (*change.expected, change.new) if at}
            needed = record.state.temporary if record.state else None
        self._layout.sweep()
        for path in self._layout.temporaries():
            if path.name != needed:
                files.remove(path)
        self._repository.refs.sweep(ours)
        self._repository.sweep()

    def ref(self, name: str) -> str | None:
        """The id a ref is at on disk; None where it is absent or unreadable."""
        try:
            return self._repository.refs.read(name)
        except StateReadError:
            return None

    def names_commit(self, name: str, known: str) -> bool:
        """Whether a ref is at `known`, or at anything else that can be read."""
        at = self.ref(name)
        return at == known or (at is not None and self._repository.readable(at))

    def settle_refs(self, record: Record) -> Record:
        """`record`, such that its refs may be moved from ids that name nothing too, as a power cut may leave them."""
        refs = []
        for name, expected, new in record.refs:
            at = self.ref(name)
            lost = at is not None and at not in expected and not self._repository.readable(at)
            refs.append(RefChange(name, (*expected, at) if lost else expected, new))
        return record._replace(refs=tuple(refs))

    def _replaceable(self, record: Record, at: Identity | None) -> bool:
        """Whether the file `at` the state's path is one that the record's state may be renamed over."""
        state = record.state
        if state is None:
            return False
        if at is not None:
            return at in state.replaces
        # No file: there was none before either, and the record was not applied, which flushes the rename before the
        # first ref moves. Else somebody has deleted it.
        return not state.replaces and not any(self.ref(name) == new for name, new in state.refs)


def _content(record: Record) -> bytes:
    state = record.state
    if state is None:
        raise ValueError("the record changes no state")
    if state.content is not None:
        return zlib.decompress(state.content).partition(b"\0")[2]
    made = next(made for made in record.objects if made.id == state.blob)
    try:
        return unpack_loose(made).content
    except (zlib.error, FileNotFoundError) as error:
        # Of a large one: else the record would not be whole.
        raise journal_damaged(Path(str(made.held)), str(error)) from error
