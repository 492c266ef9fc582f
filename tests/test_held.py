"""Who holds the lock now, and how it is taken away where the process that took it is gone."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from oracle import Child, Tell, fork, forks, judge_disk, outlived_lock
from wrecks import image

from gitstate import (
    Holder,
    PipelineState,
    StateConflictError,
    StateLockError,
    StateReadError,
)
from gitstate.lock import host

pytestmark = forks


def lock_file(path: Path) -> Path:
    return path.with_name("pipeline.json.lock")


def name(path: Path, **told: Any) -> None:
    """Has the lock file name somebody else."""
    content = json.loads(lock_file(path).read_bytes())
    lock_file(path).write_bytes(b"\n" + json.dumps({**content, **told}).encode() + b"\n")


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(StateConflictError) as caught:
        call()
    code = caught.value.code
    del caught  # else this frame and the error would keep each other, and the files of the store
    return code


def a_dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    return child.pid


@pytest.fixture
def holder(path: Path) -> Iterator[Child]:
    """Another process, in the middle of a transaction until it is told to go on."""

    def work(tell: Tell) -> None:
        with PipelineState(path).transaction(operation="hold") as txn:
            txn.data["by"] = "the holder"
            tell("held")
            next(tell.steps())

    child = fork(work)
    child.await_line()
    yield child
    if child.status is None:
        child.kill()


# -- who has it --------------------------------------------------------------------------------------------------------


def test_a_holder_is_named_while_it_holds_the_lock_and_not_behind_that(path, state, holder):
    found = state.lock_holder()

    assert (found.pid, found.host, found.operation) == (holder.pid, host(), "hold")
    assert datetime.fromisoformat(found.since).tzinfo is not None
    holder.start()
    holder.finish()
    assert str(holder.pid) in lock_file(path).read_text()
    assert state.lock_holder() is None


def test_a_holder_that_is_killed_holds_nothing(state, holder):
    holder.kill()

    assert state.lock_holder() is None


def test_a_thread_sees_its_own_lock_and_that_of_another(state):
    seen: list[Holder | None] = []
    with state.transaction(operation="mine"):
        seen.append(state.lock_holder())
        thread = threading.Thread(target=lambda: seen.append(state.lock_holder()))
        thread.start()
        thread.join()

    assert [(each.pid, each.operation) for each in seen] == [(os.getpid(), "mine")] * 2


def test_where_there_is_no_lock_file_none_is_made(path, tmp_path):
    assert PipelineState(path).lock_holder() is None
    assert PipelineState(tmp_path / "no" / "folder.json").lock_holder() is None
    assert list(tmp_path.iterdir()) == []


def test_looking_writes_nothing_where_nothing_can_be_written(path, holder):
    folder, before = path.parent, image(path)
    listed = os.listdir(folder)
    folder.chmod(0o500)
    lock_file(path).chmod(0o400)
    try:
        assert PipelineState(path).lock_holder().pid == holder.pid
        holder.kill()
        assert PipelineState(path).lock_holder() is None
    finally:
        folder.chmod(0o700)
    assert image(path) == before
    assert os.listdir(folder) == listed


@pytest.mark.parametrize("content", [b"", b"\nnot JSON", b"\n[]", b'\n{"pid": 7}'])
def test_a_holder_that_is_not_named_is_one_all_the_same(path, state, holder, content):
    lock_file(path).write_bytes(content)

    found = state.lock_holder()

    assert found == Holder(0, "", "", "")
    assert "does not name" in str(found)


def test_who_looks_is_nobody_for_others_who_look(path, state):
    state.write({"n": 1})
    seen: set[Holder | None] = set()

    def look() -> None:
        handle = PipelineState(path)
        seen.update(handle.lock_holder() for _ in range(300))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)

    assert seen == {None}
    with contextlib.closing(PipelineState(path, timeout=0)) as other:
        other.write({"n": 2})


def test_a_lock_file_that_cannot_be_looked_at_is_an_error(path, state):
    lock_file(path).symlink_to("elsewhere")

    for call in (state.lock_holder, state.unlock):
        with pytest.raises(StateReadError) as caught:
            call()
        assert caught.value.code == "store-unreadable"
    assert lock_file(path).is_symlink()


# -- taking it away ----------------------------------------------------------------------------------------------------


@pytest.fixture
def left(path: Path) -> Iterator[Holder]:
    """The holder that has died in a transaction, and left a program that keeps the lock."""
    PipelineState(path).write({"n": 1})
    with outlived_lock(path) as pid:
        yield Holder(pid, host(), "outlived", "")


def same(one: Holder | None, other: Holder) -> bool:
    return one is not None and one == Holder(other.pid, other.host, other.operation, one.since)


def test_a_lock_that_has_outlived_its_process_is_taken_away(path, left):
    state = PipelineState(path, timeout=0)
    assert same(state.lock_holder(), left)
    with pytest.raises(StateLockError) as caught:
        state.write({"n": 2})
    assert same(caught.value.holder, left)
    assert same(state.unlock(dry_run=True), left)
    assert same(state.lock_holder(), left)

    old = lock_file(path).stat()
    assert same(state.unlock(), left)

    assert not os.path.samestat(old, lock_file(path).stat())
    assert state.lock_holder() is None
    assert state.unlock() is None
    assert state.write({"n": 2}).serial == 2
    assert state.lock_holder() is None
    judge_disk(state)


def test_a_lock_is_taken_from_whom_one_was_asked_about_and_nobody_else(path, left):
    state = PipelineState(path)
    asked_about = state.lock_holder()
    name(path, operation="another, which is gone as well")

    with pytest.raises(StateLockError, match="changed hands"):
        state.unlock(asked_about)

    assert lock_file(path).exists()
    assert state.unlock(state.lock_holder()) is not None
    assert state.lock_holder() is None


def test_where_nobody_holds_the_lock_nothing_is_done(path, state):
    assert state.unlock() is None
    assert list(path.parent.iterdir()) == []
    state.write({"n": 1})
    before = lock_file(path).stat()

    assert state.unlock() is None
    assert os.path.samestat(before, lock_file(path).stat())


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({}, "it lives"),
        ({"pid": 1}, "it lives"),
        ({"pid": 10**30}, "it lives"),
        ({"host": "elsewhere"}, "on elsewhere alone"),
        ({"pid": 0}, "does not say"),
        ({"pid": -1}, "does not say"),
        ({"pid": None}, "does not say"),
    ],
)
def test_a_holder_that_may_live_keeps_its_lock(path, state, holder, told, why):
    name(path, **told)
    before, content = lock_file(path).stat(), lock_file(path).read_bytes()

    with pytest.raises(StateLockError, match=why) as caught:
        state.unlock()

    assert caught.value.holder == state.lock_holder()
    assert os.path.samestat(before, lock_file(path).stat())
    assert lock_file(path).read_bytes() == content
    holder.start()
    holder.finish()
    assert state.read() == {"by": "the holder"}


def test_a_transaction_of_this_thread_keeps_its_lock(state):
    with state.transaction() as txn:
        txn.data["n"] = 1
        with pytest.raises(StateLockError):
            state.unlock()

    assert state.read() == {"n": 1}


@pytest.mark.parametrize(("content", "code"), [("another's", "edited"), ("as before", "lock-lost")])
def test_a_holder_that_lives_after_all_commits_nothing_more(path, state, content, code):
    other = PipelineState(path, timeout=0)
    other.write({"n": "as before"})

    def lose_the_lock() -> None:
        with state.transaction() as txn:
            name(path, pid=a_dead_pid())
            assert other.unlock() is not None
            fork(lambda _: other.write({"n": content})).finish()
            txn.data["n"] = "mine"

    assert code_of(lose_the_lock) == code
    assert state.read() == {"n": content}
    judge_disk(state)


@pytest.mark.parametrize("step", ["another file", "another holder"])
def test_a_lock_that_changes_hands_just_then_stays(path, left, monkeypatch, step):
    state = PipelineState(path, timeout=0)
    moved: list[Callable[[], object]] = {
        "another file": [lock_file(path).unlink, lambda: state.write({"n": 2})],
        "another holder": [lambda: name(path, pid=os.getpid())],
    }[step]
    held: list[os.stat_result] = []

    def kill(pid: int, number: int) -> None:
        for each in moved:
            each()
        held.append(lock_file(path).stat())
        raise ProcessLookupError

    with monkeypatch.context() as patched:
        patched.setattr("gitstate.held.os.kill", kill)
        with pytest.raises(StateLockError, match="changed hands"):
            state.unlock()

    assert os.path.samestat(held[0], lock_file(path).stat())
    assert not [each for each in os.listdir(path.parent) if each.endswith(".tmp")]


def test_nobody_takes_the_lock_while_it_is_taken_from_somebody(path, left, monkeypatch):
    state = PipelineState(path, timeout=0)
    refused: list[Holder | None] = []

    def settle(_: float) -> None:
        with pytest.raises(StateLockError) as caught:
            state.write({"n": 2})
        refused.append(caught.value.holder)

    monkeypatch.setattr("gitstate.held.time.sleep", settle)

    assert same(state.unlock(), left)
    assert [(each.pid, each.operation) for each in refused] == [(os.getpid(), "unlock")]
    monkeypatch.undo()
    assert state.write({"n": 2}).serial == 2
    judge_disk(state)
