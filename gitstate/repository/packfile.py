"""PackFile: one pack and its index, read in the order of the file.

dulwich finds an object among all packs. Whoever wants many of one reads them several times faster from front to back,
where each stands soon behind what it is a delta against.

Source of the format: gitformat-pack(5).
"""

from __future__ import annotations

import errno
import hashlib
import os
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

from dulwich.pack import OFS_DELTA, REF_DELTA

from gitstate import files
from gitstate.repository.delta import apply_delta
from gitstate.repository.index import NAME_SIZE, Index
from gitstate.repository.objects import MOST_INFLATED, Raw, checked_raw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

HEADER_SIZE: Final = 12
CHECKSUM_SIZE: Final = 20

LONGEST_ENTRY_HEADER: Final = 64
_LONGEST_CHAIN: Final = 4096
"""As long as Git makes them."""

_OF_A_VERSION: Final = frozenset({b"blob", b"tree", b"commit"})
_AT_ONCE: Final = 64 * 1024
_KEPT: Final = 4 * 1024 * 1024
"""Bytes of the objects that were read last, which the next ones may be deltas against; the last of its type in any case."""

_COPY_SIZE: Final = 1024 * 1024


class Tip(NamedTuple):
    """The last object of its kind: what the next one is a delta against, and how many deltas it takes to read it."""

    id: bytes
    content: bytes
    depth: int


class Held(NamedTuple):
    """How a pack holds an object: as a delta against `base`, None for whole, of this size, compressed."""

    base: bytes | None
    size: int
    compressed: bytes


class EntryHeader(NamedTuple):
    """How an object begins in a pack: the number of its type, its size, and how many bytes all this takes.

    A delta is against what begins so many bytes before it, its `distance`, or against the object of that `name`.
    """

    kind: int
    size: int
    length: int
    distance: int = 0
    name: bytes = b""


class Entry(NamedTuple):
    """An object, or a delta against what begins at `base`, and how that is compressed."""

    kind: int
    base: int | None
    content: bytes
    compressed: bytes


