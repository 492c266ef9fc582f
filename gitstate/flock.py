"""Flock: the system's lock on an open file, as filelock takes it: `flock`; `LockFileEx` on Windows."""

from __future__ import annotations

from gitstate.first_use import FIRST_USE


def lock_descriptor(descriptor: int, *, blocking: bool) -> bool:
    """Whether the file is locked now; without `blocking` it is not where somebody else holds the lock.

    Raises:
        OSError: the system refused.
    """
    with FIRST_USE:
        from filelock import lock_descriptor as lock  # noqa: PLC0415  see gitstate.first_use
    return lock(descriptor, blocking=blocking)


def unlock_descriptor(descriptor: int) -> None:
    """Lets go of the lock.

    Raises:
        OSError: the system refused.
    """
    with FIRST_USE:
        from filelock import unlock_descriptor as unlock  # noqa: PLC0415  see gitstate.first_use
    unlock(descriptor)
