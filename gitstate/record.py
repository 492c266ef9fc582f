"""Record: everything that one transaction changes, as finished values, and what several of them come to.

There is one form for all: a commit, a restore, a named backup, a failure. See journal.py for how they are kept, and
effects.py for what they do. As bytes, a part of the journal's format 1, a record or a base is::

    payload := meta_length:u32 meta (JSON) bytes of the objects, one behind the other, then of the state

A large object's are in a file in the journal's directory, and the record has the name of that.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gitstate import files
from gitstate.files import Identity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

LARGE_OBJECT: Final = re.compile(r"journal-[0-9a-f]{16}\.object")
"""What the file of a large object is called."""

_META_LENGTH: Final = struct.Struct("<I")


class GitObject(NamedTuple):
    """A Git object.

    Attributes:
        id: 40 hex digits.
        held: the bytes of its loose file (zlib over header and content), or the file that has them: see large.py.
    """

    id: str
    held: bytes | Path

    @property
    def loose(self) -> bytes:
        """The bytes of its loose file.

        Raises:
            OSError: they are in a file, and that cannot be read; one that is gone is packed by now.
        """
        return self.held if isinstance(self.held, bytes) else files.read(self.held)[0]

    @property
    def size(self) -> int:
        """How many bytes those are; 0 where they are in a file that has gone."""
        if isinstance(self.held, bytes):
            return len(self.held)
        found = files.identity(self.held)
        return found.size if found else 0


class RefChange(NamedTuple):
    """A ref to move: its full name, the ids it may be at (None: absent), and the id it gets, None for it to go."""

    name: str
    expected: tuple[str | None, ...]
    new: str | None


class StateChange(NamedTuple):
    """A new content of the state file.

    Attributes:
        blob: Git's id of the content.
        temporary: name of the flushed temporary file, in the state file's directory.
        identity: of that file (PITFALLS O10).
        replaces: identities of the files it may be renamed over; none: only where there is no file.
        refs: where there was no file, the refs that its record moves, and their new ids: once one of them is there, so
            was the file.
        content: the content (zlib), None if it is the object `blob` of the same record.
    """

    blob: str
    temporary: str
    identity: Identity
    replaces: tuple[Identity, ...]
    refs: tuple[tuple[str, str | None], ...] = ()
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where things stand at some place in the journal.

    Attributes:
        refs: the ids of the refs that are kept track of.
        state: the blob id of the state; None before the first.
        placed: identity of the file that holds the state, where a record or a checkpoint vouches for its name.
    """

    refs: dict[str, str] = field(default_factory=dict)
    state: str | None = None
    placed: Identity | None = None

    def after(self, record: Record, follows: Collection[str]) -> Standing:
        """Where `record` leaves what stood here; it keeps track of the refs in `follows`."""
        if record.aborts is not None:
            return self
        moved = {c.name: c.new for c in record.refs if c.name in follows and c.new is not None}
        state, placed = record.adopts or self.state, self.placed
        if record.state is not None:
            state, placed = record.state.blob, record.state.identity
        return Standing({**self.refs, **moved}, state, placed)


class Record(NamedTuple):
    """Everything one transaction changes: Git objects, refs, and the state file or not.

    Attributes:
        sequence: its number; each is one more than the one before.
        objects: each behind those it refers to.
        refs: the refs to move.
        state: the new content of the state file, None to leave the file.
        adopts: blob id of what the state file holds by somebody else's hand, where the record makes that the state.
        aborts: the number of an earlier record that this one takes back.
        after: where it leaves things, so that nobody has to read the records before it to know.
    """

    sequence: int
    objects: tuple[GitObject, ...] = ()
    refs: tuple[RefChange, ...] = ()
    state: StateChange | None = None
    adopts: str | None = None
    aborts: int | None = None
    after: Standing = Standing()


def effective(records: Iterable[Record]) -> list[Record]:
    """The records that count: neither taken back nor there to take another back."""
    found = list(records)
    taken_back = {record.aborts for record in found if record.aborts is not None}
    return [r for r in found if r.aborts is None and r.sequence not in taken_back]


