"""Inspection: whether what a remote has sent is a history, before any of it becomes part of ours.

The remote may be anybody. So each ref is walked as far as what is new, and each version on the way must be one that
gitstate would have made upon the one before; and nothing may come with it that no ref leads to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gitstate.draft import ARCHIVE, ASIDE
from gitstate.repository import BRANCH, EMPTY_TREE
from gitstate.sync.fetched import FILES, TRAILS, History, Oldest, is_kept
from gitstate.sync.seen import Made, Seen, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from gitstate.repository.objects import Raw

_ID: Final = re.compile("[0-9a-f]{40}")


class Inspection:
    """The objects of a fetch, each visited once, in any order; then they are judged."""

    def __init__(self, file_name: bytes, *, max_state: int, allow_nan: bool = False) -> None:
        """For the history of a state file of that name.

        Args:
            file_name: as the trees of its versions have it.
            max_state: bytes that a state has at most.
            allow_nan: whether it may hold NaN and infinities.
        """
        self._seen = Seen(file_name, max_state=max_state, allow_nan=allow_nan)
        self._of_ours = Seen(file_name, max_state=max_state, allow_nan=allow_nan)

    def visit(self, raw: Raw) -> None:
        """Takes an object down; what is wrong with it is told once something leads to it."""
        self._seen.visit(raw)

    def judge(
        self,
        refs: Mapping[str, str],
        boundary: Collection[str],
        has: Callable[[str], bool],
        read: Callable[[str], Raw],
    ) -> History:
        """What the history is that the remote's `refs` lead to, up to what is here, or to the remote's `boundary`.

        `has` says whether an object is here, with all that it leads to, and `read` gives it.

        Raises:
            ValueError: it is none that could be taken over: which ref, which version, and what is wrong.
            Exception: whatever `has` and `read` raise.
        """
        kept = {name: at for name, at in refs.items() if is_kept(name)}
        bad = next((name for name, at in kept.items() if not _ID.fullmatch(at)), None)
        if bad is not None:
            raise ValueError(f"{bad} of the remote is at something else than a commit")
        here = _Here(has, read, self._of_ours)
        judgement = _Judgement(self._seen, here, frozenset(boundary))
        head = kept.get(BRANCH)
        branch = judgement.walk(kept)
        tree, blob = judgement.content(head)
        return History(
            head=head,
            refs=kept,
            ignored=tuple(sorted(refs.keys() - kept.keys())),
            versions=branch.versions,
            joins=branch.joins,
            oldest=branch.oldest,
            ends=tuple(sorted(judgement.ends)),
            tree=tree,
            blob=blob,
        )


@dataclass(slots=True)
class _Line:
    """The versions below a ref: see `History`."""

    oldest: Oldest | None
    versions: int = 0
    joins: str | None = None


@dataclass(slots=True)
class _Here:
    """The objects that the local repository has."""

    has: Callable[[str], bool]
    read: Callable[[str], Raw]
    _seen: Seen
    _read: set[str] = field(default_factory=set)

    def seen(self, object_id: str) -> Seen:
        """What there is to know of objects that are here, this one among them."""
        if object_id not in self._read:
            self._read.add(object_id)
            self._seen.visit(self.read(object_id))
        return self._seen


class _Judgement:
    """What has been found so far of what `seen` objects are.

    Attributes:
        ends: the commits that are new and whose parents nobody has.
    """

    def __init__(self, seen: Seen, here: _Here, boundary: frozenset[str]) -> None:
        self._seen = seen
        self._here = here
        self._boundary = boundary
        self._reached: set[str] = set()
        # A version and a line of a trail may be the same commit only in a forgery: each kind is walked by itself.
        self._versions: set[str] = set()
        self._lines: set[str] = set()
        self.ends: set[str] = set()

    # -- refs ----------------------------------------------------------------------------------------------------

    def walk(self, refs: Mapping[str, str]) -> _Line:
        """Looks at all that the refs lead to, and that there is nothing else; gives what is below the branch.

        Raises:
            ValueError: something is wrong with it.
        """
        branch = self.versions(BRANCH, refs[BRANCH]) if BRANCH in refs else _Line(None)
        for name, at in refs.items():
            if name in TRAILS:
                self.trail(name, at)
            elif name in FILES:
                self.files(name, at)
            elif name != BRANCH:
                self.versions(name, at)
        self.see_nothing_else()
        return branch

    def versions(self, ref: str, tip: str) -> _Line:
        """Walks the versions below a ref that are new.

        Raises:
            ValueError: one of them is none.
        """
        line, at = _Line(None), tip
        newer: tuple[str, Made] | None = None
        while True:
            made = self._commit(ref, at)
            new = not self._here.has(at)
            self._see_version(ref, at, made, aside=newer is None and ref.startswith(ASIDE))
            if newer is not None:
                self._see_order(ref, *newer, made)
            if new or line.oldest is None:
                line.oldest = Oldest(at, made.serial, made.parents)
            if not new:
                line.joins = at
                return line
            line.versions += 1
            if at in self._versions:
                return line
            self._versions.add(at)
            self._see_state(ref, at, made)
            if not made.parents or not self._goes_on(at, made):
                return line
            newer, at = (at, made), made.parents[0]

    def trail(self, ref: str, tip: str) -> None:
        """Walks the lines of an audit trail that are new.

        Raises:
            ValueError: one of them is none.
        """
        ahead = [tip]
        while ahead:
            at = ahead.pop()
            if at in self._lines:
                continue
            self._lines.add(at)
            made = self._commit(ref, at)
            if made.tree != EMPTY_TREE or made.kept_as:
                raise _wrong(ref, at, made, "is no line of an audit trail: its tree is not empty")
            if not self._here.has(at):
                self._reach(ref, at, made, EMPTY_TREE)
                if self._goes_on(at, made):
                    ahead += made.parents

    def files(self, ref: str, at: str) -> None:
        """Looks at the files of lines that a ref keeps, and kept before.

        Raises:
            ValueError: it keeps something else.
        """
        ahead = [at]
        while ahead:
            at = ahead.pop()
            made = self._commit(ref, at)
            if made.kept_as != ref:
                raise _wrong(ref, at, made, "does not keep lines of the audit trail for that ref")
            if self._here.has(at) or at in self._lines:
                continue
            self._lines.add(at)
            if made.parents and ref == ARCHIVE:
                raise _wrong(ref, at, made, "has a parent, which gitstate does not give it")
            self._see_files(ref, at, made)
            ahead += made.parents

    def _see_files(self, ref: str, at: str, made: Made) -> None:
        """Refuses a commit that does not hold files of lines."""
        tree = self._tree(ref, at, made)
        if not tree.files:
            raise _wrong(ref, at, made, "has no files of JSON Lines, or others, too")
        for blob in tree.lines():
            self._reach(ref, at, made, blob)
            if blob not in self._of(blob).lines:
                raise _wrong(ref, at, made, f"has a file that is no JSON Lines: {blob}")

    def see_nothing_else(self) -> None:
        """Sees that all new objects were reached.

        Raises:
            ValueError: one was not.
        """
        for object_id in self._seen.ids():
            if object_id not in self._reached and not self._here.has(object_id):
                raise ValueError(f"the remote has sent an object that no ref leads to: {object_id}")

    def content(self, head: str | None) -> tuple[str | None, str | None]:
        """The tree and the blob of the head."""
        if head is None:
            return None, None
        made = self._commit(BRANCH, head)
        return made.tree, self._tree(BRANCH, head, made).blob

    # -- versions ------------------------------------------------------------------------------------------------

    def _see_version(self, ref: str, at: str, made: Made, *, aside: bool) -> None:
        """Refuses a commit that is no version, or has no number that it could have."""
        if made.tree == EMPTY_TREE or made.kept_as:
            raise _wrong(ref, at, made, "is no version: it keeps something else")
        if len(made.parents) > 1:
            raise _wrong(ref, at, made, "has two parents")
        if made.serial == 0 and (made.parents or not aside):
            raise _wrong(ref, at, made, "has the number 0, which only an imported one has")
        if made.serial > 1 and not made.parents and not made.rerooted:
            raise _wrong(ref, at, made, "has no parent, as if it were the first")
        if made.serial == 1 and made.parents:
            raise _wrong(ref, at, made, "has a parent, though it is the first")

    @staticmethod
    def _see_order(ref: str, at: str, made: Made, parent: Made) -> None:
        """Refuses a version that does not come behind its parent."""
        if made.serial != parent.serial + 1:
            raise _wrong(ref, at, made, f"stands on version {parent.serial}")
        if made.time < parent.time:
            raise _wrong(ref, at, made, "is older than the version that it stands on")

    def _see_state(self, ref: str, at: str, made: Made) -> None:
        """Refuses a version that does not hold a state."""
        tree = self._tree(ref, at, made)
        if tree.blob is None:
            raise _wrong(ref, at, made, "does not hold the state file and nothing else")
        self._reach(ref, at, made, tree.blob)
        seen = self._of(tree.blob)
        if tree.blob not in seen.states:
            why = seen.no_states.get(tree.blob, "it is no blob")
            raise _wrong(ref, at, made, f"holds no state: {why}")

    # -- objects -------------------------------------------------------------------------------------------------

    def _goes_on(self, at: str, made: Made) -> bool:
        """Whether to look at the parents of a commit; not where the remote's history ends, unless they are here."""
        if at not in self._boundary or all(map(self._here.has, made.parents)):
            return True
        self.ends.add(at)
        return False

    def _commit(self, ref: str, at: str) -> Made:
        if not self._seen.has(at) and not self._here.has(at):
            raise ValueError(f"{ref} of the remote leads to a commit that it has not sent: {at}")
        self._reached.add(at)
        made = self._of(at).commits.get(at, "it is no commit")
        if isinstance(made, str):
            raise _no_commit(ref, at, made)
        return made

    def _tree(self, ref: str, at: str, made: Made) -> Tree:
        self._reach(ref, at, made, made.tree)
        tree = self._of(made.tree).trees.get(made.tree, "it is no tree")
        if isinstance(tree, str):
            raise _wrong(ref, at, made, f"does not hold the state file and nothing else: {tree}")
        return tree

    def _reach(self, ref: str, at: str, made: Made, object_id: str) -> None:
        """Takes down that something leads to an object, which is to be there."""
        if not self._seen.has(object_id) and not self._here.has(object_id):
            raise _wrong(ref, at, made, f"leads to an object that was not sent: {object_id}")
        self._reached.add(object_id)

    def _of(self, object_id: str) -> Seen:
        """Where to look up an object that there is."""
        return self._seen if self._seen.has(object_id) else self._here.seen(object_id)


def _wrong(ref: str, at: str, made: Made, why: str) -> ValueError:
    return ValueError(
        f"{ref} of the remote cannot be used: version {made.serial} ({at[:12]}) {why}"
    )


def _no_commit(ref: str, at: str, why: str) -> ValueError:
    return ValueError(f"{ref} of the remote leads to what is no commit of gitstate: {at}: {why}")
