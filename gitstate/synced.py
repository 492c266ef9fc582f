"""Synced: what a state has to do with its remotes, as users hold it in their hands. It delegates, as state.py does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from gitstate.first_use import FIRST_USE
from gitstate.remotes import DEFAULT_TIMEOUT, ORIGIN

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from gitstate.parts import Parts
    from gitstate.policy import Policy
    from gitstate.progress import Progress
    from gitstate.sync.book import Remotes
    from gitstate.sync.contacts import RemoteStatus
    from gitstate.sync.report import PullResult, PushResult
    from gitstate.sync.reroot import RerootReport


class Synced:
    """The remotes of a state: the part of `PipelineState` that leaves the machine."""

    _parts: Parts
    _policy: Policy

    @classmethod
    def clone(
        cls,
        url: str | os.PathLike[str],
        path: str | os.PathLike[str],
        *,
        remote_timeout: float = DEFAULT_TIMEOUT,
        progress: Callable[[Progress], None] | None = None,
        **options: Any,
    ) -> Self:
        """The state at `path`, newly made of the history at `url`, which is its remote `"origin"` from then on.

        All of the history is checked before any of it is taken. The file has to have the name that it has there.
        `remote_timeout` in seconds of silence; the `options` are those of the constructor.

        Raises:
            StateRemoteError: it cannot be had, is no history of a state, or there is a state here already; nothing was
                changed.
            StateValidationError: the newest state is against the schema; nothing was changed.
            StateError: as a transaction; nothing was changed, or the next clone goes on.
        """
        with FIRST_USE:
            from gitstate.sync.clone import clone
        state = cls(path, **options)  # type: ignore[call-arg]  # those of PipelineState
        clone(state._parts.writer, url, remote_timeout, progress)
        return state

    @property
    def remotes(self) -> Remotes:
        """The remotes of this state: `add`, `list`, `remove`."""
        return self._parts.remotes

    def push(
        self, name: str = ORIGIN, *, progress: Callable[[Progress], None] | None = None
    ) -> PushResult:
        """Sends a remote all versions, named backups and lines of the audit trail that it lacks; what of that was moved.

        Nothing that the remote has is overwritten. `progress` is called as objects go.

        Raises:
            StateRemoteError: it has other versions than these, cannot be reached, or did not take them: see its `code`; no
                version was lost or changed on either side.
            StateReadError: the history is damaged; nothing was changed.
            StateLockError: another push or pull of this state went on for the handle's `timeout`.
            StateTransactionError: a transaction is open in this thread; nothing was changed.
        """
        return self._parts.courier.push(name, progress)

    def pull(
        self, name: str = ORIGIN, *, progress: Callable[[Progress], None] | None = None
    ) -> PullResult:
        """Takes what a remote has and is not here, if it goes on top of what is here; what of that was moved.

        All of it is checked before any of it is taken: that it is the history of this state, and that each version is one
        state file that can be read.

        Raises:
            StateRemoteError: it cannot be reached, has a history that does not go on top of this one, or what is none: see
                its `code`; nothing was changed.
            StateConflictError: the state file was edited, or a transaction came between; nothing was changed.
            StateValidationError: the newest state there is against the schema; nothing was changed.
            StateError: as a transaction, and as `push`; nothing was changed.
        """
        self._policy.prepare()
        return self._parts.courier.pull(name, progress)

    def remote_status(self, name: str = ORIGIN) -> RemoteStatus:
        """How things stand with a remote as of the last contact with it. Asks nobody, changes nothing.

        Raises:
            StateRemoteError: there is no such remote.
            StateReadError: the history, or the list of remotes, is damaged.
        """
        with FIRST_USE:
            from gitstate.sync.status import status_of
        return status_of(self._parts.store, name, self._parts.activity)

    def reroot(self, *, dry_run: bool = False) -> RerootReport:
        """Gives the versions that are kept new hashes, the oldest without a parent, so that any server takes them.

        That is for a history of which older versions were pruned, and a remote that has none of them and takes no history
        without them. Remotes that have the old hashes take no push any more, and clones of them no pull; the lines of
        `get_transaction_history` say which hash a version had. Where nothing was pruned nothing is changed. With
        `dry_run` nothing is changed either way, and nobody waited for: the report says which versions would have new
        hashes.

        Raises:
            StateError: as a transaction; nothing was changed.
        """
        rerooting = self._parts.rerooting
        return rerooting.plan() if dry_run else rerooting.run(self._policy.timeout)
