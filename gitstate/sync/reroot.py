"""Reroot: the versions that are kept get new hashes, so that the oldest has no parent, and any server takes them.

What was pruned stays pruned; the lines of the audit trail say which hash a version had before.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from gitstate.boundary import Boundary
from gitstate.checkpoint import maintaining
from gitstate.draft import BACKUPS, REROOTED, Head, backups_among
from gitstate.errors import StateReadError
from gitstate.repository import BRANCH, make_commit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitstate.record import GitObject
    from gitstate.repository import Commit
    from gitstate.writer import Writer

_NO_PARENT: Final = ""


@dataclass(frozen=True, slots=True)
class RerootReport:
    """Which versions have new hashes.

    Attributes:
        ids: the new hashes, by the old ones; none where nothing was pruned, so that nothing had to be done.
    """

    ids: Mapping[str, str] = field(default_factory=dict)


class Reroot:
    """Rewrites the history that `writer` writes."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._store = writer.store
        self._ids: dict[str, str] = {}

    def plan(self) -> RerootReport:
        """How `run` would rewrite it, as things stand. Changes nothing, and waits for nobody.

        Raises:
            StateReadError: the history is damaged.
        """
        refs = self._store.reader.refs()
        if BRANCH in refs:
            self._rewritten(refs)
        return RerootReport(dict(self._ids))

    def run(self, timeout: float | None) -> RerootReport:
        """Rewrites it, in one record.

        Raises:
            StateError: as a transaction; nothing was changed.
        """
        store = self._store
        if not store.layout.exists():
            return RerootReport()
        with (
            maintaining(store.layout, "reroot", timeout),
            self._writer.writing("reroot", timeout) as found,
        ):
            refs = store.reader.refs(recover=False)
            head = store.head
            made = self._rewritten(refs) if head is not None else []
            if head is None or not made:
                return RerootReport()
            draft = store.draft(self._writer.policy.author)
            for each in made:
                draft.keep(each)
            newest = store.repository.commit(made[-1].id, made[-1])
            draft.take_over(Head(newest, head.blob), None)
            for name, at in backups_among(refs).items():
                if at in self._ids:
                    draft.set_ref(BACKUPS + name, self._ids[at])
            self._writer.commit(draft, found)
            # A crash before this leaves ends that Git comes to no more.
            store.settle()
            refs = store.reader.refs(recover=False)
            ends = Boundary(store.repository, store.chain, refs).ends()
            if self._ids.keys().isdisjoint(refs.values()):
                ends -= self._ids.keys()  # else a remote-tracking ref still leads to them
            store.repository.shallow.write(ends)
        return RerootReport(dict(self._ids))

    def _rewritten(self, refs: Mapping[str, str]) -> list[GitObject]:
        """The commits of the versions that are kept, with new hashes, the newest last; none where nothing was pruned."""
        kept = list(self._store.chain.walk(refs[BRANCH]))[::-1]
        alone = self._alone(refs, {each.id for each in kept})
        if not kept[0].parents and not any(each.parents for each in alone):
            return []
        made = [self._make(each, _NO_PARENT) for each in alone]
        parent = _NO_PARENT
        for each in kept:
            made.append(self._make(each, parent))
            parent = made[-1].id
        return made

    def _alone(self, refs: Mapping[str, str], kept: set[str]) -> list[Commit]:
        """The versions that only their names keep."""
        found: dict[str, Commit] = {}
        for at in backups_among(refs).values():
            if at not in kept:
                try:
                    commit = self._store.repository.commit(at)
                except StateReadError:
                    continue  # verify says so; none of ours
                if commit.note.serial:
                    found[at] = commit
        return list(found.values())

    def _make(self, commit: Commit, parent: str) -> GitObject:
        """A version anew, with this parent, or none."""
        extra = {key: self._ids.get(value, value) for key, value in commit.note.extra.items()}
        note = replace(commit.note, extra={**extra, REROOTED: commit.id})
        made = make_commit(commit.tree, (parent,) if parent else (), commit.author, note)
        self._ids[commit.id] = made.id
        return made
