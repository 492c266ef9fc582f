"""The redo journal: appending a record to it, and flushing that, is what commits a transaction.

Format 1. A generation is a file, as generations.py describes it::

    journal := part(sequence n, payload: base) part(n + 1, payload: record) part(n + 2, ...) ... zeros

with parts as part.py describes them, and payloads as record.py does. The magic of the first part is `gsbase01`, that of
the others `gsrec001`. The *base* names the refs and the state at the time the generation began; the *records* are what
has happened since, and each says where it leaves things.

Invariants:

(J1) A record is in the journal if its digest holds and so does every part before it. What follows the last such part
     is a torn tail, never acknowledged, unless a part behind it says that the bad one was durable: then the journal is
     damaged, and says so. (Notes and the record behind them reach the disk in any order until the flush is done.) Who
     only wants to know what others have appended may pass over all but the last part: damage before it shows when all
     are read, at the next checkpoint or recovery at the latest.
(J2) Nothing is appended behind a torn tail, which would hide it, nor to a generation that this process has not followed
     to its end: `follow` or `latest` comes first.
(J3) A generation is published whole, and never cut or reused.
(J4) Parts begin on 4,096-byte boundaries, so that a torn append cannot damage an older part.
(J5) What `append` returned from is durable. What `note` returned from is durable after the next `append`.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from gitstate import files
from gitstate.errors import StateReadError, StateWriteError, journal_damaged
from gitstate.generations import generations, number_of, open_newest, publish
from gitstate.part import BLOCK, HEADER_SIZE, Part, PartReader, encode_part, pass_over
from gitstate.record import (
    Record,
    Standing,
    decode_base,
    decode_record,
    encode_base,
    encode_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

GROWTH: Final = 64 * BLOCK
"""Space is zeroed ahead in these steps: flushing into blocks that exist costs half of flushing new ones."""

BASE_MAGIC: Final = b"gsbase01"
RECORD_MAGIC: Final = b"gsrec001"


class Mark(NamedTuple):
    """A place between two records: the generation's salt, the offset, the number of the record before."""

    generation: bytes
    end: int
    sequence: int


NOWHERE: Final = Mark(b"", 0, 0)
"""Before everything."""


