"""Outgoing: the objects that a remote lacks, as a pack: in the order of the history, each a delta against the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dulwich.object_format import DEFAULT_OBJECT_FORMAT
from dulwich.pack import REF_DELTA, UnpackedObject, pack_object_header

from gitstate.repository.objects import TYPE_NUMBERS, tree_entries
from gitstate.repository.packing import Packing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gitstate.progress import ProgressCallback
    from gitstate.repository import Repository
    from gitstate.repository.packing import Entry


class Outgoing:
    """What `repository` has and a remote lacks that has the commits for which `has` is true, and all before them.

    Attributes:
        boundary: the commits among them that name parents which are neither here nor there.
        ids: what is to be sent, each behind those it refers to.
    """

    def __init__(self, repository: Repository, has: Callable[[str], bool]) -> None:
        self._repository = repository
        self._has = has
        self._seen: set[str] = set()
        self.ids: list[str] = []
        self.boundary: set[str] = set()

    def add(self, tips: Iterable[str]) -> None:
        """Adds these commits, and those before them, as far as they are lacking.

        Raises:
            StateReadError: one cannot be read.
        """
        commits: list[tuple[str, str]] = []
        ends = self._repository.shallow.read()
        ahead = list(tips)
        while ahead:
            at = ahead.pop()
            if at in self._seen or self._has(at):
                continue
            self._seen.add(at)
            commit = self._repository.commit(at)
            commits.append((at, commit.tree))
            if at in ends and not all(map(self._has, commit.parents)):
                self.boundary.add(at)
            elif at not in ends:
                ahead += commit.parents
        for at, tree in reversed(commits):
            if tree not in self._seen:
                self._seen.add(tree)
                entries = tree_entries(self._repository.read(tree))
                blobs = [blob for _, _, blob in entries if blob not in self._seen]
                self._seen.update(blobs)
                self.ids += [*blobs, tree]
            self.ids.append(at)

    def objects(self, progress: ProgressCallback) -> Iterator[UnpackedObject]:
        """The objects as dulwich sends them.

        Raises:
            StateReadError: one cannot be read; raised when it is come to.
        """
        raws = map(self._repository.raw, self.ids)
        for done, entry in enumerate(Packing([], {}, set()).entries(raws), 1):
            yield _unpacked(entry)
            progress("sending", done, len(self.ids))


def _unpacked(entry: Entry) -> UnpackedObject:
    kind = TYPE_NUMBERS[entry.kind] if entry.base is None else REF_DELTA
    header = pack_object_header(kind, entry.base, entry.size, DEFAULT_OBJECT_FORMAT)
    unpacked = UnpackedObject(kind, sha=entry.id, decomp_len=entry.size)
    # As it goes over the wire, so that dulwich has nothing to compress.
    unpacked.comp_chunks = [bytes(header), entry.compressed]
    return unpacked
