"""Push: what is here and not there goes there, and nothing that is there is overwritten.

The remote moves each ref by compare and swap from what it said itself, so that of several who push at once one wins. What
is nobody's descendant is not sent at all. Only when the remote has said that it has it, that is noted here, in a ref: what
it is not known to have is not pruned.

Where what is sent begins behind versions that were pruned here, the remote is told so, and each ref for which that matters
is pushed by itself: Git's `receive-pack` takes such a history for one ref at a time (of several it takes one or none, and
dies; seen with 2.39). The branch goes first, as it may be refused; then the lines of what was pruned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dulwich.protocol import pkt_line

from gitstate.draft import ARCHIVE, AUDIT, BACKUPS, FAILURES, IMPORTED, UNVERSIONED, backups_among
from gitstate.errors import StateError, StateRemoteError
from gitstate.remotes import tracking_ref
from gitstate.repository import BRANCH, EMPTY_TREE
from gitstate.sync.contact import StopExchangeError, speak
from gitstate.sync.contacts import Contacts
from gitstate.sync.outgoing import Outgoing
from gitstate.sync.relation import Relation, is_ours
from gitstate.sync.report import PushResult, RefUpdate
from gitstate.sync.watch import Watch
from gitstate.sync.words import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from dulwich.client import GitClient, SendPackResult
    from dulwich.pack import UnpackedObject

    from gitstate.policy import Policy
    from gitstate.progress import ProgressCallback
    from gitstate.remotes import Remote
    from gitstate.store import Store
    from gitstate.sync.fetched import History

_NOTHING: Final = b"0" * 40
_SHALLOW: Final = b"shallow"
_LOST_RACE: Final = (
    "already exists",
    "cannot lock ref",
    "failed to update ref",
    "fetch first",
    "incorrect old value",
    "non-fast-forward",
    "stale info",
)
"""What servers say of a ref that somebody else has moved since they listed it."""

_NO_BOUNDARY: Final = "shallow update not allowed"


class _UnknownError(StopExchangeError):
    """The remote's branch is at a commit that is not here."""

    def __init__(self, theirs: str) -> None:
        super().__init__(theirs)
        self.theirs = theirs


