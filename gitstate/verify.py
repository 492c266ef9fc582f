"""Verification: is what is on disk what the journal and the history say. Reads everything, changes nothing."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from gitstate.audit import Archive
from gitstate.boundary import Boundary
from gitstate.draft import ARCHIVE, AUDIT, BACKUPS, IMPORTED
from gitstate.errors import StateError, StateLockError, StateReadError
from gitstate.finding import Finding, Remedy
from gitstate.generations import generations
from gitstate.imports import Imports
from gitstate.progress import counting, silent
from gitstate.repository import BRANCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gitstate.progress import ProgressCallback
    from gitstate.repository import Commit
    from gitstate.store import Store

    _Check = Callable[["_Look"], Iterable[str | Finding]]


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was found.

    Attributes:
        problems: one line for each thing that is not as it should be.
        edit: that of them which says that somebody has edited the state file, None for none. It is no damage: the next
            transaction makes a version of it.
    """

    problems: tuple[str, ...]
    edit: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def damage(self) -> tuple[str, ...]:
        """The problems without the edit."""
        return tuple(each for each in self.problems if each != self.edit)


class _Look(NamedTuple):
    """What is looked at: for how many seconds the lock is waited for, and who is told how far it is."""

    store: Store
    timeout: float | None
    tell: ProgressCallback


def verify(store: Store, timeout: float | None, tell: ProgressCallback = silent) -> VerifyReport:
    """Checks the state file against the newest version, the journal, every object by its hash, the chain, the refs.

    Raises:
        StateLockError: the lock was held for `timeout` seconds.
    """
    found = findings(store, timeout, tell)
    edit = next((each.line for each in found if each.remedy is Remedy.TRANSACTION), None)
    return VerifyReport(tuple(each.line for each in found), edit)


def findings(store: Store, timeout: float | None, tell: ProgressCallback = silent) -> list[Finding]:
    """What `verify` finds, and what it takes to mend that.

    Raises:
        StateLockError: the lock was held for `timeout` seconds.
    """
    if not store.layout.exists():
        try:
            store.layout.refuse_remains()
        except StateReadError as error:
            return [Finding(str(error))]
        return []
    look = _Look(store, timeout, tell)
    while True:
        before = _pruned(store)
        found = [each for check in _CHECKS for each in _confirmed(check, look)]
        # Beside a prune, what seems to be missing may have gone on purpose.
        if not found or before == _pruned(store):
            return list(dict.fromkeys(found))


def _confirmed(check: _Check, look: _Look) -> list[Finding]:
    """What is found twice: beside writers, or Git's upkeep, something may be on its way just then. Damage stays."""
    found = _found(check, look)
    return found and [each for each in _found(check, look) if each in found]


def _found(check: _Check, look: _Look) -> list[Finding]:
    look.store.repository.forget()
    found: list[Finding] = []
    try:
        found.extend(e if isinstance(e, Finding) else Finding(e) for e in check(look))
    except StateLockError:
        raise  # which is an OSError as well, and says nothing of what is on the disk
    except StateReadError as error:
        found.append(Finding(str(error)))
    except OSError as error:
        found.append(Finding(f"cannot be read: {error.strerror}: {error.filename}"))
    return found


def _pruned(store: Store) -> tuple[int, frozenset[str]]:
    """What a prune changes."""
    with contextlib.suppress(StateReadError):
        return store.chain.oldest(), store.repository.shallow.read()
    return store.chain.oldest(), frozenset()


def _files(look: _Look) -> Iterator[str]:
    store = look.store
    store.layout.check()
    yield from (f"{fault.why}: {fault.path}" for fault in store.layout.faults())
    if not generations(store.layout.store):
        yield f"the journal is missing: {store.layout.store}; the next use begins a new one"


def _journal_and_state(look: _Look) -> Iterator[Finding]:
    if found := look.store.finding(look.timeout):
        yield found


def _objects(look: _Look) -> Iterator[str]:
    store = look.store
    with counting(look.tell, "checking") as seen:
        yield from store.repository.problems(seen)
    if damaged := store.damaged_large_objects():
        damaged &= store.damaged_large_objects()  # a checkpoint may have packed them meanwhile
    for path in sorted(damaged):
        yield f"an object of the journal, in a file of its own, is damaged or missing: {path}"


def _chain(look: _Look) -> Iterator[str]:
    store = look.store
    head = store.reader.refs(recover=False).get(BRANCH)
    total = None
    if head is not None:
        total = store.repository.commit(head).note.serial - store.chain.oldest() + 1
    with counting(look.tell, "reading", total) as seen:
        yield from _versions(store, head, seen)


