"""Trails: what is left of the audit trail: the archive of pruned versions, the notes of failures, what was imported.

Nothing names a line of these by the id of its commit, so what is left can be put into commits anew.
"""

from __future__ import annotations

import contextlib
import json
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from gitstate import trailers
from gitstate.audit import archived_line, is_lost, lost_line
from gitstate.draft import ARCHIVE, KEPT, is_join
from gitstate.imports import put_behind
from gitstate.repository import EMPTY_TREE, make_commit

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, Mapping
    from datetime import datetime

    from gitstate.record import GitObject
    from gitstate.repair.lineage import Lineage
    from gitstate.repair.remains import Remains
    from gitstate.repository import Commit
    from gitstate.repository.objects import Raw

_IMPORTS: Final = (b"backups.", b"lines.")


class Line(NamedTuple):
    """A line of an archive, as it stands there, and of it the version's commit, and whether that was lost."""

    text: bytes
    commit: str | None
    lost: bool


class Archives:
    """The lines of all archives that are left.

    Attributes:
        lines: them, by the numbers of the versions.
        whole: the commit of the archive that counted, if all of it can be had.
        last: the number of the newest version that was pruned; None where nothing says so.
    """

    def __init__(self, remains: Remains, ids: Iterable[str]) -> None:
        """Reads that of the ref, which may be at any of `ids`, the best first."""
        self._remains = remains
        # Of each file once: older archives hold most of the files of newer ones.
        self._files: dict[str, dict[int, Line]] = {}
        self.lines: dict[int, Line] = {}
        found = [each for each in map(remains.commit, ids) if each]
        for each in found:
            self._take(self._lines(each.tree))
        self.whole = next((each.id for each in found if remains.closed(each.id)), None)
        self.last = found[0].note.serial if found else None

    def add_others(self, known: Container[str], claimed: Collection[str]) -> None:
        """Reads those that no ref names any more, or of which only files are left.

        They are ours as far as lines of them are of versions that are `known`, or that stand in others of ours. Those of
        `claimed` commits are somebody else's.
        """
        remains = self._remains
        theirs = _trees(remains, claimed)
        ahead = {tree: self._lines(tree) for tree in remains.lists if tree not in theirs}
        while True:
            ids = set(self.commits())
            ours = {
                tree
                for tree, lines in ahead.items()
                if any(line.commit in known or line.commit in ids for line in lines.values())
            }
            if not ours:
                break
            for tree in sorted(ours, key=lambda each: len(ahead[each]), reverse=True):
                self._take(ahead.pop(tree))
                if self.last is None:
                    self._adopt(tree)
        if self.last is None:
            self.last = max(self.lines, default=None)

    def commits(self) -> Iterator[str]:
        """The versions that the lines are of."""
        return (line.commit for line in self.lines.values() if line.commit)

    def pruned(self) -> set[str]:
        """Those among them that were pruned, and not lost."""
        return {line.commit for line in self.lines.values() if line.commit and not line.lost}

    def ids(self, lineage: Lineage, serials: Mapping[str, int]) -> dict[int, str]:
        """The ids of versions, by their numbers, wherever they stand; `serials` are those that were written down."""
        found = {serial: line.commit for serial, line in self.lines.items() if line.commit}
        found |= {serial: at for at, serial in serials.items()}
        found |= {each.note.serial: each.id for each in lineage.own.values()}
        return found

    def draw(self, lineage: Lineage, serials: Mapping[str, int], named: Collection[str]) -> int:
        """Sees that there is a line for each version before the oldest of a lineage; of how many nothing is known.

        A version that is among the `named` can be read, and its line is made of that.
        """
        own, oldest, last = lineage.own, lineage.oldest, self.last or 0
        newer = lineage.line[-1]
        ids = self.ids(lineage, serials)
        if newer.parents and newer.parents[0] not in own:
            ids[oldest - 1] = newer.parents[0]
        moment = newer.note.time.isoformat(timespec="microseconds")
        unknown = 0
        for serial in range(oldest - 1, 0, -1):
            at = ids.get(serial)
            commit = own.get(at or "")
            text = self.lines[serial].text if serial <= last and serial in self.lines else None
            if commit is not None and at in named:
                text = archived_line(commit)
            elif text is None:
                text = lost_line(serial, commit, at, moment)
                unknown += commit is None
            read = json.loads(text)
            moment = read["timestamp"]
            self.lines[serial] = Line(text, read["commit"], is_lost(read))
        return unknown

    def _adopt(self, tree: str) -> None:
        """Takes for the archive that counted the commit that holds a tree, if there is one."""
        found = [
            each
            for each in self._remains.commits.values()
            if each.tree == tree and each.note.extra.get(KEPT) == ARCHIVE
        ]
        if found:
            self.last = found[0].note.serial
            self.whole = found[0].id if self._remains.closed(found[0].id) else None

    def _take(self, lines: Mapping[int, Line]) -> None:
        self.lines = {**lines, **self.lines}

    def _lines(self, tree: str) -> dict[int, Line]:
        found: dict[int, Line] = {}
        self._remains.read(tree)  # if it is had elsewhere, it is told only then what it is
        for name, blob in sorted(self._remains.lists.get(tree, {}).items()):
            if name[:1].isdigit():
                if blob not in self._files:
                    self._files[blob] = _parsed(self._remains.read(blob))
                found |= self._files[blob]
        return found