class Journal:
    """One generation of the journal, open for reading and appending, and the way to begin the next.

    Attributes:
        named: whether a record that was read here says that one behind the base was durable before it, so that somebody
            was at work here who had flushed the file's name.
    """

    def __init__(self, path: Path, descriptor: int, first: Part, base: Standing) -> None:
        self.path = path
        self.base = base
        self._directory = os.fspath(path.parent)
        self._number = number_of(path)
        self._salt = first.salt
        self._descriptor = descriptor
        self._allocated = os.fstat(descriptor).st_size
        self._first = first
        self._end = first.end
        self._sequence = self._durable = first.sequence
        self.named = False

    @classmethod
    def start(
        cls, directory: Path, base: Standing, records: Iterable[Record], sequence: int
    ) -> Journal:
        """Publishes a new generation in `directory` that holds `base` and `records`; its base gets number `sequence`.

        Raises:
            StateWriteError: the generation before is still the one that counts, unless only flushing the directory
                failed (code `"flush-failed"`: then either may be there after a power cut, and both are right).
        """
        publish(directory, generation(base, records, sequence))
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path) -> Journal:
        """The generation that counts. `follow` gives its records.

        Raises:
            FileNotFoundError: there is no journal.
            StateReadError: it cannot be opened, or its first part is damaged.
        """
        path, descriptor = open_newest(directory)
        try:
            first = PartReader(descriptor).at(0, BASE_MAGIC)
            if first is None:
                raise journal_damaged(path, "its first block is not whole")
            return cls(path, descriptor, first, decode_base(first.payload))
        except ValueError as error:
            os.close(descriptor)
            raise journal_damaged(path, f"its first block makes no sense ({error})") from error
        except OSError as error:
            os.close(descriptor)
            raise journal_damaged(path, f"it cannot be read ({error.strerror})") from error
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def next_sequence(self) -> int:
        """The sequence number that the next record must have."""
        return self._sequence + 1

    @property
    def count(self) -> int:
        """How many records this generation holds, up to the last one read or appended so far."""
        return self._sequence - self._first.sequence

    @property
    def mark(self) -> Mark:
        """The place behind the last record read or appended so far, for `resume`."""
        return Mark(self._salt, self._end, self._sequence)

    def resume(self, mark: Mark) -> None:
        """Goes on behind `mark` if that is a place in this generation: `follow` then gives what is new."""
        if mark.generation == self._salt:
            self._end, self._sequence = mark.end, mark.sequence

    @property
    def size(self) -> int:
        """Bytes that the parts read or appended so far take up."""
        return self._end

    def current(self) -> bool:
        """Whether this is still the generation that counts."""
        try:
            newest = max(generations(self._directory), default=0)
        except OSError:
            return False
        return self._number == newest and self.in_place()

    def in_place(self) -> bool:
        """Whether the file is still there: false once somebody has begun a new generation, where it could be removed."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._descriptor))
        except OSError:
            return False

    def follow(self) -> list[Record]:
        """The records behind the last one read or appended here: what others have appended since.

        Raises:
            StateReadError: the journal is damaged.
        """
        found = []
        parts = PartReader(self._descriptor)
        try:
            while part := parts.at(self._end, RECORD_MAGIC, self._salt):
                if part.sequence != self.next_sequence:
                    raise journal_damaged(self.path, f"record {self.next_sequence} is missing")
                found.append(decode_record(part.payload, part.sequence, self.path.parent))
                self.named |= part.durable > self._first.sequence
                self._end, self._sequence = part.end, part.sequence
        except OSError as error:
            raise self._unreadable(error) from error
        except ValueError as error:
            raise journal_damaged(
                self.path, f"record {self.next_sequence} makes no sense ({error})"
            ) from error
        return found

    def latest(self) -> Record | None:
        """The last of the records behind the last one read or appended here, None where there is none.

        Those before it are passed over: only their headers are read.

        Raises:
            StateReadError: the journal is damaged.
        """
        place = before = end, sequence = self._end, self._sequence
        try:
            size = os.fstat(self._descriptor).st_size
            while end < size:  # a length may be anything, as it has not been checked
                passed = pass_over(self._descriptor, end, RECORD_MAGIC, self._salt)
                if passed is None or passed.sequence != sequence + 1:
                    break
                before = end, sequence
                end, sequence = passed.end, passed.sequence
        except OSError as error:
            raise self._unreadable(error) from error
        self._end, self._sequence = before
        found = self.follow()
        if not found:
            # The last one is torn, or a length on the way is wrong: one by one.
            self._end, self._sequence = place
            found = self.follow()
        return found[-1] if found else None

    def scan(self) -> list[Record]:
        """As `follow`, and looks behind the end for records that a damaged one hides (J1).

        Raises:
            StateReadError: the journal is damaged.
        """
        found = self.follow()
        while hidden := self._hidden():
            # A writer may have come between the two looks.
            more = self.follow()
            if not more:
                raise journal_damaged(
                    self.path,
                    f"record {self.next_sequence} is damaged, and record {hidden} follows it",
                )
            found += more
        return found

    def vouch(self) -> None:
        """Says that the records read so far were flushed, as those are that are in place: nobody applies one before (S1)."""
        self._durable = self._sequence

    def clean_tail(self) -> bool:
        """Whether the space behind the last record is untouched: false after a torn append or a foreign one (J2)."""
        return not any(files.read_at(self._descriptor, HEADER_SIZE, self._end))

    def clean_rest(self) -> bool:
        """Whether everything behind the last record is untouched. A power cut may keep a later part of an append, or
        of a note, and drop an earlier one: what is appended here could make it count again.
        """
        rest = max(os.fstat(self._descriptor).st_size - self._end, 0)  # the padding may be cut off
        return not files.read_at(self._descriptor, rest, self._end).strip(b"\0")

    def append(self, record: Record) -> None:
        """Makes `record` durable: once this returns the transaction has happened, whatever crashes next.

        Raises:
            StateWriteError: nothing was appended and the transaction has not happened; with code `"flush-failed"`
                the outcome is unknown until the journal is recovered (PITFALLS O2).
        """
        end = self._write(record)
        # A crash here leaves a whole record that was perhaps never flushed: recovery copies it into a new generation
        # before it applies it, so that a power cut cannot take back what has been applied (PITFALLS O11).
        self._flush()
        self._end, self._sequence = end, record.sequence
        self._durable = record.sequence

    def note(self, record: Record) -> None:
        """Appends `record` without a flush of its own (J5): for what may be lost in a power cut.

        Raises:
            StateWriteError: nothing was appended.
        """
        end = self._write(record)
        self._end, self._sequence = end, record.sequence

    def flush(self) -> None:
        """Makes everything appended so far durable.

        Raises:
            StateWriteError: with code `"flush-failed"`: the handle must be opened again, as after `append`.
        """
        self._flush()
        self._durable = self._sequence

    def reread(self, behind: Mark = NOWHERE) -> list[Record]:
        """The records `behind` a mark of this generation up to the last one read or appended here, with their bytes.

        Raises:
            StateReadError: the journal is damaged.
        """
        twin = Journal(self.path, self._descriptor, self._first, self.base)
        twin.resume(behind)
        found = [record for record in twin.follow() if record.sequence <= self._sequence]
        if twin._sequence < self._sequence:
            raise journal_damaged(self.path, f"record {twin.next_sequence} is damaged")
        return found

    def close(self) -> None:
        """Closes the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _unreadable(self, error: OSError) -> StateReadError:
        return journal_damaged(self.path, f"it cannot be read ({error.strerror})")

    def _hidden(self) -> int | None:
        """The number of a record behind the end that says that the one at the end was durable."""
        parts = PartReader(self._descriptor)
        size = os.fstat(self._descriptor).st_size
        for offset in range(self._end + BLOCK, size, BLOCK):
            part = parts.at(offset, RECORD_MAGIC, self._salt)
            if part is not None and part.durable >= self.next_sequence:
                return part.sequence
        return None

    def _flush(self) -> None:
        try:
            files.flush_data(self._descriptor)
        except OSError as error:
            raise StateWriteError(
                f"flushing the journal failed: {error.strerror}: {self.path}. Whether the last transaction happened is"
                " decided when the state is opened again; nothing older is lost. Check the disk, then open it again.",
                path=self.path,
                code="flush-failed",
            ) from error

    def _write(self, record: Record) -> int:
        payload = encode_record(record)
        part = encode_part(RECORD_MAGIC, self._salt, record.sequence, self._durable, payload)
        end = self._end + len(part)
        # A crash, or a full disk, in these writes leaves a torn tail: its digest fails (J1), and the next append from
        # here overwrites it; another process starts a new generation first (J2).
        with files.Refused(
            StateWriteError,
            "cannot append to the journal",
            self.path,
            "The transaction has not happened; the state and its history are untouched.",
        ):
            try:
                if end > self._allocated:
                    grown = -(-end // GROWTH) * GROWTH
                    files.write_all(self._descriptor, bytes(grown - end), end)
                    self._allocated = grown
                files.write_all(self._descriptor, part, self._end)
            except OSError:
                # Best effort: a clean tail spares the next process a recovery.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self._end)
                    self._allocated = self._end
                raise
        return end


def generation(base: Standing, records: Iterable[Record], sequence: int) -> bytes:
    """The bytes of a new generation that holds `base`, which gets the number `sequence`, and `records`."""
    salt = os.urandom(16)
    parts = [encode_part(BASE_MAGIC, salt, sequence, sequence, encode_base(base))]
    parts += [
        encode_part(RECORD_MAGIC, salt, record.sequence, sequence, encode_record(record))
        for record in records
    ]
    content = b"".join(parts)
    return content + bytes(-len(content) % GROWTH)


def read_all(directory: Path, since: Mark = NOWHERE) -> tuple[Standing, list[Record], Mark]:
    """The base of the generation that counts, its records behind `since`, and where they end. Waits for nobody.

    Raises:
        StateReadError: the journal is damaged.
    """
    try:
        found = Journal.open(directory)
    except FileNotFoundError:
        return Standing(), [], NOWHERE
    with contextlib.closing(found):
        found.resume(since)
        records = found.scan()
        return found.base, records, found.mark
