"""Held: who has a lock just now, and how it is taken away where the process that took it is gone.

The system lets go of a lock when the last process ends that has the file open in which it was taken. Almost always that
is the holder alone. A program that it has started may have inherited the open file, though, and then the lock outlives
the process that the lock file names.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.errors import Holder, StateLockError, StateWriteError, store_unreadable
from gitstate.flock import is_locked
from gitstate.lock import NAME_OFFSET, NAME_SIZE, holder_in, host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SOMEBODY: Final = Holder(0, "", "", "")
_ANOTHER: Final = "it has changed hands just now. Run it again, if there is still a reason to"

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
    """Deletes the lock file at `path` if its holder is gone, and gives that; None where nobody has the lock.

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
        # Last, as others may come at any moment. Whoever does so just behind this is at a file without a name, and
        # notices before it commits: code `"lock-lost"`. So would the holder, if it lived where we do not see it.
        if why is None and not (_is_at(path, descriptor) and _holder(path, descriptor) == holder):
            why = _ANOTHER
        if why is not None:
            raise StateLockError(
                f"the lock stays where it is, held by {holder}: {path}. Nothing was changed: {why}.",
                holder=holder,
                path=path,
            )
        if dry_run:
            return holder
        safe = "Nothing was changed."
        with files.Refused(StateWriteError, "cannot take the lock file away", path, safe):
            # Not flushed: what a power cut brings back nobody holds.
            files.remove(path)
        return holder


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


def _is_at(path: Path, descriptor: int) -> bool:
    with _readable(path):
        try:
            return os.path.samestat(os.stat(path), os.fstat(descriptor))
        except FileNotFoundError:
            return False


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
