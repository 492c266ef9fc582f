"""Draft: the record of one transaction while it is being put together.

It turns what happened (a new version, a name for one, a failure, bytes worth keeping) into Git objects and ref
changes. Nothing here touches the disk: a draft becomes real when `Store.commit` appends it to the journal.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from gitstate import trailers
from gitstate.lock import host
from gitstate.record import GitObject, RefChange
from gitstate.repository import BRANCH, Commit, make_blob, make_commit, make_tree
from gitstate.trailers import Note

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BACKUPS: Final = "refs/backups/"
ASIDE: Final = "refs/backups/import/"
"""Backups that were imported when the branch had begun."""

CORRUPT: Final = "refs/corrupt/"
KEPT: Final = "Kept-As"
"""The field that tells a commit of bytes worth keeping from a version."""

AUDIT: Final = "refs/audit/"
IMPORTED: Final = "refs/audit/import"
"""Lines of the audit trail that were imported."""

DETAILS: Final = "Details"
"""The field that has what an imported line says besides, as JSON."""

FAILURES: Final = "refs/audit/failures"
UNVERSIONED: Final = "refs/audit/unversioned"
"""Transactions that changed the state without making a version (`backup_before_write=False`)."""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest version: its commit, and the blob id of its state."""

    commit: Commit
    blob: str


class Origin(NamedTuple):
    """When, by which process and where something was done that is recorded only now, and upon which version.

    None is the newest.
    """

    time: datetime
    pid: int
    host: str
    serial: int | None = None


class Draft:
    """The objects, ref changes and state of one transaction.

    Attributes:
        head: the newest version, the drafted ones included; None before the first.
        state: what the state file is to hold, as bytes and as a blob; None to leave it.
    """

    def __init__(
        self,
        head: Head | None,
        *,
        file_name: bytes,
        author: str,
        ref: Callable[[str], str | None],
    ) -> None:
        self.head = head
        self.state: tuple[bytes, GitObject] | None = None
        self._file_name = file_name
        self._author = author
        self._ref = ref
        self._objects: dict[str, GitObject] = {}
        self._refs: dict[str, RefChange] = {}

    @property
    def objects(self) -> tuple[GitObject, ...]:
        """The Git objects, each behind those it refers to."""
        return tuple(self._objects.values())

    @property
    def refs(self) -> tuple[RefChange, ...]:
        """The ref changes."""
        return tuple(self._refs.values())

    @property
    def empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not self._refs and self.state is None

    def add_version(
        self,
        blob: GitObject,
        operation: str,
        changed_keys: Sequence[str],
        *,
        message: str = "",
        extra: dict[str, str] | None = None,
        origin: Origin | None = None,
    ) -> Head:
        """Puts a version whose state is `blob` on top of the branch; `head` is that version from then on."""
        tree = make_tree(self._file_name, blob.id)
        serial = self.head.commit.note.serial + 1 if self.head else 1
        if origin is not None and self.head is not None:
            origin = origin._replace(time=max(origin.time, self.head.commit.note.time))
        note = self._note(
            operation, serial, changed_keys, message=message, extra=extra, origin=origin
        )
        parents = (self.head.commit.id,) if self.head else ()
        made = make_commit(tree.id, parents, self._author, note)
        self._keep(blob, tree, made)
        self._move(BRANCH, made.id)
        note = replace(note, message=note.message or note.subject)  # as it is read back
        self.head = Head(Commit(made.id, parents, tree.id, self._author, note), blob.id)
        return self.head

    def add_event(
        self,
        ref: str,
        operation: str,
        changed_keys: Sequence[str],
        *,
        message: str,
        extra: dict[str, str],
        origin: Origin | None = None,
    ) -> None:
        """Puts a line of the audit trail on `ref`: a commit of the empty tree, numbered as the version it came upon."""
        tree = make_tree(None)
        serial = self.head.commit.note.serial if self.head else 0
        if origin is not None and origin.serial is not None:
            serial = origin.serial
        note = self._note(
            operation, serial, changed_keys, message=message, extra=extra, origin=origin
        )
        moved = self._refs.get(ref)
        parent = moved.new if moved else self._ref(ref)
        made = make_commit(tree.id, (parent,) if parent else (), self._author, note)
        self._keep(tree, made)
        self._move(ref, made.id)

    def add_aside(
        self,
        name: str,
        blob: GitObject,
        changed_keys: Sequence[str],
        parent: str | None,
        *,
        extra: dict[str, str],
        origin: Origin,
    ) -> str:
        """Keeps an imported state under a name of its own, on top of `parent`; gives the id of its commit."""
        tree = make_tree(self._file_name, blob.id)
        note = self._note("import", 0, changed_keys, message="", extra=extra, origin=origin)
        made = make_commit(tree.id, (parent,) if parent else (), self._author, note)
        self._keep(blob, tree, made)
        self._move(ASIDE + name, made.id)
        return made.id

    def keep_corrupt(self, content: bytes) -> str:
        """Keeps bytes that are not a state under a ref of their own, and gives its name; the same bytes once."""
        blob = make_blob(content)
        name = f"{CORRUPT}{blob.id[:16]}"
        if self._ref(name) is None:
            tree = make_tree(self._file_name, blob.id)
            serial = self.head.commit.note.serial if self.head else 0
            made = make_commit(
                tree.id,
                (),
                self._author,
                self._note("corrupt", serial, (), message="", extra={KEPT: name}),
            )
            self._keep(blob, tree, made)
            self._move(name, made.id)
        return name

    def pin(self, name: str, commit_id: str) -> None:
        """Names a version: a ref of its own keeps it beyond the window."""
        self._move(BACKUPS + name, commit_id)

    def _note(
        self,
        operation: str,
        serial: int,
        changed_keys: Sequence[str],
        *,
        message: str,
        extra: dict[str, str] | None,
        origin: Origin | None = None,
    ) -> Note:
        by = origin or Origin(datetime.now(UTC), os.getpid(), host())
        time = by.time
        if self.head is not None and origin is None:
            time = max(time, self.head.commit.note.time)  # a clock may go backwards (PITFALLS O6)
        return Note(
            trailers.one_line(operation) or "transaction",
            serial,
            time,
            by.pid,
            by.host,
            tuple(changed_keys),
            trailers.clean_message(message),
            extra or {},
        )

    def _keep(self, *objects: GitObject) -> None:
        self._objects.update((made.id, made) for made in objects)

    def _move(self, name: str, new: str) -> None:
        drafted = self._refs.get(name)
        expected = drafted.expected if drafted else (self._ref(name),)
        self._refs[name] = RefChange(name, expected, new)
