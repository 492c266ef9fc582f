"""The hidden bare repository: Git objects in and out, refs; the only room that uses dulwich.

Nothing in the repository's own `config`, `hooks` or `alternates` is obeyed or run (PITFALLS D25, D26): objects are read
and written directly. Of `config` only the names of remotes are of interest.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.errors import StateReadError, store_unreadable
from gitstate.first_use import FIRST_USE
from gitstate.repository.checkouts import checkouts, named_by
from gitstate.repository.frame import BRANCH, CONFIG, HEAD, faults, remotes
from gitstate.repository.loose import LooseObjects
from gitstate.repository.objects import (
    Commit,
    Raw,
    blob_id,
    find_in_tree,
    make_blob,
    make_commit,
    make_tree,
    parse_commit,
    refers_to,
    tree_entries,
    unpack_loose,
)
from gitstate.repository.refs import Refs
from gitstate.repository.shallow import Shallow
from gitstate.repository.stored import StoredObjects

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Collection,
        Container,
        Iterable,
        Iterator,
        Mapping,
    )
    from pathlib import Path
    from typing import BinaryIO

    from gitstate.record import GitObject
    from gitstate.repository.packs import Packs

__all__ = [
    "BRANCH",
    "EMPTY_TREE",
    "Commit",
    "Refs",
    "Repository",
    "blob_id",
    "make_blob",
    "make_commit",
    "make_tree",
]

EMPTY_TREE: Final = make_tree({}).id

_ID_LENGTH: Final = 40
_NOTHING: Final = "0" * _ID_LENGTH
"""What a log of a ref names before the ref was there."""

_MAX_CACHED_COMMITS: Final = 4096


def unseen() -> None:
    """Counts no object."""


class Repository:
    """The objects and refs below `git_dir`. May be used from several threads (PITFALLS D11).

    What is missing or damaged is answered from `journalled`, if that has it: a `git gc --prune=now` deletes what it did
    not see referred to, however late we look (PITFALLS G2), and a power cut empties what was not flushed (D2).

    Attributes:
        refs: the refs.
        shallow: where the history begins, once older versions are pruned.
        lost: whether that has happened, so that a recovery is wanted.
    """

    def __init__(self, git_dir: Path, journalled: Callable[[], Iterable[GitObject]]) -> None:
        self.git_dir = git_dir
        self.refs = Refs(git_dir)
        self.shallow = Shallow(git_dir)
        self._objects_dir = git_dir / "objects"
        self._loose = LooseObjects(self._objects_dir)
        self._made_packs: Packs | None = None
        self._objects = StoredObjects(git_dir)
        self._commits: dict[str, Commit] = {}
        self._journalled = journalled
        self._kept: dict[str, GitObject] = {}
        self.lost = False

    @staticmethod
    def create(git_dir: Path) -> None:
        """An empty bare repository whose HEAD is the branch `main`. Not flushed.

        Raises:
            OSError: the disk refused.
        """
        folders = ("", "objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags")
        for folder in folders:
            (git_dir / folder).mkdir(mode=0o700)
        files.write_new(git_dir / "HEAD", HEAD)
        files.write_new(git_dir / "config", CONFIG)

    def prepare(self) -> None:
        """Imports what it takes to read and to pack objects, which under the state's lock would keep the others waiting."""
        if self._made_packs is None:
            self._objects.prepare()
            _ = self._packs

    def read(self, object_id: str) -> bytes:
        """The content of an object, checked against its hash.

        Raises:
            StateReadError: it is missing (code `"object-missing"`) or damaged (code `"object-damaged"`).
        """
        return self._read(object_id).content

    def raw(self, object_id: str) -> Raw:
        """An object, checked against its hash.

        Raises:
            StateReadError: as `read`.
        """
        return self._read(object_id)

    def commit(self, commit_id: str, made: GitObject | None = None) -> Commit:
        """The commit with this id; who has its object, as the journal does, spares a look into the repository.

        Raises:
            StateReadError: missing, damaged, or no commit that gitstate made (code `"not-a-commit"`).
        """
        known = self._commits.get(commit_id)
        if known is not None:
            return known
        raw = self._unpack(made) if made else self._read(commit_id)
        try:
            commit = parse_commit(raw)
        except ValueError as error:
            raise StateReadError(
                f"{commit_id} is not a commit of gitstate ({error}): {self.git_dir}. Nothing was changed. The versions"
                f" are those that git --git-dir={self.git_dir} log lists.",
                path=self.git_dir,
                code="not-a-commit",
            ) from error
        if len(self._commits) >= _MAX_CACHED_COMMITS:
            self._commits.clear()
        self._commits[commit_id] = commit
        return commit

    def file_id(self, tree: str, name: bytes, made: GitObject | None = None) -> str:
        """The id of the blob that `tree` holds under `name`; `made` as in `commit`.

        Raises:
            StateReadError: the tree is missing or damaged, or has no such file.
        """
        try:
            return find_in_tree((self._unpack(made) if made else self._read(tree)).content, name)
        except ValueError as error:
            raise self._objects.damaged(tree, f"it does not hold {os.fsdecode(name)!r}") from error

    def files(self, tree: str) -> dict[bytes, str]:
        """The ids of what `tree` holds, by their names.

        Raises:
            StateReadError: it is missing or damaged.
        """
        try:
            return {name: made_id for _, name, made_id in tree_entries(self.read(tree))}
        except ValueError as error:
            raise self._objects.damaged(tree, str(error)) from error

    def roots(self) -> set[str]:
        """The ids that refs and checkouts name.

        Raises:
            StateReadError: a ref, or the index of a checkout, cannot be read.
        """
        # What a checkout names and nobody has is lost already.
        return {*self.refs.all("refs/").values(), *self.checked_out()[0]}

    def checked_out(self) -> tuple[set[str], set[str]]:
        """The ids that checkouts name, and the logs of refs: of what is there, and of what nobody has.

        Raises:
            StateReadError: the index of a checkout cannot be read.
        """
        folders = checkouts(self.git_dir)
        named = {each for folder in folders for each in named_by(folder)} - {_NOTHING}
        lacking = {each for each in named if not self.contains(each)}
        if lacking:
            # Just committed it is in the journal alone; and a `git repack` may have taken the pack that we looked into.
            self.forget()
            lacking -= {made.id for made in self._journalled()}
            lacking = {each for each in lacking if not self.contains(each)}
        return named - lacking, lacking

    def remotes(self) -> list[str]:
        """The names of the remotes that are configured.

        Raises:
            StateReadError: the config is missing or damaged (code `"config-damaged"`), or the system refused.
        """
        try:
            return remotes(self.git_dir)
        except OSError as error:
            raise store_unreadable(self.git_dir / "config", error) from error
        except ValueError as error:
            raise StateReadError(
                f"the repository's config is {error}. Nothing was changed. It tells which remotes have yet to receive"
                " versions. Mend it, or have state.repair() put a new one in its place, without remotes.",
                path=self.git_dir / "config",
                code="config-damaged",
            ) from error

    def reachable(
        self, roots: Iterable[str], ends: Container[str], seen: Callable[[], None] = unseen
    ) -> set[str]:
        """The ids of all objects that `roots` and what they refer to lead to; behind the commits in `ends` is nothing.

        `seen` is called for each.

        Raises:
            StateReadError: one of them is missing or damaged.
        """
        found: set[str] = set()
        ahead = list(roots)
        while ahead:
            object_id = ahead.pop()
            if object_id in found:
                continue
            found.add(object_id)
            seen()
            raw = self._read(object_id)
            try:
                references = list(refers_to(raw))
            except ValueError as error:
                raise self._objects.damaged(object_id, str(error)) from error
            if object_id in ends:
                references = references[:1]  # the tree; what is behind that are the parents
            for each, leads_on in references:
                if leads_on:
                    ahead.append(each)
                elif each not in found:
                    if not self.has(each):
                        raise self._objects.missing(each)
                    found.add(each)
                    seen()
        return found

    def contains(self, object_id: str) -> bool:
        """Whether the repository has the object, unread.

        Raises:
            StateReadError: a pack is damaged.
        """
        return self._loose.contains(object_id) or self._objects.is_packed(object_id)

    def has(self, object_id: str) -> bool:
        """Whether the object is there, or in the journal, unread.

        Raises:
            StateReadError: a pack is damaged.
        """
        # Just committed it is in the journal alone; and Git, or a checkpoint, may take the pack that we look into.
        return self.contains(object_id) or self.readable(object_id)

    def readable(self, object_id: str) -> bool:
        """Whether the object can be read back."""
        try:
            self._read(object_id)
        except StateReadError:
            return False
        return True

    def flush_objects(self) -> None:
        """Makes every object that is there durable.

        Raises:
            OSError: the disk refused.
        """
        files.sync_tree(self._objects_dir)

    def holds_files(self) -> bool:
        """Whether any tree has an entry, as that of every version does. Reads all objects.

        Raises:
            StateReadError: an object is damaged.
        """
        raws = (self._read(object_id) for object_id in self._stored(""))
        return any(raw.kind == b"tree" and raw.content for raw in raws)

    def find(self, prefix: str) -> list[str]:
        """The ids of the objects that begin with `prefix`, at least two hex digits.

        Raises:
            StateReadError: a pack is damaged.
        """
        if len(prefix) == _ID_LENGTH:
            return [prefix] if self.has(prefix) else []
        found = {made.id for made in self._journalled() if made.id.startswith(prefix)}
        return sorted(found | self._stored(prefix))

    def put(self, objects: Iterable[GitObject]) -> None:
        """Writes the objects that have no loose file yet. Not flushed: the journal is.

        Raises:
            StateWriteError: the disk refused; some of them may have been written.
        """
        self._loose.put(objects)

    def holds(self, objects: Iterable[GitObject]) -> bool:
        """Whether all of `objects` are there, unread.

        Raises:
            StateReadError: a pack is damaged.
        """
        return all(self.contains(made.id) for made in objects)

    def lacking(self, objects: Iterable[GitObject]) -> list[GitObject]:
        """Those of `objects` that cannot be read back; behind `sweep`, which has read the loose ones."""
        return [
            made
            for made in objects
            if not self._loose.contains(made.id) and not self._objects.readable(made.id)
        ]

    def pack(self, objects: Collection[GitObject], scratch: Path, most: int) -> None:
        """Writes `objects` into a durable pack; it is built in the folder `scratch`, on the same filesystem.

        Small packs are written anew with them, as long as all that weighs no more than `most`: a number of objects and of
        KiB, or a multiple of it where there are more than `MAX_PACKS`.

        Raises:
            StateWriteError: the disk refused, or did not give back what was written; nothing was changed.
            StateReadError: one of the objects is damaged; nothing was changed.
        """
        self._packs.sweep()
        weight = len(objects) + sum(made.size for made in objects) // 1024
        # In a pack that is new, whoever has them too: a `git repack -ad` under way deletes those that it has seen, and
        # with them what no ref named when it looked.
        small = self._packs.small(weight, most)
        ids = (made.id for made in objects)
        try:
            replaced = self._packs.write(ids, map(self._unpack, objects), scratch, small)
            if replaced:
                self._objects.forget()
                self._packs.drop(replaced)
        finally:
            self._packs.release()

    def rewrite(
        self, needed: Collection[str], scratch: Path, seen: Callable[[], None] = unseen
    ) -> list[Path]:
        """A new pack of what is `needed` of the packs that hold more than that; those, which `collect` deletes.

        `seen` is called for each object that comes into it.

        A `git repack` leaves it alone until `release_packs`, which is due however this, and that, end.

        Raises:
            StateWriteError: the disk refused, or did not give back what was written; nothing was changed.
            StateReadError: one of the objects is damaged; nothing was changed.
        """
        self._packs.sweep()
        return self._packs.collect(needed, scratch, seen)

    def collect(self, needed: Container[str], packs: Iterable[Path]) -> None:
        """Deletes the packs that `rewrite` gave, and old loose objects that are not `needed`. Under the state's lock.

        Raises:
            OSError: the disk refused.
        """
        self.forget()
        self._packs.drop(packs)
        self._loose.collect(needed)

    def adopt(self, pack: Path) -> None:
        """Takes in a pack that was checked, with its index beside it, durably; `release_packs` is due behind that.

        Raises:
            StateWriteError: the disk refused; nothing was changed.
        """
        self._packs.adopt(pack)
        self.forget()

    def release_packs(self) -> None:
        """Lets Git repack what `rewrite` has written, or `adopt` taken in."""
        self._packs.release()

    def bundle(self, refs: Mapping[str, str], file: BinaryIO) -> None:
        """Writes a Git bundle of `refs`, which were read before, and of all objects, into `file`. Not flushed.

        Raises:
            StateReadError: an object is damaged.
            OSError: the disk refused.
        """
        with FIRST_USE:
            from gitstate.repository.bundle import write_header  # noqa: PLC0415  see gitstate.first_use
        # What is loose first: a checkpoint meanwhile puts it into a pack, and never the other way round.
        loose = {made.id for made in (*self._loose.all(), *self._journalled())}
        write_header(refs, file)
        self._packs.write_whole([self._read(each) for each in sorted(loose)], file)

    def drop_loose(self, object_ids: Iterable[str]) -> None:
        """Deletes the loose files of objects that a pack holds."""
        self._loose.drop(object_ids)

    def sweep(self) -> None:
        """Deletes loose objects that fail their hash, and what killed processes left.

        Raises:
            OSError: the disk refused.
        """
        self._loose.sweep()
        self.forget()

    def forget(self) -> None:
        """Reads everything again from the disk from here on."""
        self._objects.forget()
        self._commits.clear()
        self._kept.clear()

    def problems(self, seen: Callable[[], None] = unseen) -> Iterator[str]:
        """What is wrong with the objects, and with the files around them, a line each.

        `seen` is called for each object.

        Raises:
            OSError: one of those cannot be read.
        """
        with FIRST_USE:
            from gitstate.repository.listing import list_refs  # noqa: PLC0415  see gitstate.first_use
        frame = list(faults(self.git_dir))
        yield from (f"{fault.why}: {fault.path}" for fault in frame)
        if any(fault.content is None for fault in frame):
            return
        yield from self._loose.problems(seen)
        yield from self._packs.problems(seen)
        listing = list_refs(self.git_dir)
        for stray in listing.strays:
            yield f"packed-refs is damaged: {stray!r}: {self.git_dir}"
        for name, target in listing.dangling(listing.ids):
            yield f"{name} names {target}, which does not exist: {self.git_dir}"

    def close(self) -> None:
        """Closes the packs, unless another thread is reading. The repository can be used again."""
        self._objects.close()

    @property
    def _packs(self) -> Packs:
        # Packs know which of them they have written: of two threads that come at once, both get the same.
        with FIRST_USE:
            if self._made_packs is None:
                from gitstate.repository.packs import Packs  # noqa: PLC0415  see gitstate.first_use

                self._made_packs = Packs(self._objects_dir)
            return self._made_packs

    def _stored(self, prefix: str) -> set[str]:
        with self._objects.translated(prefix):
            # What is loose first: a checkpoint meanwhile puts it into a pack, and never the other way round.
            return {*self._loose.ids(prefix), *self._packs.ids(prefix)}

    def _read(self, object_id: str) -> Raw:
        try:
            return self._objects.read(object_id)
        except StateReadError:
            # Of two packs that hold it, one may be damaged.
            other = self._packs.find(object_id)
            if other is not None:
                return other
            made = self._from_journal(object_id)
            if made is None:
                raise
            self.lost = True
            return self._unpack(made)

    def _from_journal(self, object_id: str) -> GitObject | None:
        if object_id not in self._kept:
            with contextlib.suppress(OSError):
                self._kept = {made.id: made for made in self._journalled()}
        return self._kept.get(object_id)

    def _unpack(self, made: GitObject) -> Raw:
        try:
            return unpack_loose(made)
        except FileNotFoundError:
            # A large one, which a checkpoint has packed meanwhile.
            return self._objects.read(made.id)
        except (zlib.error, OSError) as error:
            raise self._objects.damaged(made.id, str(error)) from error
