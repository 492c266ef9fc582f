"""Git objects as values: how they are made, and what a commit says."""

from __future__ import annotations

import hashlib
import re
import stat
import threading
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from gitstate import files, trailers
from gitstate.first_use import FIRST_USE
from gitstate.record import GitObject

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gitstate.trailers import Note

TYPE_NUMBERS: Final = {b"commit": 1, b"tree": 2, b"blob": 3, b"tag": 4}
"""The numbers of the types in packs: gitformat-pack(5)."""

_ID: Final = re.compile("[0-9a-f]{40}")
_TYPES: Final = {number: kind for kind, number in TYPE_NUMBERS.items()}
_FILE_MODE: Final = b"100644"
_SUBMODULE: Final = 0o160000
_FASTEST: Final = 1
"""zlib's level for loose objects: a third of the time of the default, for a few per cent more bytes."""

_SHORT: Final = 512
"""Bytes up to which an object is stored as it is: a transaction's tree and commit, which one block holds either way."""

_STORED: Final = 0

_WORTH_A_THREAD: Final = 4 * 1024 * 1024
"""Bytes from which on hashing goes beside compressing, in a thread: of 5 MB that spares 2 of 11 ms."""

_LONGEST_HEADER: Final = 32
MOST_INFLATED: Final = 1032
"""Times that deflated bytes grow at most: a match of 258 bytes takes two bits (RFC 1951)."""


class Raw(NamedTuple):
    """An object's id, its type (`b"blob"` ...) and its content."""

    id: str
    kind: bytes
    content: bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit as gitstate reads it: its id, its parents' and its tree's, who made it, and what its message says."""

    id: str
    parents: tuple[str, ...]
    tree: str
    author: str
    note: Note


def make_blob(content: bytes) -> GitObject:
    """The object that holds `content`."""
    return _make(b"blob", content)


def blob_id(content: bytes) -> str:
    """Git's id of `content`."""
    return object_id(b"blob", content)


def make_tree(files: Mapping[bytes, str]) -> GitObject:
    """The tree that holds blobs by their ids, under these names."""
    # As they are sorted in Git, where none is a folder's.
    entries = [
        b"%s %s\0%s" % (_FILE_MODE, name, bytes.fromhex(blob))
        for name, blob in sorted(files.items())
    ]
    return _make(b"tree", b"".join(entries))


def make_commit(tree: str, parents: Iterable[str], author: str, note: Note) -> GitObject:
    """The commit of `tree` on `parents`; the same arguments give the same id."""
    # By hand, as dulwich takes 50 us for a form that will not change. Source: git-commit-tree(1), git-cat-file(1).
    who = b"%s %d +0000" % (author.encode(errors="backslashreplace"), note.time.timestamp())
    header = [b"tree " + tree.encode()]
    header += [b"parent " + parent.encode() for parent in parents]
    header += [b"author " + who, b"committer " + who, b"encoding UTF-8", b"", b""]
    return _make(b"commit", b"\n".join(header) + trailers.encode(note))


def parse_commit(raw: Raw) -> Commit:
    """The commit that `raw` is.

    Raises:
        ValueError: it is not a commit that gitstate made.
    """
    if raw.kind != b"commit":
        raise ValueError(f"it is a {raw.kind.decode()}")
    # By hand, as dulwich takes five times as long, and a walk reads thousands of them.
    header, _, message = raw.content.partition(b"\n\n")
    fields = [line.partition(b" ") for line in header.split(b"\n")]
    parents = tuple(
        value.decode("ascii", "replace") for key, _, value in fields if key == b"parent"
    )
    named = {key: value for key, _, value in fields}
    tree = named.get(b"tree", b"").decode("ascii", "replace")
    if not all(map(_ID.fullmatch, (tree, *parents))):
        raise ValueError("its header is not that of a commit")
    author = named.get(b"author", b"").rsplit(b" ", 2)[0].decode(errors="replace")
    return Commit(raw.id, parents, tree, author, trailers.decode(message))


def find_in_tree(content: bytes, name: bytes) -> str:
    """The id that the tree with `content` holds under `name`.

    Raises:
        ValueError: it is no tree, or has no such name.
    """
    for _, found, made_id in tree_entries(content):
        if found == name:
            return made_id
    raise ValueError(f"there is no {name!r}")