def _versions(store: Store, head: str | None, seen: Callable[[], None]) -> Iterator[str]:
    repository = store.repository
    newer: Commit | None = None
    first = {1, store.chain.oldest()}  # after a `reroot` the oldest that is kept has no parent
    for commit in store.chain.walk(head):
        seen()
        serial = commit.note.serial
        if newer is not None and serial != newer.note.serial - 1:
            yield f"version {serial} ({commit.id}) stands where {newer.note.serial - 1} should"
        repository.read(repository.file_id(commit.tree, store.layout.file_name))
        if not commit.parents and serial not in first:
            yield f"the oldest version ({commit.id}) is number {serial}"
        newer = commit


def _archive(look: _Look) -> Iterator[str]:
    store = look.store
    while True:
        archive = Archive(store.repository, store.reader.refs(recover=False).get(ARCHIVE))
        try:
            yield from archive.problems()
        except StateReadError:
            # A prune may have put another one in its place, and given the space of this one back.
            if store.reader.refs(recover=False).get(ARCHIVE) == archive.tip:
                raise
        else:
            return


def _refs(look: _Look) -> Iterator[str | Finding]:
    store = look.store
    refs = store.reader.refs(recover=False)
    for name, at in refs.items():
        if name.startswith("refs/replace/"):
            # Git would show another object in its place; gitstate would not (PITFALLS D27).
            yield f"{name} makes Git show {at} instead of what it names: delete it"
            continue
        try:
            _read_all(store, name, at)
        except StateError as error:
            yield f"{name} names {at}, which cannot be read: {error}"
    # As Git sees them: the note of a failure may wait in the journal, with what it leads to.
    roots = set(store.repository.refs.all("refs/").values())
    with contextlib.suppress(
        StateReadError
    ):  # an index that dulwich cannot read, which is no damage
        there, lacking = store.repository.checked_out()
        roots |= there
        for at in sorted(lacking):
            yield f"a checkout, or the log of a ref, names {at}, which is missing: {store.layout.git_dir}"
    if store.reader.in_place():  # else files may wait in the journal as well
        yield from _boundary(look, refs, roots)


def _boundary(look: _Look, refs: dict[str, str], roots: set[str]) -> Iterator[str | Finding]:
    store, repository = look.store, look.store.repository
    repository.shallow.read()  # which says if it cannot be read
    boundary = Boundary(repository, store.chain, refs)
    ends = boundary.ends()
    for at in sorted(ends - boundary.known):
        # A prune that was interrupted leaves it so for the next one, and all that is pruned is still there.
        if not all(map(repository.contains, repository.commit(at).parents)):
            yield f"Git does not know that history ends at {at}: prune() tells it"
    for at in sorted(boundary.known - ends):
        yield f"Git believes that history ends at {at}, and may give back what is before: prune() tells it better"
    for at in sorted(ends & boundary.known):
        if not repository.readable(at):
            yield f"Git believes that history ends at {at}, which cannot be read: prune() tells it better"
    with counting(look.tell, "following") as seen:
        reached = repository.reachable(roots, ends, seen)
    yield from _lacking(store, reached)


def _lacking(store: Store, reached: set[str]) -> Iterator[Finding]:
    """What of the objects `reached` is in the journal alone, though everything is in place: Git does not see it."""
    repository = store.repository
    lacking = {each for each in store.journalled() & reached if not repository.contains(each)}
    if lacking:
        repository.forget()  # Git, or a checkpoint, may have packed them meanwhile
        lacking = {each for each in lacking if not repository.contains(each)}
    if lacking:
        line = (
            f"the journal holds records whose objects are missing in the repository, {min(lacking)} for one of"
            f" {len(lacking)}: repair(), or the next use that writes, puts them there: {store.layout.git_dir}"
        )
        yield Finding(line, Remedy.PUT_IN_PLACE)


def _read_all(store: Store, name: str, at: str) -> None:
    """Reads what gitstate put under a ref; of somebody else's ref only what it names."""
    repository = store.repository
    if name.startswith(AUDIT):
        for _ in store.chain.trail(at):
            pass
        if name == IMPORTED:
            imports = Imports(repository, at)
            imports.backups(), imports.lines()
    elif name.startswith(BACKUPS):
        tree = repository.commit(at).tree
        repository.read(repository.file_id(tree, store.layout.file_name))
    else:
        repository.read(at)


_CHECKS: Final = (_files, _journal_and_state, _objects, _chain, _archive, _refs)
