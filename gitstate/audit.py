"""Audit: what a version, or a failure, is in the trail; and the archive, where the lines of pruned versions are.

The archive is a commit on `refs/audit/archive` with files of at most a thousand lines, each called by the number of the
first: `000001001.jsonl`. A line of it is a JSON object: what `get_transaction_history` gives, and `serial`, `author`,
`message`; and `lost` where the version was not pruned, but could not be read when the store was repaired. It begins with
version 1; the commit says by its `Serial:` how far it goes.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from gitstate.draft import ARCHIVE, REROOTED
from gitstate.jsonl import read_lines
from gitstate.repository import EMPTY_TREE, make_blob

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from gitstate.record import GitObject
    from gitstate.repository import Commit, Repository

LINES_OF_A_FILE: Final = 1000
BYTES_OF_A_FILE: Final = 256 * 1024
"""The last file is written anew whenever a line is added: neither many nor long ones must make that slow."""

_BYTES_AT_ONCE: Final = 1024 * 1024

_LOST: Final = "lost"
_OF_THE_ARCHIVE: Final = ("serial", "author", "message", _LOST)


def line_of(commit: Commit) -> dict[str, Any]:
    """The line of the audit trail that a commit is."""
    note = commit.note
    event = commit.tree == EMPTY_TREE
    failed = "Reason" in note.extra
    details: dict[str, Any] = {"changed_keys": list(note.changed_keys)}
    if REROOTED in note.extra:
        details["rerooted_from"] = note.extra[REROOTED]
    if failed:
        details = {"error": note.extra.get("Error", ""), "reason": note.extra["Reason"]}
    return {
        "timestamp": note.time.isoformat(timespec="microseconds"),
        "operation": f"{note.operation}_{'rollback' if failed else 'commit'}",
        "success": not failed,
        "pid": note.pid,
        "host": note.host,
        "commit": None if event else commit.id,
        "details": details,
    }


def archived_line(commit: Commit) -> bytes:
    """The line that stands for a version in the archive."""
    more = {
        "serial": commit.note.serial,
        "author": commit.author,
        "message": commit.note.message,
    }
    return json.dumps({**line_of(commit), **more}).encode() + b"\n"


def lost_line(serial: int, commit: Commit | None, commit_id: str | None, moment: str) -> bytes:
    """The line that stands for a version which damage has taken, as far as anybody knows.

    That is what its commit says, if that can be read; else only that there was one, at `moment` or before.
    """
    line: dict[str, Any] = {
        "timestamp": moment,
        "operation": "lost_commit",
        "success": True,
        "pid": 0,
        "host": "",
        "commit": commit_id,
        "details": {"changed_keys": []},
        "serial": serial,
        "author": "",
        "message": "",
    }
    if commit is not None:
        line = json.loads(archived_line(commit))
    return json.dumps({**line, _LOST: True}).encode() + b"\n"


def is_lost(line: dict[str, Any]) -> bool:
    """Whether a line of the archive stands for a version that was not pruned: damage has taken it."""
    return _LOST in line


def files_of(
    lines: Mapping[int, bytes], name: bytes = b"", last: bytes = b""
) -> dict[bytes, GitObject]:
    """The files of an archive into which `lines` go, by the numbers of their versions, oldest first.

    The first of them goes on where the file `name` ends, which is `last` so far.
    """
    count, size = last.count(b"\n"), len(last)
    found: dict[bytes, list[bytes]] = {name: [last]}
    for serial, line in lines.items():
        if not name or count >= LINES_OF_A_FILE or size + len(line) > BYTES_OF_A_FILE:
            name, count, size = b"%09d.jsonl" % serial, 0, 0
        found.setdefault(name, []).append(line)
        count, size = count + 1, size + len(line)
    return {name: make_blob(b"".join(lines)) for name, lines in found.items() if name}


def as_in_the_trail(line: dict[str, Any]) -> dict[str, Any]:
    """A line of the archive without what only that has."""
    return {key: value for key, value in line.items() if key not in _OF_THE_ARCHIVE}


class Archive:
    """The archive in `repository`, as its commit `tip` has it; None for none yet."""

    def __init__(self, repository: Repository, tip: str | None) -> None:
        self._repository = repository
        self._commit = repository.commit(tip) if tip is not None else None

    @property
    def tip(self) -> str | None:
        """Its commit."""
        return self._commit.id if self._commit else None

    @property
    def last(self) -> int:
        """The number of the newest version that is in it, 0 for none."""
        return self._commit.note.serial if self._commit else 0

    def before(self, serial: int) -> Iterator[dict[str, Any]]:
        """The lines of the versions before a number, newest first.

        Raises:
            StateReadError: a file of it is missing or damaged; raised when it is come to.
        """
        for name in sorted(self.files(), key=_first_of, reverse=True):
            if _first_of(name) < serial:
                yield from (line for line in reversed(self._lines(name)) if line["serial"] < serial)

    def ids(self, serials: Collection[int]) -> dict[int, str]:
        """The commits of the versions with these numbers.

        Raises:
            StateReadError: a file of it is missing or damaged.
        """
        found: dict[int, str] = {}
        starts = sorted(map(_first_of, self.files()))
        wanted = {bisect_right(starts, serial) - 1 for serial in serials if serial <= self.last}
        for name in sorted(self.files(), key=_first_of):
            if bisect_right(starts, _first_of(name)) - 1 in wanted:
                lines = {line["serial"]: line["commit"] for line in self._lines(name)}
                found |= {serial: lines[serial] for serial in serials if serial in lines}
        return found

    def extended(self, commits: Iterable[Commit]) -> tuple[dict[bytes, GitObject], int]:
        """The files that change when the versions behind the last one, oldest first, are put into the archive.

        With them the number of the last version that is in them: there may be too many for once.

        Raises:
            StateReadError: the file that goes on is missing or damaged.
        """
        known = self.files()
        name = max(known, key=_first_of, default=b"")
        last = self._repository.read(known[name]) if name else b""
        lines: dict[int, bytes] = {}
        added = 0
        for commit in commits:
            line = lines[commit.note.serial] = archived_line(commit)
            added += len(line)
            if added >= _BYTES_AT_ONCE:
                break
        return files_of(lines, name, last), max(lines, default=self.last)

    def problems(self) -> Iterable[str]:
        """What is wrong with it, a line each."""
        expected = self.last
        for line in self.before(expected + 1):
            if line["serial"] != expected:
                yield f"{ARCHIVE} has version {line['serial']} where {expected} should be"
                return
            expected -= 1
        if expected:
            yield f"{ARCHIVE} begins behind version {expected}"

    def files(self) -> dict[bytes, str]:
        """The ids of its files, by their names.

        Raises:
            StateReadError: it is missing or damaged.
        """
        return self._repository.files(self._commit.tree) if self._commit else {}

    def _lines(self, name: bytes) -> list[dict[str, Any]]:
        where = f"{ARCHIVE}: {name.decode('ascii', 'replace')}"
        return read_lines(self._repository, self.files()[name], where, _is_sound)


def _is_sound(line: dict[str, Any]) -> bool:
    """Whether a line has what it is put in its place by, and found by."""
    known = isinstance(line["serial"], int) and isinstance(line["commit"], str | None)
    return known and datetime.fromisoformat(line["timestamp"]).tzinfo is not None


def _first_of(name: bytes) -> int:
    """The number of the first version in a file of the archive, by its name."""
    digits = name.partition(b".")[0]
    return int(digits) if digits.isdigit() else 0
