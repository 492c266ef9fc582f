"""StateLock: one writer at a time, over threads and processes, and a name for whoever it is.

The exclusion is filelock's lock on a descriptor of ours (`flock`; `LockFileEx` on Windows): the kernel lets go of it
when the process dies, so a lock file that lies around means nothing. Its content names the last holder, for the
message that a waiter gets.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import sys
import threading
import time
import weakref
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from gitstate import files
from gitstate.errors import Holder, StateLockError, StateWriteError
from gitstate.flock import lock_descriptor, unlock_descriptor
from gitstate.queue import OPEN_FLAGS, Place

if TYPE_CHECKING:
    from pathlib import Path

TURN_SECONDS: Final = 0.012
"""How long whoever got the lock may take it again past the queue. Else every transaction pays for another process's cold
memory, and for reading what the others wrote.
"""

_POLL_SECONDS: Final = 0.0005
"""How often the first in the queue asks for the lock: filelock's own 50 ms starve waiters (PITFALLS L1)."""

_BACK_OFF: Final = 0.01
"""As a part of the time that it has been first: then it asks less often."""

_LONGEST_POLL_SECONDS: Final = 0.01

_PATIENCE_SECONDS: Final = 0.25
"""How often the others ask for the lock all the same: the first one may have been stopped."""

NAME_OFFSET: Final = 1
"""The holder's name begins after the first byte, which Windows locks against reading."""

NAME_SIZE: Final = 4096
"""Bytes of a lock file that are looked at for the name."""

_locks: weakref.WeakSet[StateLock] = weakref.WeakSet()


@cache
def host() -> str:
    """This machine's name."""
    return socket.gethostname() or "localhost"


def holder_in(name: bytes) -> Holder | None:
    """The holder whom these bytes of a lock file name; None where they name nobody."""
    try:
        told: dict[str, Any] = json.loads(name)
        return Holder(
            int(told["pid"]), str(told["host"]), str(told["operation"]), str(told["since"])
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


class StateLock:
    """The exclusive lock that the file at `path` stands for. Not reentrant: `held_here` tells.

    Those who wait stand in line at `queue`, another file, if there is one.
    """

    def __init__(self, path: Path, queue: Path | None = None) -> None:
        self.path = path
        self._queue = queue
        self._descriptor: int | None = None
        self._owner: int | None = None
        self._turn_end = 0.0
        _locks.add(self)

    def held_here(self) -> bool:
        """Whether the calling thread holds the lock."""
        return self._owner == threading.get_ident()

    def acquire(self, timeout: float | None, operation: str) -> None:
        """Takes the lock for `operation`; waits `timeout` seconds at most, 0 tries once, None waits for ever.

        Raises:
            StateLockError: somebody else held it all the while; names them.
            StateWriteError: the lock file cannot be made or opened.
        """
        begin = time.monotonic()
        if begin < self._turn_end and self._try(operation):
            return
        deadline = math.inf if timeout is None else begin + timeout
        patience = min(begin + _PATIENCE_SECONDS, deadline)
        place = Place(self._queue)
        first_since = begin
        try:
            place.ask()
            while True:
                now = time.monotonic()
                if place.first or now >= patience:
                    if self._try(operation):
                        self._turn_end = now + TURN_SECONDS
                        return
                    if now >= deadline:
                        raise self._busy(timeout)
                    patience = min(now + _PATIENCE_SECONDS, deadline)
                if place.first:
                    poll = max(_POLL_SECONDS, _BACK_OFF * (now - first_since))
                    time.sleep(min(poll, _LONGEST_POLL_SECONDS))
                else:
                    place.wait(patience - now)
                    first_since = time.monotonic()
        finally:
            place.leave()

    def _try(self, operation: str) -> bool:
        safe = "The state and its history are untouched."
        with files.Refused(StateWriteError, "cannot open the lock file", self.path, safe):
            # Opened anew by everyone who asks, so that the kernel excludes threads as it does processes (PITFALLS L4).
            # 0600: whoever can read a lock file can hold it (L7).
            descriptor = os.open(self.path, OPEN_FLAGS, 0o600)
            try:
                if lock_descriptor(descriptor, blocking=False) and self._is_at_path(descriptor):
                    self._descriptor, self._owner = descriptor, threading.get_ident()
                    self._write_holder(descriptor, operation)
                    return True
            except BaseException:
                # Else they are those of another thread, which holds the lock.
                if self._descriptor == descriptor:
                    self._descriptor = self._owner = None
                os.close(descriptor)
                raise
            os.close(descriptor)
            return False

    def release(self) -> None:
        """Lets go of the lock. The file stays: unlinking it would let a second writer in (PITFALLS L2)."""
        # Forgotten first: another thread may have the lock, and its own descriptor here, right after the unlocking.
        descriptor, self._descriptor, self._owner = self._descriptor, None, None
        if descriptor is not None:
            try:
                # Said aloud: a child that was forked meanwhile may have the file open too.
                with contextlib.suppress(OSError):
                    unlock_descriptor(descriptor)
            finally:
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    def close(self) -> None:
        """Closes the lock file without a word, which lets go of the lock if no other process has the file open."""
        descriptor, self._descriptor, self._owner = self._descriptor, None, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def intact(self) -> bool:
        """Whether the lock file is still the one that was locked: who deletes it lets a second writer in (L3)."""
        return self._descriptor is not None and self._is_at_path(self._descriptor)

    def holder(self) -> Holder | None:
        """Who took the lock last, as the lock file tells; None where it does not."""
        try:
            with open(self.path, "rb") as file:
                file.seek(NAME_OFFSET)
                return holder_in(file.read(NAME_SIZE))
        except OSError:
            return None

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(descriptor))
        except OSError:
            return False

    def _write_holder(self, descriptor: int, operation: str) -> None:
        holder = {
            "pid": os.getpid(),
            "host": host(),
            "operation": operation,
            "since": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        line = b"\n" + json.dumps(holder).encode() + b"\n"
        # A message's convenience: on a full disk the lock is held all the same, without a name.
        with contextlib.suppress(OSError):
            files.write_all(descriptor, line)
            os.ftruncate(descriptor, len(line))

    def _busy(self, timeout: float | None) -> StateLockError:
        holder = self.holder()
        waited = f" after {timeout:g} s" if timeout else ""
        return StateLockError(
            f"locked by {holder or 'another process'}{waited}: {self.path}. Nothing was changed. Run it again when"
            " the holder is done, or pass a longer timeout; a lock never outlives its process.",
            holder=holder,
            path=self.path,
        )

    def _forget_parent(self) -> None:
        # The child shares the parent's open file and so its lock: closing is right, unlocking would free the parent's
        # (PITFALLS L5).
        self.close()


def _forget_parents() -> None:
    for lock in list(_locks):
        lock._forget_parent()  # noqa: SLF001  the same module


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_parents)
