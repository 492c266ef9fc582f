"""Deltas: an object as what it takes from another one, and what it adds; made, and applied.

JSON that is indented is lines, and most of them stay from one version to the next. So lines are matched, by a table of
pairs of adjacent lines, and bytes only around them: as small as Git's own deltas, in a few passes (PITFALLS D14).

Source of the format: gitformat-pack(5), "Deltified representation".
"""

from __future__ import annotations

import io
from bisect import bisect_left
from itertools import accumulate
from typing import Final

from gitstate.difference import common_head, common_tail

_MAX_COPY: Final = 0xFFFFFF
_MAX_INSERT: Final = 127
_MAX_SHIFT: Final = 63
_NO_LENGTH: Final = 0x10000
"""Bytes that a copy takes whose length is left out."""

_OFFSET_BITS: Final = 32
_LAST_OFFSET: Final = 2**_OFFSET_BITS - 1
_SHIFTS: Final = [[8 * bit for bit in range(7) if code & 1 << bit] for code in range(0x80)]
"""By the bits of a copy's code, what the bytes behind it are of its offset and, above that, of its length."""

_WORTH_COPYING: Final = 12
"""Bytes in a gap from which on a copy, of up to eight bytes, is smaller than what it replaces."""


def make_delta(base: bytes, target: bytes) -> bytes:
    """What makes `target` of `base`; not compressed."""
    made = _Delta(base, target)
    head = common_head(base, target)
    tail = common_tail(base, target, head)
    made.copy(0, head)
    made.match_lines(head, len(base) - tail, len(target) - tail)
    made.copy(len(base) - tail, tail)
    return bytes(made.instructions)


def apply_delta(base: bytes, delta: bytes) -> bytes:
    """What `delta` makes of `base`.

    In no more memory than that takes, whatever the delta says: what is too much is refused before it is copied.
    dulwich's, in Rust, takes half the time, once more the memory of a large object, and panics where one is damaged.

    Raises:
        ValueError, IndexError: the delta is damaged, or was made for another base.
    """
    base_size, wanted, at = read_sizes(delta)
    if base_size != len(base):
        raise ValueError("a delta is for a base of another size")
    made = io.BytesIO()
    write = made.write
    told, end = 0, len(delta)
    with memoryview(base) as view:
        while at < end:
            code, at = delta[at], at + 1
            if code & 0x80:
                numbers = 0
                for shift in _SHIFTS[code & 0x7F]:
                    numbers |= delta[at] << shift
                    at += 1
                offset, length = numbers & _LAST_OFFSET, numbers >> _OFFSET_BITS or _NO_LENGTH
                told += length
                if told > wanted:
                    break
                write(view[offset : offset + length])
            elif code:
                told += code
                if told > wanted:
                    break
                write(delta[at : at + code])
                at += code
            else:
                raise ValueError("a delta has an instruction that Git has not defined")
    if not made.tell() == told == wanted:
        raise ValueError("a delta makes an object of another size than it says")
    return made.getvalue()


def read_sizes(delta: bytes) -> tuple[int, int, int]:
    """The size of what a delta is against, that of what it makes, and where its instructions begin.

    Raises:
        ValueError, IndexError: it is damaged.
    """
    base_size, at = _read_size(delta, 0)
    return base_size, *_read_size(delta, at)


class _Delta:
    """A delta as it grows, instruction by instruction."""

    def __init__(self, base: bytes, target: bytes) -> None:
        self._base = base
        self._target = target
        self.instructions = bytearray(_size(len(base)) + _size(len(target)))

    def match_lines(self, start: int, base_end: int, target_end: int) -> None:
        """Makes the target from `start` to its end of runs of lines that the base has there too, and of what is between."""
        old = self._base[start:base_end].split(b"\n")
        new = self._target[start:target_end].split(b"\n")
        old_at = list(accumulate((len(line) + 1 for line in old), initial=start))
        new_at = list(accumulate((len(line) + 1 for line in new), initial=start))
        places: dict[tuple[bytes, bytes], list[int]] = {}
        for number in range(len(old) - 1):
            places.setdefault((old[number], old[number + 1]), []).append(number)
        base_done, target_done = start, start
        line, cursor = 0, 0
        while line < len(new) - 1:
            found = places.get((new[line], new[line + 1]))
            if found is None:
                line += 1
                continue
            # In order, if it can be: the gaps are where something has changed.
            ahead = bisect_left(found, cursor)
            first = found[ahead] if ahead < len(found) else found[0]
            count = 2
            while (
                line + count < len(new)
                and first + count < len(old)
                and old[first + count] == new[line + count]
            ):
                count += 1
            base_from, target_from = old_at[first], new_at[line]
            # The last line of either has no line break that would be ours to take.
            length = min(
                min(new_at[line + count], target_end) - target_from,
                min(old_at[first + count], base_end) - base_from,
            )
            self._gap(base_done, base_from, target_done, target_from)
            self.copy(base_from, length)
            base_done, target_done = base_from + length, target_from + length
            line, cursor = line + count, first + count
        self._gap(base_done, base_end, target_done, target_end)

    def copy(self, offset: int, length: int) -> None:
        """Takes bytes of the base."""
        while length > 0:
            taken = min(length, _MAX_COPY)
            arguments = bytearray()
            code = 0x80
            for bit, byte in enumerate(
                (*offset.to_bytes(4, "little"), *taken.to_bytes(3, "little"))
            ):
                if byte:
                    code |= 1 << bit
                    arguments.append(byte)
            self.instructions.append(code)
            self.instructions += arguments
            offset, length = offset + taken, length - taken

    def _gap(self, base_from: int, base_to: int, target_from: int, target_to: int) -> None:
        """Adds what no line was found for: line by line, if there are as many in the base, else as a whole."""
        old = self._base[base_from:base_to].split(b"\n")
        new = self._target[target_from:target_to].split(b"\n")
        if len(old) != len(new):
            old, new = [b"\n".join(old)], [b"\n".join(new)]
        added = bytearray()
        for number, (against, piece) in enumerate(zip(old, new, strict=True)):
            head = common_head(against, piece)
            if head < _WORTH_COPYING:
                head = 0
            tail = common_tail(against, piece, head)
            if tail < _WORTH_COPYING:
                tail = 0
            if head:
                self._insert(added)
                self.copy(base_from, head)
            added += piece[head : len(piece) - tail]
            base_from += len(against) + 1
            if tail:
                self._insert(added)
                self.copy(base_from - 1 - tail, tail)
            if number + 1 < len(new):
                added += b"\n"
        self._insert(added)

    def _insert(self, added: bytearray) -> None:
        """Adds bytes, which are gone behind it."""
        for start in range(0, len(added), _MAX_INSERT):
            part = added[start : start + _MAX_INSERT]
            self.instructions.append(len(part))
            self.instructions += part
        added.clear()


def _size(number: int) -> bytes:
    """`number` in groups of seven bits, the lowest first."""
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _read_size(delta: bytes, at: int) -> tuple[int, int]:
    """A number as `_size` writes it, and where it ends."""
    number = shift = 0
    while True:
        byte, at = delta[at], at + 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at
        if shift > _MAX_SHIFT:
            raise ValueError("a delta has a size that no object has")
