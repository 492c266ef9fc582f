"""Remains: what of a damaged history can still be read, wherever it is, and which versions and lines that makes.

Whoever asks has put every object that is whole into a new repository. What is missing there may be somewhere else: in
the state file, or in another repository of the same history; and a tree can be made again, as it holds one name.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

from gitstate.draft import KEPT
from gitstate.repository import EMPTY_TREE, make_tree
from gitstate.repository.objects import (
    Raw,
    find_in_tree,
    parse_commit,
    refers_to,
    tree_entries,
    unpack_loose,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from gitstate.record import GitObject
    from gitstate.repair.rebuild import Rebuild
    from gitstate.repository import Commit


_FEW_BITS: Final = 12
"""Two ids differ in 80 of 160 bits, give or take 20; three digits of one that are damaged are 12 at most."""


class Reach(NamedTuple):
    """Where commits lead to.

    Attributes:
        commits: all of them that Git will find.
        ends: those among them behind which it must not look.
        below: commits that can be read and are behind these; not all of them behind all of these.
    """

    commits: set[str]
    ends: set[str]
    below: set[str]


class Remains:
    """The objects that `rebuild` has found, what `elsewhere` has, and the trees that hold one of these as `file_name`.

    Attributes:
        found: the objects that were missing in the new repository and were had elsewhere, by their ids.
        commits: every commit of gitstate's, whatever leads to it.
        others: the ids of the commits and tags that are not gitstate's, whatever leads to them.
        lists: every tree that holds nothing but JSON Lines, as those of the audit trail do.
    """

    def __init__(
        self, rebuild: Rebuild, file_name: bytes, elsewhere: Callable[[str], Raw | None]
    ) -> None:
        self._objects = rebuild.objects
        self._file_name = file_name
        self._elsewhere = elsewhere
        self._closed: dict[str, bool] = {}
        self._missing: set[str] = set()
        self.found: dict[str, Raw] = {}
        self.commits: dict[str, Commit] = {}
        self.others: set[str] = set()
        self.lists: dict[str, dict[bytes, str]] = {}
        # Of each file the tree that would hold it as a version's does, should that be missing.
        self._trees: dict[str, str] = {}
        for raw in rebuild.raws():
            self._note(raw)

    def add(self, made: Iterable[GitObject]) -> None:
        """Takes objects for found that were made for what cannot be."""
        for raw in map(unpack_loose, made):
            if not self._objects.contains(raw.id):
                self.found[raw.id] = raw
                self._missing.discard(raw.id)
                self._closed.pop(raw.id, None)
                self._note(raw)

    def read(self, object_id: str) -> Raw | None:
        """The object, None where it cannot be had."""
        if object_id in self._missing:
            return None
        if object_id not in self.found:
            if self._objects.contains(object_id):
                return self._objects.raw(object_id)
            raw = self._made_again(object_id) or self._elsewhere(object_id)
            if raw is None:
                self._missing.add(object_id)
                return None
            self.found[object_id] = raw
            self._note(raw)
        return self.found[object_id]

    def has(self, object_id: str) -> bool:
        """Whether the object can be had."""
        return (
            object_id in self.found
            or self._objects.contains(object_id)
            or self.read(object_id) is not None
        )

    def commit(self, commit_id: str | None) -> Commit | None:
        """The commit; None where it cannot be had, or is not gitstate's."""
        if commit_id is not None and commit_id not in self.commits:
            self.read(commit_id)
        return self.commits.get(commit_id or "")

    def version(self, commit_id: str | None) -> Commit | None:
        """The version with this id, if all of it can be had."""
        commit = self.commit(commit_id)
        if commit is None or commit.tree == EMPTY_TREE or KEPT in commit.note.extra:
            return None
        return commit if self.closed(commit.id) and self.blob_of(commit) else None

    def meant_by(self, damaged_id: str) -> Commit | None:
        """The version whose id a damaged one was: it differs from that in a few bits, as no other does."""
        bits = int(damaged_id, 16)
        near = [at for at in self.commits if (int(at, 16) ^ bits).bit_count() <= _FEW_BITS]
        found = list(filter(None, map(self.version, near)))
        return found[0] if len(found) == 1 else None

    def blob_of(self, commit: Commit) -> str | None:
        """The id of the state that a version holds; None if it holds none, or its tree cannot be had."""
        tree = self.read(commit.tree)
        with contextlib.suppress(ValueError):
            return find_in_tree(tree.content, self._file_name) if tree else None
        return None

    def ancestors(self, commit_id: str | None) -> list[Commit]:
        """The commit and those before it along the first parents, as far as they can be had, whether whole or not."""
        found = []
        while (commit := self.commit(commit_id)) is not None:
            found.append(commit)
            commit_id = commit.parents[0] if commit.parents else None
        return found

    def trail(self, commit_id: str) -> tuple[dict[str, Commit], bool]:
        """All commits that one leads to, itself the first, as far as they can be had; and whether that is all of them.

        One of which the tree cannot be had counts as lost, and is given.
        """
        found: dict[str, Commit] = {}
        ahead, whole = [commit_id], True
        while ahead:
            at = ahead.pop()
            if at not in found:
                commit = self.commit(at)
                whole = whole and commit is not None and self.closed(at)
                if commit is not None:
                    found[at] = commit
                    ahead += commit.parents
        return found, whole

    def parents(self, object_id: str) -> list[str]:
        """What a commit was built on, or a tag names, as far as that can be read."""
        raw = self.read(object_id)
        held = _references(raw) if raw else []
        return [each for each, _ in (held[1:] if raw and raw.kind == b"commit" else held)]

    def line(self, tip: Commit, first: int) -> list[Commit]:
        """The version `tip` and those before it down to number `first`, as far as none of them is missing."""
        found = [tip]
        while found[-1].parents and found[-1].note.serial > first:
            older = self.version(found[-1].parents[0])
            if older is None or older.note.serial != found[-1].note.serial - 1:
                break
            found.append(older)
        return found

    def closed(self, object_id: str) -> bool:
        """Whether the object can be had with all that it holds; a commit without its parents."""
        if object_id not in self._closed:
            raw = self.read(object_id)
            self._closed[object_id] = raw is not None and self._holds_all(raw)
        return self._closed[object_id]

    def reach(self, tips: Iterable[str], ends: Collection[str]) -> Reach:
        """Where `tips` lead to that are `closed`: behind `ends` is nothing, nor behind what can be had in part only."""
        found = Reach(set(), set(), set())
        ahead, partial = list(tips), list[str]()
        while ahead:
            at = ahead.pop()
            raw = self.read(at)
            if at in found.commits or raw is None:
                continue
            if raw.kind == b"tag":
                ahead += [each for each, _ in _references(raw)]
            elif raw.kind == b"commit":
                found.commits.add(at)
                parents = [each for each, _ in _references(raw)[1:]]
                if parents and at in ends:
                    found.ends.add(at)
                elif all(map(self.closed, parents)):
                    ahead += parents
                else:
                    found.ends.add(at)
                    partial += parents
        while partial:
            at = partial.pop()
            if self.closed(at):
                found.below.add(at)
            elif (raw := self.read(at)) is not None and raw.kind == b"commit":
                partial += [each for each, _ in _references(raw)[1:]]
        return found

    def had_elsewhere(self, ids: Iterable[str]) -> list[Raw]:
        """Those of the objects `found` that the objects with these ids are, or hold."""
        wanted: dict[str, Raw] = {}
        seen: set[str] = set()
        ahead = list(ids)
        while ahead:
            at = ahead.pop()
            if at not in seen and (raw := self.read(at)) is not None:
                seen.add(at)
                if at in self.found:
                    wanted[at] = raw
                held = _references(raw)[: 1 if raw.kind == b"commit" else None]
                ahead += [each for each, leads_on in held if leads_on or each in self.found]
        return list(wanted.values())

    def _holds_all(self, raw: Raw) -> bool:
        held = _references(raw)[: 1 if raw.kind == b"commit" else None]
        if not held and raw.kind in (b"commit", b"tag"):
            return False  # its hash is right, and it never was one
        return all(self.closed(each) if on else self.has(each) for each, on in held)

    def _note(self, raw: Raw) -> None:
        if raw.kind in (b"commit", b"tag"):
            self.others.add(raw.id)
        with contextlib.suppress(ValueError):
            if raw.kind == b"commit":
                self.commits[raw.id] = parse_commit(raw)
                self.others.remove(raw.id)
            elif raw.kind == b"tree":
                entries = {name: at for _, name, at in tree_entries(raw.content)}
                if entries and all(name.endswith(b".jsonl") for name in entries):
                    self.lists[raw.id] = entries
            elif raw.kind == b"blob":
                self._trees[make_tree({self._file_name: raw.id}).id] = raw.id

    def _made_again(self, object_id: str) -> Raw | None:
        """The tree with this id, if it holds nothing, or one file that can be had under the state's name."""
        if object_id == EMPTY_TREE:
            return unpack_loose(make_tree({}))
        blob = self._trees.get(object_id)
        return unpack_loose(make_tree({self._file_name: blob})) if blob else None


def _references(raw: Raw) -> list[tuple[str, bool]]:
    """What an object refers to, as `refers_to` gives it; nothing if it makes no sense."""
    with contextlib.suppress(ValueError):
        return list(refers_to(raw))
    return []
