"""Relation: how a remote's history stands to the one that is here."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from gitstate.audit import Archive
from gitstate.boundary import Boundary
from gitstate.draft import ARCHIVE
from gitstate.errors import StateReadError, StateRemoteError
from gitstate.repository import BRANCH
from gitstate.sync.words import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitstate.remotes import Remote
    from gitstate.store import Store
    from gitstate.sync.fetched import History


class Relation:
    """The history of `store`, its refs being at `refs`, beside that of `remote`."""

    def __init__(self, store: Store, refs: Mapping[str, str], remote: Remote) -> None:
        self._store = store
        self._refs = refs
        self._remote = remote
        self.head = refs.get(BRANCH)

    def serial_of(self, commit_id: str) -> int:
        """The number of a version of ours that has this id, 0 for none, pruned ones included.

        Raises:
            StateReadError: the history is damaged.
        """
        found = self._boundary.numbers([commit_id]).get(commit_id, 0)
        return found or self._pruned.get(commit_id, 0)

    @cached_property
    def _boundary(self) -> Boundary:
        return Boundary(self._store.repository, self._store.chain, self._refs)

    @cached_property
    def _pruned(self) -> dict[str, int]:
        """The numbers of pruned versions, by their ids."""
        archive = Archive(self._store.repository, self._refs.get(ARCHIVE))
        lines = archive.before(self._boundary.oldest)
        return {line["commit"]: line["serial"] for line in lines if line["commit"]}

    def newest(self) -> int:
        """The number of the newest version here, 0 for none."""
        if self.head is None:
            return 0
        return self._store.repository.commit(self.head).note.serial

    def leads_to(self, commit_id: str) -> bool:
        """Whether what is kept here goes back to a version of ours, so that it can be put on top of that."""
        chain, serial = self._store.chain, self.serial_of(commit_id)
        oldest = chain.oldest()
        first = chain.at(self.head, oldest) if self.head else None
        return serial >= oldest or (first is not None and commit_id in first.parents)

    def went_back(self, tracked: str | None, theirs: str | None) -> str | None:
        """What to say of a remote that had the version `tracked`, and is at an older one of ours now; None for nothing."""
        if tracked is None or tracked == theirs:
            return None
        had = self.serial_of(tracked)
        has = self.serial_of(theirs) if theirs else 0
        if had and (theirs is None or 0 < has < had):
            return f"{self._remote.name} went backwards: it had version {had} and is at {has or 'nothing'} now"
        return None

    def refusal(self, history: History) -> StateRemoteError | None:
        """Why what the remote has cannot go on top of what is here; None where it can, or is here already.

        Raises:
            StateReadError: the history is damaged.
        """
        theirs = history.head
        if theirs is None or self.head is None or history.joins == self.head:
            return None
        if self.serial_of(theirs):
            return None
        if history.joins is None:
            parents = history.oldest[2] if history.oldest else ()
            known = next(filter(None, map(self.serial_of, parents)), 0)
            if not known:
                return self.foreign(theirs)
            return self.diverged(theirs, known)
        joins = self.serial_of(history.joins)
        if joins == 0:
            return self.foreign(theirs)
        return self.diverged(theirs, joins)

    def diverged(self, theirs: str, common: int) -> StateRemoteError:
        """The error that both have versions that the other one lacks, behind version `common`."""
        return self._error(
            f"{self._remote.name} and this state went apart behind version {common}: here {self.head} is the newest, there"
            f" {theirs}: {self._remote.url}. Nothing was overwritten on either side. Keep one of them: clone the remote to another"
            " folder, and write there what is to stay of the other.",
            code="remote-diverged",
            theirs=theirs,
        )

    def out_of_reach(self, theirs: str) -> StateRemoteError:
        """The error that versions behind the remote's newest one were pruned here."""
        has, oldest = self.serial_of(theirs), self._store.chain.oldest()
        return self._error(
            f"{self._remote.name} has versions up to {has} only, and those from {has + 1} on were pruned here, or have other hashes"
            f" since a reroot(): what is kept, from {oldest} on, does not go on top of them: {self._remote.url}. Nothing was"
            " changed on either side. Push from a machine that has them, or to a repository that is empty.",
            code="remote-shallow",
            theirs=theirs,
        )

    def foreign(self, theirs: str) -> StateRemoteError:
        """The error that the remote has another state's history."""
        return self._error(
            f"{self._remote.name} has another state's history, or that of this one from before a reroot(), with no version in common: there {theirs} is"
            f" the newest, here {self.head}: {self._remote.url}. Nothing was changed on either side. Give this state a remote"
            " of its own.",
            code="remote-foreign",
            theirs=theirs,
        )

    def ahead(self, theirs: str, versions: int) -> StateRemoteError:
        """The error that the remote has versions that are not here."""
        return self._error(
            f"{self._remote.name} has {versions} newer version{'s' if versions != 1 else ''}: there {theirs} is the newest, here"
            f" {self.head}: {self._remote.url}. Nothing was changed on either side. pull() first, then push again.",
            code="remote-ahead",
            theirs=theirs,
        )

    def overtaken(self, theirs: str | None, words: str) -> StateRemoteError:
        """The error that somebody else has moved the remote's branch in the middle of a push."""
        return self._error(
            f"somebody else has pushed to {self._remote.name} at the same moment ({quoted(words)}): {self._remote.url}. Nothing"
            " of ours was taken, and nothing is lost. pull() and push again.",
            code="remote-moved",
            theirs=theirs,
        )

    def refused(self, words: str) -> StateRemoteError:
        """The error that the server did not take the push, in its own words."""
        return self._error(
            f"{self._remote.name} does not take it: {quoted(words)}: {self._remote.url}. Its branch was not changed, and nothing is"
            " lost here. Mend that there (a hook, a full disk, a permission), and push again.",
            code="remote-refused",
            theirs=None,
        )

    def no_boundary(self, words: str) -> StateRemoteError:
        """The error that older versions were pruned here, and the remote does not take a history without them."""
        oldest = self._store.chain.oldest()
        return self._error(
            f"versions before {oldest} were pruned here, and {self._remote.name}, which lacks them, does not take a history that"
            f" begins with {oldest} ({quoted(words)}): {self._remote.url}. No version was changed on either side. Set `git config"
            " receive.shallowUpdate true` in that repository; or push to a folder or over ssh, where it is asked for; or call"
            " reroot(), which gives the versions that are kept new hashes.",
            code="remote-shallow",
            theirs=None,
        )

    def _error(self, message: str, *, code: str, theirs: str | None) -> StateRemoteError:
        return StateRemoteError(
            message,
            remote=self._remote.name,
            url=self._remote.url,
            ours=self.head,
            theirs=theirs,
            path=self._store.layout.state,
            code=code,
        )


def is_ours(store: Store, commit_id: str) -> bool:
    """Whether a commit is here, and of gitstate."""
    try:
        store.repository.commit(commit_id)
    except StateReadError:
        return False
    return True
