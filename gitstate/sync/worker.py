"""Worker: pushes by itself what transactions commit, to the remotes that were added with `push="auto"`.

It runs in a thread of its own, only while there is something to push, and holds the state's lock only to note what has
arrived. Several commits go in one push. A remote that fails is tried again, later each time. Where the process ends before, the next one
that commits pushes all of it.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import random
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from gitstate.errors import StateError
from gitstate.first_use import FIRST_USE
from gitstate.registry import open_store
from gitstate.writer import Writer

if TYPE_CHECKING:
    from pathlib import Path

    from gitstate.policy import Policy
    from gitstate.sync.contacts import Activity
    from gitstate.sync.courier import Courier

DRAIN_SECONDS: Final = 5.0
"""How long closing a handle, or the end of the process, waits for what is still to be pushed."""

_BATCH_SECONDS: Final = 0.2
"""How long a commit waits for others to go with it."""

_FIRST_RETRY_SECONDS: Final = 1.0
_LAST_RETRY_SECONDS: Final = 60.0
_HOPELESS_SECONDS: Final = 300.0
_HOPELESS: Final = frozenset(
    {"remote-diverged", "remote-foreign", "remote-shallow", "remote-ahead"}
)
"""What goes on until somebody does something about it."""

_log = logging.getLogger("gitstate")


class Worker:
    """Pushes the state at `path` to its remotes; one for each state and process: see `worker_of`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._policy: Policy | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        # All guarded by `_changed`. When each remote is to be tried, and how often it has failed.
        self._due: dict[str, float] = {}
        # When what was committed since is to go to all of them.
        self._commit_due: float | None = None
        self._failures: dict[str, int] = {}
        self._names: set[str] = set()
        self._pushing: str | None = None
        self._hurry = False

    def wake(self, policy: Policy) -> None:
        """Has what was committed pushed soon, by a handle's `policy`."""
        with self._changed:
            self._policy = policy
            if self._commit_due is not None and self._thread:
                return  # it goes with those before; to wake the thread would cost each transaction a switch to it
            # One that fails is not tried sooner for that.
            self._commit_due = time.monotonic() + _BATCH_SECONDS
            self._start()
            self._changed.notify_all()

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(
                target=self._run, name=f"gitstate-push {self._path.name}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # too many of them, or the interpreter is on its way out
                _log.warning("%s is not pushed now: %s", self._path, error)
            else:
                self._thread = thread

    def drain(self, seconds: float) -> bool:
        """Whether everything was pushed within so many seconds; a remote that has failed is not waited for."""
        end = time.monotonic() + seconds
        with self._changed:
            if self._next() is not None:
                self._start()
            self._hurry = True
            self._changed.notify_all()
            while self._fresh() and self._thread and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            self._hurry = False
            return self._next() is None

    def _next(self) -> float | None:
        """When the next is due, None where nothing is; who holds the condition asks."""
        times = list(self._due.values())
        if self._commit_due is not None:
            times.append(self._commit_due)
        return min(times, default=None)

    def _fresh(self) -> bool:
        """Whether something is due that has not failed yet; who holds the condition asks."""
        due = set(self._due)
        if self._commit_due is not None:
            if not self._names:
                return True  # to whom it is to go is not known yet
            due |= self._names
        return any(not self._failures.get(name) for name in due)

    def activity(self, name: str) -> Activity:
        """What it is at with a remote."""
        with self._changed:
            if name in self._due and self._failures.get(name) and self._pushing != name:
                return "waiting"
            if self._pushing == name or name in self._due or self._commit_due is not None:
                return "pushing"
            return "idle"

    def _run(self) -> None:
        while True:
            with self._changed:
                due = self._next()
                if due is None:
                    self._thread = None
                    self._changed.notify_all()
                    return
                wait = due - time.monotonic()
                if wait > 0 and not (self._hurry and self._fresh()):
                    self._changed.wait(wait)
                    continue
                policy = self._policy
            if policy is None:
                raise AssertionError
            try:
                self._push_all(policy)
            except Exception as error:  # noqa: BLE001  a thread that ends unsaid would look like one that works
                _log.warning("automatic pushing of %s ended: %s", self._path, error)
                with self._changed:
                    self._due.clear()
                    self._commit_due = None

    def _push_all(self, policy: Policy) -> None:
        with FIRST_USE:
            from gitstate.sync.courier import Courier  # noqa: PLC0415  see gitstate.first_use
        courier = Courier(Writer(open_store(self._path), policy))
        now = time.monotonic()
        with self._changed:
            fresh, self._commit_due = self._commit_due is not None, None
            due = {name for name, at in self._due.items() if at <= now}
        names = {remote.name for remote in courier.automatic()}
        with self._changed:
            self._names = names
            for gone in self._due.keys() - names:
                del self._due[gone]
            # A remote that failed has a time of its own.
            new = {name for name in names if fresh and name not in self._due}
            self._due |= dict.fromkeys(new, now)
        for name in sorted(names & (due | new)):
            self._push(courier, name)

    def _push(self, courier: Courier, name: str) -> None:
        with self._changed:
            self._pushing = name
        again: float | None = None
        try:
            courier.push(name, None)
        except StateError as error:
            again = self._retry_seconds(name, error)
        with self._changed:
            self._pushing = None
            if again is None:
                self._failures.pop(name, None)
                self._due.pop(name, None)
            else:
                self._due[name] = time.monotonic() + again
            self._changed.notify_all()

    def _retry_seconds(self, name: str, error: StateError) -> float:
        """After how many seconds a remote is tried again that has failed."""
        with self._changed:
            count = self._failures[name] = self._failures.get(name, 0) + 1
        say = _log.warning if count == 1 else _log.info
        say("%s could not be pushed to %s, and will be again: %s", self._path, name, error)
        seconds = min(_FIRST_RETRY_SECONDS * 2.0 ** min(count - 1, 20), _LAST_RETRY_SECONDS)
        if error.code in _HOPELESS:
            seconds = _HOPELESS_SECONDS
        # So that many machines do not all come back at once.
        return seconds * random.uniform(0.5, 1.0)  # noqa: S311  no secret


class _Workers:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_path: dict[str, Worker] = {}


_workers = _Workers()


def worker_of(path: Path) -> Worker:
    """The worker of the state at `path` in this process."""
    key = os.fspath(path)
    with _workers.lock:
        if key not in _workers.by_path:  # most often it is: this is behind every commit
            _workers.by_path[key] = Worker(path)
        return _workers.by_path[key]


@atexit.register
def _drain_all() -> None:
    end = time.monotonic() + DRAIN_SECONDS
    for worker in list(_workers.by_path.values()):
        with contextlib.suppress(Exception):
            worker.drain(max(0.0, end - time.monotonic()))


def _start_anew_in_child() -> None:
    # The parent's threads do not exist in the child.
    global _workers  # noqa: PLW0603
    _workers = _Workers()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_start_anew_in_child)
