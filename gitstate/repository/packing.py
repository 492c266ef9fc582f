"""Packing: objects in the order of the history, each as a delta against the one of its kind before it.

Source of the format: gitformat-pack(5).
"""

from __future__ import annotations

import errno
import hashlib
import struct
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

from dulwich.object_format import DEFAULT_OBJECT_FORMAT
from dulwich.pack import OFS_DELTA, pack_object_header

from gitstate.repository.delta import make_delta
from gitstate.repository.objects import TYPE_NUMBERS, Raw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import BinaryIO

MAX_DEPTH: Final = 100
"""Deltas that must be applied at most to read an object: a few milliseconds for one of 50 KB."""

HEADER_SIZE: Final = 12
CHECKSUM_SIZE: Final = 20

_VERSION: Final = 2
_SURELY_SMALLER: Final = 8
"""A compressed delta that is smaller than the object by this factor is smaller than the object compressed."""

_COPY_SIZE: Final = 1024 * 1024


class Row(NamedTuple):
    """What the index says of an object: its id, where it is in the pack, and the CRC-32 of its bytes there.

    An index of the first version, which nobody has written since 2007, has none of these.
    """

    id: bytes
    offset: int
    crc: int | None


class Body(NamedTuple):
    """The objects of a pack that is there: its file, the rows of its index in the order of the file, and where they end."""

    file: BinaryIO
    rows: list[Row]
    end: int


class Tip(NamedTuple):
    """The last object of its kind: what the next one is a delta against, and how many deltas it takes to read it."""

    id: bytes
    content: bytes
    depth: int


class _Entry(NamedTuple):
    id: bytes
    kind: bytes
    size: int
    base: bytes | None
    compressed: bytes


class Packing:
    """What goes into a pack: the `bodies` of others as they are, then objects behind the `tips` of the last of these.

    Attributes:
        tips: by their kinds, what the next objects may be deltas against.
    """

    def __init__(self, bodies: list[Body], tips: Mapping[bytes, Tip]) -> None:
        self._bodies = bodies
        self.tips = dict(tips)
        self._known = {row.id for body in bodies for row in body.rows}
        self._entries: list[_Entry] = []

    @property
    def added(self) -> list[bytes]:
        """The ids of the objects that are new."""
        return [entry.id for entry in self._entries]

    def __len__(self) -> int:
        return len(self._known)

    def add(self, raws: Iterable[Raw]) -> None:
        """Adds the objects that are not in it yet."""
        for raw in raws:
            made_id = bytes.fromhex(raw.id)
            if made_id not in self._known:
                self._known.add(made_id)
                self._entries.append(self._compress(made_id, raw))

    def write(self, file: BinaryIO) -> tuple[list[Row], bytes]:
        """Writes the pack; gives its index, in the order of the file, and its checksum."""
        out = _Out(file)
        out.write(struct.pack(">4sLL", b"PACK", _VERSION, len(self)))
        rows: list[Row] = []
        for body in self._bodies:
            # Deltas name their bases by how far away these are, which stays.
            moved = out.position - HEADER_SIZE
            rows += (Row(row.id, row.offset + moved, row.crc) for row in body.rows)
            for chunk in _chunks(body):
                out.write(chunk)
        bases = {entry.base for entry in self._entries}
        offsets = {row.id: row.offset for row in rows if row.id in bases}
        for entry in self._entries:
            kind, distance = TYPE_NUMBERS[entry.kind], None
            if entry.base is not None:
                kind, distance = OFS_DELTA, out.position - offsets[entry.base]
            header = pack_object_header(kind, distance, entry.size, DEFAULT_OBJECT_FORMAT)
            whole = bytes(header) + entry.compressed
            offsets[entry.id] = out.position
            rows.append(Row(entry.id, out.position, zlib.crc32(whole)))
            out.write(whole)
        checksum = out.checksum()
        file.write(checksum)
        return rows, checksum

    def _compress(self, made_id: bytes, raw: Raw) -> _Entry:
        tip = self.tips.get(raw.kind)
        whole = None
        if tip is not None and tip.depth < MAX_DEPTH:
            delta = make_delta(tip.content, raw.content)
            compressed = zlib.compress(delta)
            if len(compressed) * _SURELY_SMALLER > len(raw.content):
                whole = zlib.compress(raw.content)
            if whole is None or len(compressed) < len(whole):
                self.tips[raw.kind] = Tip(made_id, raw.content, tip.depth + 1)
                return _Entry(made_id, raw.kind, len(delta), tip.id, compressed)
        self.tips[raw.kind] = Tip(made_id, raw.content, 0)
        return _Entry(
            made_id, raw.kind, len(raw.content), None, whole or zlib.compress(raw.content)
        )


class _Out:
    """A file that knows its position and its checksum."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha1(usedforsecurity=False)
        self.position = 0

    def write(self, chunk: bytes) -> None:
        """Writes `chunk` behind what there is."""
        self._file.write(chunk)
        self._hash.update(chunk)
        self.position += len(chunk)

    def checksum(self) -> bytes:
        """The SHA-1 of everything that was written."""
        return self._hash.digest()


def is_whole(body: Body, checksum: bytes) -> bool:
    """Whether a pack has this checksum, and every object its own, where the index says.

    Raises:
        OSError: it cannot be read.
    """
    whole = hashlib.sha1(usedforsecurity=False)
    body.file.seek(0)
    whole.update(body.file.read(HEADER_SIZE))
    ends = [*(row.offset for row in body.rows[1:]), body.end]
    for row, end in zip(body.rows, ends, strict=True):
        piece = body.file.read(end - row.offset)
        if body.file.tell() != end or zlib.crc32(piece) != row.crc:
            return False
        whole.update(piece)
    return body.file.read() == checksum == whole.digest()


def _chunks(body: Body) -> Iterator[bytes]:
    body.file.seek(HEADER_SIZE)
    left = body.end - HEADER_SIZE
    while left > 0:
        chunk = body.file.read(min(left, _COPY_SIZE))
        if not chunk:
            raise OSError(errno.EIO, "a pack has become shorter")
        left -= len(chunk)
        yield chunk
