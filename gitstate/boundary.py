"""Boundary: the commits at which history ends for Git, though they name parents: what its file `shallow` is to hold.

It follows from what is pruned and what has a name. Git writes into that file, too, when somebody fetches a part of a
history: what is not a version of the branch is theirs, and a version that is not the oldest is no end, for what is
before it is kept.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gitstate.audit import Archive
from gitstate.draft import ARCHIVE, BACKUPS
from gitstate.errors import StateReadError
from gitstate.repository import BRANCH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gitstate.chain import Chain
    from gitstate.repository import Repository


class Boundary:
    """Where the history in `repository` ends, its refs being at `refs`.

    Attributes:
        known: where Git believes that it does; nowhere, if its file cannot be read.
    """

    def __init__(self, repository: Repository, chain: Chain, refs: Mapping[str, str]) -> None:
        self._repository = repository
        self._chain = chain
        self._refs = refs
        self.known: frozenset[str] = frozenset()
        with contextlib.suppress(StateReadError):  # it can be made anew
            self.known = repository.shallow.read()

    def ends(self) -> set[str]:
        """The oldest version that is kept, those that only a name keeps, and what Git knows of other histories.

        Raises:
            StateReadError: the history is damaged.
        """
        oldest = self._chain.oldest()
        head = self._refs.get(BRANCH)
        begins = self._chain.at(head, oldest) if head is not None and oldest > 1 else None
        named = {at for name, at in self._refs.items() if name.startswith(BACKUPS)}
        numbers = self.numbers({*named, *self.known})
        alone = {at for at in named if numbers.get(at, oldest) < oldest}
        theirs = {at for at in self.known if numbers.get(at, 0) <= oldest}
        return alone | theirs | ({begins.id} if begins is not None else set())

    def numbers(self, commit_ids: Iterable[str]) -> dict[str, int]:
        """Those of the commits that are versions of the branch, or were until they were pruned, and their numbers.

        Raises:
            StateReadError: the history is damaged.
        """
        serials: dict[str, int] = {}
        for each in commit_ids:
            with contextlib.suppress(StateReadError):  # none of ours, or damaged, which verify says
                serials[each] = self._repository.commit(each).note.serial
        oldest, head = self._chain.oldest(), self._refs.get(BRANCH)
        archive = Archive(self._repository, self._refs.get(ARCHIVE))
        ids = archive.ids({serial for serial in serials.values() if serial < oldest})
        for serial in {serial for serial in serials.values() if serial >= oldest}:
            version = self._chain.at(head, serial) if head is not None else None
            ids[serial] = version.id if version is not None else ""
        return {each: serial for each, serial in serials.items() if ids.get(serial) == each}