class _BoundaryError(StopExchangeError):
    """These refs are to be pushed by themselves, and the remote told where what they lead to begins."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self.names = names


class Push:
    """One push from `store` to `remote`.

    `look` fetches what the remote has, and says what that is, where it is not known here.
    """

    def __init__(
        self, store: Store, policy: Policy, remote: Remote, look: Callable[[], History]
    ) -> None:
        self._store = store
        self._policy = policy
        self._remote = remote
        self._look = look
        self._refs = store.reader.refs()
        self._relation = Relation(store, self._refs, remote)
        # What the remote has, as it said last; and what there is to tell.
        self._there: dict[str, str] = {}
        self._updates: list[RefUpdate] = []
        self._left: list[str] = []
        self._refused: dict[str, str] = {}
        self._went_back: str | None = None
        # Whether it has told what it has; and the number of the version with which that begins.
        self._asked = False
        self._begins = 1
        self._foreign = False
        self._said: list[str] = []
        self._outgoing: Outgoing | None = None

    def run(self, progress: ProgressCallback) -> PushResult:
        """Pushes.

        Raises:
            StateRemoteError: nothing was taken, or not the branch; nothing was changed here.
            StateReadError: the history is damaged; nothing was changed.
        """
        if BRANCH not in self._refs:
            return PushResult(self._remote.name)
        try:
            self._send(progress)
        except _UnknownError as unknown:
            raise self._explained(unknown.theirs) from None
        finally:
            if self._asked:
                self._note()
        contacts = Contacts(self._store.layout, self._remote.name)
        names = backups_among(self._there)
        contacts.went_well(pulled=False, head=self._there.get(BRANCH), names=names)
        refused = (f"{name} was not taken there: {why}" for name, why in self._refused.items())
        odd = [self._went_back] if self._went_back else []
        notes = (*odd, *self._left, *refused)
        return PushResult(self._remote.name, tuple(self._updates), self._versions(), notes)

    def _send(self, progress: ProgressCallback) -> None:
        """Sends what is lacking there, at once, or what begins behind a boundary by itself."""
        try:
            self._exchange(progress)
        except _BoundaryError as error:
            for name in error.names:
                self._exchange(progress, alone=name)
            self._exchange(progress, without=error.names)

    def _exchange(
        self,
        progress: ProgressCallback,
        *,
        alone: str | None = None,
        without: Collection[str] = (),
    ) -> None:
        """One exchange with the remote: of all refs, but for those that were pushed before, or of one `alone`."""
        shallow: list[bytes] | None = None if alone is None else []

        def wanted(found: Mapping[Any, Any]) -> dict[Any, Any]:
            """The refs to move there, being at what is `found`, to what they get."""
            watch.answered()
            names = self._wanted(found)
            if alone is not None:
                names = {alone: names[alone]} if alone in names else {}
            names = {name: at for name, at in names.items() if name not in without}
            self._outgoing = outgoing = self._lacking(names)
            if outgoing.boundary and shallow is None:
                raise _BoundaryError(self._behind(names, outgoing.boundary))
            if shallow is not None:
                shallow.extend(pkt_line(b"shallow " + at.encode()) for at in outgoing.boundary)
            return {name.encode(): at.encode() for name, at in names.items()}

        def exchange(client: GitClient, path: bytes) -> SendPackResult:
            """With one client, for one contact."""
            return client.send_pack(
                path, wanted, lambda *_, **__: self._packed(progress), progress=self._listen
            )

        self._said.clear()
        watch = Watch(self._remote.timeout)
        sent = speak(self._remote, watch, exchange, shallow=shallow, said=self._said)
        self._take_down(sent)

    def _wanted(self, found: Mapping[Any, Any]) -> dict[str, str]:
        """The refs to move there, being at what is `found`, to what they get."""
        self._left.clear()
        self._there = there = {
            name.decode(errors="replace"): at.decode("ascii", "replace")
            for name, at in found.items()
            if at not in (_SHALLOW, _NOTHING)
        }
        self._asked, self._begins = True, self._first_there(found)
        theirs, tracked = there.get(BRANCH), self._refs.get(tracking_ref(self._remote.name))
        if theirs and not self._relation.serial_of(theirs):
            raise _UnknownError(theirs)
        if theirs and not self._relation.leads_to(theirs):
            raise self._relation.out_of_reach(theirs)
        if not self._updates:
            self._went_back = self._relation.went_back(tracked, theirs)
        wanted = {**self._wanted_names(), **self._wanted_trails()}
        if theirs != self._refs[BRANCH]:
            wanted[BRANCH] = self._refs[BRANCH]
        archive = self._refs.get(ARCHIVE)
        if archive and ARCHIVE not in there and (theirs is None or self._begins_late()):
            # What has no beginning there comes with the lines of what was before it, which stay as they are then.
            wanted[ARCHIVE] = archive
        return wanted

    def _begins_late(self) -> bool:
        """Whether the remote is known to lack older versions, as a push of them ended before their lines had come."""
        if self._begins > 1:
            return True
        oldest = self._store.chain.oldest()
        first = self._store.chain.at(self._refs[BRANCH], oldest)
        return oldest > 1 and first is not None and not first.parents

    def _first_there(self, found: Mapping[Any, Any]) -> int:
        """The number of the version with which the remote's history begins, as far as it says so."""
        shallow = (name.decode() for name, at in found.items() if at == _SHALLOW)
        # Those of named versions alone are older.
        return max(filter(None, map(self._relation.serial_of, shallow)), default=1)

    def _wanted_names(self) -> dict[str, str]:
        """The named backups that the remote lacks."""
        wanted = {}
        for name, at in backups_among(self._refs).items():
            there = self._there.get(BACKUPS + name)
            if there is None and is_ours(self._store, at):
                wanted[BACKUPS + name] = at
            elif there not in (None, at):
                self._left.append(
                    f"the backup {name!r} is another version there, {there}, and was left: here it is {at}"
                )
        return wanted

    def _wanted_trails(self) -> dict[str, str]:
        """The lines of the audit trail that go behind those that the remote has."""
        wanted = {}
        for name in (FAILURES, UNVERSIONED, IMPORTED):
            at, there = self._refs.get(name), self._there.get(name)
            if at is None or at == there:
                continue
            if there is None or self._descends(at, there):
                wanted[name] = at
            elif not self._descends(there, at):
                what = name.removeprefix(AUDIT)
                self._left.append(
                    f"others have noted {what} there: pull() brings them, and the next push takes ours"
                )
        return wanted

    def _descends(self, tip: str, other: str) -> bool:
        here = is_ours(self._store, tip) and is_ours(self._store, other)
        return here and self._store.chain.descends(tip, other)

    def _lacking(self, wanted: Mapping[str, str]) -> Outgoing:
        """What of the `wanted` the remote lacks."""
        known = set(self._there.values())
        serial_of = self._relation.serial_of
        theirs = self._there.get(BRANCH)
        newest = serial_of(theirs) if theirs else 0
        begins = self._begins

        def has(commit_id: str) -> bool:
            """Whether the remote has a commit."""
            if commit_id in known or newest == 0:
                return commit_id in known
            # A line of the audit trail is looked for among versions in vain, and there may be many.
            repository = self._store.repository
            if is_ours(self._store, commit_id) and repository.commit(commit_id).tree == EMPTY_TREE:
                return False
            return begins <= serial_of(commit_id) <= newest

        outgoing = Outgoing(self._store.repository, has)
        outgoing.add([wanted[BRANCH]] if BRANCH in wanted else [])
        outgoing.add(at for name, at in wanted.items() if name != BRANCH)
        return outgoing

    def _behind(self, wanted: Mapping[str, str], boundary: Collection[str]) -> tuple[str, ...]:
        """The refs among the `wanted` that lead to a boundary, in the order in which they go."""
        alone = tuple(name for name, at in wanted.items() if name != BRANCH and at in boundary)
        first = tuple(name for name in (BRANCH, ARCHIVE) if name in wanted)
        return (*first, *alone)

    def _packed(self, progress: ProgressCallback) -> tuple[int, Iterator[UnpackedObject]]:
        if self._outgoing is None:
            raise AssertionError
        return len(self._outgoing.ids), self._outgoing.objects(progress)

    def _listen(self, words: bytes) -> None:
        self._said.append(words.decode("utf-8", "replace"))
        del self._said[:-20]  # the last are those that matter

    def _take_down(self, sent: SendPackResult) -> None:
        """Takes down what the remote has taken: it says so only in the status of each ref (PITFALLS D18).

        Raises:
            StateRemoteError: it has not taken the branch.
        """
        status = sent.ref_status or {}
        for ref, at in (sent.refs or {}).items():
            name, new = ref.decode(), at.decode() if at else ""
            words = status.get(ref)
            if words is None and ref not in status and self._there.get(name) != new:
                words = "it did not say"
            if words is not None:
                self._refused[name] = quoted(words)
            elif self._there.get(name) != new:
                self._updates.append(RefUpdate(name, self._there.get(name), new))
                self._there[name] = new
        if (words := self._refused.get(BRANCH)) is not None:
            if _NO_BOUNDARY in words:
                raise self._relation.no_boundary(words)
            locked = any("File exists" in each for each in self._said)
            if any(each in words for each in _LOST_RACE) and not locked:
                raise self._relation.overtaken(None, words)
            raise self._relation.refused(" ".join((words, *self._said)))

    def _explained(self, theirs: str) -> StateRemoteError:
        """What it means that the remote's branch is at a commit that is not here."""
        history = self._look()
        error = self._relation.refusal(history)
        if error is None:
            # It goes on top of what is here; or was pulled into this very store meanwhile.
            error = self._relation.ahead(history.head or theirs, history.versions)
        self._foreign = error.code == "remote-foreign"
        contacts = Contacts(self._store.layout, self._remote.name)
        contacts.failed(error, behind=history.versions, diverged=error.code == "remote-diverged")
        return error

    def _versions(self) -> int:
        """How many versions the remote has got."""
        moved = next((each for each in self._updates if each.name == BRANCH), None)
        if moved is None:
            return 0
        before = self._store.chain.oldest() - 1
        return self._relation.newest() - (
            self._relation.serial_of(moved.old) if moved.old else before
        )

    def _note(self) -> None:
        """Notes what the remote has now. A power cut may take the note: then it counts as one that has less."""
        ref, at = tracking_ref(self._remote.name), self._there.get(BRANCH)
        if at and not self._relation.serial_of(at) and not self._foreign:
            return  # it has newer versions, and what it was known to have besides
        # One whose history begins later than ours lacks what is before, for good: it counts as one that has nothing.
        oldest = self._store.chain.oldest()
        # And what is not kept here cannot be named.
        kept = at is not None and self._relation.serial_of(at) >= oldest
        known = at if kept and self._begins <= oldest else None
        if self._refs.get(ref) == known:
            return
        try:
            with self._store.writing("push", self._policy.timeout):
                same = self._store.layout.remotes().get(self._remote.name) == self._remote
                if same and self._store.ref(ref) != known:
                    draft = self._store.draft(self._policy.author)
                    draft.set_ref(ref, known)
                    self._store.note(draft, None)
                    self._store.settle()
        except StateError as error:
            self._left.append(f"what {self._remote.name} has could not be noted here: {error}")
