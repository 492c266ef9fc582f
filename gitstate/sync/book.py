"""Book: the remotes of one state, as users add, list and remove them."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from gitstate import files, remotes
from gitstate.errors import StateRemoteError, StateWriteError
from gitstate.remotes import DEFAULT_TIMEOUT, PushMode, Remote, is_name, is_timeout, tracking_ref
from gitstate.sync.address import parse
from gitstate.sync.contacts import Contacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gitstate.writer import Writer


class Remotes:
    """The remotes of the state that `writer` writes. They are stored with the store, durably."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._layout = writer.store.layout

    def add(
        self,
        name: str,
        url: str | os.PathLike[str],
        *,
        push: PushMode = "manual",
        timeout: float = DEFAULT_TIMEOUT,
        dry_run: bool = False,
    ) -> Remote:
        """The new remote: a repository that is to get the history, or has it. Nobody is asked yet whether it is there.

        From then on what it has not received is not pruned. With `push="auto"` it gets every version soon after its commit,
        beside the transactions. It is given up after `timeout` seconds of silence. With `dry_run` it is not added: whatever
        would be refused is.

        Raises:
            StateRemoteError: the name is taken or none, or the URL is none or holds a password; nothing was changed.
            StateError: as a transaction; nothing was changed.
            ValueError: another argument makes no sense; nothing was changed.
        """
        remote = self._made(name, url, push, timeout)
        self._refuse_own(remote)
        if dry_run:
            self._is_new(remote, self._layout.remotes())
            return remote
        with self._changing() as known:
            if self._is_new(remote, known):
                self._forget(name)  # what was called so before may have been another one
                known[name] = remote
        return remote

    def _made(
        self, name: str, url: str | os.PathLike[str], push: PushMode, timeout: float
    ) -> Remote:
        if not is_name(name):
            raise StateRemoteError(
                f"a remote cannot be called {name!r}: expected letters, digits, and . _ - after the first. Nothing was changed.",
                remote=str(name),
                path=self._layout.state,
                code="remote-name",
            )
        if push not in ("manual", "auto"):
            raise ValueError(f"push must be 'manual' or 'auto', not {push!r}")
        if not is_timeout(timeout):
            raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
        return Remote(name, parse(url).url, push, float(timeout))

    def _is_new(self, remote: Remote, known: Mapping[str, Remote]) -> bool:
        other = known.get(remote.name, remote)
        if other != remote:
            raise StateRemoteError(
                f"a remote is called {remote.name!r} already, at {other.url}: {self._layout.state}. Nothing was changed."
                f" Remove it first, or call this one otherwise.",
                remote=remote.name,
                url=remote.url,
                path=self._layout.state,
                code="remote-exists",
            )
        return remote.name not in known

    def _refuse_own(self, remote: Remote) -> None:
        address = parse(remote.url)
        own = os.path.realpath(self._layout.git_dir)
        if address.kind == "folder" and os.path.realpath(address.path) == own:
            raise StateRemoteError(
                f"that is this state's own repository: {remote.url}. Nothing was changed.",
                remote=remote.name,
                url=remote.url,
                path=self._layout.state,
                code="remote-url",
            )

    def list(self) -> list[Remote]:
        """The remotes, by their names.

        Raises:
            StateReadError: the list is damaged; code `"remotes-damaged"`.
        """
        return [remote for _, remote in sorted(self._layout.remotes().items())]

    def remove(self, name: str) -> None:
        """Forgets a remote, and what it is known to have; over there nothing is changed.

        Raises:
            StateRemoteError: there is none of that name; nothing was changed.
            StateError: as a transaction; nothing was changed.
        """
        with self._changing() as known:
            if known.pop(name, None) is None:
                raise remotes.unknown(name, known, self._layout.state)
            self._forget(name)

    def _forget(self, name: str) -> None:
        """Forgets what a remote of that name is known to have; under the lock."""
        store = self._writer.store
        if store.ref(tracking_ref(name)) is not None:
            draft = store.draft(self._writer.policy.author)
            draft.set_ref(tracking_ref(name), None)
            store.note(draft, None)
            store.settle()
        Contacts(self._layout, name).forget()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Remote]]:
        """The remotes under the state's lock, by name; behind the block they are stored."""
        policy, store = self._writer.policy, self._writer.store
        with self._writer.writing("remote", policy.timeout):
            known = self._layout.remotes()
            before = dict(known)
            yield known
            store.ensure(policy.settings)
            if known != before:
                safe = "The remotes are as they were."
                with files.Refused(
                    StateWriteError, "cannot store the remotes", self._layout.store, safe
                ):
                    remotes.write(self._layout.store, known)
