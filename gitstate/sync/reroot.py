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
from gitstate.repository import make_commit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitstate.draft import Draft
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

    def run(self, timeout: float | None, *, dry_run: bool = False) -> RerootReport:
        """Rewrites it, in one record; with `dry_run` only says how.

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
            if head is None:
                return RerootReport()
            kept = list(store.chain.walk(head.commit.id))[::-1]
            alone = self._alone(refs, {each.id for each in kept})
            if not kept[0].parents and not any(each.parents for each in alone):
                return RerootReport()
            draft = store.draft(self._writer.policy.author)
            for each in alone:
                self._make(draft, each, _NO_PARENT)
            parent = _NO_PARENT
            for each in kept:
                parent = self._make(draft, each, parent)
            newest = store.repository.commit(parent, draft.made(parent))
            draft.take_over(Head(newest, head.blob), None)
            for name, at in backups_among(refs).items():
                if at in self._ids:
                    draft.set_ref(BACKUPS + name, self._ids[at])
            if dry_run:
                return RerootReport(dict(self._ids))
            self._writer.commit(draft, found)
            # A crash before this leaves ends that Git comes to no more.
            store.settle()
            refs = store.reader.refs(recover=False)
            ends = Boundary(store.repository, store.chain, refs).ends()
            if self._ids.keys().isdisjoint(refs.values()):
                ends -= self._ids.keys()  # else a remote-tracking ref still leads to them
            store.repository.shallow.write(ends)
        return RerootReport(dict(self._ids))

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

    def _make(self, draft: Draft, commit: Commit, parent: str) -> str:
        """The new hash of a version that gets this parent, or none."""
        extra = {key: self._ids.get(value, value) for key, value in commit.note.extra.items()}
        note = replace(commit.note, extra={**extra, REROOTED: commit.id})
        made = make_commit(commit.tree, (parent,) if parent else (), commit.author, note)
        draft.keep(made)
        self._ids[commit.id] = made.id
        return made.id