def merge(records: Iterable[Record]) -> Record | None:
    """One record that has the effect of all `records` together, None where they have none.

    Its refs may be moved from any id that they were at in between, or be absent; its state may replace the file of any
    of the records.
    """
    counting = effective(records)
    if not counting:
        return None
    objects = {made.id: made for record in counting for made in record.objects}
    seen: dict[str, dict[str | None, None]] = {}
    for record in counting:
        for change in record.refs:
            ids = seen.setdefault(change.name, {None: None})
            ids.update(dict.fromkeys((*change.expected, change.new)))
    last = {change.name: change.new for record in counting for change in record.refs}
    refs = tuple(RefChange(name, tuple(seen[name]), new) for name, new in last.items())
    state, adopts = _merge_states(counting)
    return Record(counting[-1].sequence, tuple(objects.values()), refs, state, adopts)


def standing(base: Standing, records: Sequence[Record]) -> Standing:
    """Where `records` leave things that stood at `base`."""
    return records[-1].after if records else base


def _merge_states(records: list[Record]) -> tuple[StateChange | None, str | None]:
    changing = [record for record in records if record.state or record.adopts]
    if not changing:
        return None, None
    final = changing[-1].state
    if final is None:
        return None, changing[-1].adopts
    if not final.replaces:
        return final, None  # made where there was no file: none of the older ones is to be expected
    states = [record.state for record in records if record.state is not None]
    older = [identity for state in states for identity in (*state.replaces, state.identity)]
    replaces = tuple(dict.fromkeys(i for i in older if i != final.identity))
    return final._replace(replaces=replaces), None


def encode_base(base: Standing) -> bytes:
    """The bytes of `base`."""
    return _join({"base": _list(base)})


def decode_base(payload: bytes) -> Standing:
    """What `encode_base` made `payload` of.

    Raises:
        ValueError: it makes no sense.
    """
    try:
        meta, _ = _split(payload)
        return _standing(*meta["base"])
    except (KeyError, TypeError, RecursionError, struct.error) as error:
        raise ValueError(repr(error)) from error


def encode_record(record: Record) -> bytes:
    """The bytes of `record`, but for its number."""
    meta: dict[str, Any] = {
        "objects": [
            (made.id, len(made.held) if isinstance(made.held, bytes) else made.held.name)
            for made in record.objects
        ],
        "refs": record.refs,
        "adopts": record.adopts,
        "aborts": record.aborts,
        "after": _list(record.after),
    }
    tail = b""
    if record.state is not None:
        state = record.state
        tail = state.content or b""
        meta["state"] = (
            state.blob,
            state.temporary,
            state.identity,
            state.replaces,
            state.refs,
            state.content is not None,
        )
    inside = (made.held for made in record.objects if isinstance(made.held, bytes))
    return _join(meta, *inside, tail)


def decode_record(payload: bytes, sequence: int, directory: Path) -> Record:
    """What `encode_record` made `payload` of; large objects have their files in `directory`.

    Raises:
        ValueError: it makes no sense.
    """
    try:
        meta, rest = _split(payload)
        objects = []
        for object_id, held in meta["objects"]:
            if isinstance(held, str):
                if not LARGE_OBJECT.fullmatch(held):
                    raise ValueError(f"{held!r} is not the name of a large object")
                objects.append(GitObject(object_id, directory / held))
                continue
            objects.append(GitObject(object_id, bytes(rest[:held])))
            rest = rest[held:]
        refs = tuple(RefChange(name, tuple(old), new) for name, old, new in meta["refs"])
        state = None
        if "state" in meta:
            blob, temporary, identity, replaces, refs_of_its_own, own_content = meta["state"]
            state = StateChange(
                blob,
                temporary,
                Identity(*identity),
                tuple(Identity(*each) for each in replaces),
                tuple((name, new) for name, new in refs_of_its_own),
                bytes(rest) if own_content else None,
            )
        after = _standing(*meta["after"])
        return Record(sequence, tuple(objects), refs, state, meta["adopts"], meta["aborts"], after)
    except (KeyError, TypeError, RecursionError, struct.error) as error:
        raise ValueError(repr(error)) from error


def _list(standing: Standing) -> tuple[object, ...]:
    return standing.refs, standing.state, standing.placed


def _standing(refs: dict[str, str], state: str | None, placed: list[int] | None) -> Standing:
    return Standing(dict(refs), state, None if placed is None else Identity(*placed))


def _join(meta: dict[str, Any], *more: bytes) -> bytes:
    encoded = json.dumps(meta).encode()
    return b"".join((_META_LENGTH.pack(len(encoded)), encoded, *more))


def _split(payload: bytes) -> tuple[dict[str, Any], memoryview]:
    (length,) = _META_LENGTH.unpack_from(payload)
    start = _META_LENGTH.size
    meta: dict[str, Any] = json.loads(payload[start : start + length].decode())
    return meta, memoryview(payload)[start + length :]
