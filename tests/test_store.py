"""The one door to the disk: which calls a transaction makes, in which order, and what happens when one fails."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from oracle import (
    GIT,
    Ack,
    Call,
    Tally,
    Tell,
    counted,
    file_calls,
    flushes_journal,
    fork,
    forks,
    fresh,
    git,
    in_parallel,
    journal_of,
    judge,
    judge_disk,
    leave,
    leftovers,
    locks_branch,
    loose_objects,
    moves_branch,
    places_object,
    recorded_calls,
    replaces_state,
)

from gitstate import (
    PipelineState,
    StateConflictError,
    StateError,
    StateReadError,
    StateTransactionError,
    StateValidationError,
    StateWriteError,
    files,
)


def _three_versions(path: Path, **options: Any) -> PipelineState:
    state = PipelineState(path, max_backups=None, **options)
    for number in (1, 2, 3):
        state.write({"n": number})
    return state


def _set(state: PipelineState, number: int, **options: Any) -> Ack:
    with state.transaction(**options) as txn:
        txn.data["n"] = number
    assert txn.version is not None
    return Ack(txn.version.id, {"n": number})


def _acks(state: PipelineState) -> list[Ack]:
    return [Ack(version.id, version.read()) for version in state.log()][::-1]


# -- flushes and their order ---------------------------------------------------------------------------------------


def test_a_transaction_in_the_steady_state_flushes_twice(path: Path) -> None:
    state = _three_versions(path)
    for number in range(4, 14):
        calls, recording = recorded_calls()
        with recording:
            _set(state, number)

        flushes = [call for call in calls if call.name in {"fsync", "fdatasync"}]
        assert [call.name for call in flushes] == ["fsync", "fdatasync"], [*map(str, flushes)]
        assert flushes[0].target.endswith(".tmp")
        assert flushes_journal(flushes[1])


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_strace_counts_two_flushes_for_each_transaction(path: Path, tmp_path: Path) -> None:
    script = """
import sys
from gitstate import PipelineState
state = PipelineState(sys.argv[1], max_backups=None)
for number in range(int(sys.argv[2])):
    with state.transaction() as txn:
        txn.data["n"] = number
