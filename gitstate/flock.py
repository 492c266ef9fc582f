"""Flock: the system's lock on an open file, as filelock takes it: `flock`; `LockFileEx` on Windows."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from gitstate.first_use import FIRST_USE

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


@cache
def _filelock() -> ModuleType:
    with FIRST_USE:
        import filelock  # noqa: PLC0415  see gitstate.first_use
    return filelock
