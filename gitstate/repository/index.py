"""Index: which objects a pack has, and where; as tables, since a long history has a million of them.

Source of the format: gitformat-pack(5). Version 1, which Git writes where it is told to, is read only.
"""

from __future__ import annotations

import hashlib
import heapq
import sys
from array import array
from bisect import bisect_left
from functools import cached_property
from itertools import islice
from operator import lt
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAME_SIZE: Final = 20
ROW_SIZE: Final = NAME_SIZE + 8
FRAME_SIZE: Final = 1072
"""Bytes of an index for each object, and beside them."""

_MAGIC: Final = b"\xfftOc"
_HEADER: Final = _MAGIC + b"\0\0\0\2"
_FAN_OUT: Final = 1024
_OLD_ROW_SIZE: Final = 24
_BEYOND: Final = 0x80000000
"""The bit that says that a place stands in the table of the large ones."""


class Index:
    """An index, in the order of the names.

    Attributes:
        checksum: that of the pack.
        old: whether it is of version 1, which has no sums of the objects.
    """

    def __init__(self, content: bytes) -> None:
        """Reads `content`.

        Raises:
            ValueError: it is damaged, or of another version.
        """
        self.old = content[: len(_MAGIC)] != _MAGIC
        if not self.old and content[: len(_HEADER)] != _HEADER:
            raise ValueError("its index is of an unknown version")
        whole = hashlib.sha1(memoryview(content)[:-NAME_SIZE], usedforsecurity=False)
        if whole.digest() != content[-NAME_SIZE:]:
            raise ValueError("the checksum of its index does not match")
        self._content = content
        start = _FAN_OUT if self.old else len(_HEADER) + _FAN_OUT
        (self._count,) = _table("I", content[start - 4 : start])
        row = _OLD_ROW_SIZE if self.old else ROW_SIZE
        if len(content) < start + self._count * row + 2 * NAME_SIZE:
            raise ValueError("its index makes no sense")
        # In an old one each name stands behind its place, else all names stand together.
        self._start = start + 4 if self.old else start
        self._step = _OLD_ROW_SIZE if self.old else NAME_SIZE
        self.checksum = content[-2 * NAME_SIZE : -NAME_SIZE]

    def __len__(self) -> int:
        return self._count

    @cached_property
    def names(self) -> list[bytes]:
        """The ids of the objects."""
        return [self._content[start : start + NAME_SIZE] for start in self._starts()]

    @cached_property
    def crcs(self) -> array[int]:
        """The CRC-32 of each object's bytes in the pack; see `check`."""
        start = self._start + self._count * NAME_SIZE
        return _table("I", self._content[start : start + self._count * 4])

    @cached_property
    def offsets(self) -> array[int]:
        """Where each object begins in the pack."""
        return array("Q", map(self._offset, range(self._count)))

    def check(self) -> None:
        """Sees that it has each object once, in order, and its sum.

        Raises:
            ValueError: it has not.
        """
        if self.old:
            raise ValueError("its index has no sums that could be taken over")
        if not all(map(lt, self.names, islice(self.names, 1, None))):
            raise ValueError("its index is out of order")

    def find(self, name: bytes) -> int | None:
        """Where the object with this id begins in the pack, None if it has none."""
        place = bisect_left(range(self._count), name, key=self._name)
        return self._offset(place) if place < self._count and self._name(place) == name else None

    def ids(self, prefix: str) -> Iterator[str]:
        """The ids that begin with these hex digits."""
        first = bytes.fromhex(prefix.ljust(2 * NAME_SIZE, "0"))
        place = bisect_left(range(self._count), first, key=self._name)
        while place < self._count and (found := self._name(place).hex()).startswith(prefix):
            yield found
            place += 1

    def in_order(self) -> list[tuple[int, bytes]]:
        """The places and ids of all objects, in the order of the pack."""
        return sorted(zip(self.offsets, self.names, strict=True))

    def last(self, count: int) -> list[tuple[int, bytes]]:
        """The last ones of these, the very last one first."""
        places = heapq.nlargest(count, range(self._count), key=self.offsets.__getitem__)
        return [(self.offsets[place], self.names[place]) for place in places]

    def _starts(self) -> range:
        return range(self._start, self._start + self._count * self._step, self._step)

    def _offset(self, place: int) -> int:
        at = self._places[place]
        return at if self.old or at < _BEYOND else self._large[at - _BEYOND]

    @cached_property
    def _places(self) -> array[int]:
        if self.old:
            return _table("I", b"".join(self._content[at - 4 : at] for at in self._starts()))
        start = self._start + self._count * (NAME_SIZE + 4)
        return _table("I", self._content[start : start + self._count * 4])

    @cached_property
    def _large(self) -> array[int]:
        start = self._start + self._count * ROW_SIZE
        return _table("Q", self._content[start : -2 * NAME_SIZE])

    def _name(self, place: int) -> bytes:
        start = self._start + place * self._step
        return self._content[start : start + NAME_SIZE]


def encode_index(
    names: Sequence[bytes], offsets: Sequence[int], crcs: Sequence[int], checksum: bytes
) -> bytes:
    """The index of a pack that has this checksum; of each object its id, its place and its CRC-32, in any order."""
    order = sorted(range(len(names)), key=names.__getitem__)
    ids = [names[each] for each in order]
    small, large = array("I"), array("Q")
    for at in map(offsets.__getitem__, order):
        if at < _BEYOND:
            small.append(at)
        else:
            small.append(_BEYOND + len(large))
            large.append(at)
    fan_out = array("I", (bisect_left(ids, bytes([first])) for first in range(1, 256)))
    fan_out.append(len(ids))
    sums = array("I", map(crcs.__getitem__, order))
    tables = [_HEADER, _bytes(fan_out), b"".join(ids), *map(_bytes, (sums, small, large)), checksum]
    whole = hashlib.sha1(usedforsecurity=False)
    for table in tables:
        whole.update(table)
    return b"".join((*tables, whole.digest()))


def _table(code: str, content: bytes) -> array[int]:
    """Numbers that stand in files with the highest byte first."""
    table = array(code, content)
    if sys.byteorder == "little":
        table.byteswap()
    return table


def _bytes(table: array[int]) -> bytes:
    turned = array(table.typecode, table)
    if sys.byteorder == "little":
        turned.byteswap()
    return turned.tobytes()
