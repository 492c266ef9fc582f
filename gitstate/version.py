"""Version: one committed state, as users see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gitstate import codec
from gitstate.draft import backups_among
from gitstate.errors import StateReadError

if TYPE_CHECKING:
    from datetime import datetime

    from gitstate.codec import Document
    from gitstate.repository import Commit
    from gitstate.store import Store

SHORT_ID_LENGTH: Final = 7


@dataclass(frozen=True, slots=True)
class Version:
    """One committed state.

    Attributes:
        id: the commit's hash, 40 hex digits; also `str(version)`.
        serial: 1, 2, 3 ... along the branch; 0 of an imported backup that is not on it.
        timestamp: aware, microseconds, never before its parent's.
        operation: what made it.
        message: the commit message, without the machine-readable fields.
        author: name and address.
        changed_keys: the top-level keys whose values differ from the version before.
        parents: the commits it is built on: none for the first, else one.
    """

    id: str
    serial: int
    timestamp: datetime
    operation: str
    message: str
    author: str
    changed_keys: tuple[str, ...]
    parents: tuple[str, ...]
    _tree: str = field(repr=False, compare=False)
    _store: Store = field(repr=False, compare=False)
    _allow_nan: bool = field(repr=False, compare=False)

    @classmethod
    def of(cls, commit: Commit, store: Store, *, allow_nan: bool) -> Version:
        """The version that a commit of the branch is."""
        note = commit.note
        return cls(
            commit.id,
            note.serial,
            note.time,
            note.operation,
            note.message,
            commit.author,
            note.changed_keys,
            commit.parents,
            commit.tree,
            store,
            allow_nan,
        )

    @property
    def short_id(self) -> str:
        """The first seven digits of the hash."""
        return self.id[:SHORT_ID_LENGTH]

    def read(self) -> Document:
        """The state at this version.

        Raises:
            StateReadError: it is missing from the repository, or damaged.
            VersionPrunedError: it is not kept any more.
        """
        self._store.reader.look()
        return codec.decode(self.content(), allow_nan=self._allow_nan)

    def content(self) -> bytes:
        """The bytes of the state file at this version.

        Raises:
            StateReadError: they are missing from the repository, or damaged.
            VersionPrunedError: they are not kept any more.
        """
        self._refuse_pruned()  # what is pruned may still be there for a while
        repository = self._store.repository
        try:
            return repository.read(repository.file_id(self._tree, self._store.layout.file_name))
        except StateReadError:
            self._refuse_pruned()  # just now
            raise

    def _refuse_pruned(self) -> None:
        chain = self._store.chain
        if 0 < self.serial < chain.oldest() and not self._has_name():
            raise chain.pruned(self.short_id, self.serial)

    def _has_name(self) -> bool:
        return self.id in backups_among(self._store.reader.refs()).values()

    def __str__(self) -> str:
        return self.id
