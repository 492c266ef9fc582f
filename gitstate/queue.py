"""Place: a place in the line for a lock: first come, first served. It is about fairness alone: the lock excludes without.

The line is a `flock` on a file of its own. Linux grants it in the order in which it was asked for, and wakes only the
next one, so that many can wait at little cost. (Who comes just as it is granted may slip in before the one that is being
woken, and who was stopped stands at the end again.) But nobody can be told to stop waiting for it after a time. So a thread waits,
and whoever gives up leaves the thread in the line, for the next one in this process who asks. Where there is no `flock`,
or no thread, everybody asks again and again, and chance decides.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Final

from gitstate.flock import lock_descriptor, unlock_descriptor

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from pathlib import Path

OPEN_FLAGS: Final = (
    os.O_RDWR
    | os.O_CREAT
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
)
"""How a file is opened that is there to be locked."""

_POLL_SECONDS: Final = 0.01
"""How often everybody asks, where no thread waits."""

_mutex = threading.RLock()  # reentrant: what is collected in the middle of this needs it too
_files: weakref.WeakSet[_File] = weakref.WeakSet()
_left: set[_Stander] = set()


class Place:
    """A place in the line at the file `queue`; at its head where there can be no line, as before there is a store.

    Attributes:
        first: whether it is at the head of the line.
    """

    def __init__(self, queue: Path | None) -> None:
        self._queue = queue
        self._file: _File | None = None
        self._stander: _Stander | None = None
        self.first = False

    def ask(self) -> None:
        """Sees whether it is the first one now."""
        try:
            if self._file is None and self._queue is not None:
                self._file = _File(self._queue)
            file = self._file
            self.first = file is None or lock_descriptor(file.descriptor, blocking=False)
        except OSError:
            self.first = True

    def wait(self, seconds: float) -> None:
        """Sleeps until it is the first one, for so many seconds at most."""
        if self._stander is None and self._file is not None and sys.platform != "win32":
            self._send(self._file)
        if self._stander is not None:
            self.first = self._stander.came.wait(seconds)
        else:
            time.sleep(min(seconds, _POLL_SECONDS))
            self.ask()

    def leave(self) -> None:
        """Lets the next one be first."""
        with _mutex:
            stander = self._stander
            if stander is not None and stander.came.is_set():
                self._file = stander.file
            elif stander is not None and stander.standing:
                _left.add(stander)
            self._stander = None
        if self._file is not None:
            self._file.leave()

    def sent(self, stander: _Stander) -> bool:
        """Whether it is for this place that the thread stands in the line."""
        return self._stander is stander

    def _send(self, file: _File) -> None:
        """Has somebody stand in the line: whoever was left there, else a new thread; nobody, where none can be had."""
        with _mutex:
            left = next((one for one in _left if one.file.path == file.path), None)
            if left is not None:
                self._stander, left.place = left, weakref.ref(self)
                _left.remove(left)
                file.close()
                self._file = None
                return
        # An interrupt anywhere in here leaves nobody in the line whom nobody knows.
        self._stander = _Stander(file, weakref.ref(self))
        self._file = None
        try:
            threading.Thread(target=self._stander.stand, name="gitstate-queue", daemon=True).start()
        except RuntimeError:  # too many of them, or the interpreter is on its way out
            self._file, self._stander = file, None


class _Stander:
    """A thread that stands in the line."""

    def __init__(self, file: _File, place: weakref.ref[Place]) -> None:
        self.file = file
        self.place = place
        self.standing = False
        self.came = threading.Event()

    def stand(self) -> None:
        """Waits to be first, then tells its place, if there still is one."""
        self.standing = True
        with contextlib.suppress(OSError):  # no locks here: everybody is first
            fcntl.flock(self.file.descriptor, fcntl.LOCK_EX)
        with _mutex:
            place = self.place()
            if place is not None and place.sent(self):
                self.came.set()
                return
            _left.discard(self)
        self.file.leave()


class _File:
    """The line's file, open."""

    descriptor = -1  # while it is opened, which may fail or be interrupted

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, OPEN_FLAGS, 0o600)
        _files.add(self)

    def leave(self) -> None:
        """Lets the next one be first."""
        # Said aloud: a child that was forked meanwhile may have the file open too. A child's own is closed.
        with contextlib.suppress(OSError, ValueError):
            unlock_descriptor(self.descriptor)
        self.close()

    def close(self) -> None:
        """Leaves without a word: another process may keep the place."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    # An interrupt may come before anybody leaves: nobody else would be first then, as long as this process lives.
    __del__ = close


def _forget_parents() -> None:
    global _mutex  # noqa: PLW0603  another thread of the parent may have had it
    _mutex = threading.RLock()
    _left.clear()
    for file in list(_files):
        file.close()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_parents)
