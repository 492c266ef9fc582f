"""The lock by itself: who holds it, who waits and for how long, and what happens to its file."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import lock_descriptor, unlock_descriptor
from oracle import Child, Tell, fork, forks

from gitstate import PipelineState, StateError, StateLockError, StateWriteError
from gitstate.lock import TURN_SECONDS, StateLock, host
from gitstate.queue import Place

pytestmark = forks


HELD_SECONDS = 0.002


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[StateLock]:
    lock = StateLock(tmp_path / "pipeline.json.lock")
    yield lock
    if lock.held_here():
        lock.release()
    lock.close()


def _holder(path: Path) -> Child:
    """A process that holds the lock until it is told to go on."""

    def work(tell: Tell) -> None:
        lock = StateLock(path)
        lock.acquire(None, "hold")
        tell("held")
        for _ in tell.steps():
            lock.release()
            tell("released")

    child = fork(work)
    child.await_line()
    return child


def _tries(path: Path) -> bool:
    """Whether another process can take the lock just now."""

    def work(tell: Tell) -> None:
        lock = StateLock(path)
        try:
            lock.acquire(0, "try")
        except StateLockError:
            tell(False)
        else:
            tell(True)

    return bool(fork(work).finish()[0])


def test_a_held_lock_keeps_other_processes_out_and_a_released_one_does_not(lock: StateLock) -> None:
    assert _tries(lock.path)
    lock.acquire(0, "test")
    assert lock.held_here()
    assert not _tries(lock.path)
    lock.release()
    assert not lock.held_here()
    assert _tries(lock.path)


def test_it_can_be_taken_again_and_again(lock: StateLock) -> None:
    for _ in range(50):
        lock.acquire(0, "test")
        lock.release()
    lock.close()
    lock.acquire(0, "test")

    assert not _tries(lock.path)


@pytest.mark.parametrize("timeout", [0, 0.0, 0.03, 1])
def test_who_does_not_get_it_in_time_is_told_who_has_it(timeout: float, lock: StateLock) -> None:
    child = _holder(lock.path)

    with pytest.raises(StateLockError) as caught:
        lock.acquire(timeout, "test")
    child.kill()

    holder = caught.value.holder
    assert holder is not None
    assert (holder.pid, holder.host, holder.operation) == (child.pid, host(), "hold")
    assert datetime.fromisoformat(holder.since).tzinfo is not None
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, StateError)
    assert caught.value.path == lock.path
    assert f"pid {child.pid}" in str(caught.value)
    lock.acquire(0, "test")  # the refusal has not broken it


@pytest.mark.parametrize("timeout", [None, 30, 30.0])
def test_who_waits_gets_it_when_it_is_free(timeout: float | None, lock: StateLock) -> None:
    child = _holder(lock.path)
    got = threading.Event()
    problems: list[BaseException] = []

    def wait() -> None:
        try:
            lock.acquire(timeout, "wait")
            got.set()
            lock.release()
        except BaseException as error:
            problems.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not got.wait(0.1)
    child.go_on()
    waiter.join()

    assert problems == []
    assert got.is_set()
    child.finish()


def test_who_waits_gets_it_when_its_holder_is_killed(lock: StateLock) -> None:
    child = _holder(lock.path)
    os.kill(child.pid, 9)

    lock.acquire(30, "test")

    assert lock.held_here()
    child.wait()


@pytest.mark.parametrize("timeout", [0, 0.02])
def test_a_thread_does_not_get_what_another_holds(timeout: float, lock: StateLock) -> None:
    lock.acquire(0, "outer")
    refusals: list[BaseException] = []

    def take() -> None:
        try:
            assert not lock.held_here()
            lock.acquire(timeout, "inner")
        except BaseException as error:
            refusals.append(error)

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()

    (refusal,) = refusals
    assert isinstance(refusal, StateLockError)
    assert refusal.holder is not None
    assert (refusal.holder.pid, refusal.holder.operation) == (os.getpid(), "outer")
    assert lock.held_here()


def test_threads_take_turns(lock: StateLock) -> None:
    inside, most, turns = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, turns
        for _ in range(50):
            lock.acquire(None, "turn")
            inside += 1
            most = max(most, inside)
            turns += 1
            inside -= 1
            lock.release()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (most, turns, inside) == (1, 300, 0)


def test_two_locks_on_one_file_in_one_process_exclude_each_other(lock: StateLock) -> None:
    other = StateLock(lock.path)
    lock.acquire(0, "one")

    with pytest.raises(StateLockError):
        other.acquire(0, "two")
    lock.release()
    other.acquire(0, "two")
    with pytest.raises(StateLockError):
        lock.acquire(0, "one")

    other.release()
    other.close()


# -- its file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o002, 0o077])
def test_the_file_is_for_its_owner_alone(umask: int, lock: StateLock) -> None:
    before = os.umask(umask)
    try:
        lock.acquire(0, "test")
    finally:
        os.umask(before)

    assert stat.S_IMODE(lock.path.stat().st_mode) == 0o600


def test_the_file_stays_and_names_the_last_holder(lock: StateLock) -> None:
    for operation in ("a long operation's name " * 20, "short"):
        lock.acquire(0, operation)
        held = lock.holder()
        lock.release()

        assert held == lock.holder()
        assert held is not None
        assert (held.pid, held.host, held.operation) == (os.getpid(), host(), operation)
    assert json.loads(lock.path.read_bytes()[1:])["operation"] == "short"


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 300, b"\nnot JSON", b"\n[]", b'\n{"pid": "x"}', b"\n" + b"9" * 9000]
)
def test_a_file_that_names_nobody_is_as_good_a_lock(content: bytes, lock: StateLock) -> None:
    lock.path.write_bytes(content)

    assert lock.holder() is None
    lock.acquire(0, "test")

    assert lock.holder() is not None
    assert not _tries(lock.path)


def test_a_refusal_without_a_name_is_still_a_refusal(lock: StateLock) -> None:
    child = _holder(lock.path)
    lock.path.write_bytes(b"")

    with pytest.raises(StateLockError) as caught:
        lock.acquire(0, "test")

    assert caught.value.holder is None
    child.kill()


def test_a_deleted_file_is_noticed_and_the_next_lock_is_on_a_new_one(lock: StateLock) -> None:
    lock.acquire(0, "test")
    assert lock.intact()
    lock.path.unlink()
    assert not lock.intact()
    assert _tries(lock.path)  # that is the danger: see test_concurrency
    lock.release()

    lock.acquire(0, "test")

    assert lock.intact()
    assert not _tries(lock.path)


def test_a_replaced_file_is_noticed(lock: StateLock, tmp_path: Path) -> None:
    lock.acquire(0, "test")
    (tmp_path / "other").touch()
    (tmp_path / "other").replace(lock.path)
    assert not lock.intact()
    lock.release()

    lock.acquire(0, "test")

    assert lock.intact()
    assert not _tries(lock.path)


def test_who_waits_for_a_file_that_is_deleted_ends_up_with_the_new_one(lock: StateLock) -> None:
    child = _holder(lock.path)
    lock.close()
    got = threading.Event()

    def wait() -> None:
        lock.acquire(None, "wait")
        got.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.05)
    lock.path.unlink()
    child.go_on()
    waiter.join()

    assert lock.intact()
    assert not _tries(lock.path)
    child.finish()
    lock._owner = threading.get_ident()  # so that the fixture releases it


@pytest.mark.parametrize("target", ["a file", "nothing"])
def test_a_symlink_in_the_place_of_the_file_is_refused(target: str, lock: StateLock) -> None:
    victim = lock.path.with_name("victim")
    if target == "a file":
        victim.write_bytes(b"precious")
    lock.path.symlink_to(victim)

    with pytest.raises(StateWriteError) as caught:
        lock.acquire(0, "test")

    assert caught.value.path == lock.path
    assert isinstance(caught.value.__cause__, OSError)
    assert victim.exists() == (target == "a file")
    assert not victim.exists() or victim.read_bytes() == b"precious"
    assert not lock.held_here()
    lock.path.unlink()
    lock.acquire(0, "test")


def test_a_directory_in_the_place_of_the_file_is_refused(lock: StateLock, path: Path) -> None:
    lock.path.mkdir()

    with pytest.raises(StateWriteError):
        PipelineState(path, timeout=0).write({"n": 1})

    assert not path.exists()


def test_a_pipe_in_the_place_of_the_file_hangs_nobody(lock: StateLock) -> None:
    os.mkfifo(lock.path)

    with contextlib.suppress(StateError):
        lock.acquire(0, "test")


def test_a_state_behind_a_symlink_is_locked_beside_the_file_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "pipeline.json").symlink_to(tmp_path / "real" / "state.json")

    def intrude(tell: Tell) -> None:
        with pytest.raises(StateLockError):
            PipelineState(tmp_path / "real" / "state.json", timeout=0).write({"n": 2})

    with PipelineState(tmp_path / "pipeline.json").transaction() as txn:
        txn.data["n"] = 1
        fork(intrude).finish()

    assert (tmp_path / "real" / "state.json.lock").exists()
    assert not (tmp_path / "pipeline.json.lock").exists()
    assert json.loads((tmp_path / "real" / "state.json").read_bytes()) == {"n": 1}


# -- forks ---------------------------------------------------------------------------------------------------------


def test_a_child_has_no_part_in_the_lock_and_its_end_does_not_release_it(lock: StateLock) -> None:
    lock.acquire(0, "parent")

    def work(tell: Tell) -> None:
        tell(lock.held_here())
        try:
            lock.acquire(0, "child")
        except StateLockError as refusal:
            tell(refusal.holder is not None and refusal.holder.operation)
        lock.close()

    assert fork(work).finish() == [False, "parent"]
    assert not _tries(lock.path)
    assert lock.intact()
    lock.release()
    assert _tries(lock.path)


def test_a_child_can_take_a_lock_that_a_thread_of_the_parent_was_waiting_for(
    lock: StateLock,
) -> None:
    holder = _holder(lock.path)
    waiter = threading.Thread(target=lock.acquire, args=(None, "wait"))
    waiter.start()
    time.sleep(0.02)

    def work(tell: Tell) -> None:
        tell("started")
        lock.acquire(None, "child")
        tell("got it")
        lock.release()

    child = fork(work)
    child.await_line()
    holder.finish()
    waiter.join()
    lock._owner = threading.get_ident()
    lock.release()

    assert child.finish() == ["started", "got it"]


# -- the queue ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def queued(tmp_path: Path) -> Iterator[StateLock]:
    lock = StateLock(tmp_path / "pipeline.json.lock", tmp_path / "queue.lock")
    yield lock
    lock.close()


def _always_back(lock: StateLock) -> Child:
    """A process that lets go of the lock only to take it again at once, and writes down its turns, until it is killed."""

    def work(tell: Tell) -> None:
        turns = os.open(lock.path.with_name("turns"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        tell("going")
        while True:
            lock.acquire(None, "again")
            time.sleep(HELD_SECONDS)
            os.write(turns, b".")
            lock.release()

    child = fork(work)
    child.await_line()
    return child


def test_who_waits_is_next_when_the_holder_has_had_its_turn(queued: StateLock) -> None:
    child = _always_back(queued)
    turns = queued.path.with_name("turns")
    while not turns.exists():
        time.sleep(0.001)

    missed = []
    for _ in range(50):
        seen = turns.stat().st_size
        while (before := turns.stat().st_size) == seen:
            time.sleep(0.0005)  # until it is the child's turn again
        queued.acquire(None, "wait")
        missed.append(turns.stat().st_size - before)
        queued._turn_end = 0.0
        queued.release()
    os.kill(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)

    # As many as fit into a turn; without a queue, or with a turn that does not end, they are several times as many.
    assert sum(missed) <= (TURN_SECONDS / HELD_SECONDS + 1) * len(missed), missed


def test_whoever_has_the_lock_may_have_it_again_past_the_queue_for_a_turn(
    queued: StateLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked = [0.0], []

    def place(queue: Path) -> Place:
        asked.append(now[0])
        return Place(queue)

    monkeypatch.setattr("gitstate.lock.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("gitstate.lock.Place", place)
    steps = (1.0, 1.0 + TURN_SECONDS / 2, 1.0 + TURN_SECONDS, 1.0 + TURN_SECONDS * 1.9)
    for step in steps:
        now[0] = step
        queued.acquire(None, "again")
        queued.release()

    assert asked == [steps[0], steps[2]]


def _waiters(lock: StateLock, count: int) -> list[Child]:
    """So many processes that wait for the lock, each behind the one before it."""

    def work(tell: Tell) -> None:
        tell("waits")
        lock.acquire(None, "wait")
        tell(time.monotonic())
        lock.release()

    waiters = []
    for _ in range(count):
        waiters.append(fork(work))
        waiters[-1].await_line()
        time.sleep(0.03)  # so that it stands in the line
    return waiters


@pytest.mark.skipif(sys.platform != "linux", reason="the order is Linux's")
def test_who_comes_first_is_served_first(queued: StateLock) -> None:
    queued.acquire(0, "hold")
    waiters = _waiters(queued, 6)
    queued.release()

    served = [child.finish()[-1] for child in waiters]

    assert served == sorted(served)


def _stops(lock: StateLock) -> Child:
    """A process that is first in the queue for the lock, which is held, and is stopped."""
    (child,) = _waiters(lock, 1)
    while not _queue_is_taken(lock):
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGSTOP)
    return child


def test_who_gives_up_leaves_one_thread_in_the_queue_however_often(queued: StateLock) -> None:
    queued.acquire(0, "hold")
    first = _stops(queued)
    before = threading.active_count()

    for _ in range(20):
        with pytest.raises(StateLockError):
            StateLock(queued.path, queued.path.with_name("queue.lock")).acquire(0.02, "wait")
    left = threading.active_count() - before
    first.kill()
    queued.release()

    assert left == 1
    _queue_becomes_free(queued)
    while threading.active_count() > before:
        time.sleep(0.001)


def test_who_was_left_in_the_queue_serves_the_next_who_asks(queued: StateLock) -> None:
    holder = _holder(queued.path)
    first = _stops(queued)
    with pytest.raises(StateLockError):
        queued.acquire(0.02, "gives up")
    before = threading.active_count()
    os.kill(first.pid, signal.SIGCONT)
    threading.Timer(0.1, holder.start).start()

    queued.acquire(None, "asks again")

    assert threading.active_count() <= before + 1  # the timer's
    queued.release()
    assert first.finish()
    holder.finish()
    _queue_becomes_free(queued)


def test_an_interrupt_in_the_queue_leaves_nobody_who_keeps_it(queued: StateLock) -> None:
    queued.acquire(0, "hold")
    first = _stops(queued)

    def interrupted(tell: Tell) -> None:
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            queued.acquire(None, "wait")
        tell("interrupted")
        for _ in tell.steps():
            pass

    waiter = fork(interrupted)
    waiter.await_line()
    first.kill()
    queued.release()

    _queue_becomes_free(queued)
    waiter.finish()


@pytest.mark.parametrize("refused", ["thread", "lock"])
def test_without_threads_or_locks_for_the_queue_who_waits_gets_the_lock_all_the_same(
    refused: str, queued: StateLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = _holder(queued.path)
    first = _stops(queued)
    started = threading.Timer(0.1, holder.start)
    started.start()
    if refused == "thread":
        error = RuntimeError("can't start new thread")
        monkeypatch.setattr("gitstate.queue.threading.Thread.start", _raising(error))
    else:
        error = OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        calls = SimpleNamespace(flock=_raising(error), LOCK_EX=0)
        monkeypatch.setattr("gitstate.queue.fcntl", calls)

    queued.acquire(10, "wait")

    assert queued.held_here()
    queued.release()
    started.join()
    first.kill()
    holder.finish()


def _passes(lock: StateLock) -> None:
    lock.acquire(None, "pass")
    lock.release()


def _raising(error: Exception) -> Callable[..., None]:
    def refuse(*_: object) -> None:
        raise error

    return refuse


def _queue_becomes_free(lock: StateLock) -> None:
    deadline = time.monotonic() + 10
    while _queue_is_taken(lock):
        assert time.monotonic() < deadline, "somebody keeps the queue"
        time.sleep(0.001)


def test_who_waits_long_asks_less_and_less_often(
    queued: StateLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = _holder(queued.path)
    waits: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(waits), sleep=waits.append)

    with monkeypatch.context() as patched, pytest.raises(StateLockError):
        patched.setattr("gitstate.lock.time", clock)
        queued.acquire(5.0, "wait")
    holder.finish()

    assert waits[0] < 0.001
    assert waits == sorted(waits)
    assert len(waits) < 1_000


def test_a_first_one_that_was_stopped_keeps_nobody_out(queued: StateLock) -> None:
    queued.acquire(0, "hold")

    stopped = _stops(queued)
    queued.release()

    def pass_by(tell: Tell) -> None:
        for _ in range(3):
            queued.acquire(None, "pass by")
            queued.release()
        tell("passed")

    passing = fork(pass_by)
    try:
        passing.await_line()
    finally:
        for child in (passing, stopped):
            child.kill()

    assert not _queue_is_taken(queued)


def _queue_is_taken(lock: StateLock) -> bool:
    queue = lock.path.with_name("queue.lock")
    if not queue.exists():
        return False
    descriptor = os.open(queue, os.O_RDWR)
    try:
        taken = not lock_descriptor(descriptor, blocking=False)
        if not taken:
            unlock_descriptor(descriptor)
    finally:
        os.close(descriptor)
    return taken


@pytest.mark.parametrize("timeout", [0, 0.02])
def test_who_does_not_get_it_in_time_leaves_the_queue(timeout: float, queued: StateLock) -> None:
    holder = _holder(queued.path)

    with pytest.raises(StateLockError):
        queued.acquire(timeout, "wait")

    assert not _queue_is_taken(queued)
    holder.finish()


def test_a_timeout_of_nothing_gets_a_free_lock_past_a_queue(queued: StateLock) -> None:
    queue = os.open(queued.path.with_name("queue.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    lock_descriptor(queue, blocking=False)

    queued.acquire(0, "try")

    assert queued.held_here()
    queued.release()
    os.close(queue)


def test_where_there_can_be_no_queue_the_lock_is_as_good(tmp_path: Path) -> None:
    (tmp_path / "blocked").mkdir()
    for queue in (tmp_path / "no" / "store", tmp_path / "blocked"):
        lock = StateLock(tmp_path / "pipeline.json.lock", queue)
        lock.acquire(0, "hold")

        assert not _tries(lock.path)
        lock.release()
        assert _tries(lock.path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are looked up there")
def test_a_child_does_not_keep_the_places_of_threads_that_were_waiting(queued: StateLock) -> None:
    before = threading.active_count()
    holder = _holder(queued.path)
    other = StateLock(queued.path, queued.path.with_name("queue.lock"))
    waiters = [threading.Thread(target=_passes, args=(each,)) for each in (queued, other)]
    for waiter in waiters:
        waiter.start()
    while not _queue_is_taken(queued) or threading.active_count() < before + 3:
        time.sleep(0.001)

    def work(tell: Tell) -> None:
        tell(
            sorted(
                os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
            )
        )

    (opened,) = fork(work).finish()
    holder.finish()
    for waiter in waiters:
        waiter.join()

    assert os.fspath(queued.path.with_name("queue.lock")) not in opened
