"""Imports: which files of another state manager were taken in, and the lines of the audit trail that its log became.

They are a commit on `refs/audit/import` with files of JSON Lines, a thousand lines in each. A line of
`backups.000000001.jsonl` says of a file what it is called, the id of what it held, and the commit that it is now. A
line of `lines.0001.000000001.jsonl` is what `get_transaction_history` gives, but for `details`, which are as the other
manager wrote them, and `serial`, the version that it came upon, `imported`, a hash of the line as it stood in the log,
and `more`, what else that said. All that begin with `lines.0001` are in order; what belongs before the last of them
begins `lines.0002`.

Nothing is ever taken out of it: what was imported is known for good, also where the version is pruned or its name gone.
The commit before it is its parent, in stores that were made by a first gitstate not of all; two, where others had
imported something else.
"""

from __future__ import annotations

import contextlib
import heapq
import json
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gitstate.draft import IMPORTED
from gitstate.jsonl import read_lines
from gitstate.repository import make_blob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from gitstate.draft import Draft
    from gitstate.record import GitObject
    from gitstate.repository import Repository

LINES_OF_A_FILE: Final = 1000

_BACKUPS: Final = b"backups"
_LINES: Final = b"lines"
_UNFINISHED: Final = "Unfinished"
_OF_THE_IMPORT: Final = ("serial", "imported", "more")


class ImportedLine(NamedTuple):
    """A line of the audit trail, and the version that it came upon."""

    serial: int
    time: datetime
    line: dict[str, Any]


class Imports:
    """What was imported, as the commit `tip` in `repository` has it; None for nothing yet.

    Attributes:
        tip: that commit.
        unfinished: whether more of the same import belongs on the branch.
    """

    def __init__(self, repository: Repository, tip: str | None) -> None:
        self.tip = tip
        self._repository = repository
        commit = repository.commit(tip) if tip is not None else None
        self._files = repository.files(commit.tree) if commit else {}
        self.unfinished = commit is not None and _UNFINISHED in commit.note.extra

    def backups(self) -> set[tuple[str, str]]:
        """The names of the files that were taken in, each with the id of what it held.

        Raises:
            StateReadError: a part of the list is missing or damaged.
        """
        return set(map(_key_of_backup, self._all_rows(_BACKUPS)))

    def lines(self) -> set[str]:
        """The lines of the log that were taken in, by their hashes.

        Raises:
            StateReadError: a part of the list is missing or damaged.
        """
        return set(map(_key_of_line, self._all_rows(_LINES)))

    def newest_first(self) -> Iterator[ImportedLine]:
        """The lines of the audit trail, newest first.

        Raises:
            StateReadError: a part of them is missing or damaged; raised when it is come to.
        """
        runs = {name.rpartition(b".")[0].rpartition(b".")[0] for name in self._names(_LINES)}
        return heapq.merge(*map(self._run, runs), key=lambda each: each[:2], reverse=True)

    def extend(
        self,
        draft: Draft,
        *,
        backups: Sequence[dict[str, Any]] = (),
        lines: Sequence[dict[str, Any]] = (),
        unfinished: bool,
    ) -> None:
        """Puts rows behind those that are there, by way of `draft`; `lines` are in order.

        Raises:
            StateReadError: the file that goes on is missing or damaged.
        """
        added = self._added(backups, lines)
        if added or unfinished != self.unfinished:
            draft.keep_imports(added, self._files, _extra(unfinished=unfinished))

    def join(self, draft: Draft, theirs: Imports) -> None:
        """Puts what others have imported, and we have not, behind what is there, by way of `draft`.

        Raises:
            StateReadError: a part of ours, or of theirs, is missing or damaged.
        """
        ours = self.backups(), self.lines()
        backups = [row for row in theirs._all_rows(_BACKUPS) if _key_of_backup(row) not in ours[0]]
        lines = [row for row in theirs._all_rows(_LINES) if _key_of_line(row) not in ours[1]]
        lines.sort(key=lambda row: _imported(row)[:2])
        unfinished = self.unfinished or theirs.unfinished
        added = self._added(backups, lines)
        draft.keep_imports(added, self._files, _extra(unfinished=unfinished), theirs=theirs.tip)

    def _added(
        self, backups: Sequence[dict[str, Any]], lines: Sequence[dict[str, Any]]
    ) -> dict[bytes, GitObject]:
        """The files that change when rows are put behind those that are there."""
        added: dict[bytes, bytes] = {}
        self._append(added, _BACKUPS, backups)
        if lines:
            self._append(added, self._run_of(lines[0]), lines)
        return {name: make_blob(content) for name, content in added.items()}

    def _append(
        self, added: dict[bytes, bytes], kind: bytes, rows: Sequence[dict[str, Any]]
    ) -> None:
        names = self._names(kind)
        begins, content = 1, b""
        if names:
            begins, content = _number(names[-1]), self._repository.read(self._files[names[-1]])
        last = begins + content.count(b"\n") - 1
        for number, row in enumerate(rows, last + 1):
            if number >= begins + LINES_OF_A_FILE:
                begins, content = number, b""
            content += json.dumps(row).encode() + b"\n"
            added[b"%s.%09d.jsonl" % (kind, begins)] = content

    def _run_of(self, first: dict[str, Any]) -> bytes:
        """What the files begin with in which the lines from `first` on are in order."""
        names = self._names(_LINES)
        if not names:
            return b"%s.%04d" % (_LINES, 1)
        run = _run(names[-1])
        newest = _imported(self._rows(names[-1])[-1])
        goes_on = newest[:2] <= _imported(first)[:2]
        return b"%s.%04d" % (_LINES, run if goes_on else run + 1)

    def _run(self, kind: bytes) -> Iterator[ImportedLine]:
        for name in reversed(self._names(kind)):
            yield from map(_imported, reversed(self._rows(name)))

    def _names(self, kind: bytes) -> list[bytes]:
        return sorted(name for name in self._files if _is_of(kind, name))

    def _all_rows(self, kind: bytes) -> Iterator[dict[str, Any]]:
        return (row for name in self._names(kind) for row in self._rows(name))

    def _rows(self, name: bytes) -> list[dict[str, Any]]:
        where = f"{IMPORTED}: {name.decode('ascii', 'replace')}"
        sound = partial(_is_sound, name.partition(b".")[0])
        return read_lines(self._repository, self._files[name], where, sound)