def tree_entries(content: bytes) -> Iterator[tuple[int, bytes, str]]:
    """Of each entry of a tree its mode, its name and its id.

    Raises:
        ValueError: it is no tree.
    """
    with FIRST_USE:
        from dulwich.objects import Tree  # noqa: PLC0415  see gitstate.first_use
    tree = Tree()
    try:
        tree.set_raw_string(content)
        entries = list(tree.iteritems())
    except Exception as error:  # a foreign tree may be anything that dulwich trips over
        raise ValueError(str(error)) from error
    for entry in entries:
        yield entry.mode, entry.path, entry.sha.decode()


def refers_to(raw: Raw) -> Iterator[tuple[str, bool]]:
    """The ids of what an object refers to, a commit's parents last; and whether they may refer to more.

    Raises:
        ValueError: it is no object.
    """
    if raw.kind == b"tree":
        for mode, _, made_id in tree_entries(raw.content):
            if stat.S_IFMT(mode) != _SUBMODULE:
                yield made_id, stat.S_ISDIR(mode)
    elif raw.kind in (b"commit", b"tag"):
        for line in raw.content.partition(b"\n\n")[0].split(b"\n"):
            key, _, value = line.partition(b" ")
            if key in (b"tree", b"parent", b"object"):
                yield value.decode("ascii"), True


def unpack_loose(made: GitObject) -> Raw:
    """The object in the bytes of a loose file.

    Raises:
        zlib.error: they are damaged.
        OSError: a large one's cannot be read.
    """
    loose = made.loose
    header = zlib.decompressobj().decompress(loose, _LONGEST_HEADER).partition(b"\0")[0]
    kind, _, digits = header.partition(b" ")
    size = int(digits) if digits.isdigit() else -1
    if not 0 <= size <= len(loose) * MOST_INFLATED:
        raise zlib.error("its header is damaged")
    # Into one piece of the right size: a large content is not to be there twice while it grows.
    inflating = zlib.decompressobj()
    inflating.decompress(loose, len(header) + 1)
    content = inflating.flush(max(1, size))
    if not inflating.eof or len(content) != size:
        raise zlib.error("it is not as long as its header says")
    return Raw(made.id, kind, content)


def checked_loose(made: GitObject) -> Raw | None:
    """The object in the bytes of a loose file; None where these are damaged, or another's than its id says.

    Raises:
        OSError: a large one's cannot be read.
    """
    try:
        raw = unpack_loose(made)
    except zlib.error:
        return None
    except OSError as error:
        if files.is_damage(error):
            return None
        raise
    return raw if object_id(raw.kind, raw.content) == made.id else None


def checked_raw(named: str, number: int, content: bytes) -> Raw:
    """The object that was found under an id, with the number of its type in packs.

    Raises:
        ValueError: its hash is another.
    """
    kind = _TYPES[number]
    if object_id(kind, content) != named:
        raise ValueError(f"the hash of {named} does not match")
    return Raw(named, kind, content)


def object_id(kind: bytes, content: bytes) -> str:
    """Git's id of an object."""
    digest = hashlib.sha1(_header(kind, content), usedforsecurity=False)
    digest.update(content)
    return digest.hexdigest()


def _make(kind: bytes, content: bytes) -> GitObject:
    header = _header(kind, content)
    digest = hashlib.sha1(header, usedforsecurity=False)
    beside = None
    if len(content) > _WORTH_A_THREAD:
        beside = threading.Thread(target=digest.update, args=(content,))
        try:
            beside.start()
        except RuntimeError:  # too many of them, or the interpreter is on its way out
            beside = None
    # One behind the other, as a copy of both together would be one more of a large content.
    compressor = zlib.compressobj(_FASTEST if len(content) > _SHORT else _STORED)
    parts = compressor.compress(header), compressor.compress(content), compressor.flush()
    if beside is not None:
        beside.join()
    else:
        digest.update(content)
    return GitObject(digest.hexdigest(), b"".join(parts))


def _header(kind: bytes, content: bytes) -> bytes:
    return b"%s %d\0" % (kind, len(content))
