"""Salvage: the objects that can still be read out of a damaged pack. Whatever is given has the hash that it is called by.

Source of the format: gitformat-pack(5).
"""

from __future__ import annotations

import contextlib
import hashlib
import zlib
from typing import TYPE_CHECKING, Final

from dulwich.objects import ShaFile
from dulwich.pack import OFS_DELTA, REF_DELTA

from gitstate import files
from gitstate.repository.frame import content_of, is_refusal
from gitstate.repository.index import Index, encode_index
from gitstate.repository.objects import TYPE_NUMBERS, Raw, object_id
from gitstate.repository.packfile import (
    CHECKSUM_SIZE,
    HEADER_SIZE,
    LONGEST_ENTRY_HEADER,
    Entry,
    PackFile,
    entry_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_KINDS: Final = {number: kind for kind, number in TYPE_NUMBERS.items()}
_LARGEST: Final = 1 << 40
_EMPTY: Final = Index(encode_index([], [], [], bytes(CHECKSUM_SIZE)))


class SalvagedPack(PackFile):
    """A pack of which something is damaged, or its index, which may be missing.

    A delta whose base is damaged takes it from `elsewhere`, if the index says what it was.
    """

    def __init__(self, path: Path, elsewhere: Callable[[str], Raw | None]) -> None:
        content = files.read(path)[0]
        super().__init__(path, _EMPTY)
        self._elsewhere = elsewhere
        self._found: dict[bytes, int] = {}
        self._names: dict[int, str] | None = None
        whole = hashlib.sha1(content[:-CHECKSUM_SIZE], usedforsecurity=False).digest()
        if whole != content[-CHECKSUM_SIZE:]:  # else it is the index that is damaged
            with contextlib.suppress(ValueError):
                index = Index(content_of(path.with_suffix(".idx")) or b"")
                self._names = {at: name.hex() for at, name in index.in_order()}
        self._starts = list(_places(content) if self._names is None else self._names)

    def readable(self) -> Iterator[Raw]:
        """The objects that can be read, most of them in the order of the file."""
        left, more = self._starts, True
        while more:  # a delta may stand before what it is against
            more, waiting = False, []
            for at in left:
                raw = self._raw(at)
                if raw is None:
                    waiting.append(at)
                    continue
                more = True
                self._found[bytes.fromhex(raw.id)] = at
                yield raw
            left = waiting

    def _raw(self, at: int) -> Raw | None:
        try:
            number, content = self._read(at)
            kind = _KINDS[number]
            raw = Raw(object_id(kind, content), kind, content)
            if self._names is not None:
                return raw if raw.id == self._names[at] else None
            # A flipped bit in its type, or in what it is against, makes another object of it.
            if kind != b"blob":
                ShaFile.from_raw_string(number, content).check()
        except Exception as error:  # zlib and dulwich raise whatever they trip over (PITFALLS D9)
            if is_refusal(error):
                raise
            return None
        return raw

    def _entry(self, at: int) -> Entry:
        try:
            return super()._entry(at)
        except Exception as error:  # as above
            if is_refusal(error):
                raise
            raw = self._elsewhere((self._names or {}).get(at, ""))
            if raw is None:
                raise
            return Entry(TYPE_NUMBERS[raw.kind], None, raw.content, b"")

    def _place(self, name: bytes) -> int | None:
        return self._found.get(name)


def _places(content: bytes) -> Iterator[int]:
    """Where the objects of a pack begin that are whole. Behind a damaged one the search goes on at every byte."""
    view = memoryview(content)
    at = HEADER_SIZE
    while at < len(content):
        try:
            behind = _end(view, at)
        except (ValueError, IndexError, zlib.error):
            at += 1
        else:
            yield at
            at = behind


def _end(view: memoryview, at: int) -> int:
    """Where the object of a pack ends that begins at a place.

    Raises:
        ValueError, IndexError, zlib.error: none does.
    """
    header = entry_header(view[at : at + LONGEST_ENTRY_HEADER])
    start = at + header.length
    if header.kind not in (*_KINDS, OFS_DELTA, REF_DELTA) or header.size > _LARGEST:
        raise ValueError("no type")
    if view[start] & 0x0F != 8 or ((view[start] << 8) | view[start + 1]) % 31:
        raise ValueError("no stream")
    # What is not compressible grows by five bytes in 16 KB. Not more, as what is left over is copied each time.
    piece = view[start : start + header.size + header.size // 1000 + 1024]
    stream = zlib.decompressobj()
    if len(stream.decompress(piece, header.size + 1)) != header.size:
        raise ValueError("another size")
    stream.decompress(stream.unconsumed_tail, 1)
    if not stream.eof:
        raise ValueError("no end")
    return start + len(piece) - len(stream.unused_data)
