"""Importer: makes versions, named backups and lines of the audit trail of what legacy.py finds.

It is done in several records, each small enough to be held in memory, and the lock is free in between. What is in a
record is known from then on, by the same record, so whoever is interrupted leaves the rest to the next one.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gitstate import codec
from gitstate.audit import Archive
from gitstate.codec import Encoded
from gitstate.draft import ARCHIVE, ASIDE, BACKUPS, IMPORTED, Draft, Head
from gitstate.errors import Problem, StateReadError, StateValidationError, moved
from gitstate.imports import LINES_OF_A_FILE, Imports
from gitstate.legacy import ref_name
from gitstate.progress import counted, counting
from gitstate.repository import BRANCH, blob_id, make_blob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gitstate.legacy import Backup, Entry, OldLayout
    from gitstate.progress import ProgressCallback
    from gitstate.statefile import Found
    from gitstate.store import Store
    from gitstate.writer import Writer

_SOURCE: Final = "Imported"
"""The field of a version's message that says which file it was."""

_FOLDER: Final = ASIDE.removeprefix(BACKUPS)

_BYTES_OF_A_RECORD: Final = 2 * 1024 * 1024
_BACKUPS_OF_A_RECORD: Final = 100
_LINES_OF_A_RECORD: Final = 5 * LINES_OF_A_FILE

_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import has taken in.

    Attributes:
        versions: how many backups have become versions, on the branch or beside it.
        audit: how many lines of the log have become lines of the audit trail.
        skipped: what could not be used: its path and why, a line each. It is still where it was.
        unchanged: how many backups hold what the one before them does, and are that same version.
        names: the names of the versions beside the branch, oldest first.
    """

    versions: int
    audit: int
    skipped: tuple[str, ...]
    unchanged: int = 0
    names: tuple[str, ...] = ()


class _Copy(NamedTuple):
    """A backup that can be used, and has not been taken in."""

    backup: Backup
    blob: str
    content: bytes
    encoded: Encoded

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others: the file's name, and what that held."""
        return self.backup.file, self.blob


