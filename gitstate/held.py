"""Held: who has a lock just now, and how it is taken away where the process that took it is gone.

The system lets go of a lock when the last process ends that has the file open in which it was taken. Almost always that
is the holder alone. A program that it has started may have inherited the open file, though, and then the lock outlives
the process that the lock file names.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.errors import Holder, StateLockError, StateWriteError, store_unreadable
from gitstate.flock import is_locked
from gitstate.lock import NAME_OFFSET, NAME_SIZE, StateLock, holder_in, host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SOMEBODY: Final = Holder(0, "", "", "")
_ANOTHER: Final = "it has changed hands just now. Run it again, if there is still a reason to"

_SETTLING_SECONDS: Final = 0.1

_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
)


def holder_now(path: Path) -> Holder | None:
    """Who holds the lock on the file at `path`, None for nobody; nothing is made or changed.

    Raises:
        StateReadError: the system does not let us look.
    """
    with _opened(path) as descriptor:
        return _holder(path, descriptor) if descriptor is not None else None


def take_away(path: Path, expected: Holder | None, *, dry_run: bool) -> Holder | None:
    """Puts a new lock file at `path` if the holder is gone, and gives that; None where nobody has the lock.

    With `dry_run` the file stays.

    Raises:
        StateLockError: the holder lives, is not named, is elsewhere, or is another than `expected`; nothing was changed.
        StateReadError: the system does not let us look; nothing was changed.
        StateWriteError: it does not let us delete the file; nothing was changed.
    """
    with _opened(path) as descriptor:
        holder = _holder(path, descriptor) if descriptor is not None else None
        if descriptor is None or holder is None:
            return None
        why = _why_not(holder)
        if expected not in (None, holder):
            why = _ANOTHER
        if why is not None:
            raise _stays(path, holder, why)
        if dry_run:
            return holder
        safe = "Nothing was changed."
        with (
            files.Refused(StateWriteError, "cannot put another lock file there", path, safe),
            _replaced(path, descriptor, holder),
        ):
            # Whoever took the old one before it went writes its own name within microseconds, and comes back with it. Who
            # is slower notices before it commits: code `"lock-lost"`. So does a holder that lives where we do not see it.
            time.sleep(_SETTLING_SECONDS)
            now = _holder(path, descriptor)
            if now not in (None, holder):
                raise _stays(path, now, _ANOTHER)
        return holder


@contextlib.contextmanager
def _replaced(path: Path, descriptor: int, holder: Holder) -> Iterator[None]:
    """Has a lock file that we hold take the place of the one that is open, for the block, and stay; not if that raises.

    Nobody else takes the lock meanwhile, so that there are never two who have one. Whoever is killed here leaves one that is
    free, and the old one beside it.
    """
    aside, made = (path.with_name(f".{path.name}.{files.token()}.tmp") for _ in range(2))
    lock = StateLock(made)
    lock.acquire(0.0, "unlock")
    try:
        os.link(path, aside)
        if not os.path.samestat(os.stat(aside), os.fstat(descriptor)):
            raise _stays(path, holder, _ANOTHER)
        os.replace(made, path)
        try:
            yield
        except BaseException:
            os.replace(aside, path)
            raise
    finally:
        files.remove(aside)
        files.remove(made)
        lock.release()


def _stays(path: Path, holder: Holder, why: str) -> StateLockError:
    return StateLockError(
        f"the lock stays where it is, held by {holder}: {path}. Nothing was changed: {why}.",
        holder=holder,
        path=path,
    )


def _why_not(holder: Holder) -> str | None:
    """Why a lock cannot be taken away from somebody, and what to do instead; None if it can be."""
    if holder == _SOMEBODY:
        return "the lock file does not say who that is. End whoever has it open, as lslocks or fuser tell"
    if holder.host != host():
        return f"whether it lives is known on {holder.host} alone. Look, and unlock, there"
    if _lives(holder.pid):
        return "it lives. Wait until it is done, or end it"
    return None


def _lives(pid: int) -> bool:
    """Whether there is such a process here, as far as anybody can tell."""
    if sys.platform == "win32":  # where asking by a signal would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _holder(path: Path, descriptor: int) -> Holder | None:
    with _readable(path):
        if not is_locked(descriptor):
            return None
        os.lseek(descriptor, NAME_OFFSET, os.SEEK_SET)
        named = holder_in(os.read(descriptor, NAME_SIZE))
    return named if named is not None and named.pid > 0 else _SOMEBODY


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """The file, open for reading, for a block; None where there is none."""
    descriptor = None
    with _readable(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        descriptor = os.open(path, _FLAGS)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """For system calls alone: whatever else the caller does has errors of its own."""
    try:
        yield
    except OSError as error:
        raise store_unreadable(path, error) from error
