"""Part: a numbered, checked piece of a journal, and how it is found again.

A part of the journal's format 1, see journal.py. Little-endian; every part begins on a multiple of 4,096 bytes and is
padded with zeros::

    part := magic[8] salt[16] sequence:u64 durable:u64 length:u64 digest[16] payload[length]

`salt` is random and the same throughout a generation, so that no part of an older one is taken for a record of this one
(PITFALLS O3). `durable` is the last sequence number that had been flushed when the part was written. `digest` is BLAKE2b
over everything in the part but itself.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import Final, NamedTuple

from gitstate import files

BLOCK: Final = 4096
"""Parts begin on multiples of so many bytes."""

_PREFIX: Final = struct.Struct("<8s16sQQQ")
_DIGEST_SIZE: Final = 16

HEADER_SIZE: Final = _PREFIX.size + _DIGEST_SIZE
"""Bytes of a part before its payload."""

_MAX_AHEAD: Final = 16 * BLOCK


class Part(NamedTuple):
    """A whole part: its salt, its number, what was durable before it, its payload, and where the next one begins."""

    salt: bytes
    sequence: int
    durable: int
    payload: bytes
    end: int


class Passed(NamedTuple):
    """A part of which only the header was read, unchecked: its number, and where the next one begins if it is whole."""

    sequence: int
    end: int


def encode_part(magic: bytes, salt: bytes, sequence: int, durable: int, payload: bytes) -> bytes:
    """The bytes of a part, padded."""
    prefix = _PREFIX.pack(magic, salt, sequence, durable, len(payload))
    part = b"".join((prefix, _digest(prefix, payload), payload))
    return part + bytes(-len(part) % BLOCK)


def pass_over(descriptor: int, offset: int, magic: bytes, salt: bytes) -> Passed | None:
    """What the header of the part at `offset` says, None where none begins that has this `magic` and this `salt`.

    Raises:
        OSError: the file cannot be read.
    """
    head = files.read_at(descriptor, _PREFIX.size, offset)
    if len(head) < _PREFIX.size:
        return None
    found_magic, found_salt, sequence, _, length = _PREFIX.unpack(head)
    if (found_magic, found_salt) != (magic, salt):
        return None
    end = offset + HEADER_SIZE + length
    return Passed(sequence, end + -end % BLOCK)


class PartReader:
    """Finds parts in an open file. It keeps what it has read, so it serves one look at the file and not the next."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._window = b""
        self._start = 0
        self._ahead = BLOCK

    def at(self, offset: int, magic: bytes, salt: bytes | None = None) -> Part | None:
        """The part at `offset`, None where none is whole that has this `magic`, and this `salt` if one is given.

        Raises:
            OSError: the file cannot be read.
        """
        head = self._read(offset, HEADER_SIZE)
        if len(head) < HEADER_SIZE or not head.startswith(magic):
            return None
        _, found, sequence, durable, length = _PREFIX.unpack_from(head)
        end = offset + HEADER_SIZE + length
        # The length is not to be trusted before the digest has been checked.
        if (salt is not None and found != salt) or end > os.fstat(self._descriptor).st_size:
            return None
        payload = self._read(offset + HEADER_SIZE, length)
        if _digest(head[: _PREFIX.size], payload) != head[_PREFIX.size :]:
            return None
        return Part(found, sequence, durable, payload, end + -end % BLOCK)

    def _read(self, offset: int, length: int) -> bytes:
        at = offset - self._start
        if at < 0 or at + length > len(self._window):
            # Most looks find nothing new, so the first one is short; where one part is new, others follow.
            size = max(length, self._ahead)
            self._window = files.read_at(self._descriptor, size, offset)
            self._start, at = offset, 0
            self._ahead = min(4 * self._ahead, _MAX_AHEAD)
        return self._window[at : at + length]


def _digest(prefix: bytes, payload: bytes) -> bytes:
    digest = hashlib.blake2b(prefix, digest_size=_DIGEST_SIZE)
    digest.update(payload)
    return digest.digest()
