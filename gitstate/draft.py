"""Draft: the record of one transaction while it is being put together.

It turns what happened (a new version, a name for one, a failure, bytes worth keeping) into Git objects and ref
changes. Nothing here touches the disk: a draft becomes real when `Store.commit` appends it to the journal.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gitstate import trailers
from gitstate.lock import host
from gitstate.record import GitObject, RefChange
from gitstate.repository import BRANCH, Commit, make_blob, make_commit, make_tree
from gitstate.trailers import Note

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

BACKUPS: Final = "refs/backups/"
ASIDE: Final = "refs/backups/import/"
"""Backups that were imported beside a branch that had begun."""

CORRUPT: Final = "refs/corrupt/"
KEPT: Final = "Kept-As"
"""The field that tells a commit of bytes worth keeping from a version."""

REROOTED: Final = "Rerooted-From"
"""The field that tells which hash a version had before `reroot`."""

LINE: Final = "Line"
"""The field by which two lines of the audit trail differ that say the same."""

AUDIT: Final = "refs/audit/"
ARCHIVE: Final = "refs/audit/archive"
"""The lines of the audit trail that stand for pruned versions."""

IMPORTED: Final = "refs/audit/import"
"""What was imported, and the lines of the audit trail among that."""

FAILURES: Final = "refs/audit/failures"
UNVERSIONED: Final = "refs/audit/unversioned"
"""Transactions that changed the state without making a version (`backup_before_write=False`)."""


def backups_among(refs: Mapping[str, str]) -> dict[str, str]:
    """The named backups among `refs`: the ids of their commits, by the names that users gave them."""
    return {name[len(BACKUPS) :]: at for name, at in refs.items() if name.startswith(BACKUPS)}


def is_join(commit: Commit) -> bool:
    """Whether a commit of the audit trail is no line of it, but says that what others noted belongs to it as well."""
    return len(commit.parents) > 1


@dataclass(frozen=True, slots=True)
class Head:
    """The newest version: its commit, and the blob id of its state."""

    commit: Commit
    blob: str


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
        time: datetime | None = None,
    ) -> Head:
        """Puts a version whose state is `blob` on top of the branch; `head` is that version from then on.

        One that others made before gets the `time` at which they did, but for that of a newer parent.
        """
        tree = make_tree({self._file_name: blob.id})
        serial = self.head.commit.note.serial + 1 if self.head else 1
        note = self._note(operation, serial, changed_keys, message, extra)
        if time is not None:
            time = max(time, self.head.commit.note.time) if self.head else time
            note = _made_before(note, time)
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
    ) -> None:
        """Puts a line of the audit trail on `ref`: a commit of the empty tree, numbered as the version it came upon."""
        tree = make_tree({})
        serial = self.head.commit.note.serial if self.head else 0
        # Where a clock lags, several have the same time, and are to be told from one that stands behind two others.
        extra = {**extra, LINE: secrets.token_hex(4)}
        note = self._note(operation, serial, changed_keys, message, extra)
        parent = self.at(ref)
        made = make_commit(tree.id, (parent,) if parent else (), self._author, note)
        self._keep(tree, made)
        self._move(ref, made.id)

    def join(self, ref: str, theirs: str, descends: Callable[[str, str], bool]) -> None:
        """Sees that `ref` leads to all lines of the audit trail that `theirs` leads to, a commit that is there.

        If neither is ahead of the other, as `descends` tells, a commit with both for parents comes on top, which is no line
        itself. For whoever has either of them it is a step forward.
        """
        if not self.catch_up(ref, theirs, descends):
            tree = make_tree({})
            serial = self.head.commit.note.serial if self.head else 0
            note = self._note("join", serial, (), "", None)
            parents = filter(None, (self.at(ref), theirs))
            made = make_commit(tree.id, tuple(parents), self._author, note)
            self._keep(tree, made)
            self._move(ref, made.id)

    def catch_up(self, ref: str, theirs: str, descends: Callable[[str, str], bool]) -> bool:
        """Whether `ref` leads to `theirs`, to where it is moved if that leads to all that the ref does."""
        ours = self.at(ref)
        if ours is not None and descends(ours, theirs):
            return True
        if ours is None or descends(theirs, ours):
            self._move(ref, theirs)
            return True
        return False

    def at(self, ref: str) -> str | None:
        """Where a ref will be; None if there will be none."""
        drafted = self._refs.get(ref)
        return drafted.new if drafted else self._ref(ref)

    def add_aside(
        self,
        name: str,
        blob: GitObject,
        changed_keys: Sequence[str],
        *,
        extra: dict[str, str],
        time: datetime,
    ) -> str:
        """Keeps a state that others made at a `time` under a name of its own; gives the id of its commit.

        That has no parent, so that it goes with its name, and the number 0, as it is none of the branch's.
        """
        tree = make_tree({self._file_name: blob.id})
        note = _made_before(self._note("import", 0, changed_keys, "", extra), time)
        made = make_commit(tree.id, (), self._author, note)
        self._keep(blob, tree, made)
        self._move(ASIDE + name, made.id)
        return made.id

    def keep_corrupt(self, content: bytes) -> str:
        """Keeps bytes that are not a state under a ref of their own, and gives its name; the same bytes once."""
        blob = make_blob(content)
        name = f"{CORRUPT}{blob.id[:16]}"
        if self._ref(name) is None:
            tree = make_tree({self._file_name: blob.id})
            serial = self.head.commit.note.serial if self.head else 0
            made = make_commit(
                tree.id, (), self._author, self._note("corrupt", serial, (), "", {KEPT: name})
            )
            self._keep(blob, tree, made)
            self._move(name, made.id)
        return name

    def pin(self, name: str, commit_id: str) -> None:
        """Names a version: a ref of its own keeps it beyond the window."""
        self._move(BACKUPS + name, commit_id)

    def unpin(self, name: str) -> None:
        """Takes a version's name away."""
        self._move(BACKUPS + name, None)

    def take_over(self, head: Head, state: tuple[bytes, GitObject] | None) -> None:
        """Puts the branch where another machine has brought it; its objects are durable in the repository already."""
        self.head = head
        self.state = state
        self._move(BRANCH, head.commit.id)

    def keep(self, made: GitObject) -> None:
        """Puts an object into it, to which a ref that is moved leads."""
        self._keep(made)

    def set_ref(self, name: str, at: str | None) -> None:
        """Puts a ref, of which the objects are in the repository already, where a remote has it; None: it goes."""
        self._move(name, at)

    def keep_archive(
        self, lines: Mapping[bytes, GitObject], kept: Mapping[bytes, str], last: int
    ) -> str:
        """Puts files of audit lines into the archive, beside those that are `kept`; up to version `last`.

        Gives the id of its commit. It has no parent: what it takes over it holds itself.
        """
        tree = make_tree({**kept, **{name: blob.id for name, blob in lines.items()}})
        message = f"archive: versions 1 to {last}"
        note = replace(self._note("prune", last, (), message, {KEPT: ARCHIVE}), serial=last)
        made = make_commit(tree.id, (), self._author, note)
        self._keep(*lines.values(), tree, made)
        self._move(ARCHIVE, made.id)
        return made.id

    def keep_imports(
        self,
        files: Mapping[bytes, GitObject],
        kept: Mapping[bytes, str],
        extra: dict[str, str],
        *,
        theirs: str | None = None,
    ) -> str:
        """Puts files of what was imported beside those that are `kept`, and gives the id of the commit.

        It holds all of that itself, and has a parent only so that for others it is a step forward. With a second one,
        `theirs`, it is also one from there.
        """
        tree = make_tree({**kept, **{name: blob.id for name, blob in files.items()}})
        serial = self.head.commit.note.serial if self.head else 0
        extra = {KEPT: IMPORTED, **extra}
        note = self._note("import", serial, (), "import: what was taken in", extra)
        parents = filter(None, (self.at(IMPORTED), theirs))
        made = make_commit(tree.id, tuple(parents), self._author, note)
        self._keep(*files.values(), tree, made)
        self._move(IMPORTED, made.id)
        return made.id

    def _note(
        self,
        operation: str,
        serial: int,
        changed_keys: Sequence[str],
        message: str,
        extra: dict[str, str] | None,
    ) -> Note:
        time = datetime.now(UTC)
        if self.head is not None:
            time = max(time, self.head.commit.note.time)  # a clock may go backwards (PITFALLS O6)
        return Note(
            trailers.one_line(operation) or "transaction",
            serial,
            time,
            os.getpid(),
            host(),
            tuple(changed_keys),
            trailers.clean_message(message),
            extra or {},
        )

    def _keep(self, *objects: GitObject) -> None:
        self._objects.update((made.id, made) for made in objects)

    def _move(self, name: str, new: str | None) -> None:
        drafted = self._refs.get(name)
        expected = drafted.expected if drafted else (self._ref(name),)
        self._refs[name] = RefChange(name, expected, new)


def _made_before(note: Note, time: datetime) -> Note:
    """`note` of what was made at a `time`, nobody knows by which process, and where."""
    return replace(note, time=time, pid=0, host="")
