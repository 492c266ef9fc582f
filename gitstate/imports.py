"""Imports: which files of another state manager were taken in, and the lines of the audit trail that its log became.

They are a commit on `refs/audit/import` with files of JSON Lines, a thousand lines in each. A line of
`backups.000000001.jsonl` says of a file what it is called, the id of what it held, and the commit that it is now. A
line of `lines.0001.000000001.jsonl` is what `get_transaction_history` gives, and `serial`, the version that it came
upon, `imported`, a hash of the line as it stood in the log, and `more`, what else that said. All that begin with
`lines.0001` are in order; what belongs before the last of them begins `lines.0002`.

Nothing is ever taken out of it: what was imported is known for good, also where the version is pruned or its name gone.
"""

from __future__ import annotations

import heapq
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gitstate.draft import IMPORTED
from gitstate.jsonl import read_lines
from gitstate.repository import make_blob

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gitstate.draft import Draft
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
        unfinished: whether more of the same import belongs on the branch.
    """

    def __init__(self, repository: Repository, tip: str | None) -> None:
        self._repository = repository
        commit = repository.commit(tip) if tip is not None else None
        self._files = repository.files(commit.tree) if commit else {}
        self.unfinished = commit is not None and _UNFINISHED in commit.note.extra

    def backups(self) -> set[tuple[str, str]]:
        """The names of the files that were taken in, each with the id of what it held.

        Raises:
            StateReadError: a part of the list is missing or damaged.
        """
        names = self._names(_BACKUPS)
        return {(row["file"], row["blob"]) for name in names for row in self._rows(name)}

    def lines(self) -> set[str]:
        """The lines of the log that were taken in, by their hashes.

        Raises:
            StateReadError: a part of the list is missing or damaged.
        """
        names = self._names(_LINES)
        return {row["imported"] for name in names for row in self._rows(name)}

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
        added: dict[bytes, bytes] = {}
        self._append(added, _BACKUPS, backups)
        if lines:
            self._append(added, self._run_of(lines[0]), lines)
        if added or unfinished != self.unfinished:
            blobs = {name: make_blob(content) for name, content in added.items()}
            draft.keep_imports(blobs, self._files, {_UNFINISHED: "yes"} if unfinished else {})

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
        run = names[-1].split(b".")[1]
        newest = _imported(self._rows(names[-1])[-1])
        goes_on = newest[:2] <= _imported(first)[:2]
        return b"%s.%04d" % (_LINES, int(run) if goes_on else int(run) + 1)

    def _run(self, kind: bytes) -> Iterator[ImportedLine]:
        for name in reversed(self._names(kind)):
            yield from map(_imported, reversed(self._rows(name)))

    def _names(self, kind: bytes) -> list[bytes]:
        return sorted(name for name in self._files if name.startswith(kind + b"."))

    def _rows(self, name: bytes) -> list[dict[str, Any]]:
        where = f"{IMPORTED}: {name.decode('ascii', 'replace')}"
        needed = {"file", "blob"} if name.startswith(_BACKUPS) else {"serial", "imported"}
        rows = self._files[name]
        return read_lines(self._repository, rows, where, lambda row: needed <= row.keys())


def _number(name: bytes) -> int:
    """The number of the first line of a file."""
    return int(name.split(b".")[-2])


def _imported(row: dict[str, Any]) -> ImportedLine:
    line = {key: value for key, value in row.items() if key not in _OF_THE_IMPORT}
    return ImportedLine(row["serial"], datetime.fromisoformat(row["timestamp"]), line)