class Importer:
    """Takes what is `old` into the history of the state that `writer` writes; `tell` is told how far that is."""

    def __init__(self, old: OldLayout, writer: Writer, tell: ProgressCallback) -> None:
        self._old = old
        self._tell = tell
        self._writer = writer
        self._store = writer.store
        self._versions = self._unchanged = 0
        self._names: list[str] = []

    def take_in(self, timeout: float | None) -> ImportReport:
        """Commits what has not been taken in yet.

        Raises:
            StateReadError: the system does not let us read a part of it; what is before that is taken in.
            StateValidationError: a backup is called `import`, where others are to be; as above.
            StateError: as a transaction; as above.
        """
        self._take_backups(timeout)
        return self._report(self._take_lines(timeout))

    def plan(self) -> ImportReport:
        """What `take_in` would take in, as things stand. Changes nothing, and waits for nobody.

        Raises:
            StateReadError, StateValidationError: as `take_in`.
        """
        refs, store = self._store.reader.refs(), self._store
        imports = self._imports(refs.get(IMPORTED))
        commit = store.repository.commit(refs[BRANCH]) if BRANCH in refs else None
        file_name, head = store.layout.file_name, None
        if commit is not None:
            head = Head(commit, store.repository.file_id(commit.tree, file_name))
        begins = _begins(head, imports)
        left = deque(self._old.backups())
        known = imports.backups() if left else set()
        with counting(self._tell, "importing", len(left)) as seen:
            while left:
                some = self._read_some(left, known, seen)
                # As a record would be put together; what is drafted here nobody commits.
                author = self._writer.policy.author
                draft = Draft(head, file_name=file_name, author=author, ref=refs.get)
                self._count(self._place(some, draft, Encoded(b"{}"), begins=begins)[0], head)
                head = draft.head
        with counting(self._tell, "reading") as seen:
            audit = sum(1 for _ in counted(self._old.entries(imports.lines()), seen))
        return self._report(audit)

    def _report(self, audit: int) -> ImportReport:
        skipped = tuple(self._old.skipped)
        return ImportReport(self._versions, audit, skipped, self._unchanged, tuple(self._names))

    # -- backups -------------------------------------------------------------------------------------------------

    def _take_backups(self, timeout: float | None) -> None:
        left = deque(self._old.backups())
        imports = self._imports(self._store.reader.refs().get(IMPORTED))
        known = imports.backups() if left else set()
        with counting(self._tell, "importing", len(left)) as seen:
            while left:
                some = self._read_some(left, known, seen)
                # Also without any: the last of them may be what is left of an import that was interrupted.
                if some or imports.unfinished:
                    with self._writer.changing("import", timeout) as state:
                        imports = self._commit_some(some, state, last=not left)

    def _read_some(
        self, left: deque[Backup], known: set[tuple[str, str]], seen: Callable[[], None]
    ) -> list[_Copy]:
        """The next copies of those that are `left`, as many as fit into a record."""
        some: list[_Copy] = []
        size = 0
        while left and size < _BYTES_OF_A_RECORD and len(some) < _BACKUPS_OF_A_RECORD:
            backup = left.popleft()
            seen()
            content = self._old.content(backup)
            if content is None or (backup.file, blob := blob_id(content)) in known:
                continue
            allow_nan = self._writer.policy.allow_nan
            try:
                document = codec.decode_foreign(content, allow_nan=allow_nan)
            except StateReadError as error:
                self._old.skip(backup.file, str(error))
                continue
            encoded = codec.encoded(document, allow_nan=allow_nan)
            some.append(_Copy(backup, blob, content, Encoded(encoded.content)))
            size += len(content)
        return some

    def _commit_some(self, some: list[_Copy], state: Found, *, last: bool) -> Imports:
        """Puts copies on the branch if that is theirs, else beside it; under the lock. Gives what is imported now."""
        draft = self._draft()
        imports = self._imports(self._tip())
        known = imports.backups()  # another import may have come between
        head = draft.head
        begins = _begins(head, imports)
        before = self._writer.newest(draft, state)
        copies = [each for each in some if each.key not in known]
        rows, before = self._place(copies, draft, before, begins=begins)
        unfinished = begins and not last and draft.head is not None
        if begins and last:
            self._put_state(draft, state, before)
        imports.extend(draft, backups=rows, unfinished=unfinished)
        self._writer.commit(draft, state)
        self._count(rows, head)
        return self._imports(self._store.ref(IMPORTED))

    def _place(
        self, copies: list[_Copy], draft: Draft, before: Encoded, *, begins: bool
    ) -> tuple[list[dict[str, Any]], Encoded]:
        """Puts copies on the branch, if it `begins` with such, else beside it.

        Gives what is to be known of them, and what the newest version holds, which was `before`.
        """
        rows: list[dict[str, Any]] = []
        for copy in copies:
            if begins and not (draft.head and copy.backup.time < draft.head.commit.note.time):
                rows.append(_row(copy, self._put_on_branch(draft, copy, before), None))
                before = copy.encoded
            else:
                name = self._free_name(copy, draft)
                rows.append(_row(copy, self._put_aside(draft, copy, name), name))
        return rows, before

    def _count(self, rows: list[dict[str, Any]], head: Head | None) -> None:
        """Counts what has become of copies; `head` was the newest version before."""
        made = {row["commit"] for row in rows} - {head.commit.id if head else ""}
        self._versions += len(made)
        self._unchanged += len(rows) - len(made)
        self._names += [row["name"] for row in rows if row["name"]]

    def _put_on_branch(self, draft: Draft, copy: _Copy, before: Encoded) -> str:
        """The id of the version that holds the copy: a new one, unless the newest does."""
        if draft.head is None or draft.head.blob != copy.blob:
            keys = copy.encoded.difference(before).keys
            extra, time = {_SOURCE: copy.backup.file}, _time_of(copy)
            draft.add_version(make_blob(copy.content), "import", keys, extra=extra, time=time)
        return draft.head.commit.id if draft.head else ""

    def _put_aside(self, draft: Draft, copy: _Copy, name: str) -> str:
        keys = copy.encoded.difference(Encoded(b"{}")).keys
        extra, time = {_SOURCE: copy.backup.file}, _time_of(copy)
        name = name.removeprefix(_FOLDER)
        return draft.add_aside(name, make_blob(copy.content), keys, extra=extra, time=time)

    def _free_name(self, copy: _Copy, draft: Draft) -> str:
        """What the copy is called beside the branch; a number follows where a file of that name held something else."""
        if draft.at(ASIDE.removesuffix("/")) is not None:
            raise _in_the_way()
        first = _FOLDER + ref_name(copy.backup.file)
        names = (first if number == 1 else f"{first}-{number}" for number in count(1))
        return next(name for name in names if draft.at(BACKUPS + name) is None)

    def _put_state(self, draft: Draft, state: Found, before: Encoded) -> None:
        """The state as it stands comes on top of what it was before."""
        if draft.head is None or state.content is None or draft.head.blob == state.blob:
            return
        try:
            document = self._writer.document(state)
        except StateReadError:
            return  # it stays as it is, and is kept when a restore replaces it
        now = codec.encoded(document, allow_nan=self._writer.policy.allow_nan)
        operation = "external_edit" if state.foreign else "backup"
        draft.add_version(make_blob(state.content), operation, now.difference(before).keys)

    # -- the log -------------------------------------------------------------------------------------------------

    def _take_lines(self, timeout: float | None) -> int:
        """How many lines of the log have become lines of the audit trail."""
        done, earlier = 0, list(self._old.skipped)
        while True:
            tip = self._store.reader.refs().get(IMPORTED)
            timeline = Timeline(self._store)
            with counting(self._tell, "reading") as seen:
                entries = counted(self._old.entries(self._imports(tip).lines()), seen)
                while some := _portion(entries):
                    rows = [_row_of_line(entry, timeline) for entry in sorted(some, key=_by_time)]
                    added = self._commit_lines(rows, tip, timeout)
                    if added is None:
                        break
                    done, tip = done + len(rows), added
                else:
                    return done
            # Another import came between: what that has taken in is known now.
            self._old.skipped[:] = earlier

    def _commit_lines(
        self, rows: list[dict[str, Any]], tip: str | None, timeout: float | None
    ) -> str | None:
        """The id of what is imported now; None where that was not at `tip` any more, and nothing was done."""
        with self._writer.changing("import", timeout) as state:
            if self._tip() != tip:
                return None
            draft, imports = self._draft(), self._imports(tip)
            imports.extend(draft, lines=rows, unfinished=imports.unfinished)
            self._writer.commit(draft, state)
            return self._store.ref(IMPORTED)

    def _tip(self) -> str | None:
        """Where the list of what was imported is. Under the lock.

        Raises:
            StateConflictError: somebody else moved it; what it said would be taken in once more.
        """
        known = self._store.ref(IMPORTED)
        at = self._store.reader.refs(recover=False).get(IMPORTED)
        if at != known:
            raise moved(self._store.layout.git_dir, IMPORTED, known, at)
        return known

    def _draft(self) -> Draft:
        return self._store.draft(self._writer.policy.author)

    def _imports(self, tip: str | None) -> Imports:
        return Imports(self._store.repository, tip)


