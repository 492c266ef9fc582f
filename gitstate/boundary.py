"""Boundary: the commits at which history ends for Git, though they name parents: what its file `shallow` is to hold.

It follows from what is pruned and what has a name. Git writes into that file, too, when somebody fetches a part of a
history: what is not a version of the branch is theirs, and a version that is not the oldest is no end, for what is
before it is kept.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gitstate.audit import Archive
from gitstate.draft import ARCHIVE, backups_among
from gitstate.errors import StateReadError
from gitstate.repository import BRANCH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gitstate.chain import Chain
    from gitstate.repository import Repository


class Boundary:
    """Where the history in `repository` ends, its refs being at `refs`.

    Attributes:
        oldest: the number of the oldest version that is kept along the branch.
        known: where Git believes that history ends; nowhere, if its file makes no sense.
        makes_sense: whether it does.
    """

    def __init__(self, repository: Repository, chain: Chain, refs: Mapping[str, str]) -> None:
        """Looks.

        Raises:
            StateReadError: the archive of the audit trail is missing or damaged, or the system refused.
        """
        self._repository = repository
        self._chain = chain
        self._refs = refs
        # Not the chain's word for it, which makes do with less: what is told here may be given back.
        self._archive = Archive(repository, refs.get(ARCHIVE))
        self.oldest = self._archive.last + 1
        self.known: frozenset[str] = frozenset()
        self.makes_sense = True
        try:
            self.known = repository.shallow.read()
        except StateReadError as error:
            if isinstance(error.__cause__, OSError):
                raise
            self.makes_sense = False  # and it can be made anew

    def ends(self) -> set[str]:
        """The oldest version that is kept, those that only a name keeps, and what Git knows of other histories.

        Raises:
            StateReadError: the history is damaged.
        """
        oldest, head = self.oldest, self._refs.get(BRANCH)
        begins = self._chain.at(head, oldest) if head is not None and oldest > 1 else None
        if begins is None and oldest > 1:
            raise self._chain.missing(oldest)
        if begins is not None and not begins.parents:
            begins = None  # for Git that is an end by itself
        named = set(backups_among(self._refs).values())
        numbers = self.numbers({*named, *self.known})
        alone = {at for at in named if numbers.get(at, oldest) < oldest and self._has_parents(at)}
        # What nobody has is no end of anything.
        has = self._repository.contains
        theirs = {at for at in self.known if numbers.get(at, 0) <= oldest and has(at)}
        return alone | theirs | ({begins.id} if begins is not None else set())

    def _has_parents(self, commit_id: str) -> bool:
        return bool(self._repository.commit(commit_id).parents)

    def numbers(self, commit_ids: Iterable[str]) -> dict[str, int]:
        """Those of the commits that are versions of the branch, or were until they were pruned, and their numbers.

        Raises:
            StateReadError: the history is damaged.
        """
        serials: dict[str, int] = {}
        for each in commit_ids:
            with contextlib.suppress(StateReadError):  # none of ours, or damaged, which verify says
                serials[each] = self._repository.commit(each).note.serial
        oldest, head = self.oldest, self._refs.get(BRANCH)
        ids = self._archive.ids({serial for serial in serials.values() if serial < oldest})
        for serial in {serial for serial in serials.values() if serial >= oldest}:
            version = self._chain.at(head, serial) if head is not None else None
            ids[serial] = version.id if version is not None else ""
        return {each: serial for each, serial in serials.items() if ids.get(serial) == each}
