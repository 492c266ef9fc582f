"""Several writers and readers at once: threads, processes, forks, and what becomes of their lock."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from oracle import (
    GIT,
    Ack,
    Call,
    Child,
    Tell,
    counted,
    file_calls,
    fork,
    forks,
    fresh,
    git,
    judge,
    judge_disk,
    leave,
    loose_objects,
)

from gitstate import (
    PipelineState,
    StateConflictError,
    StateLockError,
    StateTransactionError,
    retention,
)
from gitstate.audit import Archive
from gitstate.journal import read_all
from gitstate.repository import Commit, Repository

pytestmark = forks


def _count_to(path: Path, times: int, key: str = "n", **options: Any) -> None:
    state = PipelineState(path, max_backups=None, timeout=None, **options)
    for _ in range(times):
        with state.transaction() as txn:
            txn.data[key] = txn.data.get(key, 0) + 1


@contextmanager
def _starting_together(works: list[Callable[[Tell], None]]) -> Iterator[list[Child]]:
    """Processes that all begin with the block; it ends when they have."""

    def work(tell: Tell, task: Callable[[Tell], None]) -> None:
        next(tell.steps(), None)
        task(tell)

    children = [fork(partial(work, task=task)) for task in works]
    for child in children:
        child.start()
    yield children
    for child in children:
        child.finish()


# -- writers -------------------------------------------------------------------------------------------------------


def test_eight_processes_lose_no_increment(path: Path) -> None:
    processes, times = 8, 200

    with _starting_together([lambda tell: _count_to(path, times)] * processes):
        pass

    assert PipelineState(path).read() == {"n": processes * times}
    state = fresh(path)
    history = list(state.log())
    assert [version.serial for version in history] == list(range(processes * times, 0, -1))
    assert len({version.id for version in history}) == processes * times
    if GIT:
        assert git(state, "rev-list", "--count", "HEAD").strip() == b"1600"
    judge(path, [], None)


def _whatever_comes(tell: Tell, path: Path, number: int, seed: str) -> None:
    """Transactions that succeed, fail, or leave the history alone, and what else a process does; tells what it did."""
    chance = random.Random(f"{seed} {number}")
    states = [
        PipelineState(path, timeout=None),
        PipelineState(path, timeout=None, backup_before_write=False),
    ]
    for step in range(80):
        state = states[chance.random() < 0.2]
        token = f"{number}.{step}"
        what = chance.choice(["write"] * 3 + ["fail"] * 4 + ["name", "checkpoint", "close"])
        if what == "write":
            with state.transaction() as txn:
                txn.data[f"k{number}"] = token
        elif what == "fail":
            with contextlib.suppress(KeyError), state.transaction():
                raise KeyError(token)
        elif what == "name":
            state.create_backup(f"named-{token}")
        elif what == "checkpoint":
            state.checkpoint()
        else:
            state.close()
        tell([what, token])


def test_whatever_processes_do_beside_each_other_all_of_it_is_in_the_history(
    path: Path, seed: str
) -> None:
    for round_ in range(3):
        there = path.with_name(f"{round_}") / path.name
        there.parent.mkdir()
        fresh(there).write({"n": 0}, operation="begin")
        works = [
            partial(_whatever_comes, path=there, number=number, seed=f"{seed} {round_}")
            for number in range(4)
        ]
        with _starting_together(works) as children:
            pass

        said = [each for child in children for each in child.told()]
        state = fresh(there)
        audit = state.get_transaction_history(None)
        failed = sorted(each["details"]["error"] for each in audit if not each["success"])
        written = sum(each["operation"] == "transaction_commit" for each in audit)
        assert failed == sorted(f"KeyError: '{token}'" for what, token in said if what == "fail")
        assert written == sum(what == "write" for what, _ in said)
        for what, token in said:
            if what == "name":
                state.read(at=f"named-{token}")
        state.write({"n": "last"})  # a version, which the one before it may not be
        judge_disk(state)


def _increment_one_of(tell: Tell, path: Path, number: int) -> None:
    _count_to(path, 2, f"k{number}")


def test_processes_that_make_the_store_at_the_same_time_make_one(tmp_path: Path) -> None:
    for round_ in range(5):
        path = tmp_path / f"{round_}" / "pipeline.json"
        path.parent.mkdir()

        with _starting_together(
            [partial(_increment_one_of, path=path, number=number) for number in range(6)]
        ):
            pass

        assert PipelineState(path).read() == {f"k{n}": 2 for n in range(6)}
        assert len(judge(path, [], None)) == 12


def test_processes_at_work_on_different_files_of_a_folder_share_nothing(tmp_path: Path) -> None:
    names = ["pipeline.json", "other.json", "third.json"]

    with _starting_together([lambda tell, n=name: _count_to(tmp_path / n, 20) for name in names]):
        pass

    for name in names:
        state = PipelineState(tmp_path / name)
        assert state.read() == {"n": 20}
        assert counted(v.read() for v in state.log()) == list(range(20, 0, -1))


@pytest.mark.parametrize("handles", ["one handle", "a handle for each"])
def test_threads_lose_no_increment(handles: str, path: Path) -> None:
    threads, times = 8, 25
    shared = PipelineState(path, max_backups=None, timeout=None)
    failures: list[BaseException] = []

    def work() -> None:
        state = shared if handles == "one handle" else PipelineState(path, timeout=None)
        try:
            for _ in range(times):
                with state.transaction() as txn:
                    txn.data["n"] = txn.data.get("n", 0) + 1
                assert state.read()["n"] >= txn.data["n"]
                assert next(state.log(1)).serial >= txn.data["n"]
        except BaseException as error:
            failures.append(error)

    _run(work, threads)

    assert failures == []
    assert shared.read() == {"n": threads * times}
    assert counted(judge(path, [], None)) == list(range(1, threads * times + 1))


def test_threads_that_open_and_close_their_handles_disturb_nobody(path: Path) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                with PipelineState(path, timeout=None) as state, state.transaction() as txn:
                    txn.data["n"] = txn.data.get("n", 0) + 1
        except BaseException as error:
            failures.append(error)

    _run(work, 6)

    assert failures == []
    kept = counted(judge(path, [], None, window=50))  # each of them prunes as it closes
    assert kept == list(range(61 - len(kept), 61))


def test_threads_and_processes_at_once_lose_no_increment(path: Path) -> None:
    def threads(tell: Tell) -> None:
        _run(lambda: _count_to(path, 10), 4)

    with _starting_together([threads] * 3):
        pass

    assert counted(judge(path, [], None)) == list(range(1, 121))


def test_a_checkpoint_in_a_loop_takes_nothing_from_writers(path: Path) -> None:
    _count_to(path, 1)
    stop = path.with_name("stop")

    def check(tell: Tell) -> None:
        state = PipelineState(path, timeout=None)
        rounds = 0
        while not stop.exists():
            state.checkpoint()
            rounds += 1
        tell(rounds)

    checkers = [fork(check), fork(check)]
    with _starting_together([lambda tell: _count_to(path, 60)] * 3):
        pass
    stop.touch()

    assert all(child.finish()[-1] > 3 for child in checkers)
    stop.unlink()
    assert counted(judge(path, [], None)) == list(range(1, 182))
    packs = list((path.parent / ".pipeline/repo/objects/pack").glob("*.pack"))
    assert 1 <= len(packs) <= 17


@pytest.mark.parametrize("other", ["a new process", "a process that was there before"])
def test_others_may_open_and_commit_at_any_moment_of_a_checkpoint(other: str, path: Path) -> None:
    calls: list[Call] = []
    number = 0
    while number <= len(calls):
        number += 1
        _count_to(path, 2)
        state = PipelineState(path)
        servant = _servant(path)
        if other == "a process that was there before":
            servant.go_on()
        calls.clear()

        def interfere(call: Call) -> None:
            calls.append(call)
            if call.number == number:  # noqa: B023  called in this round
                servant.go_on()  # noqa: B023

        with file_calls(interfere):
            state.checkpoint()
        servant.finish()
        leave(state)

    documents = judge(path, [], None)
    assert counted(documents) == list(range(1, len(documents) + 1))
    assert len(documents) > 2 * number


def _servant(path: Path) -> Child:
    """A process that commits at each step, or tells that somebody else holds the lock."""

    def work(tell: Tell) -> None:
        state = fresh(path, timeout=0)
        for _ in tell.steps():
            try:
                with state.transaction() as txn:
                    txn.data["n"] += 1
                assert txn.version is not None
                tell((txn.version.id, txn.version.read()))
            except StateLockError as refusal:
                tell(str(refusal))

    return fork(work)


def _run(work: Callable[[], None], number: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# -- readers -------------------------------------------------------------------------------------------------------


def _whole(document: dict[str, Any]) -> int:
    """The number that a state of `_write_wholes` shows everywhere."""
    number = document["n"]
    assert document == {"n": number, "text": f"{number} " * 2000, "again": number}, "half a write"
    return number


def _write_wholes(path: Path, times: int) -> None:
    state = PipelineState(path, timeout=None, max_backups=None)
    for _ in range(times):
        with state.transaction() as txn:
            number = txn.data.get("n", 0) + 1
            txn.data = {"n": number, "text": f"{number} " * 2000, "again": number}


def _reads_one_handle(path: Path) -> Callable[[], int]:
    state = PipelineState(path)
    return lambda: _whole(state.read())


def _reads_a_new_handle(path: Path) -> Callable[[], int]:
    return lambda: _whole(fresh(path).read())


def _reads_like_cat(path: Path) -> Callable[[], int]:
    return lambda: _whole(json.loads(path.read_bytes()))


def _reads_the_log(path: Path) -> Callable[[], int]:
    state = PipelineState(path)

    def read() -> int:
        newest, older = state.log(2)
        assert _whole(newest.read()) == newest.serial
        assert older.id == newest.parents[0]
        return newest.serial

    return read


def _reads_a_new_log(path: Path) -> Callable[[], int]:
    def read() -> int:
        newest = next(fresh(path).log(1))
        assert _whole(newest.read()) == newest.serial
        return newest.serial

    return read


READERS = [
    _reads_one_handle,
    _reads_a_new_handle,
    _reads_like_cat,
    _reads_the_log,
    _reads_a_new_log,
]


def test_readers_never_see_half_a_write_nor_go_back(path: Path) -> None:
    _write_wholes(path, 2)
    stop = path.with_name("stop")

    def follow(tell: Tell, reader: Callable[[Path], Callable[[], int]]) -> None:
        read = reader(path)
        seen, rounds = 0, 0
        while not stop.exists():
            number = read()
            assert number >= seen, f"from {seen} back to {number}"
            seen, rounds = number, rounds + 1
        tell((rounds, seen, read()))

    readers = [fork(lambda tell, r=reader: follow(tell, r)) for reader in READERS]
    with _starting_together([lambda tell: _write_wholes(path, 150)] * 2):
        pass
    stop.touch()

    for child in readers:
        rounds, _, last = child.finish()[-1]
        assert rounds > 5
        assert last == 302


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_may_look_at_any_moment_of_a_commit(
    reader: Callable[[Path], Callable[[], int]], path: Path
) -> None:
    _write_wholes(path, 3)
    seen: list[int] = []

    def look(tell: Tell) -> None:
        number = reader(path)()
        assert reader(path)() >= number
        tell(number)

    with file_calls(lambda call: seen.append(fork(look).finish()[-1]), reading=True):
        _write_wholes(path, 1)

    assert sorted(set(seen)) in ([3, 4], [3])  # `cat` sees it with the rename
    assert seen == sorted(seen), "a version that had been read went away again"
    assert len(seen) > 20


SETTLED = {".pipeline", "repo", "commondir", "alternates", "format"}
"""What a reader looks at that no writer changes."""


@pytest.mark.parametrize(
    ("reader", "beside"),
    [
        (_reads_one_handle, "two commits"),
        (_reads_a_new_handle, "two commits"),
        (_reads_the_log, "two commits"),
        (_reads_the_log, "a checkpoint and a commit"),
        (_reads_a_new_log, "a checkpoint and a commit"),
    ],
)
def test_anything_may_happen_between_any_two_file_calls_of_a_reader(
    reader: Callable[[Path], Callable[[], int]], beside: str, path: Path
) -> None:
    _write_wholes(path, 3)
    read = reader(path)
    calls = number = 0

    def commit(tell: Tell) -> None:
        state = fresh(path)
        if beside == "two commits":
            _write_wholes(path, 2)
        else:
            state.checkpoint()
            _write_wholes(path, 1)

    def interfere(call: Call) -> None:
        nonlocal calls
        if call.file not in SETTLED:
            calls += 1
            if calls == number:
                fork(commit).finish()

    while number <= calls:
        number, calls = number + 1, 0
        before = json.loads(path.read_bytes())["n"]

        with file_calls(interfere, reading=True):
            seen = read()

        assert before <= seen <= json.loads(path.read_bytes())["n"]
    assert number > (1 if reader is _reads_one_handle else 10)


# -- forks ---------------------------------------------------------------------------------------------------------


def test_a_forked_child_and_its_parent_both_go_on_with_the_handle(path: Path) -> None:
    state = PipelineState(path, timeout=None)
    version = state.write({"n": 1})
    assert version is not None

    def work(tell: Tell) -> None:
        assert state.read() == {"n": 1}
        assert version.read() == {"n": 1}
        tell("has read")
        for _ in range(20):
            with state.transaction() as txn:
                txn.data["n"] += 1
        state.close()

    child = fork(work)
    assert child.await_line() == ["has read"]
    for _ in range(20):
        with state.transaction() as txn:
            txn.data["n"] += 1
    child.finish()

    assert state.read() == {"n": 41}
    assert counted(judge(path, [], None)) == list(range(1, 42))


def test_versions_read_by_a_child_and_its_parent_at_once_are_whole(path: Path) -> None:
    state = PipelineState(path)
    _write_wholes(path, 40)
    state.checkpoint()
    versions = list(state.log())
    assert [_whole(version.read()) for version in versions[:3]] == [40, 39, 38]

    def work(tell: Tell) -> None:
        for _ in range(5):
            assert [_whole(version.read()) for version in versions] == list(range(40, 0, -1))

    children = [fork(work), fork(work)]
    work(print)
    for child in children:
        child.finish()


def test_a_child_forked_inside_a_block_does_not_let_go_of_the_lock(path: Path) -> None:
    state = PipelineState(path)
    state.write({"n": 1})

    def inherit(tell: Tell) -> None:
        with pytest.raises(StateLockError) as caught, PipelineState(path).transaction(timeout=0):
            pass
        tell(caught.value.holder and caught.value.holder.pid)
        state.close()

    def intrude(tell: Tell) -> None:
        with pytest.raises(StateLockError), fresh(path).transaction(timeout=0):
            pass
        tell("refused")

    with state.transaction() as txn:
        txn.data["n"] = 2
        assert fork(inherit).finish() == [os.getpid()]
        assert fork(intrude).finish() == ["refused"]  # the child's end has not unlocked it either

    assert state.read() == {"n": 2}


def test_a_block_that_is_forked_is_committed_by_the_parent_alone(path: Path) -> None:
    state = PipelineState(path)
    state.write({"n": 1})
    leaving = state.transaction()
    leaving.__enter__()

    def leave_normally(tell: Tell) -> None:
        leaving.data["n"] = 99
        with pytest.raises(StateTransactionError) as caught:
            leaving.__exit__(None, None, None)
        tell(caught.value.code)

    def leave_by_exception(tell: Tell) -> None:
        leaving.__exit__(ValueError, ValueError("child"), None)
        tell(not leaving.committed)

    told = [fork(leave_normally).finish(), fork(leave_by_exception).finish()]
    leaving.data["n"] = 2
    leaving.__exit__(None, None, None)

    assert told == [["forked"], [True]]
    assert state.read() == {"n": 2}
    assert [line["success"] for line in state.get_transaction_history()] == [True, True]
    assert counted(judge(path, [], None)) == [1, 2]


def test_a_process_forked_while_a_thread_writes_can_write_itself(path: Path) -> None:
    state = PipelineState(path, timeout=None)
    state.write({"n": 0})
    stop = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            while not stop.is_set():
                with state.transaction() as txn:
                    txn.data["n"] += 1
        except BaseException as error:
            failures.append(error)

    def work(tell: Tell) -> None:
        with state.transaction() as txn:
            txn.data["n"] += 1
        tell(state.read()["n"])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(15):
            fork(work).finish()
    finally:
        stop.set()
        thread.join()

    assert failures == []
    documents = judge(path, [], None)
    assert counted(documents) == list(range(len(documents)))


# -- the lock ------------------------------------------------------------------------------------------------------


def _hold(path: Path, number: int = 99) -> Child:
    """A process inside a block, which has told so, and stays there."""

    def work(tell: Tell) -> None:
        with fresh(path).transaction(operation="hold") as txn:
            txn.data["n"] = number
            tell("inside")
            time.sleep(600)

    child = fork(work)
    child.await_line()
    return child


def test_a_process_killed_while_it_holds_the_lock_blocks_nobody(path: Path) -> None:
    state = PipelineState(path)
    state.write({"n": 1})
    holder = _hold(path)
    with pytest.raises(StateLockError) as caught, state.transaction(timeout=0):
        pass

    holder.kill()
    with state.transaction(timeout=5) as txn:
        txn.data["n"] += 1

    assert caught.value.holder is not None
    assert (caught.value.holder.pid, caught.value.holder.operation) == (holder.pid, "hold")
    assert counted(judge(path, [], None)) == [1, 2]


def test_a_stopped_process_that_holds_the_lock_is_named_and_does_not_keep_readers_waiting(
    path: Path,
) -> None:
    state = PipelineState(path)
    state.write({"n": 1})
    holder = _hold(path)
    os.kill(holder.pid, signal.SIGSTOP)

    with pytest.raises(StateLockError) as caught, state.transaction(timeout=0.05):
        pass
    seen = fresh(path).read(), counted(v.read() for v in fresh(path).log())
    holder.kill()

    assert caught.value.holder is not None
    assert caught.value.holder.pid == holder.pid
    assert seen == ({"n": 1}, [1])


def test_a_refused_lock_leaves_no_trace_in_the_history(path: Path) -> None:
    state = PipelineState(path)
    state.write({"n": 1})
    before = state.get_transaction_history()
    holder = _hold(path)

    with pytest.raises(StateLockError), state.transaction(timeout=0):
        raise AssertionError("the block must not run")
    holder.kill()

    assert fresh(path).get_transaction_history() == before


def test_a_transaction_inside_another_of_the_same_thread_is_refused_at_once(path: Path) -> None:
    state = PipelineState(path, timeout=None)

    with state.transaction() as txn:
        txn.data["n"] = 1
        for call in (
            lambda: state.write({"n": 2}),
            lambda: PipelineState(path, timeout=None).write({"n": 2}),
            state.create_backup,
            state.undo,
            lambda: state.restore_backup("HEAD"),
        ):
            with pytest.raises(StateTransactionError) as caught:
                call()
            assert caught.value.code == "nested"

    assert counted(judge(path, [], None)) == [1]


@pytest.mark.parametrize("end", ["commit", "exception", "rollback"])
def test_who_lost_the_lock_file_does_not_commit_over_another(end: str, path: Path) -> None:
    state = PipelineState(path)
    acks = [Ack(version.id, version.read()) for version in [state.write({"n": 1})] if version]
    state.checkpoint()  # an empty journal: whoever comes next goes on with it, at the same place
    other = _servant(path)

    def lose_the_lock() -> None:
        with state.transaction() as txn:
            txn.data["n"] = 99
            path.with_name("pipeline.json.lock").unlink()
            acks.append(Ack(*other.go_on()))
            if end == "exception":
                raise ZeroDivisionError
            if end == "rollback":
                txn.rollback()

    if end == "rollback":
        lose_the_lock()
    else:
        with pytest.raises(StateConflictError if end == "commit" else ZeroDivisionError) as caught:
            lose_the_lock()
        assert getattr(caught.value, "code", None) in {None, "lock-lost", "edited"}
    assert state.read() == {"n": 2}
    other.finish()

    # Nor has it written over the record of the other, which alone makes good what a power cut takes.
    leave(state)
    for file in loose_objects(path):
        file.chmod(0o644)
        file.write_bytes(b"")
    (path.parent / ".pipeline/repo/refs/heads/main").write_bytes(b"")
    judge(path, acks, [])


def test_the_next_transaction_after_a_lost_lock_goes_well(path: Path) -> None:
    state = PipelineState(path)
    state.write({"n": 1})
    with pytest.raises(StateConflictError), state.transaction() as txn:
        txn.data["n"] = 99
        path.with_name("pipeline.json.lock").unlink()

    with state.transaction() as txn:
        txn.data["n"] += 1

    assert counted(judge(path, [], None)) == [1, 2]


# -- a prune beside writers ----------------------------------------------------------------------------------------


def test_a_writer_gets_the_lock_while_lines_of_the_archive_are_put_together(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, other = fresh(path, max_backups=3), fresh(path)
    for number in range(10):
        state.write({"n": number})
    extended = Archive.extended

    def writing(self: Archive, commits: Iterable[Commit]) -> object:
        with other.transaction(timeout=0) as txn:
            txn.data["meanwhile"] = True
        return extended(self, commits)

    monkeypatch.setattr(Archive, "extended", writing)
    report = state.prune()

    assert report.versions == range(1, 7)
    assert state.read() == {"n": 9, "meanwhile": True}
    assert [line["success"] for line in state.get_transaction_history()] == [True] * 11
    judge_disk(state)


def test_what_is_committed_beside_a_prune_does_not_pile_up_for_the_next_transaction(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prune keeps the others from making a checkpoint, so it makes one itself, and a last one behind all."""
    monkeypatch.setattr(retention, "_VERSIONS_AT_ONCE", 1)
    state, other = fresh(path, max_backups=3), fresh(path)
    for number in range(30):
        state.write({"n": number})
    state.checkpoint()
    extended, sizes = Archive.extended, []

    def writing(self: Archive, commits: Iterable[Commit]) -> object:
        sizes.append(
            sum(record.state is not None for record in read_all(path.parent / ".pipeline")[1])
        )
        for number in range(5):
            other.write({"n": -number - 5 * len(sizes)})
        return extended(self, commits)

    rewrite = Repository.rewrite

    def writing_late(self: Repository, *arguments: Any) -> object:
        other.write({"n": "late"})
        return rewrite(self, *arguments)

    monkeypatch.setattr(Archive, "extended", writing)
    monkeypatch.setattr(Repository, "rewrite", writing_late)
    state.prune()

    assert state.read() == {"n": "late"}
    assert len(sizes) > 5
    assert set(sizes) == {0}
    assert not read_all(path.parent / ".pipeline")[1]
    judge_disk(state)
