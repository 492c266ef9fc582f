"""Incoming: a pack that somebody else has sent, while it is read for the first time.

It says itself how much it unpacks to, and a few bytes can say a lot (PITFALLS D23): nothing is unpacked further than the
limits allow, nor than was said. What is known of an object stands in tables, as there may be a million of them.

Source of the format: gitformat-pack(5).
"""

from __future__ import annotations

import hashlib
import os
import zlib
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from itertools import islice
from operator import eq
from typing import TYPE_CHECKING, Final

from dulwich.pack import OFS_DELTA, REF_DELTA

from gitstate import files
from gitstate.repository.delta import read_sizes
from gitstate.repository.index import NAME_SIZE, encode_index
from gitstate.repository.objects import TYPE_NUMBERS, Raw, object_id
from gitstate.repository.packfile import (
    CHECKSUM_SIZE,
    HEADER_SIZE,
    LONGEST_ENTRY_HEADER,
    entry_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable

WHOLE: Final = -1
"""In the place of a base: there is none."""

TWICE: Final = "the pack has an object twice"

_BEGINS: Final = b"PACK\0\0\0\2"
_TYPES: Final = {number: kind for kind, number in TYPE_NUMBERS.items()}
_MOST_NUMBERS: Final = 2**31 - 1
"""What the tables have room for."""

_AT_ONCE: Final = 128 * 1024
_COPY_SIZE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What a pack may have at most.

    Attributes:
        objects: how many there are.
        object_size: bytes of an object, or of a delta.
        total_size: bytes of all objects and deltas together.
        depth: deltas that must be applied to read an object.
    """

    objects: int
    object_size: int
    total_size: int
    depth: int


class Incoming:
    """A pack as far as it is known; objects go by their numbers, in the order of the file.

    Attributes:
        count: how many there are.
        kinds: the number of each one's type; of a delta that it is one, until it is known what it makes.
        bases: the number of the object that each is a delta against, or `WHOLE`; also of a delta whose base is known by its
            id only.
        limits: what it may have.
    """

    def __init__(self, descriptor: int, limits: Limits, visit: Callable[[Raw], None]) -> None:
        self._descriptor = descriptor
        self.limits = limits
        self._visit = visit
        self._end = os.fstat(descriptor).st_size - CHECKSUM_SIZE
        self._checksum = b""
        self.count = 0
        self._total = 0
        self._window, self._window_at = b"", 0
        self.kinds = bytearray()
        self.bases = array("i")
        # Where each object begins, where its compressed bytes do, its size or that of its delta, its sum, and its id or,
        # until that is known, that of its base.
        self._starts, self._bodies, self._sizes = array("Q"), array("Q"), array("Q")
        self._crcs, self._names = array("I"), bytearray()

    def check(self) -> None:
        """Sees that the file is a pack, as whole as it was sent, and has not too many objects.

        Raises:
            ValueError: it is not, or has.
        """
        header = files.read_at(self._descriptor, HEADER_SIZE, 0)
        if self._end < HEADER_SIZE or not header.startswith(_BEGINS):
            raise ValueError("it is no pack of version 2")
        self.count = int.from_bytes(header[len(_BEGINS) :])
        most = min(self.limits.objects, _MOST_NUMBERS)
        if self.count > most:
            raise ValueError(f"the pack has {self.count} objects, more than {most}")
        whole = hashlib.sha1(usedforsecurity=False)
        for at in range(0, self._end, _COPY_SIZE):
            size = min(_COPY_SIZE, self._end - at)
            whole.update(files.read_at(self._descriptor, size, at))
        self._checksum = files.read_at(self._descriptor, CHECKSUM_SIZE, self._end)
        if whole.digest() != self._checksum:
            raise ValueError("the checksum of the pack does not match")

    def scan(self) -> None:
        """Reads the pack once from front to back: what is where, and of the objects that are no deltas their ids.

        Raises:
            ValueError, IndexError, zlib.error: it is damaged, or beyond the limits.
        """
        at = HEADER_SIZE
        for _ in range(self.count):
            if at >= self._end:
                raise ValueError("the pack has fewer objects than it says")
            at = self._scan_entry(at)
        if at != self._end:
            raise ValueError("the pack has more bytes than its objects take")
        self._starts.append(at)
        self._window = b""

    def read(self, number: int) -> bytes:
        """What is compressed of an object, or of a delta; of one that `scan` has read."""
        at = self._bodies[number]
        compressed = files.read_at(self._descriptor, self._starts[number + 1] - at, at)
        # Not as much as there is, should somebody have changed the file meanwhile.
        return zlib.decompressobj().decompress(compressed, self._sizes[number] + 1)

    def name(self, number: int) -> bytes:
        """The id of an object; of a delta that names its base, as long as it is not `found`, that of the base."""
        return bytes(self._names[number * NAME_SIZE : (number + 1) * NAME_SIZE])

    def found(self, number: int, kind: int, content: bytes) -> None:
        """Takes down what a delta has made."""
        raw = _raw(kind, content)
        self.kinds[number] = kind
        self._names[number * NAME_SIZE : (number + 1) * NAME_SIZE] = bytes.fromhex(raw.id)
        self._visit(raw)

    def index(self) -> bytes:
        """The content of its index, once every object is known.

        Raises:
            ValueError: one is not, as its base is not there; or one is there twice.
        """
        if not all(map(_TYPES.__contains__, self.kinds)):
            raise ValueError("a delta of the pack is against an object that is not in it")
        names = list(map(self.name, range(self.count)))
        ordered = sorted(names)
        if any(map(eq, ordered, islice(ordered, 1, None))):
            raise ValueError(TWICE)
        return encode_index(names, self._starts, self._crcs, self._checksum)

    def _scan_entry(self, at: int) -> int:
        """Takes down what begins at a place; gives where it ends."""
        header = entry_header(self._bytes(at, LONGEST_ENTRY_HEADER))
        self._include(header.size)
        base, name = WHOLE, bytes(NAME_SIZE)
        if header.kind == OFS_DELTA:
            base = bisect_left(self._starts, at - header.distance)
            if base == len(self._starts) or self._starts[base] != at - header.distance:
                raise ValueError("a delta of the pack is against what is no object of it")
        elif header.kind == REF_DELTA:
            name = header.name
        elif header.kind not in _TYPES:
            raise ValueError(f"an object of the pack has a type that Git has not: {header.kind}")
        content, crc, end = self._inflated(at, header.length, header.size)
        if header.kind in _TYPES:
            raw = _raw(header.kind, content)
            name = bytes.fromhex(raw.id)
            self._visit(raw)
        else:
            self._include(read_sizes(content)[1])
        self._starts.append(at)
        self._bodies.append(at + header.length)
        self._sizes.append(header.size)
        self._crcs.append(crc)
        self.kinds.append(header.kind)
        self._names += name
        self.bases.append(base)
        return end

    def _include(self, size: int) -> None:
        """Refuses what would unpack to too much."""
        if size > self.limits.object_size:
            raise ValueError(
                f"an object of the pack has {size} bytes, more than {self.limits.object_size}"
            )
        self._total += size
        if self._total > self.limits.total_size:
            raise ValueError(
                f"the objects of the pack have more than {self.limits.total_size} bytes"
            )

    def _inflated(self, at: int, header: int, size: int) -> tuple[bytes, int, int]:
        """What is compressed behind a header, the sum of both, and where it ends; never more than what was said."""
        inflating = zlib.decompressobj()
        # Little more than it takes: what is behind it would be copied for nothing.
        piece = self._bytes(at, min(header + size + size // 1000 + 64, _AT_ONCE))
        content = inflating.decompress(memoryview(piece)[header:], size + 1)
        parts, got, crc = [content], len(content), 0
        while not inflating.eof:
            # As there was room for a byte more than was said, all that was read is used up, or that byte is there.
            at, crc = at + len(piece), zlib.crc32(piece, crc)
            piece = self._bytes(at, _AT_ONCE)
            if got > size or not piece:
                break
            parts.append(inflating.decompress(piece, size + 1 - got))
            got += len(parts[-1])
        if got != size or not inflating.eof:
            raise ValueError("an object of the pack has another size than it says")
        used = len(piece) - len(inflating.unused_data)
        return b"".join(parts), zlib.crc32(memoryview(piece)[:used], crc), at + used

    def _bytes(self, at: int, length: int) -> bytes:
        """So many bytes, fewer where the objects end; what comes next is read with them."""
        length = min(length, self._end - at)
        start = at - self._window_at
        if start < 0 or start + length > len(self._window):
            self._window = files.read_at(self._descriptor, min(2 * _AT_ONCE, self._end - at), at)
            self._window_at, start = at, 0
        return self._window[start : start + length]


def _raw(number: int, content: bytes) -> Raw:
    """An object by the number of its type in packs."""
    kind = _TYPES[number]
    return Raw(object_id(kind, content), kind, content)