def join_imports(
    draft: Draft, repository: Repository, theirs: str, descends: Callable[[str, str], bool]
) -> None:
    """Sees that what others have imported, as a commit `theirs` has it that is there, is known, by way of `draft`.

    As `Draft.join`, but that a commit with both for parents has the rows of both.

    Raises:
        StateReadError: a part of ours, or of theirs, is missing or damaged.
    """
    if not draft.catch_up(IMPORTED, theirs, descends):
        Imports(repository, draft.at(IMPORTED)).join(draft, Imports(repository, theirs))


def put_behind(
    kept: Mapping[bytes, bytes], others: Iterable[tuple[bytes, bytes]]
) -> dict[bytes, GitObject]:
    """Files beside those that are `kept`, for the rows of `others` that are in none of those; by their names.

    Of both those rows count that can be read.
    """
    files: dict[bytes, GitObject] = {}
    others = list(others)
    for kind, key in ((_BACKUPS, _key_of_backup), (_LINES, _key_of_line)):
        names = sorted(name for name in kept if _is_of(kind, name))
        known = {key(row) for name in names for row in _readable(kind, kept[name])}
        found = (
            row for name, each in others if _is_of(kind, name) for row in _readable(kind, each)
        )
        rows = list({key(row): row for row in found if key(row) not in known}.values())
        begins = _number(names[-1]) + kept[names[-1]].count(b"\n") if names else 1
        name = b"%s.%09d.jsonl" % (kind, begins)
        if kind == _LINES:
            rows.sort(key=lambda row: _imported(row)[:2])
            name = b"%s.%04d.%09d.jsonl" % (kind, _run(names[-1]) + 1 if names else 1, 1)
        if rows:
            files[name] = make_blob(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return files


def _readable(kind: bytes, content: bytes) -> Iterator[dict[str, Any]]:
    """The rows of a file, as far as they can be read."""
    for line in content.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            row = json.loads(line)
            if _is_sound(kind, row):
                yield row


def _is_sound(kind: bytes, row: dict[str, Any]) -> bool:
    """Whether a row says what it must.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it does not.
    """
    if kind == _BACKUPS:
        return all(isinstance(each, str) for each in _key_of_backup(row))
    whole = isinstance(row["serial"], int) and isinstance(row["imported"], str)
    return whole and _imported(row).time.tzinfo is not None


def _is_of(kind: bytes, name: bytes) -> bool:
    return name.startswith(kind + b".")


def _extra(*, unfinished: bool) -> dict[str, str]:
    return {_UNFINISHED: "yes"} if unfinished else {}


def _key_of_backup(row: dict[str, Any]) -> tuple[str, str]:
    return row["file"], row["blob"]


def _key_of_line(row: dict[str, Any]) -> str:
    return str(row["imported"])


def _number(name: bytes) -> int:
    """The number of the first line of a file."""
    return int(name.split(b".")[-2])


def _run(name: bytes) -> int:
    """The number of those files of lines of which one is."""
    return int(name.split(b".")[1])


def _imported(row: dict[str, Any]) -> ImportedLine:
    line = {key: value for key, value in row.items() if key not in _OF_THE_IMPORT}
    line["details"] = _in_the_types_of_the_trail(line.get("details"))
    return ImportedLine(row["serial"], datetime.fromisoformat(row["timestamp"]), line)


def _in_the_types_of_the_trail(said: Any) -> dict[str, Any]:
    """The details of a line: a row has what another manager wrote there, whatever that was."""
    details = {**said} if isinstance(said, dict) else {"details": said}
    for name in {"error", "reason"} & details.keys():
        details[name] = _text(details[name])
    if "changed_keys" in details:
        keys = details["changed_keys"]
        details["changed_keys"] = [*map(_text, keys if isinstance(keys, list) else [keys])]
    return details


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