"""

    def flushes(count: int) -> int:
        summary = tmp_path / "summary"
        command = [
            "strace",
            "-f",
            "-c",
            "-e",
            "trace=fsync,fdatasync,sync,syncfs",
            "-o",
            str(summary),
        ]
        program = [sys.executable, "-c", script, str(tmp_path / f"{count}" / "s.json"), str(count)]
        done = subprocess.run([*command, *program], capture_output=True, text=True, check=False)
        if "ptrace" in done.stderr.lower() or not summary.exists():
            pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        rows = [line.split() for line in summary.read_text().splitlines()]
        return sum(int(row[3]) for row in rows if row and re.fullmatch("f(data)?sync", row[-1]))

    assert flushes(40) - flushes(10) == 2 * 30


def test_the_steps_of_a_commit_come_in_the_order_that_makes_it_safe(path: Path) -> None:
    state = _three_versions(path)
    calls, recording = recorded_calls()
    with recording:
        _set(state, 4)

    def first(accepts: Callable[[Call], bool]) -> int:
        return next(call.number for call in calls if accepts(call))

    def last(accepts: Callable[[Call], bool]) -> int:
        return next(call.number for call in reversed(calls) if accepts(call))

    def writes(pattern: str) -> Callable[[Call], bool]:
        return lambda call: call.name in {"write", "pwrite"} and bool(re.search(pattern, call.file))

    steps = {
        "the new content is written": first(writes(r"\.tmp$")),
        "and flushed": first(lambda call: call.name == "fsync" and call.file.endswith(".tmp")),
        "the record is written": first(writes(r"^journal\.\d+$")),
        "wholly": last(writes(r"^journal\.\d+$")),
        "and flushed: the commit point": first(flushes_journal),
        "the file is renamed": first(replaces_state),
        "the objects are placed": first(places_object),
        "all of them": last(places_object),
        "the branch is locked": first(locks_branch),
        "the branch is moved": first(moves_branch),
    }
    del steps["wholly"]
    assert list(steps.values()) == sorted(set(steps.values())), steps
    assert last(flushes_journal) == first(flushes_journal)
    assert last(writes(r"^journal\.\d+$")) < first(flushes_journal)
    assert sum(map(places_object, calls)) == 3


def test_nothing_before_the_commit_point_touches_what_others_see(path: Path) -> None:
    state = _three_versions(path)
    before = path.read_bytes(), sorted(path.parent.rglob("*/refs/**/*"))
    seen: list[Any] = []

    def look(call: Call) -> None:
        if flushes_journal(call):
            seen.append((path.read_bytes(), sorted(path.parent.rglob("*/refs/**/*"))))

    with file_calls(look):
        _set(state, 4)

    assert seen == [before]


def test_a_store_is_flushed_before_its_first_record_is_written(path: Path) -> None:
    calls, recording = recorded_calls()
    with recording:
        PipelineState(path).write({"n": 1})

    names = [(call.name, call.target) for call in calls]
    made = names.index(("rename", str(path.parent / ".pipeline" / "repo")))
    commit = next(
        i for i, call in enumerate(calls) if flushes_journal(call) and call.name == "fdatasync"
    )
    for folder in (path.parent, path.parent / ".pipeline"):
        assert ("fsync", str(folder)) in names[made:commit]
    in_place = next(i for i, call in enumerate(calls) if replaces_state(call))
    moved = next(i for i, call in enumerate(calls) if moves_branch(call))
    assert commit < in_place < moved
    assert ("fsync", str(path.parent)) in names[
        in_place:moved
    ]  # tells a first write from a deletion


def test_a_checkpoint_flushes_before_it_forgets(path: Path) -> None:
    state = PipelineState(path)
    for number in range(1, 10):
        state.write({"n": number})
    calls, recording = recorded_calls()
    with recording:
        state.checkpoint()

    def at(accepts: Callable[[Call], bool]) -> list[int]:
        return [call.number for call in calls if accepts(call)]

    packed = at(lambda call: call.name == "replace" and call.file.endswith(".idx"))[-1]
    pack_flushed = at(lambda call: call.name == "fsync" and call.target.endswith("objects/pack"))[
        -1
    ]
    state_flushed = at(lambda call: call.name == "fsync" and call.target == str(path.parent))[0]
    ref_flushed = at(lambda call: call.name == "fsync" and call.file == "main")[0]
    heads_flushed = at(lambda call: call.name == "fsync" and call.file == "heads")[0]
    new_journal = at(lambda call: call.name == "rename" and call.file.startswith("journal."))[0]
    journal_flushed = [n for n in at(lambda call: call.name == "fsync") if n < new_journal]
    deleted = at(
        lambda call: (
            call.name == "unlink" and "/objects/" in call.target and call.file[-5:] != ".keep"
        )
    )
    assert packed < pack_flushed < new_journal < deleted[0]
    assert max(state_flushed, ref_flushed, heads_flushed) < new_journal
    assert journal_flushed
    assert at(
        lambda c: (
            c.name == "fsync" and c.file == ".pipeline" and new_journal < c.number < deleted[0]
        )
    )


def test_a_transaction_that_changes_nothing_writes_nothing_but_the_locks(path: Path) -> None:
    state = _three_versions(path)
    calls, recording = recorded_calls()
    with recording, state.transaction() as txn:
        txn.data["n"] = 3

    assert txn.version is not None
    assert txn.version.serial == 3
    assert {call.file for call in calls} <= {"pipeline.json.lock", "queue.lock"}
    assert counted(judge(path, [], None)) == [1, 2, 3]


@pytest.mark.parametrize("name", ["read", "log", "backups", "history", "verify", "diff", "status"])
def test_looking_writes_nothing(name: str, path: Path) -> None:
    leave(_three_versions(path))
    state = fresh(path)
    looks: dict[str, Callable[[], Any]] = {
        "read": state.read,
        "log": lambda: [version.read() for version in state.log()],
        "backups": state.list_backups,
        "history": state.get_transaction_history,
        "verify": state.verify,
        "diff": state.diff,
        "status": state.get_status_summary,
    }
    calls, recording = recorded_calls()
    with recording:
        looks[name]()

    changing = [call for call in calls if call.name != "open"]
    assert {call.file for call in changing} <= (
        {"pipeline.json.lock"} if name == "verify" else set()
    )


def test_looking_where_there_is_nothing_makes_nothing(path: Path) -> None:
    state = PipelineState(path)

    assert state.read() == {}
    assert list(state.log()) == state.list_backups() == state.get_transaction_history() == []
    assert state.verify().ok
    state.close()

    assert os.listdir(path.parent) == []


# -- the store -----------------------------------------------------------------------------------------------------


@forks
@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_a_store_is_private_whatever_the_umask(umask: int, path: Path) -> None:
    def work(tell: Tell) -> None:
        os.umask(umask)
        _three_versions(path).close()
        fresh(path).write({"n": 4})

    fork(work).finish()

    assert stat.S_IMODE((path.parent / ".pipeline").stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert counted(judge(path, [], None)) == [1, 2, 3, 4]


@forks
def test_a_store_that_was_removed_and_made_anew_by_another_process_is_seen_as_new(
    path: Path,
) -> None:
    state = PipelineState(path)
    for number in range(1, 5):
        state.write({"n": number, "text": str(number) * 20_000})
    assert len(list(state.log())) == 4

    def start_over(tell: Tell) -> None:
        shutil.rmtree(path.parent / ".pipeline")
        path.unlink()
        other = fresh(path)
        for number in range(1, 30):
            other.write({"n": 100 + number})

    fork(start_over).finish()

    assert state.read() == {"n": 129}
    assert counted(version.read() for version in state.log()) == list(range(129, 100, -1))
    assert _set(state, 130).document == {"n": 130}
    assert len(judge(path, [], None)) == 30


def test_a_rollback_leaves_everything_but_the_audit_trail_as_it_was(path: Path) -> None:
    state = _three_versions(path)
    state.create_backup("kept")

    def image() -> dict[str, Any]:
        repository = path.parent / ".pipeline/repo"
        refs = [
            f for f in (repository / "refs").rglob("*") if f.is_file() and "audit" not in f.parts
        ]
        status = path.stat()
        return {
            "state": (status.st_ino, status.st_mtime_ns, path.read_bytes()),
            "refs": {str(ref): ref.read_bytes() for ref in refs},
            "versions": [version.id for version in state.log()],
            "beside": sorted(os.listdir(path.parent)),
        }

    before = image()
    with pytest.raises(ZeroDivisionError), state.transaction() as txn:
        txn.data["n"] = 1 / 0
    with pytest.raises(StateValidationError), state.transaction() as txn:
        txn.data["n"] = {1, 2}
    with state.transaction() as txn:
        txn.data["n"] = 99
        txn.rollback()
    with pytest.raises(KeyboardInterrupt), state.transaction() as txn:
        txn.data["n"] = 99
        raise KeyboardInterrupt

    assert image() == before
    reasons = [line["details"].get("reason") for line in state.get_transaction_history(4)]
    assert reasons == ["exception", "rollback", "validation", "exception"]
    leave(state)
    assert [line["success"] for line in fresh(path).get_transaction_history()].count(False) == 4
    judge(path, [], None)


@pytest.mark.parametrize("how", ["in place", "replaced", "same size", "deleted"])
def test_an_edit_made_while_a_block_runs_is_a_conflict_and_stays(how: str, path: Path) -> None:
    state = _three_versions(path)
    with pytest.raises(StateConflictError) as caught, state.transaction() as txn:
        txn.data["n"] = 99
        match how:
            case "in place":
                path.write_text('{"by": "hand"}')
            case "replaced":
                path.with_name("new").write_text('{"by": "hand"}')
                path.with_name("new").replace(path)
            case "same size":
                path.write_text(path.read_text().replace("3", "7"))
            case "deleted":
                path.unlink()

    assert caught.value.code == "edited"
    assert leftovers(path) == []
    match how:
        case "deleted":
            assert not path.exists()
            state.restore_backup("HEAD")
        case "same size":
            assert state.read() == {"n": 7}
        case _:
            assert state.read() == {"by": "hand"}
    with state.transaction() as txn:
        txn.data["then"] = True
    history = [version.read() for version in state.log()]
    assert {"n": 99} not in history
    judge(path, [], None)


def test_verifying_inside_a_block_needs_no_second_lock(path: Path) -> None:
    state = _three_versions(path, timeout=0)
    with state.transaction() as txn:
        txn.data["n"] = 4
        assert state.verify().ok
        path.write_text('{"by": "hand"}')
        (problem,) = state.verify().problems
        assert "somebody edited it" in problem
        path.unlink()
        txn.rollback()

    state.restore_backup("HEAD")
    assert counted(judge(path, [], None)) == [1, 2, 3]


# -- a journal that was moved away ---------------------------------------------------------------------------------


def _move_journal_away(path: Path) -> None:
    journal_of(path).rename(path.with_name("kept"))


@pytest.mark.parametrize("objects", ["loose", "packed"])
def test_without_a_journal_and_a_branch_the_history_is_not_taken_for_none(
    objects: str, path: Path
) -> None:
    state = _three_versions(path)
    if objects == "packed":
        state.checkpoint()
    leave(state)
    branch = state.git_dir / "refs/heads/main"
    at = branch.read_text()
    _move_journal_away(path)
    branch.unlink()
    before = path.read_bytes()

    for attempt in (lambda: fresh(path).write({"n": 4}), lambda: fresh(path).create_backup()):
        with pytest.raises(StateReadError) as caught:
            attempt()
        assert caught.value.code == "branch-missing"
        assert path.read_bytes() == before
        assert fresh(path).read() == {"n": 3}

    branch.write_text(at)  # as the error advises
    assert counted(judge(path, [], None)) == [1, 2, 3]


def test_without_a_journal_a_store_that_never_had_a_version_begins_with_the_first(
    path: Path,
) -> None:
    state = PipelineState(path)
    with pytest.raises(ZeroDivisionError), state.transaction():
        _ = 1 / 0
    leave(state)
    _move_journal_away(path)

    version = fresh(path).write({"n": 1})

    assert version is not None
    assert version.serial == 1
    assert judge(path, [], None) == [{"n": 1}]


@pytest.mark.parametrize("packed", [False, True])
def test_without_a_journal_a_store_that_only_has_audit_trails_goes_on_with_them(
    packed: bool, path: Path
) -> None:
    state = fresh(path, backup_before_write=False)
    with pytest.raises(ZeroDivisionError), state.transaction():
        _ = 1 / 0
    state.write({"n": 1})
    if packed:
        state.close()
    leave(state)
    _move_journal_away(path)

    again = fresh(path, backup_before_write=False)
    again.write({"n": 2})

    assert again.read() == {"n": 2}
    made = [(line["operation"], line["success"]) for line in again.get_transaction_history()]
    assert made[::-1] == [
        ("transaction_rollback", False),
        ("write_commit", True),
        ("external_edit_commit", True),  # the journal knew whose file it was
        ("write_commit", True),
    ]


# -- a disk that refuses -------------------------------------------------------------------------------------------


def _failing(
    accepts: Callable[[Call], bool], number: int = errno.EIO, times: int = 1
) -> AbstractContextManager[None]:
    """The first calls that `accepts` takes fail with this error."""
    left = times

    def before(call: Call) -> None:
        nonlocal left
        if left and accepts(call):
            left -= 1
            raise OSError(number, os.strerror(number), call.target)

    return file_calls(before)


@pytest.mark.parametrize("reached_the_disk", [True, False])
def test_after_a_failed_flush_the_handle_refuses_to_write_until_it_is_closed(
    reached_the_disk: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = _three_versions(path)
    acks = _acks(state)
    flush = files.flush_data
    failures = iter([True])

    def fail_once(descriptor: int) -> None:
        if next(failures, False):
            raise OSError(errno.EIO, "Input/output error")
        flush(descriptor)

    monkeypatch.setattr(files, "flush_data", fail_once)
    with pytest.raises(StateWriteError) as caught, state.transaction() as txn:
        txn.data["n"] = 4
    assert caught.value.code == "flush-failed"
    assert isinstance(caught.value.__cause__, OSError)
    assert not txn.committed

    if not reached_the_disk:
        journal = journal_of(path)
        with journal.open("r+b") as file:  # the kernel has dropped the pages
            content = file.read()
            last = content.rindex(b"gsrec001")
            file.seek(last)
            file.write(bytes(len(content) - last))
    for _ in range(2):
        for handle in (state, PipelineState(path)):
            with pytest.raises(StateTransactionError) as refused:
                handle.write({"n": 5})
            assert refused.value.code == "reopen"
            assert "close()" in str(refused.value)
    assert state.read()["n"] in {3, 4}

    state.close()
    state.read()
    document = _set(state, 6).document

    assert document == {"n": 6}
    history = counted(version.read() for version in state.log())
    assert history == ([6, 4, 3, 2, 1] if reached_the_disk else [6, 3, 2, 1])
    judge(path, acks, None)


@forks
def test_after_a_failed_flush_another_process_decides(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = _three_versions(path)
    with _failing(flushes_journal), pytest.raises(StateWriteError):
        _set(state, 4)

    def work(tell: Tell) -> None:
        tell(_set(fresh(path), 5).document)

    assert fork(work).finish() == [{"n": 5}]
    state.close()
    assert state.read() == {"n": 5}
    assert counted(judge(path, [], None)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_refuses_the_new_content_leaves_everything_as_it_was(
    number: int, path: Path
) -> None:
    state = _three_versions(path)
    for name in ("open", "write", "fsync"):
        with (
            _failing(lambda call, n=name: call.name == n and call.file.endswith(".tmp"), number),
            pytest.raises(StateWriteError) as caught,
        ):
            _set(state, 99)

        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == number
        assert leftovers(path) == []
        assert state.read() == {"n": 3}
    acks = [*_acks(state), _set(state, 4)]

    assert [line["success"] for line in state.get_transaction_history(4)] == [True, *[False] * 3]
    judge(path, acks, [])


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_refuses_the_record_leaves_everything_as_it_was(
    number: int, path: Path
) -> None:
    state = _three_versions(path)
    for _ in range(2):
        with (
            _failing(lambda call: call.name == "pwrite" and "journal" in call.file, number),
            pytest.raises(StateWriteError) as caught,
        ):
            _set(state, 99)
        assert caught.value.code != "flush-failed"
        assert leftovers(path) == []
        assert state.read() == {"n": 3}
    acks = [*_acks(state), _set(state, 4)]

    judge(path, acks, [])


def test_a_disk_that_is_full_at_half_the_record_leaves_everything_as_it_was(path: Path) -> None:
    state = _three_versions(path)
    write = os.pwrite

    def half(call: Call) -> None:
        if call.name == "pwrite":
            descriptor, content, offset = call.arguments
            write(descriptor, bytes(content)[: len(content) // 2], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def cannot_cut(call: Call) -> None:
        half(call)
        if call.name == "ftruncate" and "journal" in call.target:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    for hook in (half, cannot_cut):
        with file_calls(hook), pytest.raises(StateWriteError):
            _set(state, 99)
        assert state.read() == fresh(path).read() == {"n": 3}
    acks = [*_acks(state), _set(state, 4)]

    judge(path, acks, [])


STEPS_BEHIND_THE_COMMIT_POINT = {
    "object opened": lambda call: call.name == "open" and call.file.startswith("tmp_obj_"),
    "object written": lambda call: call.name == "write" and call.file.startswith("tmp_obj_"),
    "object named": places_object,
    "folder made": lambda call: call.name == "mkdir" and len(call.file) == 2,
    "ref written": lambda call: call.name == "write" and "ref" in call.file,
    "branch locked": locks_branch,
    "branch moved": moves_branch,
}


@pytest.mark.parametrize("step", STEPS_BEHIND_THE_COMMIT_POINT)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EMFILE])
def test_what_fails_behind_the_commit_point_is_committed_and_catches_up(
    step: str, number: int, path: Path
) -> None:
    state = _three_versions(path)
    acks = _acks(state)
    with _failing(STEPS_BEHIND_THE_COMMIT_POINT[step], number, times=50):
        acks.append(_set(state, 4))
        assert state.read() == fresh(path, timeout=0).read() == {"n": 4}
        assert next(state.log(1)).id == acks[-1].id
        assert next(state.log(1)).read() == {"n": 4}
        acks.append(_set(state, 5))
        assert counted(version.read() for version in state.log()) == [5, 4, 3, 2, 1]

    acks.append(_set(state, 6))

    if GIT:
        assert git(state, "rev-list", "--count", "main").strip() == b"6"
        assert git(state, "rev-parse", "main").decode().strip() == acks[-1].id
    judge(path, acks, [])


@forks
@pytest.mark.parametrize("lasts", ["once", "from then on"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_an_error_at_any_file_call_is_a_typed_error_or_none_and_loses_nothing(
    number: int, lasts: str, tmp_path: Path, tally: Tally
) -> None:
    def explore(first: int, step: int) -> int:
        for explored, case in enumerate(itertools.count(first + 1, step)):
            path = tmp_path / str(case) / "pipeline.json"
            path.parent.mkdir()
            told = dict(fork(partial(fail, path=path, case=case)).finish())
            if told["calls"] < case:
                return explored
            acks = [Ack(*ack) for ack in told["acks"]]
            allowed = [[{"n": 5}], [{"n": 4}, {"n": 5}]] if told["unknown"] else [[{"n": 5}]]
            try:
                documents = judge(path, acks, allowed)
                assert documents[-1] == {"n": 5}
            except AssertionError as error:
                raise AssertionError(f"call {case}: {told}") from error
            shutil.rmtree(path.parent)
        raise AssertionError

    def fail(tell: Tell, path: Path, case: int) -> None:
        state = _three_versions(path)
        acks = _acks(state)
        calls, unknown, error = 0, False, None

        def before(call: Call) -> None:
            nonlocal calls
            calls += 1
            if calls == case or (lasts == "from then on" and calls > case):
                raise OSError(number, os.strerror(number), call.target)

        try:
            with file_calls(before):
                acks.append(_set(state, 4))
        except StateError as refusal:  # nothing else may come out
            error = refusal
        assert state.read()["n"] in ({3, 4} if error else {4})
        if error is not None and error.code == "flush-failed":
            unknown = True
            with pytest.raises(StateTransactionError):
                _set(state, 5)
            state.close()
        _set(state, 5)
        for item in {"acks": acks, "calls": calls, "unknown": unknown, "error": str(error)}.items():
            tell(item)

    explored = in_parallel(explore)
    tally("failing file calls", explored)
    assert explored > 15


@forks
@pytest.mark.parametrize("name", ["read", "log", "history", "verify"])
def test_an_error_at_any_file_call_of_a_reader_is_a_typed_error_or_none(
    name: str, path: Path, tally: Tally
) -> None:
    leave(_three_versions(path))

    def work(tell: Tell) -> None:
        for case in itertools.count(1):
            state = fresh(path)
            looks: dict[str, Callable[[], Any]] = {
                "read": state.read,
                "log": lambda state=state: counted(version.read() for version in state.log()),
                "history": lambda state=state: len(state.get_transaction_history()),
                "verify": lambda state=state: state.verify().ok,
            }
            expected = {"read": {"n": 3}, "log": [3, 2, 1], "history": 3, "verify": True}[name]
            made = 0

            def before(call: Call, case: int = case) -> None:
                nonlocal made
                made += 1
                if call.number == case:
                    raise OSError(errno.EIO, os.strerror(errno.EIO), call.target)

            try:
                with file_calls(before, reading=True):
                    found = looks[name]()
            except StateError as error:
                tell(error.code)
            else:
                assert found == expected or name == "verify", (case, found)
            leave(state)
            if made < case:
                break
        tell(case)

    explored = fork(work).finish()[-1]
    tally("failing file calls", explored)
    assert explored > 3
    judge(path, [], None)


# -- interrupted by the user ---------------------------------------------------------------------------------------


@forks
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_ctrl_c_at_any_file_call_leaves_a_handle_that_goes_on(
    moment: str, tmp_path: Path, tally: Tally
) -> None:
    def explore(first: int, step: int) -> int:
        for explored, case in enumerate(itertools.count(first + 1, step)):
            path = tmp_path / str(case) / "pipeline.json"
            path.parent.mkdir()
            *acks, interrupted, after, made = fork(partial(work, path=path, case=case)).finish()
            if made < case:
                return explored
            committed = [[{"n": 4}, {"n": 5}]]
            try:
                judge(
                    path,
                    [Ack(*ack) for ack in acks],
                    [[{"n": 5}], *committed] if interrupted else committed,
                )
            except AssertionError as error:
                raise AssertionError(f"interrupted {moment} {interrupted}") from error
            assert after[1] == {"n": 5}
            shutil.rmtree(path.parent)
        raise AssertionError

    def work(tell: Tell, path: Path, case: int) -> None:
        state = _three_versions(path, timeout=5)
        for ack in _acks(state):
            tell(ack)
        interrupted, made = "", 0

        def interrupt(call: Call) -> None:
            nonlocal interrupted, made
            made = call.number
            if call.number == case:
                interrupted = str(call)
                raise KeyboardInterrupt

        try:
            with file_calls(**{moment: interrupt}):
                _set(state, 4)
        except KeyboardInterrupt:
            pass
        tell(interrupted)
        assert state.read()["n"] in {3, 4}
        assert [version.serial for version in state.log()][-3:] == [3, 2, 1]
        tell(_set(state, 5))
        tell(made)

    explored = in_parallel(explore)
    tally("Ctrl-C at file calls", explored)
    assert explored > 15


@forks
def test_a_ctrl_c_while_a_refused_block_is_cleaned_up_lets_go_of_the_lock(path: Path) -> None:
    state = _three_versions(path, timeout=0)
    acks = _acks(state)

    def interrupt(call: Call) -> None:
        if call.name == "unlink" and call.file.endswith(".tmp"):
            raise KeyboardInterrupt

    with file_calls(interrupt), pytest.raises(KeyboardInterrupt):
        state.write({"phase1": "no phase"})

    def work(tell: Tell) -> None:
        tell(_set(fresh(path, timeout=0), 4))

    acks += [Ack(*ack) for ack in fork(work).finish()]
    acks.append(_set(state, 5))
    judge(path, acks, [])


# -- checkpoints ---------------------------------------------------------------------------------------------------


def test_many_transactions_keep_the_journal_bounded_and_the_objects_packed(path: Path) -> None:
    state = PipelineState(path, max_backups=None)
    generations, sizes, loose = set(), [], []
    text = os.urandom(9000).hex()
    for number in range(1, 301):
        state.write({"n": number, "text": text[number:], "more": text[: number * 2]})
        if number % 10 == 0:
            generations.add(journal_of(path).name)
            sizes.append(journal_of(path).stat().st_size)
            loose.append(len(loose_objects(path)))

    assert len(generations) > 3
    assert max(sizes) <= 2 * 1024 * 1024
    assert max(loose) < 400
    judge_disk(state)
    state.close()
    assert loose_objects(path) == []
    assert journal_of(path).stat().st_size <= 256 * 1024
    assert len(list((path.parent / ".pipeline").glob("journal.*"))) == 1
    assert counted(judge(path, [], None)) == list(range(1, 301))


def test_many_checkpoints_keep_the_packs_few(path: Path) -> None:
    state = PipelineState(path, max_backups=None)
    packs = []
    for number in range(1, 61):
        state.write({"n": number})
        state.checkpoint()
        packs.append(len(list((path.parent / ".pipeline/repo/objects/pack").glob("*.pack"))))

    assert loose_objects(path) == []
    assert max(packs) <= 17
    judge_disk(state)
    assert counted(judge(path, [], None)) == list(range(1, 61))


def test_a_pack_that_is_to_be_kept_is_kept(path: Path) -> None:
    state = _three_versions(path)
    state.checkpoint()
    (pack,) = (path.parent / ".pipeline/repo/objects/pack").glob("*.pack")
    pack.with_suffix(".keep").touch()
    for number in range(4, 30):
        state.write({"n": number})
        state.checkpoint()

    assert pack.exists()
    assert pack.with_suffix(".idx").exists()
    judge_disk(state)


def test_a_checkpoint_with_nothing_to_do_writes_nothing(path: Path) -> None:
    state = _three_versions(path)
    state.checkpoint()
    before = {
        file: file.read_bytes() for file in (path.parent / ".pipeline").rglob("*") if file.is_file()
    }
    state.checkpoint()
    state.close()

    after = {
        file: file.read_bytes() for file in (path.parent / ".pipeline").rglob("*") if file.is_file()
    }
    changed = {
        file.name for file in before.keys() | after.keys() if before.get(file) != after.get(file)
    }
    assert changed <= {"maintenance.lock"}


def test_a_checkpoint_that_the_disk_refuses_loses_nothing_and_can_be_repeated(path: Path) -> None:
    state = _three_versions(path)
    acks = _acks(state)
    calls, recording = recorded_calls()
    with recording:
        state.checkpoint()
    for case in range(1, len(calls) + 1):
        acks.append(_set(state, 3 + case))
        with _failing(lambda call, case=case: call.number == case, errno.ENOSPC):
            outcome = "done"
            try:
                state.checkpoint()
            except StateError as error:
                outcome = error.code
        if outcome == "flush-failed":
            state.close()
        assert counted(version.read() for version in state.log())[0] == 3 + case, outcome
        state.checkpoint()

    judge(path, acks, [])


def test_a_checkpoint_keeps_what_the_journal_alone_knew(path: Path) -> None:
    state = _three_versions(path)
    with pytest.raises(ZeroDivisionError), state.transaction():
        _ = 1 / 0
    assert [line["success"] for line in state.get_transaction_history()].count(False) == 1

    state.checkpoint()
    leave(state)
    (path.parent / ".pipeline" / "journal.kept").write_bytes(journal_of(path).read_bytes())
    journal_of(path).unlink()

    history = fresh(path).get_transaction_history()
    assert [line["success"] for line in history].count(False) == 1
    assert counted(judge(path, [], None)) == [1, 2, 3]


def test_a_damaged_pack_is_reported_and_never_taken_for_an_empty_state(path: Path) -> None:
    state = _three_versions(path)
    state.close()
    (pack,) = (path.parent / ".pipeline/repo/objects/pack").glob("*.pack")
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 0xFF
    pack.chmod(0o644)
    pack.write_bytes(content)

    assert not fresh(path).verify().ok
    assert fresh(path).read() == {"n": 3}
    with pytest.raises(StateReadError):
        for version in fresh(path).log():
            version.read()
    assert json.loads(path.read_bytes()) == {"n": 3}
