"""Courier: carries the history of one state to its remotes and from them, one contact at a time."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from gitstate import files, remotes
from gitstate.checkpoint import maintaining
from gitstate.errors import StateRemoteError, StateWriteError
from gitstate.lock import StateLock
from gitstate.progress import Telling
from gitstate.repository import BRANCH
from gitstate.sync.contacts import Contacts
from gitstate.sync.fetch import Request, fetch, quarantine
from gitstate.sync.pull import Pull
from gitstate.sync.push import Push
from gitstate.sync.report import PullResult, PushResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gitstate.progress import Progress
    from gitstate.remotes import Remote
    from gitstate.sync.fetched import History
    from gitstate.sync.report import PullResult, PushResult
    from gitstate.writer import Writer

_NEAR: Final = 32
"""Versions that a remote is told one by one; of those before, each twice as far away as the last."""


class Courier:
    """Carries what `writer` writes."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._store = writer.store

    def push(self, name: str, progress: Callable[[Progress], None] | None) -> PushResult:
        """Sends a remote what it lacks.

        Raises:
            StateRemoteError: there is no such remote, or it did not take it; nothing was changed.
            StateLockError: another push or pull of this state is at it.
            StateReadError: the history is damaged; nothing was changed.
            StateTransactionError: a transaction is open in this thread; nothing was changed.
        """
        with Telling(progress) as tell, self._contact(name, "push") as remote:
            look = self._looking(remote)
            return Push(self._store, self._writer.policy, remote, look).run(tell)

    def pull(self, name: str, progress: Callable[[Progress], None] | None) -> PullResult:
        """Takes what a remote has and is not here, if it goes on top of what is here.

        Raises:
            StateError: as `push`, and as a transaction; nothing was changed.
        """
        layout, patience = self._store.layout, self._writer.policy.timeout
        with contextlib.ExitStack() as held:
            tell = held.enter_context(Telling(progress))
            remote = held.enter_context(self._contact(name, "pull"))
            place = held.enter_context(quarantine(layout.store))
            # From before it is told what is here until what comes is on top of that, nothing of it may go.
            held.enter_context(maintaining(layout, "pull", patience))
            request = self.request(archive=BRANCH not in self._store.reader.refs())
            fetched = fetch(remote, request, place, tell)
            pull = Pull(self._writer, remote, fetched)
            result = pull.run()
        if pull.moved and pull.head is not None:
            self._writer.announce(pull.head)
        return result

    def automatic(self) -> list[Remote]:
        """The remotes that get every version without being pushed to.

        Raises:
            StateReadError: the list of remotes is damaged.
        """
        return [each for each in self._store.layout.remotes().values() if each.push == "auto"]

    def remote(self, name: str) -> Remote:
        """The remote that is called so.

        Raises:
            StateRemoteError: there is none; code `"no-such-remote"`.
            StateReadError: the list of remotes is damaged.
        """
        layout = self._store.layout
        return remotes.called(name, layout.remotes(), layout.state)

    def request(self, *, archive: bool) -> Request:
        """What to fetch, behind what is here."""
        layout = self._store.layout
        return Request(
            str(layout.state),
            layout.state.name,
            tuple(self._haves()),
            tuple(sorted(self._store.repository.shallow.read())),
            archive=archive,
            allow_nan=self._writer.policy.allow_nan,
        )

    def _haves(self) -> Iterator[str]:
        """Versions that are here, the newest first, and the ends of what belongs to the audit trail."""
        refs, chain = self._store.reader.refs(), self._store.chain
        head = refs.get(BRANCH)
        if head is not None:
            newest, step = self._store.repository.commit(head).note.serial, 1
            serial, oldest = newest, chain.oldest()
            while serial >= oldest:
                version = chain.at(head, serial)
                if version is not None:
                    yield version.id
                step = 1 if newest - serial < _NEAR else 2 * step
                serial -= step
        yield from sorted({at for name, at in refs.items() if name != BRANCH})

    @contextlib.contextmanager
    def _contact(self, name: str, operation: str) -> Iterator[Remote]:
        """The remote, and nobody else is at a contact of this state, for a block; what goes wrong is noted."""
        self._store.refuse_nested()
        remote = self.remote(name)
        layout = self._store.layout
        alone = StateLock(layout.remote_lock)
        with contextlib.closing(alone):
            alone.acquire(self._writer.policy.timeout, operation)
            try:
                yield remote
            except StateRemoteError as error:
                contacts = Contacts(layout, name)
                if contacts.read().error != str(error):
                    contacts.failed(error)
                raise
            except OSError as error:
                with files.Refused(
                    StateWriteError, f"cannot {operation}", layout.store, "Nothing was changed."
                ):
                    raise error from None
            finally:
                alone.release()

    def _looking(self, remote: Remote) -> Callable[[], History]:
        """What fetches, only to say what the remote has."""

        def look() -> History:
            """Fetches it, and forgets it."""
            with Telling(None) as tell, quarantine(self._store.layout.store) as place:
                request = self.request(archive=False)
                return fetch(remote, request, place, tell).history

        return look
