"""Pull: what a remote has and is not here comes here, if it goes on top of what is here. It ends in `Store.commit`.

What was fetched is checked while it is in a quarantine. Then its pack is taken into the repository, durable, where nothing
leads to it yet; then one record moves the branch, the names, the audit trail and the state file. A crash before that
record leaves a pack that nobody sees, and the next collection removes.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from gitstate import remotes
from gitstate.audit import Archive
from gitstate.checkpoint import maintaining
from gitstate.draft import ARCHIVE, BACKUPS, FAILURES, IMPORTED, UNVERSIONED, Head, backups_among
from gitstate.errors import (
    StateConflictError,
    StateReadError,
    StateRemoteError,
    StateValidationError,
)
from gitstate.imports import Imports, join_imports
from gitstate.remotes import tracking_ref
from gitstate.repository import BRANCH, Repository, make_blob
from gitstate.repository.objects import parse_commit
from gitstate.sync.contacts import Contacts
from gitstate.sync.relation import Relation, is_ours
from gitstate.sync.report import PullResult, RefUpdate
from gitstate.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gitstate.draft import Draft
    from gitstate.record import GitObject
    from gitstate.remotes import Remote
    from gitstate.repository.objects import Raw
    from gitstate.statefile import Found
    from gitstate.sync.fetch import Arrived
    from gitstate.writer import Writer

_TRAILS: Final = (FAILURES, UNVERSIONED)
_LISTS: Final = (ARCHIVE, IMPORTED)
_MAX_LIST: Final = 256 * 1024 * 1024
"""Bytes of lines that are read at once: of a million versions."""


class Pull:
    """Takes what was `fetched` from `remote` into the history that `writer` writes; whether that `adds` the remote, too.

    Attributes:
        head: the newest version behind it, None for none.
        moved: whether it has brought newer versions, so that what follows a commit is due.
    """

    def __init__(
        self, writer: Writer, remote: Remote, fetched: Arrived, *, adds: bool = False
    ) -> None:
        self._writer = writer
        self._store = writer.store
        self._remote = remote
        self._fetched = fetched
        self._history = fetched.history
        self._adds = adds
        self._notes: list[str] = []
        self._updates: tuple[RefUpdate, ...] = ()
        self.head: Head | None = None
        self.moved = False

    def run(self) -> PullResult:
        """Takes it in.

        Raises:
            StateRemoteError: it does not go on top of what is here; nothing was changed.
            StateConflictError: the state file was edited, or somebody commits meanwhile; nothing was changed.
            StateValidationError: the newest state there is against the schema; nothing was changed.
            StateError: as a transaction; nothing was changed.
        """
        refs = self._store.reader.refs()
        relation = Relation(self._store, refs, self._remote)
        contacts = Contacts(self._store.layout, self._remote.name)
        if (refusal := relation.refusal(self._history)) is not None:
            behind = self._history.versions
            contacts.failed(refusal, behind=behind, diverged=refusal.code == "remote-diverged")
            raise refusal
        tracked = refs.get(tracking_ref(self._remote.name))
        if note := relation.went_back(tracked, self._history.head):
            self._notes.append(note)
        goes_on = self._goes_on(refs.get(BRANCH))
        self._refuse_beginning()
        self._refuse_lists()
        content = self._checked_content() if goes_on else b""
        if goes_on:
            self._look_first(relation)
        with self._taken_in():
            self._commit(relation, content, goes_on=goes_on)
        names = backups_among(self._history.refs)
        contacts.went_well(pulled=True, head=self._history.head, names=names)
        versions = self._history.versions if goes_on else 0
        version = None
        if self.head is not None:
            allow_nan = self._writer.policy.allow_nan
            version = Version.of(self.head.commit, self._store, allow_nan=allow_nan)
        notes = tuple(self._notes)
        return PullResult(self._remote.name, self._updates, versions, notes, version)

    def _goes_on(self, head: str | None) -> bool:
        """Whether the remote has newer versions."""
        theirs = self._history.head
        return theirs is not None and theirs != head and self._history.joins == head

    def _refuse_beginning(self) -> None:
        """Sees that a history that is new here begins with version 1, or has the lines of what was before.

        Raises:
            StateRemoteError: it does not; code `"remote-invalid"`.
        """
        history = self._history
        if history.joins is not None or history.oldest is None or history.oldest.serial == 1:
            return
        archive = history.refs.get(ARCHIVE)
        last = parse_commit(self._raw(archive)).note.serial if archive else 0
        newest = history.oldest.serial + history.versions - 1
        if not history.oldest.serial - 1 <= last < newest:
            raise self._invalid(
                f"it begins with version {history.oldest.serial}, and the lines of the audit trail that should stand for those"
                f" before end with {last}; a push from a machine that has them brings them"
            )

    def _checked_content(self) -> bytes:
        """The newest state there, which fits the schema.

        Raises:
            StateValidationError: it does not.
        """
        policy = self._writer.policy
        content = self._raw(self._history.blob or "").content
        if policy.validate is not None:
            try:
                policy.validate(content)
            except StateValidationError as error:
                raise StateValidationError(
                    f"the newest state of {self._remote.name} is against the schema: {error} Its history was not taken."
                    " Give this handle the schema that fits, or schema=None.",
                    problems=error.problems,
                    path=self._store.layout.state,
                ) from error
        return content

    def _look_first(self, relation: Relation) -> None:
        """Sees that the versions could be put on top, before anything of them is in the repository."""
        if self._store.layout.exists():
            with self._writer.alone("pull", self._writer.policy.timeout) as found:
                draft = self._store.draft(self._writer.policy.author)
                self._refuse_others(relation, draft, found)

    @contextlib.contextmanager
    def _taken_in(self) -> Iterator[None]:
        """Has the fetched objects in the repository for a block, and for good if that ends well."""
        pack, repository = self._fetched.pack, self._store.repository
        if self._adds:
            self._add()
        if pack is None:
            yield
            return
        with self._upkeep():
            try:
                # Where it ends badly, the pack stays: whether a record leads to it, only recovery may know.
                repository.adopt(pack)
                yield
            finally:
                # Nor may Git take it, as long as what leads to it is in the journal alone: whoever packs next releases it.
                if self._is_in_place():
                    repository.release_packs()

    def _add(self) -> None:
        """Makes the store, and stores the remote in it: from here on another clone goes on where this one is interrupted."""
        policy, store = self._writer.policy, self._store
        with self._writer.alone("clone", policy.timeout):
            store.ensure(policy.settings)
            known = store.layout.remotes()
            remotes.write(store.layout.store, {**known, self._remote.name: self._remote})

    def _is_in_place(self) -> bool:
        """Whether the refs are where the record has put them, or there is none."""
        refs = self._store.repository.refs
        return not self._store.outcome_unknown and (
            self.head is None or all(refs.read(each.name) == each.new for each in self._updates)
        )

    def _upkeep(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else prunes or packs; who pulls has seen to that before it has fetched, a clone has no store until now."""
        if not self._adds:
            return contextlib.nullcontext()
        return maintaining(self._store.layout, "clone", self._writer.policy.timeout)

    def _commit(self, relation: Relation, content: bytes, *, goes_on: bool) -> None:
        with self._writer.alone("pull", self._writer.policy.timeout) as found:
            draft = self._store.draft(self._writer.policy.author)
            if goes_on:
                self._refuse_others(relation, draft, found)
                self._take_branch(draft, found, content)
            if self._history.ends:
                # Before what they are the ends of is named: Git must not look behind them.
                shallow = self._store.repository.shallow
                shallow.write({*shallow.read(), *self._history.ends})
            self._take_names(draft)
            self._take_trails(draft)
            self._updates = tuple(
                RefUpdate(change.name, change.expected[0], change.new)
                for change in draft.refs
                if change.expected[0] != change.new
            )
            self._track(draft)
            self._writer.commit(draft, found)
            self.head = draft.head
            self.moved = goes_on

    def _track(self, draft: Draft) -> None:
        """Notes what the remote has. Of one that was never pushed to nobody knows whether it begins where we do."""
        ref, at = tracking_ref(self._remote.name), self._history.head
        known = self._store.ref(ref)
        if at is not None and not self._is_kept(draft, at):
            at = None
        if known != at and (known is not None or self._adds):
            draft.set_ref(ref, at)

    def _is_kept(self, draft: Draft, commit_id: str) -> bool:
        """Whether a version of the branch can be named: not where it was pruned here."""
        if draft.head is None or not is_ours(self._store, commit_id):
            return False
        serial = self._store.repository.commit(commit_id).note.serial
        return commit_id == draft.head.commit.id or serial >= self._store.chain.oldest()

    def _refuse_lists(self) -> None:
        """Sees that what is imported there, and the archive of a history that is new here, can be read.

        Raises:
            StateRemoteError: it cannot; code `"remote-invalid"`.
        """
        here = self._store.repository
        refs = self._history.refs
        fresh = {name: refs[name] for name in _LISTS if name in refs and not here.has(refs[name])}
        if not fresh:
            return
        with contextlib.closing(Repository(self._fetched.place, self._lent)) as quarantined:
            try:
                self._refuse_large(quarantined, fresh.values())
                for problem in Archive(quarantined, fresh.get(ARCHIVE)).problems():
                    raise self._invalid(problem)
                imports = Imports(quarantined, fresh.get(IMPORTED))
                imports.backups(), imports.lines()
                for _ in imports.newest_first():
                    pass
            except StateReadError as error:
                raise self._invalid(str(error)) from error

    def _refuse_large(self, quarantined: Repository, tips: Iterable[str]) -> None:
        """Sees that lists are no larger than they can be read at once: a file may be in them under many names."""
        left = _MAX_LIST
        for at in tips:
            for blob in quarantined.files(quarantined.commit(at).tree).values():
                left -= len(quarantined.read(blob))
                if left < 0:
                    raise self._invalid(
                        f"its list of what was done has more than {_MAX_LIST} bytes"
                    )

    def _lent(self) -> list[GitObject]:
        """The files of the list of what was imported here: a newer one has most of them, too."""
        repository = self._store.repository
        at = self._store.reader.refs().get(IMPORTED)
        kept = repository.files(repository.commit(at).tree).values() if at else ()
        return [make_blob(repository.read(each)) for each in kept]

    def _invalid(self, why: str) -> StateRemoteError:
        return StateRemoteError(
            f"what {self._remote.name} has is no history of this state: {why}: {self._remote.url}. Nothing was changed.",
            remote=self._remote.name,
            url=self._remote.url,
            theirs=self._history.head,
            path=self._store.layout.state,
            code="remote-invalid",
        )

    def _refuse_others(self, relation: Relation, draft: Draft, found: Found) -> None:
        """Sees that nothing has come here that the fetched versions do not know."""
        head = draft.head.commit.id if draft.head else None
        path = self._store.layout.state
        if head != relation.head:
            raise StateConflictError(
                f"a transaction was committed here while versions came from {self._remote.name}: {path}. Nothing else was"
                " changed. Pull again.",
                path=path,
                code="conflict",
            )
        if found.content is not None and found.blob != (draft.head.blob if draft.head else None):
            raise StateConflictError(
                f"the state file holds what is in no version, an edit for instance, and {self._remote.name} has newer versions: {path}. It was left in place,"
                " and nothing was pulled. Move the file away, pull again, and put into the new state what is to stay of it.",
                path=path,
                code="edited",
            )

    def _take_branch(self, draft: Draft, found: Found, content: bytes) -> None:
        repository, theirs = self._store.repository, self._history.head
        if theirs is None:
            raise AssertionError
        blob = make_blob(content)
        state = None if found.content == content else (content, blob)
        draft.take_over(Head(repository.commit(theirs), blob.id), state)
        oldest, archive = self._history.oldest, self._history.refs.get(ARCHIVE)
        if archive and self._history.joins is None and oldest is not None and oldest.serial > 1:
            draft.set_ref(ARCHIVE, archive)

    def _take_names(self, draft: Draft) -> None:
        """The named backups that are new there. One that was deleted here since it was seen there stays deleted."""
        seen = Contacts(self._store.layout, self._remote.name).read().names
        newest = draft.head.commit.note.serial if draft.head else 0
        for name, at in backups_among(self._history.refs).items():
            here = self._store.ref(BACKUPS + name)
            if self._store.repository.commit(at).note.serial > newest:
                raise self._invalid(f"the backup {name!r} has a number beyond that of its branch")
            if here is None and seen.get(name) != at:
                draft.set_ref(BACKUPS + name, at)
            elif here not in (None, at):
                self._notes.append(
                    f"the backup {name!r} is another version there, {at}, and was left: here it is {here}"
                )

    def _take_trails(self, draft: Draft) -> None:
        for name in _TRAILS:
            if (at := self._history.refs.get(name)) is not None:
                draft.join(name, at, self._store.chain.descends)
        if (at := self._history.refs.get(IMPORTED)) is not None:
            join_imports(draft, self._store.repository, at, self._store.chain.descends)

    def _raw(self, object_id: str) -> Raw:
        """A fetched object, or one that was here before."""
        if self._fetched.pack is not None:
            with contextlib.closing(Repository(self._fetched.place, tuple)) as quarantined:
                if quarantined.contains(object_id):
                    return quarantined.raw(object_id)
        return self._store.repository.raw(object_id)
