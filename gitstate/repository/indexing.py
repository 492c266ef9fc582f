"""Indexing: a pack that somebody else has sent gets its index, once every object of it has been read.

What deltas make is made depth first, from their base: of the contents few are in memory at once, whatever shape the tree
of them has.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from dulwich.pack import OFS_DELTA, REF_DELTA

from gitstate import files
from gitstate.repository.delta import apply_delta
from gitstate.repository.incoming import TWICE, WHOLE, Incoming, Limits
from gitstate.repository.index import NAME_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gitstate.repository.objects import Raw

__all__ = ["Limits", "index_pack"]

_NONE: Final = -1
_DELTAS: Final = (OFS_DELTA, REF_DELTA)
_HELD: Final = 2
"""Contents of the largest size that there is room for while what is made of them is made of others."""

_EFFORT: Final = 1024
"""Bytes that could be copied while a delta begins to be applied."""


def index_pack(path: Path, limits: Limits, visit: Callable[[Raw], None]) -> None:
    """Has `visit` see each object of a pack, in any order, and writes the index beside it, flushed.

    Needs memory for a few objects of the largest size, and about 300 bytes for each that there is. The names of the
    files are not flushed.

    Raises:
        ValueError: the pack is damaged, not whole by itself, or beyond the `limits`; there is no index. What was visited
            is worth nothing.
        OSError: the system refused; there is no index.
    """
    with path.open("rb", buffering=0) as file:
        pack = Incoming(file.fileno(), limits, visit)
        try:
            pack.check()
            pack.scan()
            _Deltas(pack).resolve()
        except (zlib.error, IndexError) as error:
            raise ValueError(f"an object of the pack is damaged: {error}") from error
        content = pack.index()
    with files.writing_new(path.with_suffix(".idx")) as index:
        index.write(content)


class _Deltas:
    """The deltas of a pack."""

    def __init__(self, pack: Incoming) -> None:
        self._pack = pack
        self._again = 0
        # Of each object the delta against it that is to be read next; of each delta the one behind it.
        self._first = array("i", [_NONE]) * pack.count
        self._next = array("i", [_NONE]) * pack.count
        # The deltas that name their base: the id of that, and their number.
        self._waiting: list[bytes] = []

    def resolve(self) -> None:
        """Reads the deltas, each behind what it is against, so far as that is there.

        Raises:
            ValueError, IndexError, zlib.error: one is damaged, or too long a chain.
        """
        pack = self._pack
        self._link()
        whole = [number for number in range(pack.count) if pack.kinds[number] not in _DELTAS]
        for number in whole:
            self._claim(number)
            if self._first[number] != _NONE:
                self._descend(number)

    def _link(self) -> None:
        """Lists the deltas against each object, the one on which most others rest last.

        Then the base is not needed any more when that one is read: of the contents that wait for their turn each has at
        most half as much above it as the one before.
        """
        count, bases = self._pack.count, self._pack.bases
        above = array("i", [1]) * count
        for number in reversed(range(count)):
            if bases[number] != WHOLE:
                above[bases[number]] += above[number]
        deltas = (number for number in range(count) if bases[number] != WHOLE)
        for number in sorted(deltas, key=above.__getitem__, reverse=True):
            self._push(bases[number], number)
        named = (number for number in range(count) if self._pack.kinds[number] == REF_DELTA)
        self._waiting = sorted(self._pack.name(number) + number.to_bytes(4) for number in named)

    def _push(self, base: int, number: int) -> None:
        self._next[number] = self._first[base]
        self._first[base] = number

    def _claim(self, base: int) -> None:
        """Lists the deltas that name this object as their base, now that its id is known."""
        if not self._waiting:
            return
        name = self._pack.name(base)
        for place in range(bisect_left(self._waiting, name), len(self._waiting)):
            row = self._waiting[place]
            if not row.startswith(name):
                break
            number = int.from_bytes(row[NAME_SIZE:])
            if self._pack.bases[number] != WHOLE:
                raise ValueError(TWICE)
            self._pack.bases[number] = base
            self._push(base, number)

    def _descend(self, root: int) -> None:
        """Reads all that is made of an object, and of that, depth first."""
        kind = self._pack.kinds[root]
        bases = _Bases(_HELD * self._pack.limits.object_size)
        bases.push(root, 0, self._pack.read(root))
        while bases.numbers:
            base, depth = bases.numbers[-1], bases.depths[-1]
            if depth >= self._pack.limits.depth:
                raise ValueError(f"a chain of deltas in the pack is longer than {depth}")
            content = bases.pop()
            if content is None:
                content = self._made_again(base)
            number = self._first[base]
            self._first[base] = self._next[number]
            if self._first[base] != _NONE:
                bases.push(base, depth, content)
            content = apply_delta(content, self._pack.read(number))
            self._pack.found(number, kind, content)
            self._claim(number)
            if self._first[number] != _NONE:
                bases.push(number, depth + 1, content)

    def _made_again(self, number: int) -> bytes:
        """The content of an object that was forgotten: so are those that it is made of, but for the first."""
        deltas = []
        while self._pack.bases[number] != WHOLE:
            deltas.append(number)
            number = self._pack.bases[number]
        content = self._pack.read(number)
        while deltas:
            content = apply_delta(content, self._pack.read(deltas.pop()))
            self._again += len(content) + _EFFORT
            # An honest pack has little that must be made twice.
            if self._again > self._pack.limits.total_size:
                raise ValueError("the deltas of the pack take too long to apply")
        return content


class _Bases:
    """The objects that more is to be made of: each of them is, by however many deltas, made of the one before.

    Attributes:
        numbers: which.
        depths: how many deltas make each.
    """

    def __init__(self, room: int) -> None:
        self.numbers: list[int] = []
        self.depths: list[int] = []
        self._contents: list[bytes] = []
        self._room = room
        # So many at the front are forgotten: they are needed last.
        self._forgotten = 0

    def push(self, number: int, depth: int, content: bytes) -> None:
        """Adds one, and forgets the contents of others where there is no room for them."""
        self.numbers.append(number)
        self.depths.append(depth)
        self._contents.append(content)
        self._room -= len(content)
        while self._room < 0 and self._forgotten < len(self.numbers) - 1:
            self._room += len(self._contents[self._forgotten])
            self._contents[self._forgotten] = b""
            self._forgotten += 1

    def pop(self) -> bytes | None:
        """Takes the last one off; gives its content, None where that is forgotten."""
        self.numbers.pop()
        self.depths.pop()
        content = self._contents.pop()
        self._room += len(content)
        if self._forgotten > len(self.numbers):
            self._forgotten -= 1
            return None
        return content