class PackFile:
    """The pack at `path`. Not for several threads at once.

    Attributes:
        index: what is where.
        end: where the objects end.
    """

    def __init__(self, path: Path, index: Index | None = None) -> None:
        """Opens it, and reads the index unless one is given.

        Raises:
            ValueError: the index is damaged.
            OSError: the system refused.
        """
        if index is None:
            index = Index(files.read(path.with_suffix(".idx"))[0])
        self.index = index
        self._file = path.open("rb", buffering=0)
        try:
            self.end = os.fstat(self._file.fileno()).st_size - CHECKSUM_SIZE
        except BaseException:
            self._file.close()
            raise
        self._window, self._window_at = b"", 0
        self._recent: dict[int, tuple[int, bytes]] = {}
        self._last: dict[int, int] = {}
        self._recent_size = 0

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def check(self) -> None:
        """Sees that the pack is, byte by byte, the one that the index was made for.

        Raises:
            ValueError: it is not.
            OSError: it cannot be read.
        """
        whole = hashlib.sha1(usedforsecurity=False)
        header = files.read_at(self._file.fileno(), HEADER_SIZE, 0)
        whole.update(header)
        for chunk in self.chunks():
            whole.update(chunk)
        checksum = files.read_at(self._file.fileno(), CHECKSUM_SIZE, self.end)
        if not whole.digest() == checksum == self.index.checksum:
            raise ValueError("its checksums do not match")
        if int.from_bytes(header[-4:]) != len(self.index):
            raise ValueError("its index has more or fewer objects")

    def chunks(self) -> Iterator[bytes]:
        """The bytes of all objects.

        Raises:
            OSError: they cannot be read.
        """
        at = HEADER_SIZE
        while at < self.end:
            chunk = files.read_at(self._file.fileno(), min(self.end - at, _COPY_SIZE), at)
            if not chunk:
                raise OSError(errno.EIO, "a pack has become shorter")
            at += len(chunk)
            yield chunk

    def objects(self, wanted: Iterable[bytes] | None = None) -> Iterator[Raw]:
        """The objects, or those `wanted` that it has, in the order of the file, each checked against its hash.

        Raises:
            Exception: whatever a damaged one makes zlib and dulwich trip over.
        """
        for at, name in self.index.in_order() if wanted is None else self._places(wanted):
            yield self._checked(at, name)

    def held(self, wanted: Iterable[bytes]) -> Iterator[tuple[Raw, Held | None]]:
        """As `objects`, and how each is held; None for a delta against what is not `wanted`.

        Raises:
            Exception: as `objects`.
        """
        places = self._places(wanted)
        names = dict(places)
        for at, name in places:
            held, entry = None, self._entry(at)
            if entry.base is None or entry.base in names:
                base = None if entry.base is None else names[entry.base]
                held = Held(base, len(entry.content), entry.compressed)
            yield self._checked(at, name), held

    def tips(self, among: int) -> dict[bytes, Tip]:
        """The last object of each kind, if it is `among` so many at the end.

        Raises:
            Exception: as `objects`.
        """
        tips: dict[bytes, Tip] = {}
        for at, name in self.index.last(among):
            raw = self._checked(at, name)
            if raw.kind not in tips:
                tips[raw.kind] = Tip(name, raw.content, self._depth(at))
            if tips.keys() >= _OF_A_VERSION:
                break  # another large one beside these would be one too many
        self._recent.clear()
        self._last.clear()
        self._recent_size = 0
        return tips

    def _places(self, wanted: Iterable[bytes]) -> list[tuple[int, bytes]]:
        return sorted((at, name) for name in wanted if (at := self.index.find(name)) is not None)

    def _checked(self, at: int, name: bytes) -> Raw:
        return checked_raw(name.hex(), *self._read(at))

    def _read(self, at: int) -> tuple[int, bytes]:
        """The number of the type, and the content, of the object at a place."""
        kind, content, deltas = self._base(at)
        for place, delta in reversed(deltas):
            content = apply_delta(content, delta)
            self._remember(place, (kind, content))
        return kind, content

    def _base(self, at: int) -> tuple[int, bytes, list[tuple[int, bytes]]]:
        """The nearest object below the one at a place that is known, or whole, and the deltas in between with theirs."""
        deltas: list[tuple[int, bytes]] = []
        while (found := self._recent.get(at)) is None:
            entry = self._entry(at)
            if entry.base is None:
                found = entry.kind, entry.content
                self._remember(at, found)
                break
            deltas.append((at, entry.content))
            if len(deltas) > _LONGEST_CHAIN:
                raise ValueError("a chain of deltas has no end")
            at = entry.base
        return *found, deltas

    def _depth(self, at: int) -> int:
        """How many deltas make the object at a place."""
        depth = 0
        while (base := self._header(at)[1]) is not None and depth < _LONGEST_CHAIN:
            at, depth = base, depth + 1
        return depth

    def _entry(self, at: int) -> Entry:
        header, base = self._header(at)
        content, compressed = self._inflated(at + header.length, header.size)
        if len(content) != header.size:
            raise ValueError("an object has another size than its header says")
        return Entry(header.kind, base, content, compressed)

    def _header(self, at: int) -> tuple[EntryHeader, int | None]:
        """The header of what begins at a place, and where that begins which it is a delta against."""
        header = entry_header(self._bytes(at, LONGEST_ENTRY_HEADER))
        base = at - header.distance if header.kind == OFS_DELTA else None
        if header.kind == REF_DELTA:
            base = self._place(header.name)
            if base is None:
                raise ValueError("a delta is against an object of another pack")
        return header, base

    def _place(self, name: bytes) -> int | None:
        return self.index.find(name)

    def _inflated(self, at: int, size: int) -> tuple[bytes, bytes]:
        """What is compressed at a place, unpacked to about `size` bytes, and as it is there."""
        piece = self._bytes(at, size + size // 1000 + LONGEST_ENTRY_HEADER)
        if not 0 < size <= len(piece) * MOST_INFLATED:
            size = 1  # empty, or damaged
        # The rest into one piece of its size: a large object is not to leave the pieces of its growth behind.
        inflating = zlib.decompressobj()
        content = inflating.decompress(piece, 1)
        content += inflating.flush(size)
        if inflating.eof:
            return content, piece[: len(piece) - len(inflating.unused_data)]
        return self._inflated_on(at)

    def _inflated_on(self, at: int) -> tuple[bytes, bytes]:
        """As `_inflated`, of what is longer when it is compressed, as some compressors leave it."""
        inflating = zlib.decompressobj()
        content, compressed = bytearray(), bytearray()
        while not inflating.eof:
            piece = self._bytes(at + len(compressed), _AT_ONCE)
            if not piece:
                raise ValueError("it ends in the middle of an object")
            compressed += piece
            content += inflating.decompress(piece)
        return bytes(content), bytes(compressed[: len(compressed) - len(inflating.unused_data)])

    def _bytes(self, at: int, length: int) -> bytes:
        """So many bytes, fewer at the end of the file; what comes next is read with them."""
        start = at - self._window_at
        if start < 0 or start + length > len(self._window):
            # A damaged size may be any.
            length = min(max(length, _AT_ONCE), self.end + CHECKSUM_SIZE - at)
            self._window = files.read_at(self._file.fileno(), max(length, 0), at)
            self._window_at, start = at, 0
        return self._window[start : start + length]

    def _remember(self, at: int, found: tuple[int, bytes]) -> None:
        self._recent[at] = found
        self._recent_size += len(found[1])
        self._last[found[0]] = at
        while self._recent_size > _KEPT:
            last = self._last.values()
            oldest = next((place for place in self._recent if place not in last), None)
            if oldest is None:
                return
            self._recent_size -= len(self._recent.pop(oldest)[1])


def entry_header(content: bytes | memoryview) -> EntryHeader:
    """The header of an object in a pack that `content` begins with.

    Raises:
        IndexError: it ends before that does.
    """
    byte = content[0]
    kind, size, shift, place = byte >> 4 & 7, byte & 15, 4, 1
    while byte & 0x80:
        byte = content[place]
        size |= (byte & 0x7F) << shift
        shift, place = shift + 7, place + 1
    if kind == REF_DELTA:
        name = bytes(content[place : place + NAME_SIZE])
        return EntryHeader(kind, size, place + NAME_SIZE, name=name)
    if kind != OFS_DELTA:
        return EntryHeader(kind, size, place)
    byte = content[place]
    distance, place = byte & 0x7F, place + 1
    while byte & 0x80:
        byte = content[place]
        distance, place = distance + 1 << 7 | byte & 0x7F, place + 1
    return EntryHeader(kind, size, place, distance)