class Timeline:
    """Which version of `store` was current when, asked for one moment after the other."""

    def __init__(self, store: Store) -> None:
        self._chain = store.chain
        refs = store.reader.refs()
        self._head = refs.get(BRANCH)
        self._archive = Archive(store.repository, refs.get(ARCHIVE))
        self._pruned: list[datetime] | None = None
        # From and until when the version is the current one.
        self._known = _LAST, _FIRST, 0

    def serial_at(self, moment: datetime) -> int:
        """The number of the version that was current at `moment`, 0 before the first.

        Raises:
            StateReadError: the history is damaged.
        """
        since, until, _ = self._known
        if not since <= moment < until:
            self._known = self._look(moment)
        return self._known[2]

    def _look(self, moment: datetime) -> tuple[datetime, datetime, int]:
        if self._head is None:
            return _FIRST, _LAST, 0
        if self._known == (_LAST, _FIRST, 0):
            self._chain.extend(self._head, sys.maxsize)  # or each look would walk
        found = self._chain.current_at(self._head, moment)
        if found is not None:
            after = self._chain.at(self._head, found.note.serial + 1)
            return found.note.time, after.note.time if after else _LAST, found.note.serial
        oldest = self._chain.oldest()
        if self._pruned is None:
            lines = self._archive.before(oldest)
            self._pruned = [datetime.fromisoformat(line["timestamp"]) for line in lines][::-1]
        serial = bisect_right(self._pruned, moment)
        since = self._pruned[serial - 1] if serial else _FIRST
        if serial < len(self._pruned):
            return since, self._pruned[serial], serial
        kept = self._chain.at(self._head, oldest)
        return since, kept.note.time if kept else _LAST, serial


def _begins(head: Head | None, imports: Imports) -> bool:
    """Whether copies are the branch's: before there is one, or as long as an import of such goes on."""
    return head is None or (imports.unfinished and _SOURCE in head.commit.note.extra)


def _portion(entries: Iterator[Entry]) -> list[Entry]:
    """The next lines of a log, as many as fit into a record."""
    some: list[Entry] = []
    size = 0
    for entry in entries:
        some.append(entry)
        size += entry.size
        if size >= _BYTES_OF_A_RECORD or len(some) == _LINES_OF_A_RECORD:
            break
    return some


def _time_of(copy: _Copy) -> datetime:
    """When a copy was made. A time that is still to come is wrong, and what is done from now on would have to be later."""
    return min(copy.backup.time, datetime.now(UTC))


def _row(copy: _Copy, commit_id: str, name: str | None) -> dict[str, Any]:
    return {"file": copy.backup.file, "blob": copy.blob, "commit": commit_id, "name": name}


def _row_of_line(entry: Entry, timeline: Timeline) -> dict[str, Any]:
    row = {**entry.line, "serial": timeline.serial_at(entry.time), "imported": entry.hash}
    return {**row, "more": entry.more} if entry.more else row


def _by_time(entry: Entry) -> datetime:
    return entry.time


def _in_the_way() -> StateValidationError:
    name = _FOLDER.removesuffix("/")
    expected = "no backup of that name, as imported ones are called import/..."
    return StateValidationError(
        f"a backup is called {name!r}: expected {expected}. The state is untouched, and what was imported before stays."
        f" Give that version another name, delete_backup({name!r}), and run it again.",
        problems=(Problem("", expected, repr(name)),),
        code="backup-name",
    )
