"""Packing: objects in the order of the history, each as a delta against the one of its kind before it.

Source of the format: gitformat-pack(5).
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from array import array
from typing import TYPE_CHECKING, Final, NamedTuple

from dulwich.object_format import DEFAULT_OBJECT_FORMAT
from dulwich.pack import OFS_DELTA, pack_object_header

from gitstate.repository.delta import make_delta
from gitstate.repository.index import encode_index
from gitstate.repository.objects import TYPE_NUMBERS
from gitstate.repository.packfile import HEADER_SIZE, Tip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import BinaryIO

    from gitstate.repository.objects import Raw
    from gitstate.repository.packfile import Held, PackFile

MAX_DEPTH: Final = 100
"""Deltas that must be applied at most to read an object: a few milliseconds for one of 50 KB."""

_VERSION: Final = 2
_SURELY_SMALLER: Final = 8
"""A compressed delta that is smaller than the object by this factor is smaller than the object compressed."""


class Written(NamedTuple):
    """A pack that was written: its index, and its checksum."""

    index_content: bytes
    checksum: bytes


class Entry(NamedTuple):
    """An object as it stands in a pack: a delta against `base`, None for whole, of this size, compressed."""

    id: bytes
    kind: bytes
    base: bytes | None
    size: int
    compressed: bytes


class Packing:
    """What goes into a pack: the `bodies` of others as they are, then objects behind the `tips` of the last of these.

    `known` are the ids of all that the bodies have.

    Attributes:
        tips: by their kinds, what the next objects may be deltas against.
    """

    def __init__(
        self, bodies: list[PackFile], tips: Mapping[bytes, Tip], known: set[bytes]
    ) -> None:
        self._bodies = bodies
        self.tips = dict(tips)
        self._known = known
        self._entries: list[Entry] = []

    @property
    def added(self) -> list[bytes]:
        """The ids of the objects that are new."""
        return [entry.id for entry in self._entries]

    def add(self, raws: Iterable[Raw]) -> None:
        """Adds the objects that are not in it yet."""
        for raw in raws:
            made_id = bytes.fromhex(raw.id)
            if made_id not in self._known:
                self._known.add(made_id)
                self._entries.append(self._compress(made_id, raw))

    def entries(self, raws: Iterable[Raw]) -> Iterator[Entry]:
        """The objects, each as it goes into a pack behind those before; they are not kept for `write`."""
        return (self._compress(bytes.fromhex(raw.id), raw) for raw in raws)

    def take_over(self, held: Iterable[tuple[Raw, Held | None]]) -> None:
        """Adds objects of another pack, as that holds them if what they are against has been taken over, too."""
        depths: dict[bytes | None, int] = {None: -1}
        for raw, how in held:
            if how is None or how.base not in depths:
                self.add([raw])
            elif (made_id := bytes.fromhex(raw.id)) not in self._known:
                self._known.add(made_id)
                self._entries.append(Entry(made_id, raw.kind, *how))
                depths[made_id] = depths[how.base] + 1
                self.tips[raw.kind] = Tip(made_id, raw.content, depths[made_id])

    def write(self, file: BinaryIO) -> Written:
        """Writes the pack, once; gives its index and its checksum."""
        out = _Out(file)
        out.write(struct.pack(">4sLL", b"PACK", _VERSION, len(self._known)))
        self._known.clear()  # of a long history it is large, and nothing is added behind this
        names: list[bytes] = []
        offsets, crcs = array("Q"), array("I")
        for body in self._bodies:
            # Deltas name their bases by how far away these are, which stays.
            moved = out.position - HEADER_SIZE
            names += body.index.names
            offsets.extend(map(moved.__add__, body.index.offsets))
            crcs += body.index.crcs
            for chunk in body.chunks():
                out.write(chunk)
        bases = {entry.base for entry in self._entries}
        places = {name: at for name, at in zip(names, offsets, strict=True) if name in bases}
        for entry in self._entries:
            kind, distance = TYPE_NUMBERS[entry.kind], None
            if entry.base is not None:
                kind, distance = OFS_DELTA, out.position - places[entry.base]
            header = pack_object_header(kind, distance, entry.size, DEFAULT_OBJECT_FORMAT)
            whole = bytes(header) + entry.compressed
            places[entry.id] = out.position
            names.append(entry.id)
            offsets.append(out.position)
            crcs.append(zlib.crc32(whole))
            out.write(whole)
        checksum = out.checksum()
        file.write(checksum)
        return Written(encode_index(names, offsets, crcs, checksum), checksum)

    def _compress(self, made_id: bytes, raw: Raw) -> Entry:
        tip = self.tips.get(raw.kind)
        whole = None
        if tip is not None and tip.depth < MAX_DEPTH:
            delta = make_delta(tip.content, raw.content)
            compressed = zlib.compress(delta)
            if len(compressed) * _SURELY_SMALLER > len(raw.content):
                whole = zlib.compress(raw.content)
            if whole is None or len(compressed) < len(whole):
                self.tips[raw.kind] = Tip(made_id, raw.content, tip.depth + 1)
                return Entry(made_id, raw.kind, tip.id, len(delta), compressed)
        self.tips[raw.kind] = Tip(made_id, raw.content, 0)
        return Entry(made_id, raw.kind, None, len(raw.content), whole or zlib.compress(raw.content))


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
