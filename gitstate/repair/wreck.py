"""Wreck: the journal as a repair finds it, whole or not, and all that can still be read of it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.errors import StateReadError
from gitstate.generations import generations, path_of
from gitstate.journal import BASE_MAGIC, RECORD_MAGIC, Journal
from gitstate.part import BLOCK, HEADER_SIZE, PartReader, pass_over
from gitstate.record import (
    GitObject,
    Record,
    Standing,
    decode_base,
    decode_record,
    effective,
    merge,
    standing,
)
from gitstate.repository.frame import is_refusal
from gitstate.repository.objects import checked_loose

if TYPE_CHECKING:
    from pathlib import Path

_READ_ONLY: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(slots=True)
class Wreck:
    """What was found.

    Attributes:
        paths: the files of all generations, oldest first.
        whole: whether nothing is wrong with the one that counts, nor torn.
        begin: the number of the base.
        base: where things stood before the first of the records.
        records: those that can be read, in their order.
        objects: those in the records, damaged ones too, whose hash is right, by their ids; none of a record that was
            taken back.
    """

    paths: list[Path] = field(default_factory=list)
    whole: bool = False
    begin: int = 0
    base: Standing = field(default_factory=Standing)
    records: list[Record] = field(default_factory=list)
    objects: dict[str, GitObject] = field(default_factory=dict)

    @property
    def now(self) -> Standing:
        """Where things stand behind the last record that can be read."""
        return standing(self.base, self.records)

    @property
    def merged(self) -> Record | None:
        """What the records come to."""
        return merge(self.records)

    @property
    def sequence(self) -> int:
        """The number of the last record."""
        return self.records[-1].sequence if self.records else self.begin

    def named(self, ref: str) -> set[str]:
        """Every id at which a record, or the base, has seen `ref`."""
        found = {each.after.refs.get(ref) for each in effective(self.records)}
        for change in (change for record in effective(self.records) for change in record.refs):
            if change.name == ref:
                found.update((*change.expected, change.new))
        return {at for at in (*found, self.base.refs.get(ref), self.now.refs.get(ref)) if at}


def look_at(directory: Path) -> Wreck:
    """The journal in `directory`.

    Raises:
        OSError, StateReadError: the system does not let us read a file of it.
    """
    found = Wreck([path_of(directory, number) for number in sorted(generations(directory))])
    if not found.paths:
        return found
    try:
        journal = Journal.open(directory)
        with contextlib.closing(journal):
            found.base, found.records = journal.base, journal.scan()
            found.whole = journal.clean_rest()
            found.begin = journal.next_sequence - 1 - len(found.records)
            if not found.whole:
                # What is torn nobody was told of; but the last record may have been damaged later.
                _read_rest(found, found.paths[-1], journal.mark.end)
    except StateReadError as error:
        if is_refusal(error):
            raise
        _read_parts(found)
    taken_back = {r.sequence for r in found.records} - {
        r.sequence for r in effective(found.records)
    }
    for record in found.records:
        for made in record.objects:
            if record.sequence in taken_back:
                found.objects.pop(made.id, None)
            elif checked_loose(made):
                found.objects[made.id] = made
    return found


def _read_parts(found: Wreck) -> None:
    """Takes every part that is whole, whatever stands around it; of the others the objects that can be told."""
    records: dict[int, Record] = {}
    bases: dict[int, Standing] = {}
    for path in filter(os.path.isfile, found.paths):
        descriptor = os.open(path, _READ_ONLY)
        try:
            parts = PartReader(descriptor)
            for offset in range(0, os.fstat(descriptor).st_size, BLOCK):
                with contextlib.suppress(ValueError):
                    if part := parts.at(offset, RECORD_MAGIC):
                        records[part.sequence] = decode_record(
                            bytes(part.payload), part.sequence, path.parent
                        )
                    elif part := parts.at(offset, BASE_MAGIC):
                        bases[part.sequence] = decode_base(bytes(part.payload))
                    else:
                        _read_damaged(found, descriptor, offset, path.parent)
        finally:
            os.close(descriptor)
    # Where a crash has left two generations, the records of the older one are in the base of the newer.
    found.begin = max(bases, default=0)
    found.base = bases.get(found.begin, found.base)
    found.records = [records[number] for number in sorted(records) if number > found.begin]


def _read_rest(found: Wreck, path: Path, start: int) -> None:
    """Takes the objects out of damaged records behind the last whole one."""
    descriptor = os.open(path, _READ_ONLY)
    try:
        for offset in range(start, os.fstat(descriptor).st_size, BLOCK):
            with contextlib.suppress(ValueError):
                _read_damaged(found, descriptor, offset, path.parent)
    finally:
        os.close(descriptor)


def _read_damaged(found: Wreck, descriptor: int, offset: int, directory: Path) -> None:
    """Takes the objects out of a damaged record.

    Raises:
        ValueError: what says where they are is damaged.
    """
    salt = files.read_at(descriptor, len(RECORD_MAGIC) + 16, offset)[len(RECORD_MAGIC) :]
    if passed := pass_over(descriptor, offset, RECORD_MAGIC, salt):
        size = min(passed.end, os.fstat(descriptor).st_size) - offset - HEADER_SIZE
        payload = files.read_at(descriptor, max(size, 0), offset + HEADER_SIZE)
        made_of_it = decode_record(payload, passed.sequence, directory).objects
        found.objects.update((made.id, made) for made in made_of_it if checked_loose(made))
