"""Verification: is what is on disk what the journal and the history say. Reads everything, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gitstate.audit import Archive
from gitstate.draft import ARCHIVE, AUDIT, BACKUPS
from gitstate.errors import StateError, StateReadError
from gitstate.repository import BRANCH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gitstate.repository import Commit
    from gitstate.store import Store


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was found.

    Attributes:
        problems: one line for each thing that is not as it should be.
    """

    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(store: Store, timeout: float | None) -> VerifyReport:
    """Checks the state file against the newest version, the journal, every object by its hash, the chain, the refs.

    Raises:
        StateLockError: the lock was held for `timeout` seconds.
    """
    if not store.layout.exists():
        try:
            store.layout.refuse_remains()
        except StateReadError as error:
            return VerifyReport((str(error),))
        return VerifyReport(())
    store.repository.forget()
    problems: list[str] = []
    for check in (_journal_and_state, _objects, _chain, _refs):
        try:
            problems.extend(check(store, timeout))
        except StateReadError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"cannot be read: {error.strerror}: {error.filename}")
    return VerifyReport(tuple(dict.fromkeys(problems)))


def _journal_and_state(store: Store, timeout: float | None) -> Iterator[str]:
    yield from store.problems(timeout)


def _objects(store: Store, _: float | None) -> Iterator[str]:
    yield from store.repository.problems()


def _chain(store: Store, _: float | None) -> Iterator[str]:
    repository = store.repository
    newer: Commit | None = None
    for commit in store.chain.walk(store.reader.refs(recover=False).get(BRANCH)):
        serial = commit.note.serial
        if newer is not None and serial != newer.note.serial - 1:
            yield f"version {serial} ({commit.id}) stands where {newer.note.serial - 1} should"
        repository.read(repository.file_id(commit.tree, store.layout.file_name))
        if not commit.parents and serial != 1:
            yield f"the oldest version ({commit.id}) is number {serial}"
        newer = commit
    if newer is not None and (oldest := newer.note.serial) > 1:
        if oldest != store.chain.oldest():
            yield f"the history ends at version {oldest}, and should at {store.chain.oldest()}"
        archive = Archive(repository, store.reader.refs(recover=False).get(ARCHIVE))
        if archive.last < oldest - 1:
            yield f"{ARCHIVE} ends at version {archive.last}, and the history begins at {oldest}"
        yield from archive.problems()


def _refs(store: Store, _: float | None) -> Iterator[str]:
    for at in sorted(store.repository.shallow.read()):
        if not store.repository.readable(at):
            yield f"the history should begin at {at}, which cannot be read"
    for name, at in store.reader.refs(recover=False).items():
        if name.startswith("refs/replace/"):
            # Git would show another object in its place; gitstate would not (PITFALLS D27).
            yield f"{name} makes Git show {at} instead of what it names: delete it"
            continue
        try:
            _read_all(store, name, at)
        except StateError as error:
            yield f"{name} names {at}, which cannot be read: {error}"


def _read_all(store: Store, name: str, at: str) -> None:
    """Reads what gitstate put under a ref; of somebody else's ref only what it names."""
    repository = store.repository
    if name.startswith(AUDIT):
        for _ in store.chain.walk(at):
            pass
    elif name.startswith(BACKUPS):
        tree = repository.commit(at).tree
        repository.read(repository.file_id(tree, store.layout.file_name))
    else:
        repository.read(at)
