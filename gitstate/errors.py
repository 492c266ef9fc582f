"""The tree of errors: one root, grouped by what a handler does about them.

===========================  ==================================================
to do about it               error
===========================  ==================================================
restore an earlier version   `StateReadError`
fix the input                `StateValidationError`, `VersionNotFoundError`
try again                    `StateLockError`, `StateConflictError`
look at the disk             `StateWriteError`
look at the remote           `StateRemoteError`
===========================  ==================================================

A message says what failed, on which path, what is still safe, and what to do next. `code` is stable: a program may
compare it; the words of a message may change. Every error can be pickled, so it crosses process boundaries.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a document.

    Attributes:
        pointer: RFC 6901 pointer of the value, `""` for the whole document.
        message: what was expected.
        value: the offending value, shortened, as text.
    """

    pointer: str
    message: str
    value: str

    def __str__(self) -> str:
        return f"at {self.pointer or 'the top level'}: {self.message}, got {self.value}"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock: process id, host, what it does there, and since when (ISO 8601).

    Of somebody whom the lock file does not name the process id is 0, and the rest is empty.
    """

    pid: int
    host: str
    operation: str
    since: str

    def __str__(self) -> str:
        if not self.pid:
            return "a process that the lock file does not name"
        return f"pid {self.pid} on {self.host} ({self.operation}, since {self.since})"


class StateError(Exception):
    """Root of everything that gitstate raises on purpose.

    Attributes:
        code: stable identifier of what went wrong, such as `"state-missing"`.
        path: the file or directory it is about, or None.
    """

    code: str = "state"

    def __init__(self, message: str, *, path: Path | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.path = path
        if code is not None:
            self.code = code


class StateReadError(StateError):
    """The state cannot be read: damaged, not a JSON object, gone although there is history, or not to be trusted."""

    code = "state-unreadable"


class StateValidationError(StateError):
    """The input cannot be stored: not JSON, or against the schema. Nothing was changed.

    Attributes:
        problems: every problem found, at least one.
        pointer: RFC 6901 pointer of the first one.
    """

    code = "invalid"

    def __init__(
        self,
        message: str,
        *,
        problems: tuple[Problem, ...] = (),
        path: Path | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, path=path, code=code)
        self.problems = problems
        self.pointer = problems[0].pointer if problems else ""


class StateLockError(StateError, TimeoutError):
    """Somebody else holds the lock. Nothing was changed; the block did not run.

    Attributes:
        holder: who holds it, as far as the lock file tells, or None.
    """

    code = "locked"

    def __init__(
        self,
        message: str,
        *,
        holder: Holder | None = None,
        path: Path | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, path=path, code=code)
        self.holder = holder


class StateTransactionError(StateError):
    """A transaction could not be begun or committed."""

    code = "transaction"


class StateWriteError(StateTransactionError):
    """The disk, or the directory's permissions, refused. The state file and its history are as they were."""

    code = "write"


class StateConflictError(StateTransactionError):
    """Somebody else changed the state file or the branch meanwhile; what they wrote was left in place."""

    code = "conflict"


class VersionNotFoundError(StateError, LookupError):
    """No version goes by that name. Nothing was changed.

    Attributes:
        name: what was looked up.
        candidates: the hashes that an ambiguous prefix could stand for.
    """

    code = "version-not-found"

    def __init__(
        self,
        message: str,
        *,
        name: str = "",
        candidates: tuple[str, ...] = (),
        path: Path | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, path=path, code=code)
        self.name = name
        self.candidates = candidates


class VersionPrunedError(VersionNotFoundError):
    """The version has been pruned: its line of the audit trail is there, its state is not. Nothing was changed.

    Attributes:
        nearest: the number of the version next to it that is kept.
    """

    code = "version-pruned"

    def __init__(
        self, message: str, *, name: str = "", nearest: int = 0, path: Path | None = None
    ) -> None:
        super().__init__(message, name=name, path=path)
        self.nearest = nearest


class StateRemoteError(StateError):
    """A push, a pull or a clone did not happen. Nothing was changed here; the remote has no version less than before.

    Attributes:
        remote: the name of the remote, `""` where it has none yet.
        url: where it is, without a password.
        ours: the newest version here, where that matters, else None.
        theirs: the newest version there, where that matters, else None.
    """

    code = "remote"

    def __init__(
        self,
        message: str,
        *,
        remote: str = "",
        url: str = "",
        ours: str | None = None,
        theirs: str | None = None,
        path: Path | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, path=path, code=code)
        self.remote = remote
        self.url = url
        self.ours = ours
        self.theirs = theirs


def gone(path: Path) -> StateReadError:
    """The error for a state file that is not there although there is history."""
    return StateReadError(
        f"the state file is gone, although there is history: {path}. No version is lost. Put it back with"
        ' restore_backup("HEAD").',
        path=path,
        code="state-missing",
    )


def corrupt(path: Path, cause: StateReadError) -> StateReadError:
    """The error for a state file whose bytes are not a JSON object."""
    return StateReadError(
        f'the state file cannot be used: {cause}: {path}. Nothing was changed. restore_backup("HEAD") puts the newest version back'
        " and keeps these bytes under refs/corrupt/; without history, mend the file by hand.",
        path=path,
        code=cause.code,
    )


def store_unreadable(path: Path, cause: OSError) -> StateReadError:
    """The error for a store at `path` of which the system does not let us read a part."""
    return StateReadError(
        f"the store cannot be read: {cause.strerror or cause}: {cause.filename or path}. Nothing was changed; the state"
        " file can be read with cat. Check the disk, the permissions, and the limit of open files (ulimit -n).",
        path=path,
        code="store-unreadable",
    )


def moved(git_dir: Path, name: str, known: str | None, at: str | None) -> StateConflictError:
    """The error for a ref that is at an id which no record gave it; `known` is where it should be."""
    git = f"git --git-dir={shlex.quote(str(git_dir))}"
    keep = f"Keep their commit ({git} branch theirs {at}), then put" if at else "Put"
    back = f"{name} {known}" if known else f"-d {name}"
    return StateConflictError(
        f"somebody else moved {name} from {known or 'nothing'} to {at or 'nothing'}: {git_dir}. Nothing was overwritten."
        f" {keep} the ref back ({git} update-ref {back}). state.repair() does both.",
        path=git_dir / name,
        code="ref-moved",
    )


def unreadable(path: Path, cause: OSError) -> StateReadError:
    """The error for a state file that the system does not let us read."""
    return StateReadError(
        f"the state file cannot be read: {cause.strerror or cause}: {path}. Nothing was changed. Check that it is a"
        " file, and its permissions.",
        path=path,
    )


def journal_damaged(path: Path, what: str) -> StateReadError:
    """The error for a file of the journal in which `what` is wrong."""
    return StateReadError(
        f"the journal is damaged: {what}: {path}. The state file and the packed history are untouched and can be read"
        " with cat and git. state.repair() keeps these bytes, and goes on with all that can still be read.",
        path=path,
        code="journal-damaged",
    )
