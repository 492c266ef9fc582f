"""Flock: the system's lock on an open file, as filelock takes it: `flock`; `LockFileEx` on Windows."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

from gitstate.first_use import FIRST_USE

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from types import ModuleType


def lock_descriptor(descriptor: int, *, blocking: bool) -> bool:
    """Whether the file is locked now; without `blocking` it is not where somebody else holds the lock.

    Raises:
        OSError: the system refused.
    """
    locked: bool = _filelock().lock_descriptor(descriptor, blocking=blocking)
    return locked


def unlock_descriptor(descriptor: int) -> None:
    """Lets go of the lock.

    Raises:
        OSError: the system refused.
    """
    _filelock().unlock_descriptor(descriptor)


def is_locked(descriptor: int) -> bool:
    """Whether somebody holds the lock on the file, by another opening of it than this one, which may be for reading alone.

    Raises:
        OSError: the system refused.
    """
    if sys.platform == "win32":
        free = lock_descriptor(descriptor, blocking=False)
        if free:
            unlock_descriptor(descriptor)
        return not free
    # /proc/locks would disturb nobody, but hides the locks of processes that a container does not see, or that are gone.
    # Shared: of several who look at once, none takes another for a holder.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


@cache
def _filelock() -> ModuleType:
    with FIRST_USE:
        import filelock  # noqa: PLC0415  see gitstate.first_use
    return filelock
