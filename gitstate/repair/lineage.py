"""Lineage: which of the versions that are left are this store's, and where among them its branch goes on.

Whose history a commit is, its content does not say: another store may have been fetched into this one. What was written
down says it: the journal, the names of backups, the file of serials. Behind these, what they lead to.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from gitstate.repair.remains import Remains
    from gitstate.repository import Commit


@dataclass(frozen=True, slots=True)
class Evidence:
    """What says where the branch was.

    Attributes:
        tips: where it is, or may be: where the journal left it, and what its ref says. The best first.
        sure: whether nothing can have come behind that.
        pruned: the number of the newest version that was pruned, which is none of these.
        written: the ids of versions that were written down, wherever.
        claimed: commits to which somebody else's refs lead.
        state: the blob of the state file.
        theirs: where the branch is in another repository of the same history.
    """

    tips: list[str]
    sure: bool
    pruned: int
    written: set[str]
    claimed: Container[str]
    state: str
    theirs: str | None


@dataclass(slots=True)
class Lineage:
    """The versions that are left.

    Attributes:
        own: every commit of the branch that can be read, also where its state cannot, by their ids.
        line: the versions of the branch, newest first; none where none can be told.
        rest: older ones, behind what is lost.
    """

    own: dict[str, Commit] = field(default_factory=dict)
    line: list[Commit] = field(default_factory=list)
    rest: list[Commit] = field(default_factory=list)

    @property
    def known(self) -> set[str]:
        """The ids of all that is the branch's, and of what that was built on."""
        return {*self.own, *(parent for each in self.own.values() for parent in each.parents)}

    def lost_behind(self, remains: Remains) -> list[Commit]:
        """Versions behind the line of which only the commits can be read, oldest first, numbered as its newest."""
        newest = self.line[0].note.serial if self.line else 0
        lost = (
            e for e in self.own.values() if e.note.serial > newest and not remains.version(e.id)
        )
        return [
            replace(each, note=replace(each.note, serial=newest, extra=_said_of(each)))
            for each in sorted(lost, key=lambda each: each.note.serial)
        ]

    @property
    def oldest(self) -> int:
        """The number of the oldest version of the branch; 1 for none."""
        return self.line[-1].note.serial if self.line else 1


def trace(remains: Remains, evidence: Evidence) -> Lineage:
    """Where the branch goes on, and what is known to belong to it; `cut` gives the rest."""
    found = Lineage()
    _add(found, remains, [*evidence.tips[:1], *evidence.written])
    for at in evidence.tips[1:]:
        if _is_ours(found, remains, evidence, at):
            _add(found, remains, [at])
    theirs = [evidence.theirs] if evidence.theirs else []
    if not any(map(remains.version, evidence.tips)):
        known = not found.own or any(_is_ours(found, remains, evidence, at) for at in theirs)
        _add(found, remains, theirs if known else [])
    tip = _tip(found, remains, evidence)
    if tip is not None:
        _add(found, remains, [tip.id])
        found.line = [tip]
    return found


def cut(found: Lineage, remains: Remains, first: int, claimed: Container[str]) -> None:
    """Draws the line down to number `first`, or to what is lost, and notes what is left behind that."""
    if found.line:
        found.line = remains.line(found.line[0], first)
        for each in sorted(remains.commits.values(), key=lambda commit: commit.note.serial):
            # What was built on one of ours is ours, too, unless somebody else says that it is theirs.
            built = bool(each.parents) and each.parents[0] in found.own
            if built and each.id not in claimed and each.note.serial < found.oldest:
                found.own[each.id] = each
        older = (e for e in found.own.values() if first <= e.note.serial < found.oldest)
        found.rest = [each for each in older if remains.version(each.id)]


def _add(found: Lineage, remains: Remains, ids: Iterable[str | None]) -> None:
    ahead = list(ids)
    while ahead:
        commit = remains.commit(ahead.pop())
        if commit is not None and commit.id not in found.own:
            found.own[commit.id] = commit
            ahead += commit.parents[:1]


def _is_ours(found: Lineage, remains: Remains, evidence: Evidence, at: str) -> bool:
    """Whether a commit, or what it was built on, as far as that can be read, is known. The last is known by its parent."""
    return any(
        each.id in found.own or not evidence.written.isdisjoint(each.parents)
        for each in remains.ancestors(at)
    )


def _tip(found: Lineage, remains: Remains, evidence: Evidence) -> Commit | None:
    """The newest version of the branch that can be read."""
    tip = _told(found, remains, evidence)
    sure = tip is not None and tip.id == evidence.tips[0] and evidence.sure
    if tip is None:
        own = filter(None, map(remains.version, found.own))
        left = max(own, key=lambda each: each.note.serial, default=None)
        kept = left is not None and left.note.serial > evidence.pruned
        tip = left if kept else _by_the_state(remains, evidence) or left
    if tip is None:
        return None
    for at in filter(None, (*evidence.tips, None if sure else evidence.theirs)):
        newer = remains.version(at)
        if newer and any(each.id == tip.id for each in remains.line(newer, tip.note.serial)):
            tip = newer
    return tip if sure else _shown(tip, remains, evidence)


def _told(found: Lineage, remains: Remains, evidence: Evidence) -> Commit | None:
    """The first of the tips that can be read, is ours, and was not pruned."""
    for number, at in enumerate(evidence.tips):
        here = remains.version(at)
        if here and here.note.serial > evidence.pruned and (number == 0 or at in found.own):
            return here
    return None


def _shown(tip: Commit, remains: Remains, evidence: Evidence) -> Commit:
    """The last that was built on `tip` and that the state file shows: a record that is lost may have come behind it."""
    children: dict[str, list[Commit]] = {}
    for each in list(remains.commits.values()):
        if len(each.parents) == 1 and each.id not in evidence.claimed:
            children.setdefault(each.parents[0], []).append(each)
    step = _next(tip, remains, children)
    while step is not None:
        if remains.blob_of(step) == evidence.state:
            tip = step
        step = _next(step, remains, children)
    return tip


def _next(commit: Commit, remains: Remains, children: Mapping[str, list[Commit]]) -> Commit | None:
    """The one version that was built on another, if there is one."""
    found = [
        each
        for each in children.get(commit.id, ())
        if each.note.serial == commit.note.serial + 1 and remains.version(each.id)
    ]
    return found[0] if len(found) == 1 else None


def _by_the_state(remains: Remains, evidence: Evidence) -> Commit | None:
    """Where nothing that was written down can be read: the newest version that shows the state file.

    One that somebody else's refs lead to only if there is no other: they may be those of a remote that has got it from us.
    """
    shown = [
        each
        for each in list(remains.commits.values())
        if each.note.serial and remains.blob_of(each) == evidence.state and remains.version(each.id)
    ]
    return max(shown, key=lambda e: (e.id not in evidence.claimed, e.note.serial), default=None)


def _said_of(lost: Commit) -> dict[str, str]:
    return {**lost.note.extra, "Lost-Version": f"{lost.note.serial} {lost.id}"}
