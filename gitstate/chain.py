"""Chain: the versions along the branch, newest first, by their number, or by the time at which they were current.

A version is pruned as soon as its line is in the archive of the audit trail, durably: see audit.py. Behind that the chain
begins, whatever objects are still there, and whatever is in Git's file `shallow`, which follows.

Whoever walks from the newest version to an old one reads each commit in between. So where each version is stands in a
file beside the repository, which can be made of the commits again and is never flushed: what is in it counts only as
far as the commits agree. Who had to walk, as a row was damaged, puts right what was passed.

The format, a part of the store's format 1: rows of 32 bytes, that of version `n` behind `n` others, little-endian::

    row := commit id (20 bytes) time:i64 (microseconds since 1970) crc32:u32 of n:u64, id and time

Row 0 is zeros.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import struct
import zlib
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from gitstate import files, trailers
from gitstate.draft import ARCHIVE, BACKUPS, is_join
from gitstate.errors import StateError, StateReadError, VersionNotFoundError, VersionPrunedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gitstate.layout import Layout
    from gitstate.repository import Commit, Repository

_ROW: Final = struct.Struct("<20sqI")
_CHECKED: Final = struct.Struct("<Q20sq")
_NEAR: Final = 8
"""Versions that are walked sooner than looked up."""

_FAR: Final = 2000
"""Versions whose walk costs more than making the rows anew once."""

_FLAGS: Final = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class _Row(NamedTuple):
    id: str
    time: datetime


class Chain:
    """The chain of versions in `repository`."""

    def __init__(self, layout: Layout, repository: Repository) -> None:
        self._layout = layout
        self._repository = repository
        # The newest version, and the number and id of the last row, that were found to agree.
        self._agreed: tuple[str, int, str] | None = None

    def walk(self, head: str | None) -> Iterator[Commit]:
        """The version `head` and those before it, newest first, as far as they are kept; none for None.

        Raises:
            StateReadError: one is missing or damaged; raised when the walk comes to it.
        """
        oldest = self.oldest() if head is not None else 1
        last: Commit | None = None
        while head is not None:
            try:
                commit = self._repository.commit(head)
            except StateReadError:
                # It may have been pruned since we began.
                if last is not None and last.note.serial <= self.oldest():
                    return
                raise
            yield commit
            last = commit
            goes_on = commit.parents and commit.note.serial > oldest
            head = commit.parents[0] if goes_on else None

    def trail(self, tip: str | None) -> Iterator[Commit]:
        """The lines that `tip`, of a ref of the audit trail, leads to, each once, newest first; none for None.

        Raises:
            StateReadError: one is missing or damaged; raised when the walk comes to it.
        """
        while tip is not None:
            commit = self._repository.commit(tip)
            if is_join(commit):
                yield from self._joined(commit)
                return
            yield commit
            tip = commit.parents[0] if commit.parents else None

    def descends(self, tip: str, other: str) -> bool:
        """Whether `tip`, of a ref of the audit trail, leads to `other`, a commit that is there.

        Behind lines of an older version nobody looks. Where the numbers began anew, as behind a repair that found no
        version, it may be wrong, and says no.

        Raises:
            StateReadError: a commit that must be read is missing or damaged.
        """
        if tip == other:
            return True
        oldest = self._repository.commit(other).note.serial
        for commit in self._led_to(self._repository.commit(tip)):
            if other in commit.parents:
                return True
            if commit.note.serial < oldest and not is_join(commit):
                return False
        return False

    def oldest(self) -> int:
        """The number of the oldest version that is kept along the branch; 1 where nothing was pruned."""
        # Damage to the archive is no way to lose versions.
        with contextlib.suppress(StateReadError):
            tried = None
            while (tip := self._repository.refs.read(ARCHIVE)) not in (None, tried):
                try:
                    return self._repository.commit(tip).note.serial + 1
                except StateReadError:
                    # Another one may have come in its place, and its space been given back.
                    tried = tip
        return 1

    def pruned(self, name: object, serial: int) -> VersionPrunedError:
        """The error that a version was pruned."""
        nearest = self._nearest(serial)
        return VersionPrunedError(
            f"version {serial} has been pruned, older than what is kept: {name!r}: {self._layout.state}. Nothing was"
            f" changed. The nearest that is kept is {nearest}; get_transaction_history() has the line of this one.",
            name=str(name),
            nearest=nearest,
            path=self._layout.state,
        )

    def lost(self, name: object, serial: int) -> VersionNotFoundError:
        """The error that damage had taken a version when the store was repaired."""
        return VersionNotFoundError(
            f"version {serial} is lost, it could not be read any more when the store was repaired: {name!r}:"
            f" {self._layout.state}. Nothing was changed. The nearest that is kept is {self._nearest(serial)}; a clone that"
            " has this one may give it back by git fetch.",
            name=str(name),
            path=self._layout.state,
            code="version-lost",
        )

    def missing(self, serial: int) -> StateReadError:
        """The error that a version that is kept cannot be found."""
        return StateReadError(
            f"version {serial}, which should be kept, is missing: {self._repository.git_dir}. Nothing was given back."
            " state.verify() lists all that is damaged.",
            path=self._repository.git_dir,
            code="object-missing",
        )

    def at(self, head: str, serial: int) -> Commit | None:
        """The version with a number among `head` and those before it, None where there is none, or none any more.

        Raises:
            StateReadError: a commit on the way to it is missing or damaged.
        """
        newest = self._repository.commit(head)
        steps = newest.note.serial - serial
        if steps < 0 or serial < 1 or serial < self.oldest():
            return None
        if steps > _NEAR:
            found = self._looked_up(newest, serial)
            if found is None and steps > _FAR and self._make_anew(head):
                found = self._looked_up(newest, serial)
            if found is not None:
                return found
        found = self._walked_to(newest, newest, lambda each: each.note.serial <= serial)
        return found if found is not None and found.note.serial == serial else None

    def current_at(self, head: str, moment: datetime) -> Commit | None:
        """The newest of `head` and its ancestors that is not younger than `moment`, None where all are.

        Raises:
            StateReadError: a commit on the way to it is missing or damaged.
        """
        newest = self._repository.commit(head)
        serial = self._first_after(newest, moment)
        if serial is None and newest.note.serial > _FAR and self._make_anew(head):
            serial = self._first_after(newest, moment)
        start = self.at(head, serial) if serial is not None else None
        if start is None or start.note.time <= moment:
            start = newest
        return self._walked_to(newest, start, lambda each: each.note.time <= moment)

    def extend(self, head: str, most: int) -> None:
        """Brings the rows up to `head`, unless more than `most` are missing.

        Nobody is kept out: whoever else is at it writes the same rows, and what one cuts off is written again. A refusal
        by the disk, or damage, is no matter either.
        """
        with contextlib.suppress(OSError, StateError), self._opened(os.O_RDWR | os.O_CREAT) as file:
            last = _last(file)
            rows: list[bytes] = []
            for commit in self.walk(head):
                row = _read(file, commit.note.serial) if commit.note.serial <= last else None
                if row is not None and row.id == commit.id:
                    break
                if len(rows) == most:
                    return
                rows.append(_encode(commit))
            if rows:
                # A crash in here leaves rows that do not agree with what is behind them, or with their sums.
                end = (self._repository.commit(head).note.serial + 1) * _ROW.size
                content = b"".join(reversed(rows))
                files.write_all(file, content, end - len(content))
                os.ftruncate(file, end)

    def written(self) -> dict[str, int]:
        """The numbers of the versions that have a row, by their ids, whether or not the commits agree."""
        found: dict[str, int] = {}
        with (
            contextlib.suppress(FileNotFoundError, IsADirectoryError),
            self._opened(os.O_RDONLY) as file,
        ):
            for serial in range(1, _last(file) + 1):
                if (row := _read(file, serial)) is not None:
                    found[row.id] = serial
        return found

    def _joined(self, join: Commit) -> Iterator[Commit]:
        """The lines that a join leads to, each once, newest first."""
        # One that a repair has put behind another has another id from then on.
        told: set[bytes] = set()
        for commit in self._led_to(join):
            line = trailers.encode(commit.note)
            if line not in told and not is_join(commit):
                told.add(line)
                yield commit

    def _led_to(self, tip: Commit) -> Iterator[Commit]:
        """`tip`, and all that it leads to, each once, the newest of those that are ahead first."""
        seen = {tip.id}
        ahead = [(False, 0, timedelta(), tip.id, tip)]
        while ahead:
            *_, commit = heapq.heappop(ahead)
            yield commit
            for parent in commit.parents:
                if parent not in seen:
                    seen.add(parent)
                    found = self._repository.commit(parent)
                    note = found.note
                    # What is behind a join may be newer than that, by another clock.
                    order = not is_join(found), -note.serial, _EPOCH - note.time
                    heapq.heappush(ahead, (*order, parent, found))

    def _walked_to(
        self, newest: Commit, start: Commit, wanted: Callable[[Commit], bool]
    ) -> Commit | None:
        """The first wanted one of `start`, which is `newest` or before it, and those before that; None where none is.

        If that was far, its row could not be used: the rows of all that were passed are put right.

        Raises:
            StateReadError: a commit on the way is missing or damaged.
        """
        rows: list[bytes] = []
        for commit in self.walk(start.id):
            rows.append(_encode(commit))
            if wanted(commit):
                if len(rows) > _NEAR and start.note.serial - commit.note.serial + 1 == len(rows):
                    self._put_right(newest, commit.note.serial, rows[::-1])
                return commit
        return None

    def _put_right(self, newest: Commit, serial: int, rows: list[bytes]) -> None:
        """Writes those of the rows, of which the first is that of version `serial`, for which there is a place already.

        As in `extend`, others may be at it, and a refusal by the disk, or damage elsewhere, is no matter.
        """
        with contextlib.suppress(OSError, StateError), self._opened(os.O_RDWR) as file:
            if not self._agrees(file, newest):
                self.extend(newest.id, len(rows))
            if self._agrees(file, newest):
                # A crash in here leaves a row that does not agree with its sum, as before.
                places = max(0, min(_last(file), newest.note.serial) + 1 - serial)
                files.write_all(file, b"".join(rows[:places]), serial * _ROW.size)

    def _make_anew(self, head: str) -> bool:
        """Whether the rows could be made anew: not where there is damage on the way, or the disk refuses."""
        with contextlib.suppress(OSError, StateError):
            rows = [_encode(commit) for commit in self.walk(head)]
            pruned = self._repository.commit(head).note.serial - len(rows)
            unknown = bytes(_ROW.size) * (1 + pruned)
            files.replace(self._layout.serials, unknown + b"".join(reversed(rows)))
            return True
        return False

    def _nearest(self, serial: int) -> int:
        """The number of the version next to one that is gone."""
        kept = (self.oldest(), *self._kept_alone())
        return min(kept, key=lambda each: abs(each - serial))

    def _kept_alone(self) -> Iterator[int]:
        """The numbers of the versions that only their names keep."""
        with contextlib.suppress(StateReadError):
            boundary = self._repository.shallow.read()
            for at in self._repository.refs.all(BACKUPS).values():
                if at in boundary:
                    yield self._repository.commit(at).note.serial

    def _looked_up(self, newest: Commit, serial: int) -> Commit | None:
        """The version `serial` by its row; None where the rows cannot be used."""
        row = None
        with contextlib.suppress(OSError), self._opened(os.O_RDONLY) as file:
            if self._agrees(file, newest):
                row = _read(file, serial)
        if row is None:
            return None
        # Damage is no fault of the row: to walk there would end at the same commit.
        found = self._repository.commit(row.id)
        return found if found.note.serial == serial else None

    def _first_after(self, newest: Commit, moment: datetime) -> int | None:
        """The number of the first version that is younger than `moment` by the rows, else that of `newest`.

        None where the rows cannot be used.
        """
        with contextlib.suppress(OSError), self._opened(os.O_RDONLY) as file:
            if not self._agrees(file, newest):
                return None
            low, high = self.oldest(), _last(file) + 1
            while low < high:
                middle = (low + high) // 2
                row = _read(file, middle)
                # Behind a row that is damaged the walk that follows goes on, to whatever is older.
                older = row is None or row.time <= moment
                low, high = (middle + 1, high) if older else (low, middle)
            return low if low <= _last(file) else newest.note.serial
        return None

    def _agrees(self, file: int, newest: Commit) -> bool:
        """Whether the row of `newest`, or the last one, of an ancestor that is not far, is as the commits say."""
        # Who holds on to an older head finds rows beyond it: others commit meanwhile.
        last = min(_last(file), newest.note.serial)
        row = _read(file, last)
        steps = newest.note.serial - last
        if row is None or not 0 <= steps <= _FAR:
            return False
        if self._agreed != (newest.id, last, row.id):
            if not any(
                each.id == row.id for each in islice(self.walk(newest.id), steps, steps + 1)
            ):
                return False
            self._agreed = newest.id, last, row.id
        return True

    @contextlib.contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        file = os.open(self._layout.serials, flags | _FLAGS, 0o600)
        try:
            yield file
        finally:
            os.close(file)


def _encode(commit: Commit) -> bytes:
    made_id, note = bytes.fromhex(commit.id), commit.note
    time = (note.time - _EPOCH) // _MICROSECOND
    return _ROW.pack(made_id, time, zlib.crc32(_CHECKED.pack(note.serial, made_id, time)))


def _last(file: int) -> int:
    """The number of the last row."""
    return os.fstat(file).st_size // _ROW.size - 1


def _read(file: int, serial: int) -> _Row | None:
    """The row of a version, None where there is none, or a damaged one."""
    content = files.read_at(file, _ROW.size, serial * _ROW.size) if serial > 0 else b""
    if len(content) < _ROW.size:
        return None
    made_id, time, checksum = _ROW.unpack(content)
    if zlib.crc32(_CHECKED.pack(serial, made_id, time)) != checksum:
        return None
    return _Row(made_id.hex(), _EPOCH + time * _MICROSECOND)
