"""PipelineState: what users hold in their hands. It builds the parts and delegates to them."""

from __future__ import annotations

import copy
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from gitstate import codec
from gitstate.errors import StateReadError, corrupt
from gitstate.exchange import Exchange
from gitstate.first_use import FIRST_USE
from gitstate.layout import Settings
from gitstate.parts import Parts
from gitstate.policy import (
    UNSET,
    Policy,
    Unset,
    Validator,
    check_count,
    check_path,
    check_schema,
    check_timeout,
    identity,
)
from gitstate.synced import Synced
from gitstate.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from pydantic import BaseModel

    from gitstate.codec import Document
    from gitstate.diff import Change
    from gitstate.transaction import StateTransaction
    from gitstate.version import Version


class PipelineState(Upkeep, Exchange, Synced):
    """The state of one pipeline: a JSON file whose every committed transaction is a Git commit.

    Making one touches nothing; the first write creates the store. A handle may be shared by threads, and any number of
    handles and processes may work on one file. A closed handle opens again when it is used.

    Args:
        path: the state file. Behind a symlink, lock and store lie beside the file it leads to.
        validate_on_read: whether `read` validates unless told otherwise.
        max_backups: how many earlier versions `list_backups` goes back, None for all. It is stored with the store by
            the next write; a handle that does not name it uses what is stored, 50 in a new store.
        backup_before_write: False makes transactions that are atomic, durable and in the history, but no versions.
        schema: the pydantic model that states must fit, `PipelineSchema` unless given, None for free-form objects.
        timeout: seconds to wait for the lock; 0 tries once, None waits for ever.
        allow_nan: whether NaN and infinities pass. They are not JSON: other programs may refuse the file.
        author: who makes the versions, as `Name <address>`; login and host unless given.
        allow_network: whether a network filesystem will do. Its locks do not exclude other machines.

    Raises:
        TypeError, ValueError: an argument makes no sense; nothing was touched.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        validate_on_read: bool = False,
        max_backups: int | Unset | None = UNSET,
        backup_before_write: bool = True,
        *,
        schema: type[BaseModel] | Unset | None = UNSET,
        timeout: float | None = 10.0,
        allow_nan: bool = False,
        author: str | None = None,
        allow_network: bool = False,
    ) -> None:
        check_schema(schema)
        self._path = check_path(path)
        self._validate_on_read = validate_on_read
        self._policy = Policy(
            author=identity(author),
            timeout=check_timeout(timeout),
            validate=None if schema is None else Validator(schema),
            versioned=backup_before_write,
            allow_nan=allow_nan,
            allow_network=allow_network,
            settings=None
            if isinstance(max_backups, Unset)
            else Settings(check_count(max_backups, "max_backups")),
        )
        self._parts = Parts(self._path, self._policy)
        self._looked = False

    # -- reading -------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The state file, symlinks resolved."""
        return self._path

    @property
    def git_dir(self) -> Path:
        """The hidden bare repository, for `git --git-dir=...`. It is there after the first write."""
        return self._parts.store.layout.git_dir

    def read(
        self, validate: bool | None = None, *, at: Version | int | str | datetime | None = None
    ) -> Document:
        """The current state, or the one at a version or a moment; `{}` where there is neither file nor history.

        Waits for no writer and never sees half a write. `validate` None means as the handle was told.

        Raises:
            StateReadError: the file is gone although there is history, unreadable, or not a JSON object.
            StateValidationError: it was to be validated and is against the schema.
            VersionNotFoundError: there is no such version.
        """
        if at is not None:
            return self._check(self._version_at(at).content(), validate, ours=True)
        look = not self._looked or self._parts.store.outcome_unknown
        content, self._looked = self._parts.store.reader.read(look=look)
        return {} if content is None else self._check(content, validate, ours=False)

    def version(self, name: Version | int | str) -> Version:
        """The version that goes by `name`: a serial, a backup's name, `HEAD~n`, or the first digits of a hash.

        Raises:
            VersionNotFoundError: there is none, or several begin with these digits.
            StateReadError: the history is damaged.
        """
        return self._parts.history.version(name)

    def list_backups(self, limit: int | None = 10) -> list[Version]:
        """Earlier versions that can be restored, newest first, the current one excluded; None for all there are.

        At most `max_backups` of them; named ones from beyond that window follow.

        Raises:
            StateReadError: the history is damaged.
        """
        return self._parts.history.backups(limit, self.max_backups)

    def named_backups(self) -> dict[str, Version]:
        """The versions that `create_backup` has given a name, and those imported, by their names.

        Raises:
            StateReadError: the history is damaged.
        """
        return self._parts.history.named()

    def log(
        self,
        limit: int | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        operation: str | None = None,
        pointer: str | None = None,
    ) -> Iterator[Version]:
        """Versions newest first, the current one included: at most `limit`, from `since` to `until`, by `operation`.

        With a `pointer`, `"/phase4/status"` (RFC 6901), those that changed the value there, made or removed it; the order of
        an object's keys is no value. Where the version before is pruned, one is given if it has a value there, and changed
        something below `/phase4`: that is all that can be told.

        Raises:
            StateReadError: the history is damaged.
            TypeError, ValueError: the limit, a time or the pointer makes no sense.
        """
        return self._parts.history.log(
            limit, since=since, until=until, operation=operation, pointer=pointer
        )

    def diff(
        self, a: Version | int | str = "HEAD~1", b: Version | int | str = "HEAD"
    ) -> list[Change]:
        """The changes that lead from version `a` to version `b`; `gitstate.diff.to_json_patch` makes RFC 6902 of them.

        Raises:
            VersionNotFoundError: there is no such version.
            StateReadError: the history is damaged.
        """
        return self._parts.history.diff(a, b)

    def get_transaction_history(self, limit: int | None = 50) -> list[dict[str, Any]]:
        """The audit trail, newest first, successes and failures.

        Each a dict: `timestamp` (ISO 8601 with UTC offset), `operation` (`..._commit` or `..._rollback`), `success`,
        `pid`, `host`, `commit` (hash, or None where no version was made), `details` (`changed_keys`; of a failure
        `error` and `reason`: exception, validation, conflict, write or rollback).

        Raises:
            StateReadError: the history is damaged.
        """
        return self._parts.trail.lines(limit)

    def get_status_summary(self) -> dict[str, Any]:
        """Phases and how far they are, for dashboards: see `gitstate.schema.summarize`.

        Raises:
            StateReadError: as `read`.
        """
        with FIRST_USE:
            from gitstate.schema import summarize
        return summarize(self.read(validate=False))

    def validate(self, data: Document) -> None:
        """Checks that a transaction would take `data`. Changes nothing, waits for nobody.

        Raises:
            StateValidationError: it cannot be stored, or is against the schema.
        """
        content = codec.encode(data, allow_nan=self._policy.allow_nan)
        if self._policy.validate is not None:
            self._policy.validate(content)

    # -- changing ------------------------------------------------------------------------------------------------

    def expecting(self, version: Version | int | str) -> Self:
        """Another handle on the same state, which changes it only while it is that version's: compare and swap.

        It is as long as that version is the newest one and the state file holds its very bytes. So a file that somebody
        edited, damaged or deleted is refused, a restore of it too, and one that a transaction without a version has written.
        Of several who expect the same, in whatever processes, one changes it: behind that the version is not the newest any
        more, for the new handle neither. That is looked at under the lock, and a refusal is not in the history.

        Bound by it is what changes the state, its versions, their names or its remotes, a pull included; upkeep is not, as
        `prune`, `checkpoint`, `repair` and `close` are. An import that goes on with an unfinished one makes several
        versions, and is refused behind the first: expect that, and run it again.

        What is refused raises `StateConflictError` with code `"stale"`, which names both versions; nothing was changed.

        Raises:
            VersionNotFoundError: there is no such version.
            StateReadError: the history is damaged.
        """
        with FIRST_USE:
            from gitstate.version import Version
        # One that somebody holds may be pruned by now: that it is stale is for the change to say.
        expected = version if isinstance(version, Version) else self.version(version)
        handle = copy.copy(self)
        handle._parts = Parts(self._path, self._policy, expected)  # noqa: SLF001  the same class
        return handle

    def check_expected(self) -> None:
        """Sees that a change through this handle would find what it is `expecting`. Changes nothing, waits for nobody.

        Raises:
            StateConflictError: it would not, by now; code `"stale"`.
            StateReadError: the history is damaged, or the state file cannot be read.
        """
        self._parts.writer.check_expected()

    def transaction(
        self,
        *,
        validate: bool | None = None,
        seed_data: Document | None = None,
        operation: str = "transaction",
        message: str | None = None,
        timeout: float | Unset | None = UNSET,
    ) -> StateTransaction:
        """A block that happens as a whole or not at all, alone among all writers: see `StateTransaction`.

        Validated if there is a schema, unless `validate` is False. With `seed_data` the block starts from that instead
        of the file. The methods of the result raise, besides what the block raises:

        Raises:
            StateLockError: somebody held the lock for `timeout` seconds; the block did not run.
            StateReadError: the state cannot be read; the block did not run.
            StateValidationError: the new state cannot be stored, or is against the schema; nothing was changed.
            StateConflictError: somebody edited the file meanwhile; their edit is there, nothing else was changed.
            StateWriteError: the disk refused; nothing was changed.
            StateTransactionError: a transaction is open in this thread already, or an earlier flush failed.
        """
        with FIRST_USE:
            from gitstate.transaction import StateTransaction
        for name, text in (("operation", operation), ("message", message or "")):
            if not isinstance(text, str):
                raise TypeError(f"{name} must be a str, not {text!r}")
        if validate is not False:
            self._policy.prepare()
        seed = None
        if seed_data is not None:
            seed = codec.encode(seed_data, allow_nan=self._policy.allow_nan)
        return StateTransaction(
            self._parts.writer,
            operation=operation,
            message=message,
            validate=validate is not False,
            seed=seed,
            timeout=self._policy.timeout if isinstance(timeout, Unset) else check_timeout(timeout),
        )

    def write(
        self,
        data: Document,
        validate: bool = True,
        *,
        operation: str = "write",
        message: str | None = None,
    ) -> Version | None:
        """Replaces the whole state by `data`; the version that holds it, None without versions.

        Raises:
            StateError: as `transaction`; nothing was changed.
        """
        with self.transaction(validate=validate, operation=operation, message=message) as txn:
            txn.data = data
        return txn.version

    def restore(
        self, version: Version | int | str, *, pointer: str | None = None
    ) -> Version | None:
        """The new version, by which the state is that of `version` again; None where the newest one is like that already.

        Of a part it is None, too, where this handle makes no versions.

        It is on top, so this can itself be undone. Works when the state file is damaged or gone, and puts it back; damaged
        bytes are kept under `refs/corrupt/`. With a `pointer`, `"/phase4"` (RFC 6901), only the value there is what it was, or
        gone if it was not there; validated as a transaction.

        Raises:
            VersionNotFoundError: there is no such version; nothing was changed.
            StateValidationError: what the pointer leads through is not there any more, or the whole would be against the
                schema; nothing was changed.
            ValueError: the pointer does not begin with a slash; nothing was changed.
            StateError: as `transaction`; nothing was changed.
        """
        if not pointer:
            return self._parts.restorer.restore(version, self._policy.timeout)
        self._policy.prepare()
        return self._parts.restorer.restore_part(version, pointer, self._policy.timeout)

    def restore_backup(self, version: Version | int | str, *, pointer: str | None = None) -> bool:
        """True; the state is that version's again.

        Raises:
            VersionNotFoundError, StateError, ValueError: as `restore`; nothing was changed.
        """
        self.restore(version, pointer=pointer)
        return True

    def create_backup(self, name: str | None = None) -> Version | None:
        """The newest version, the current file committed if it is not that; None when there is nothing yet.

        With a `name` the version is kept, and can be named, until the name is deleted.

        Raises:
            StateValidationError: the name is taken, or reads as a hash, a serial or HEAD; nothing was changed.
            StateError: as `transaction`; nothing was changed.
        """
        return self._parts.history.create_backup(name, self._policy.timeout)

    def delete_backup(self, name: str) -> None:
        """Takes a name away that `create_backup` gave. The version goes with the next prune if it is older than the window.

        Raises:
            VersionNotFoundError: no version is called so; nothing was changed.
            StateError: as `transaction`; nothing was changed.
        """
        self._parts.history.delete_backup(name, self._policy.timeout)

    @property
    def backup_manager(self) -> Self:
        """This handle: `state.backup_manager.create_backup()` is `state.create_backup()`."""
        return self

    def undo(self, *, dry_run: bool = False) -> Version:
        """The new version, which holds the state before the last change; a second undo goes one further.

        Where the state file is gone, or damaged, that is undone first: it is the newest version, whose state is put back;
        damaged bytes stay under `refs/corrupt/`.

        With `dry_run` nothing is changed and nobody waited for: it is the version whose state would be shown.

        Raises:
            VersionNotFoundError: nothing is left to undo, or no version that is kept shows that state; nothing was changed.
            StateError: as `transaction`; nothing was changed.
        """
        restorer = self._parts.restorer
        return restorer.undo_target() if dry_run else restorer.undo(self._policy.timeout)

    def redo(self, *, dry_run: bool = False) -> Version:
        """The new version, which holds what the last undo took back; a second redo goes one further.

        With `dry_run` as `undo`.

        Raises:
            VersionNotFoundError: nothing is left to redo, as behind any other change, or no version that is kept shows that
                state; nothing was changed.
            StateError: as `transaction`; nothing was changed.
        """
        restorer = self._parts.restorer
        return restorer.redo_target() if dry_run else restorer.redo(self._policy.timeout)

    # -- closing -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Prunes to the `max_backups` of the store if this handle has committed, makes a checkpoint, and closes all files.

        Everything is committed and durable without it, so where it cannot be made, by a full disk or a busy lock, that is
        a warning in the log `gitstate`, and whoever is next makes it.
        """
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PipelineState({os.fspath(self._path)!r})"

    def _version_at(self, at: Version | int | str | datetime) -> Version:
        return (
            self._parts.history.current_at(at)
            if isinstance(at, datetime)
            else self._parts.history.version(at)
        )

    def _check(self, content: bytes, validate: bool | None, *, ours: bool) -> Document:
        allow_nan = self._policy.allow_nan
        trusted = ours or self._parts.store.reader.trusts(content)
        try:
            decode = codec.decode if trusted else codec.decode_foreign
            document = decode(content, allow_nan=allow_nan)
        except StateReadError as error:
            raise corrupt(self._path, error) from error
        if not trusted:
            self._parts.store.reader.trust(content)
        wanted = self._validate_on_read if validate is None else validate
        if wanted and self._policy.validate is not None:
            self._policy.validate(content)
        return document