def _parsed(file: Raw | None) -> dict[int, Line]:
    """The lines of a file of an archive that can be read, by the numbers of their versions."""
    found = {}
    for text in file.content.splitlines(keepends=True) if file else ():
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            read = json.loads(text)
            found[int(read["serial"])] = Line(text, read["commit"], is_lost(read))
    return found


class Trail(NamedTuple):
    """What is left of a trail.

    Attributes:
        tip: the commit that leads to all that stays as it is; None for nothing.
        events: those that are to be put behind that, oldest first.
        whole: whether nothing is lost.
    """

    tip: str | None
    events: list[Commit]
    whole: bool


def trail_left(
    remains: Remains, ids: Collection[str], claimed: Collection[str], *, failures: bool
) -> Trail:
    """The trail, which may be at any of `ids`, the best first.

    Where it has a hole: all events that are left, but those that somebody else's refs alone have `claimed`.
    """
    trails = {at: remains.trail(at) for at in ids}
    whole = {at: found for at, (found, complete) in trails.items() if complete and _is_trail(found)}
    best = next(iter(trails), None)
    if best in whole:
        longer = (at for at, found in whole.items() if best in found)
        return Trail(max(longer, key=lambda at: len(whole[at])), [], whole=True)
    own = {at: each for found, _ in trails.values() for at, each in found.items()}
    others = [
        each
        for each in list(remains.commits.values())
        if each.id not in claimed and ("Reason" in each.note.extra) == failures
    ]
    events = {
        # The same line may have been put behind another one by an earlier repair.
        trailers.encode(each.note): each
        for each in (*others, *own.values())
        if each.tree == EMPTY_TREE and not is_join(each)
    }
    return Trail(None, sorted(events.values(), key=_place), whole=False)


def joined(tip: str | None, events: Iterable[Commit]) -> tuple[list[GitObject], str | None]:
    """The events behind `tip` and each other: the commits that are to be made for that, and the last one's id.

    An event may be a version whose state is lost: what its commit says is kept.
    """
    made: list[GitObject] = []
    for each in events:
        parents = (tip,) if tip else ()
        if (each.tree, each.parents) == (EMPTY_TREE, parents):
            tip = each.id
        else:
            made.append(make_commit(EMPTY_TREE, parents, each.author, each.note))
            tip = made[-1].id
    return made, tip


class ImportsLeft(NamedTuple):
    """What is left of what was imported.

    Attributes:
        kept: the ids of the files that stay, by their names.
        more: files that are made of what older commits, or others', have.
        extra: what its commit says.
        whole: whether nothing is lost.
    """

    kept: dict[bytes, str]
    more: dict[bytes, GitObject]
    extra: dict[str, str]
    whole: bool


def imports_left(remains: Remains, ids: Collection[str], claimed: Collection[str]) -> ImportsLeft:
    """What can be had, and may be at any of `ids`, the best first, or at what these were put behind."""
    commits = [each for at in ids for each in remains.trail(at)[0].values()]
    lists = {each.tree: remains.lists.get(each.tree) for each in commits if remains.read(each.tree)}
    trees = {tree: entries for tree, entries in lists.items() if entries}
    told = bool(commits) and commits[0].id == next(iter(ids))
    if not told or not trees:
        theirs = _trees(remains, claimed)
        for tree, entries in remains.lists.items():
            if tree not in theirs and all(name.startswith(_IMPORTS) for name in entries):
                trees.setdefault(tree, entries)
    # Nothing is ever taken out of it, so that the largest one is the newest, where nothing says which one is.
    best = trees.get(commits[0].tree) if told else None
    entries = best or max(trees.values(), key=partial(_weight, remains), default={})
    contents = {
        blob: raw.content
        for each in trees.values()
        for blob in each.values()
        if (raw := remains.read(blob))
    }
    kept = {name: blob for name, blob in entries.items() if blob in contents}
    others = [
        (name, contents[blob])
        for each in trees.values()
        for name, blob in each.items()
        if blob in contents and kept.get(name) != blob
    ]
    more = put_behind({name: contents[blob] for name, blob in kept.items()}, others)
    said = commits[0].note.extra if commits else {}
    extra = {key: value for key, value in said.items() if key != KEPT}
    whole = bool(entries) and len(kept) == len(entries) and (not told or commits[0].tree in trees)
    return ImportsLeft(kept, more, extra, whole)


def _trees(remains: Remains, ids: Iterable[str]) -> set[str]:
    return {remains.commits[each].tree for each in ids if each in remains.commits}


def _weight(remains: Remains, entries: Mapping[bytes, str]) -> int:
    raws = map(remains.read, entries.values())
    return sum(len(raw.content) for raw in raws if raw is not None)


def _is_trail(commits: Mapping[str, Commit]) -> bool:
    return all(each.tree == EMPTY_TREE for each in commits.values())


def _place(event: Commit) -> tuple[int, datetime]:
    return event.note.serial, event.note.time
