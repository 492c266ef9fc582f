"""States that a reading of the code found to be mishandled once, each made by hand and kept from coming back."""

import contextlib
import errno
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from oracle import (
    Call,
    Tell,
    file_calls,
    fork,
    forks,
    fresh,
    git,
    judge,
    judge_disk,
    leave,
    needs_git,
)
from pydantic import BaseModel, model_validator

from gitstate import (
    PipelineState,
    StateConflictError,
    StateError,
    StateLockError,
    StateReadError,
    StateTransactionError,
    StateValidationError,
    StateWriteError,
    VersionNotFoundError,
    codec,
    files,
    generations,
    lock,
)
from gitstate.effects import Effects
from gitstate.journal import Journal
from gitstate.registry import open_store
from gitstate.repository import Repository, loose
from gitstate.store import Store

pytestmark = forks


def _die() -> None:
    os._exit(137)


def _journal(path: Path) -> Path:
    return max((path.parent / ".pipeline").glob("journal.0*"))


def _with_versions(path: Path, count: int) -> PipelineState:
    state = fresh(path)
    for number in range(count):
        state.write({"n": number})
    return state


def _packed(state: PipelineState) -> list[str]:
    """The ids of the objects in all packs, with repetitions."""
    ids = []
    for index in (state.git_dir / "objects/pack").glob("*.idx"):
        listed = git(state, "show-index", input=index.read_bytes()).decode().splitlines()
        ids += [line.split()[1] for line in listed]
    return ids


def _no_room_for_a_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.write_new

    def full(name: Any, *args: Any, **kwargs: Any) -> Any:
        if "journal.new" in os.fspath(name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(name, *args, **kwargs)

    monkeypatch.setattr(files, "write_new", full)


def test_a_late_part_of_an_append_that_never_was_does_not_come_back(path: Path) -> None:
    """A note and an append in flight; the power cut drops the first block and keeps the second."""

    def work(tell: Any) -> None:
        state = fresh(path)
        state.write({"v": 1})
        state.checkpoint()
        with contextlib.suppress(StateValidationError):
            state.write({"v": object()})
        files.flush_data = lambda _: _die()
        state.write({"v": "never acknowledged"})

    fork(work).wait()
    journal = _journal(path)
    content = bytearray(journal.read_bytes())
    content[4096:8192] = bytes(4096)
    journal.write_bytes(content)

    state = fresh(path)
    assert state.read() == {"v": 1}
    state.write({"v": "acknowledged"})
    leave(state)

    assert [version.read()["v"] for version in fresh(path).log()] == ["acknowledged", 1]


def test_a_recovery_that_fails_forgets_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = fresh(path)
    ours.write({"v": 1})
    ours.checkpoint()
    lock = path.parent / ".pipeline/repo/refs/heads/main.lock"
    lock.touch()  # git pack-refs at work, so their branch follows later

    def work(tell: Any) -> None:
        fresh(path).write({"v": 2})
        tell("acknowledged")
        _die()

    fork(work).wait()
    lock.unlink()
    _no_room_for_a_journal(monkeypatch)
    with pytest.raises(StateWriteError):
        ours.write({"v": 3})
    monkeypatch.undo()
    ours.write({"v": 3})

    assert [version.read()["v"] for version in ours.log()] == [3, 2, 1]


def test_an_edit_is_flushed_before_anything_is_built_on_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = fresh(path)
    state.write({"v": 1})
    path.write_text('{"v": "theirs"}')
    flushed = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (flushed.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1]
    )

    with state.transaction() as txn:
        txn.data["new"] = 1

    assert os.fspath(path) in flushed
    assert os.fspath(path.parent) in flushed


@needs_git
def test_an_object_that_is_there_and_cannot_be_replaced_is_believed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to rename over a file that is read-only."""
    state = fresh(path)
    state.write({"v": 1})
    real = os.replace

    def refuses(old: Any, new: Any) -> None:
        if "objects" in os.fspath(new) and os.path.exists(new):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        real(old, new)

    monkeypatch.setattr(os, "replace", refuses)
    state.write({"v": 2})
    state.write({"v": 1})  # its blob and its tree are there

    assert git(state, "rev-list", "--count", "HEAD").strip() == b"3"
    monkeypatch.undo()

    leave(state)
    assert judge(path, [], None)[:3] == [{"v": 1}, {"v": 2}, {"v": 1}]


def test_an_object_that_cannot_be_read_just_now_is_not_deleted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = fresh(path)
    state.write({"v": 1})
    leave(state)
    objects = sorted((path.parent / ".pipeline/repo/objects").glob("??/*"))
    real = files.read

    def failing(name: Any) -> Any:
        if "objects" in os.fspath(name):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), os.fspath(name))
        return real(name)

    monkeypatch.setattr(loose.files, "read", failing)
    with contextlib.suppress(StateError):
        fresh(path).write({"v": 2})
    monkeypatch.undo()

    assert set(objects) <= set((path.parent / ".pipeline/repo/objects").glob("??/*"))


def test_a_second_read_never_goes_back(path: Path) -> None:
    def work(tell: Any) -> None:
        state = fresh(path)
        state.write({"v": 1})
        os.replace = lambda *_: _die()
        state.write({"v": 2})

    fork(work).wait()
    other = fresh(path)
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        other._parts.store.lock.acquire(None, "test")
        holding.set()
        done.wait()
        other._parts.store.lock.release()

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    state = PipelineState(path)
    found = [state.read(), state.read()]
    done.set()
    thread.join()

    assert found == [{"v": 2}, {"v": 2}]


def test_a_block_may_be_left_in_another_thread(path: Path) -> None:
    state = PipelineState(path, timeout=0.5)
    txn = state.transaction()
    txn.__enter__()
    txn.data["a"] = 1

    thread = threading.Thread(target=lambda: txn.__exit__(None, None, None))
    thread.start()
    thread.join()

    state.write({"b": 2})
    assert state.read() == {"b": 2}


def test_a_restore_over_a_deleted_file_is_finished_whatever_else_the_journal_holds(
    path: Path,
) -> None:
    def work(tell: Any) -> None:
        state = fresh(path)
        state.write({"v": 1})
        state.write({"v": 2})
        state.create_backup("unrelated")
        path.unlink()
        os.replace = lambda *_: _die()
        state.restore_backup(1)

    fork(work).wait()

    assert fresh(path).read() == {"v": 1}
    judge(path, [], None)


def test_a_backup_whose_ref_is_still_to_follow_is_taken(path: Path) -> None:
    state = fresh(path)
    first = state.write({"v": 1})
    lock = path.parent / ".pipeline/repo/refs/backups/keep.lock"
    lock.parent.mkdir()
    lock.touch()
    state.create_backup("keep")
    state.write({"v": 2})

    with pytest.raises(StateValidationError):
        state.create_backup("keep")

    lock.unlink()
    state.write({"v": 3})
    assert state.read(at="keep") == {"v": 1}
    assert first is not None


def test_a_store_that_was_made_anew_is_not_called_damaged(path: Path) -> None:
    state = _with_versions(path, 3)
    assert len(list(state.log())) == 3

    def work(tell: Any) -> None:
        import shutil

        shutil.rmtree(path.parent / ".pipeline")
        path.unlink()
        fresh(path).write({"v": "new"})

    fork(work).wait()

    assert state.read() == {"v": "new"}
    assert len(list(state.log())) == 1


def test_a_failing_flush_of_an_edit_leaves_no_temporary_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = fresh(path)
    state.write({"v": 1})
    path.write_text('{"v": "theirs"}')

    def fail(_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "flush_file", fail)
    with pytest.raises(StateWriteError):
        state.write({"v": 2})

    assert [name for name in os.listdir(path.parent) if name.endswith(".tmp")] == []
    assert json.loads(path.read_text()) == {"v": "theirs"}


def test_a_repository_that_is_gone_is_damage_and_no_empty_history(path: Path) -> None:
    state = fresh(path)
    state.write({"v": 1})
    (path.parent / ".pipeline/repo").rename(path.parent / "elsewhere")

    for look in (lambda: list(fresh(path).log()), lambda: fresh(path).get_transaction_history()):
        with pytest.raises(StateReadError) as caught:
            look()
        assert caught.value.code == "repository-missing"
    assert not fresh(path).verify().ok


def test_verifying_changes_nothing_even_where_recovery_is_due(path: Path) -> None:
    def work(tell: Any) -> None:
        state = fresh(path)
        state.write({"v": 1})
        os.replace = lambda *_: _die()
        state.write({"v": 2})

    fork(work).wait()
    before = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}

    report = fresh(path).verify()

    after = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}
    changed = {p.name for p in before.keys() | after.keys() if before.get(p) != after.get(p)}
    assert not report.ok
    # It asks for the lock in the line, and holds it.
    assert changed <= {"pipeline.json.lock", "queue.lock"}


@needs_git
def test_checkpoints_beside_many_writers_succeed_and_pack_nothing_twice(path: Path) -> None:
    def work(tell: Any) -> None:
        state = fresh(path)
        for number in range(60):
            with state.transaction() as txn:
                txn.data[f"k{os.getpid()}"] = [number, os.urandom(20_000).hex()]

    fresh(path).write({})
    for process in [fork(work) for _ in range(4)]:
        process.wait()

    state = fresh(path)
    assert next(state.log()).serial == 241
    ids = _packed(state)
    assert ids
    # The same tree or blob may be made twice; whole packs made twice would double the number.
    assert len(ids) < 1.2 * len(set(ids))


@needs_git
def test_a_pack_that_a_recovery_overtakes_stays_and_is_not_made_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `git gc` that has seen it deletes the loose objects that it holds, those that are written later too."""
    state = _with_versions(path, 4)
    seen: list[str] = []
    real = Repository.pack

    def overtaken(self: Repository, *arguments: Any) -> None:
        real(self, *arguments)
        monkeypatch.undo()
        seen.extend(_packed(state))
        fork(lambda tell: fresh(path).write({"n": 4})).finish()

    monkeypatch.setattr(Repository, "pack", overtaken)
    state.checkpoint()

    assert len(seen) == 12
    assert set(seen) <= set(_packed(state))
    assert git(state, "rev-list", "--count", "--objects", "HEAD").strip() == b"15"
    judge_disk(state)
    state.checkpoint()
    assert len(_packed(state)) == 15
    assert not list((state.git_dir / "objects").glob("??/*"))
    judge_disk(state)
    assert [version.read()["n"] for version in state.log()] == [4, 3, 2, 1, 0]


@needs_git
def test_a_repack_that_began_before_a_checkpoint_takes_nothing(path: Path, tmp_path: Path) -> None:
    """It has seen a pack with objects that no ref named: those of the state that is written now."""
    state = _with_versions(path, 5)
    document = codec.encode({"n": "again"})
    blob = git(state, "hash-object", "-w", "--stdin", input=document).decode().strip()
    line = f"100644 blob {blob}\t{path.name}\n"
    tree = git(state, "mktree", input=line.encode()).decode().strip()
    packs = state.git_dir / "objects/pack"
    git(state, "pack-objects", "-q", f"{packs}/pack", input=f"{blob}\n{tree}\n".encode())
    git(state, "prune-packed", "-q")
    state.close()
    seen = list(packs.iterdir())
    theirs = Path(shutil.copytree(state.git_dir, tmp_path / "theirs"))
    git(theirs, "repack", "-adfq")

    with fresh(path) as state:
        state.write({"n": "again"})
    for made in (theirs / "objects/pack").iterdir():
        shutil.copy(made, packs)
    for old in seen:
        old.unlink(missing_ok=True)

    judge_disk(state)
    assert fresh(path).read(at="HEAD") == {"n": "again"}


@needs_git
def test_an_index_that_git_cannot_read_is_named_and_no_checkpoint_relies_on_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a pack that a checkpoint left before it was cut off: the journal still has the objects."""
    state = _with_versions(path, 4)

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gitstate.checkpoint.Checkpoint._switch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        state.checkpoint()
    monkeypatch.undo()
    (index,) = (state.git_dir / "objects/pack").glob("*.idx")
    index.chmod(0o600)
    content = bytearray(index.read_bytes())
    content[100] ^= 0x40  # the table of where each first byte ends: gitformat-pack(5)
    index.write_bytes(content)
    leave(state)
    assert "a pack is damaged" in " ".join(fresh(path).verify().problems)

    state = fresh(path)
    state.write({"n": 4})
    state.checkpoint()
    index.unlink()
    index.with_suffix(".pack").unlink()
    leave(state)

    judge_disk(state)
    assert [version.read()["n"] for version in fresh(path).log()] == [4, 3, 2, 1, 0]


def test_a_version_is_found_by_its_hash_though_another_process_has_replaced_the_packs(
    path: Path,
) -> None:
    """Whoever has looked into some packs knows the names of the others, and not what is in them."""
    state = fresh(path)
    ids = []
    for number in range(12):
        version = state.write({"n": number})
        assert version is not None
        ids.append(version.id)
        state._parts.store.checkpoint(None, 0)
    state = fresh(path)
    assert state.read(at="HEAD") == {"n": 11}

    def replace(tell: Tell) -> None:
        with fresh(path) as other:
            other.write({"n": 12})

    fork(replace).finish()

    assert [state.read(at=each[:12])["n"] for each in ids] == list(range(12))


def test_of_two_packs_with_an_object_one_may_be_damaged(path: Path) -> None:
    state = _with_versions(path, 3)
    store = state._parts.store
    objects = [made for record in store._ledger.journal.reread() for made in record.objects]
    folder = path.parent / "scratch"
    folder.mkdir()
    store.repository.pack(objects, folder, 0)
    store.repository.pack(objects[:5], folder, 0)
    state.checkpoint()
    leave(state)
    packs = sorted(store.layout.git_dir.glob("objects/pack/*.pack"), key=lambda p: p.stat().st_size)

    for pack in packs[:-1]:
        content = bytearray(pack.read_bytes())
        content[20:-20] = bytes(len(content) - 40)
        pack.chmod(0o600)
        pack.write_bytes(content)

    assert [version.read()["n"] for version in fresh(path).log()] == [2, 1, 0]


def test_a_version_can_be_read_in_a_child_though_a_thread_of_the_parent_was_reading(
    path: Path,
) -> None:
    state = fresh(path)
    version = state.write({"v": 1})
    assert version is not None
    mutex = state._parts.store.repository._objects._mutex
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with mutex:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    told = fork(lambda tell: tell(version.read())).finish()
    done.set()
    thread.join()

    assert told == [{"v": 1}]


def test_a_writer_that_is_refused_leaves_the_file_of_the_one_at_work(path: Path) -> None:
    """They share a store when they are threads of one process."""
    seen = []

    class Slow(BaseModel):
        model_config = {"extra": "allow"}

        @model_validator(mode="after")
        def wait(self) -> "Slow":
            before = list(path.parent.glob(".pipeline.json.*.tmp"))
            worker = threading.Thread(target=refused)
            worker.start()
            worker.join()
            seen.append((before, list(path.parent.glob(".pipeline.json.*.tmp"))))
            return self

    def refused() -> None:
        with pytest.raises(StateLockError):
            PipelineState(path, schema=None, timeout=0).write({"v": "theirs"})

    fresh(path).write({"v": 1})
    PipelineState(path, schema=Slow).write({"v": 2})

    ((before, after),) = seen
    assert before == after
    assert len(before) == 1
    assert PipelineState(path).read() == {"v": 2}


def test_a_child_forked_by_a_validator_neither_commits_nor_removes_anything(path: Path) -> None:
    statuses = []

    class Forking(BaseModel):
        model_config = {"extra": "allow"}
        v: int

        @model_validator(mode="after")
        def fork(self) -> "Forking":
            if self.v == 2 and (pid := os.fork()):
                statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            return self

    state = PipelineState(path, schema=Forking)
    state.write({"v": 1})
    parent = os.getpid()
    try:
        state.write({"v": 2})
    except StateTransactionError as error:
        if os.getpid() != parent:
            os._exit(7 if error.code == "forked" else 8)
        raise
    finally:
        if os.getpid() != parent:
            os._exit(9)

    assert statuses == [7]
    assert fresh(path).read() == {"v": 2}
    assert [version.read()["v"] for version in fresh(path).log()] == [2, 1]


def test_a_state_that_is_unusual_is_reported_by_every_transaction(path: Path) -> None:
    state = fresh(path)
    for number in range(3):
        with pytest.warns(UserWarning, match="odd"):
            state.write({"phase1": {"status": "odd"}, "n": number})


def test_a_journal_that_begins_from_the_repository_flushes_refs_and_objects_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The branch's file may have been written again, and its older content be what is on disk."""
    state = _with_versions(path, 3)
    leave(state)
    began = time.time_ns()
    _journal(path).unlink()
    flushed = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (flushed.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1]
    )

    assert fresh(path).write({"n": 3})

    names = [os.path.relpath(name, state.git_dir) for name in flushed]
    before = names[: names.index("../journal.new")]
    assert "refs/heads/main" in before
    loose = [path for path in state.git_dir.glob("objects/??/*") if path.stat().st_mtime_ns < began]
    assert len(loose) >= 9
    assert {os.path.relpath(path, state.git_dir) for path in loose} <= set(before)


def test_a_merge_of_packs_that_was_killed_before_it_deleted_is_made_again_and_loses_nothing(
    path: Path,
) -> None:
    """The second merge makes the very pack that is there: it must not be deleted with those that it replaces."""
    state = PipelineState(path, max_backups=None)
    for number in range(16):
        state.write({"n": number})
        state.checkpoint()

    def work(tell: Tell) -> None:
        def die(call: Call) -> None:
            if call.name == "unlink" and call.target.endswith(".pack"):
                tell("merged")
                os._exit(0)

        mine = fresh(path)
        with file_calls(die):
            mine.write({"n": 16})
            mine.close()
        tell("deleted nothing")

    packs = path.parent / ".pipeline" / "repo" / "objects" / "pack"
    before = len(list(packs.glob("*.pack")))
    assert fork(work).finish() == ["merged"]
    assert len(list(packs.glob("*.pack"))) > before

    again = fresh(path)
    again.write({"n": 17, "large": random.Random(1).randbytes(60_000).hex()})
    again.close()

    assert [version.serial for version in fresh(path).log()] == list(range(18, 0, -1))
    judge(path, [], None)


def _loses_what_was_not_flushed(path: Path, flushed: set[int]) -> None:
    """A power cut leaves loose objects whose inode is not in `flushed` without their content."""
    for each in (path.parent / ".pipeline/repo/objects").glob("??/*"):
        if each.stat().st_ino not in flushed:
            each.chmod(0o644)
            each.write_bytes(b"")


@pytest.mark.parametrize("ends", ["interrupted", "refused"])
def test_a_checkpoint_that_ends_behind_its_new_journal_leaves_the_pack(
    ends: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That journal counts already, without the objects: the pack is all there is of them."""
    state = _with_versions(path, 5)
    flushed: set[int] = set()
    real, real_sync = os.fsync, generations.sync_published
    monkeypatch.setattr(os, "fsync", lambda fd: (flushed.add(os.fstat(fd).st_ino), real(fd))[1])

    def sync(directory: Path) -> None:
        if ends == "refused":
            raise StateWriteError("the disk refused", code="flush-failed")
        real_sync(directory)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(generations, "sync_published", sync)
        with pytest.raises((KeyboardInterrupt, StateWriteError)):
            state.checkpoint()
    if ends == "refused":
        with pytest.raises(StateTransactionError, match="flush failed"):
            state.write({"n": "too early"})
    leave(state)
    fresh(path).write({"n": 5})
    leave(state)
    _loses_what_was_not_flushed(path, flushed)

    assert [version.read()["n"] for version in fresh(path).log()] == [5, 4, 3, 2, 1, 0]


@needs_git
def test_a_checkpoint_on_a_full_disk_is_tried_again_with_the_pack_that_it_made(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = _with_versions(path, 3)
    _no_room_for_a_journal(monkeypatch)
    for _ in range(3):
        with pytest.raises(StateWriteError):
            state.checkpoint()
    monkeypatch.undo()
    assert state.verify().ok

    state.checkpoint()

    assert len(_packed(state)) == 9
    judge_disk(state)


def test_a_thread_that_is_interrupted_as_it_waits_takes_no_lock_from_another(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = _with_versions(path, 1)
    inside, go, ended = threading.Event(), threading.Event(), []

    def hold() -> None:
        with state.transaction() as txn:
            txn.data["n"] = "held"
            inside.set()
            go.wait(60)
        ended.append("committed")

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(60)
    real, file = lock.lock_descriptor, path.with_name("pipeline.json.lock").stat()

    def interrupted(descriptor: int, *, blocking: bool) -> bool:
        waits = threading.current_thread() is not holder
        if waits and os.path.samestat(os.fstat(descriptor), file):
            raise KeyboardInterrupt
        return real(descriptor, blocking=blocking)

    with monkeypatch.context() as patched:
        patched.setattr(lock, "lock_descriptor", interrupted)
        with pytest.raises(KeyboardInterrupt):
            state.write({"n": "interrupted"})
    go.set()
    holder.join()

    assert ended == ["committed"]
    assert fresh(path).write({"n": "next"}) is not None


def test_a_checkpoint_does_not_leave_out_records_behind_a_damaged_one(path: Path) -> None:
    state = _with_versions(path, 5)
    content = bytearray(_journal(path).read_bytes())
    content[3 * 4096 + 80] ^= 1
    _journal(path).write_bytes(content)

    with pytest.raises(StateReadError) as caught:
        state.checkpoint()

    assert caught.value.code == "journal-damaged"
    with pytest.raises(StateReadError, match="journal is damaged"):
        fresh(path).write({"n": 5})


@pytest.mark.parametrize("appended", [0, 1, 2])
def test_a_journal_that_another_began_has_its_name_flushed_before_anything_is_appended(
    appended: int, path: Path
) -> None:
    """Whoever began it may have been killed before that: not where somebody has appended twice."""
    state = _with_versions(path, 2)

    def overtake(tell: Tell) -> None:
        other = fresh(path)
        other.checkpoint()
        for number in range(appended):
            other.write({"n": f"other {number}"})
        _die()

    fork(overtake).wait()
    calls: list[str] = []

    def note(call: Call) -> None:
        if call.name in {"fsync", "fdatasync"}:
            calls.append(os.path.relpath(call.target, path.parent))

    with file_calls(note):
        state.write({"n": "last"})

    flushed = ".pipeline" in calls[: calls.index(f".pipeline/{_journal(path).name}")]
    assert flushed == (appended < 2)
    judge_disk(state)


def _fails(state: PipelineState, what: str) -> None:
    with pytest.raises(KeyError), state.transaction():
        raise KeyError(what)


def _failures(path: Path) -> list[str]:
    history = fresh(path).get_transaction_history(50)[::-1]
    return [each["details"]["error"] for each in history if not each["success"]]


def _meanwhile(path: Path, what: Callable[[PipelineState], None]) -> Iterator[None]:
    """Another process with the state open: up to date at the first step, it does `what` at the second."""

    def work(tell: Tell) -> None:
        steps = tell.steps()
        state = fresh(path)
        state.write({"n": "other"})
        tell("is up to date")
        next(steps)
        what(state)
        tell("done")

    child = fork(work)
    child.await_line()
    yield
    child.go_on()
    child.finish()
    yield


@pytest.mark.parametrize("last", ["close", "write", "checkpoint"])
def test_several_failures_in_a_row_that_nobody_has_put_in_place_are_followed_by_another_process(
    last: str, path: Path
) -> None:
    def go_on(state: PipelineState) -> None:
        if last != "close":
            state.write({"n": "after the failures"})
        if last == "checkpoint":
            state.checkpoint()
        state.close()

    state = _with_versions(path, 1)
    _fails(state, "first")
    state.write({"n": "puts the first in place"})
    other = _meanwhile(path, go_on)
    next(other)
    _fails(state, "second")
    _fails(state, "third")
    next(other)
    _fails(state, "fourth")
    state.write({"n": "last"})

    assert _failures(path) == [
        f"KeyError: '{what}'" for what in ("first", "second", "third", "fourth")
    ]
    fresh(path).write({"n": "by anybody"})
    judge_disk(fresh(path))


@pytest.mark.parametrize("name", ["refs/heads/main", "refs/audit/unversioned"])
def test_commits_that_a_lock_of_gits_kept_out_are_put_in_place_by_another_process(
    name: str, path: Path
) -> None:
    options: dict[str, Any] = {"backup_before_write": False} if "unversioned" in name else {}
    state = fresh(path, **options)
    state.write({"n": 1})
    other = _meanwhile(path, lambda state: state.close() if options else _write_and_close(state))
    next(other)
    state.write({"n": 2})
    lock_file = state.git_dir / f"{name}.lock"
    lock_file.touch()
    state.write({"n": 3})
    state.write({"n": 4})
    lock_file.unlink()
    next(other)
    state.write({"n": 5})

    assert len(fresh(path).get_transaction_history(50)) == (6 if options else 7)
    fresh(path).write({"n": "by anybody"})
    judge_disk(fresh(path))


def test_a_failure_before_a_transaction_that_was_taken_back_is_followed_by_another_process(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = _with_versions(path, 1)
    _fails(state, "first")
    state.write({"n": "puts the first in place"})
    other = _meanwhile(path, lambda state: state.close())
    next(other)

    def dies(tell: Tell) -> None:
        own = fresh(path)
        own.write({"n": "own"})
        _fails(own, "second")
        real = Store._take_back
        monkeypatch.setattr(Store, "_take_back", lambda *args: (real(*args), _die()))
        monkeypatch.setattr(Effects, "place", _no_room)
        own.write({"n": "is taken back"})

    fork(dies).wait()
    next(other)
    _fails(state, "third")
    state.write({"n": "last"})

    assert _failures(path) == ["KeyError: 'first'", "KeyError: 'second'", "KeyError: 'third'"]
    judge_disk(fresh(path))


def test_nobody_appends_behind_an_abort_that_may_never_have_been_flushed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut could drop it, and keep what is behind it: the journal would be damaged, or what was undone be done."""
    state = _with_versions(path, 1)
    other = _meanwhile(path, lambda state: state.write({"n": "other again"}))
    next(other)

    def dies(tell: Tell) -> None:
        own = fresh(path)
        own.write({"n": "own"})
        tell(_journal(path).name)

        def refused(*_: object) -> None:
            monkeypatch.setattr(Journal, "_flush", lambda *_: _die())
            _no_room()

        monkeypatch.setattr(Effects, "place", refused)
        own.write({"n": "is taken back"})

    dying = fork(dies)
    dying.wait()
    (before,) = dying.told()
    next(other)

    assert _journal(path).name > before
    assert [version.read() for version in state.log()][:2] == [{"n": "other again"}, {"n": "own"}]
    judge_disk(fresh(path))


def test_a_ref_that_is_gone_is_put_back_whichever_record_moved_it(path: Path) -> None:
    state = fresh(path, backup_before_write=False)
    state.write({"n": 1})
    other = _meanwhile(path, _write_and_close)  # which begins a new journal
    next(other)
    state.write({"n": 2})
    state.create_backup("kept")
    (state.git_dir / "refs/audit/unversioned").unlink()
    next(other)

    assert len(fresh(path).get_transaction_history(50)) == 5
    judge_disk(fresh(path))


def _write_and_close(state: PipelineState) -> None:
    state.write({"n": "other again"})
    state.close()


def _no_room(*_: object) -> None:
    raise StateWriteError("no room", path=Path("x"), code="write")


def test_who_waited_while_a_flush_failed_writes_nothing_either(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = _with_versions(path, 1)
    refused: list[str] = []
    waits = threading.Event()

    def wait() -> None:
        waits.set()
        try:
            state.write({"n": "waited"})
        except StateError as error:
            refused.append(error.code)

    def fail(descriptor: int) -> None:
        monkeypatch.undo()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    waiter = threading.Thread(target=wait)
    with pytest.raises(StateWriteError), state.transaction() as txn:
        txn.data["n"] = 1
        waiter.start()
        waits.wait(60)
        time.sleep(0.05)  # it has gone past whatever it looks at before it waits
        monkeypatch.setattr(files, "flush_data", fail)
    waiter.join()

    assert refused == ["reopen"]
    with pytest.raises(StateTransactionError):
        state.write({"n": 2})


@needs_git
@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\u2029"])
def test_a_backup_with_an_odd_line_break_in_its_name_is_found_after_git_packs_the_refs(
    separator: str, path: Path
) -> None:
    state = _with_versions(path, 1)
    state.create_backup(f"a{separator}b")
    state.close()
    git(state, "pack-refs", "--all")

    assert fresh(path).read(at=f"a{separator}b") == {"n": 0}
    with pytest.raises(VersionNotFoundError):
        fresh(path).read(at="a")


def test_a_format_that_cannot_be_read_is_a_typed_error_wherever_it_is_looked_at(path: Path) -> None:
    state = _with_versions(path, 1)
    (path.parent / ".pipeline/format").unlink()
    (path.parent / ".pipeline/format").mkdir()

    for ask in (state.list_backups, lambda: fresh(path).write({"n": 1})):
        with pytest.raises(StateReadError) as caught:
            ask()
        assert caught.value.code == "store-unreadable"


@needs_git
def test_a_damaged_version_is_damaged_by_whatever_name(path: Path) -> None:
    state = _with_versions(path, 3)
    version = next(state.log())
    state.close()
    leave(state)
    for pack in state.git_dir.glob("objects/pack/*.pack"):
        aside = path.with_name(pack.name)
        pack.rename(aside)
        pack.with_suffix(".idx").unlink()
        git(state, "unpack-objects", "-q", input=aside.read_bytes())
    damaged = state.git_dir / "objects" / version.id[:2] / version.id[2:]
    damaged.chmod(0o644)
    damaged.write_bytes(b"damaged")

    for name in (version, version.id, version.id[:8], version.serial):
        with pytest.raises(StateReadError) as caught:
            fresh(path).read(at=name)
        assert caught.value.code == "object-damaged"


def test_a_checkpoint_flushes_the_refs_before_it_begins_a_journal_without_their_moves(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = _with_versions(path, 3)
    calls: list[str] = []
    real, real_rename = os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda fd: (calls.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1]
    )
    monkeypatch.setattr(
        os, "rename", lambda old, new: (calls.append(os.fspath(old)), real_rename(old, new))[1]
    )

    state.checkpoint()

    names = [os.path.relpath(name, state.git_dir) for name in calls]
    begun = len(names) - 1 - names[::-1].index("../journal.new")  # renamed, behind its flush
    assert "refs/heads/main" in names[:begun]
    assert "refs/heads" in names[:begun]


def test_a_ref_that_moves_during_a_checkpoint_is_flushed_before_the_journal_begins(
    path: Path,
) -> None:
    """Its file on disk may hold what it was some moves ago, which no record of the new journal knows."""
    state = _with_versions(path, 3)
    flushed: list[int] = []
    in_time: list[bool] = []

    def after(call: Call) -> None:
        branch = state.git_dir / "refs/heads/main"
        if call.name == "fsync" and call.target == str(branch):
            flushed.append(branch.stat().st_ino)
            if len(flushed) == 1:
                state.write({"n": "meanwhile"})
        elif call.name == "rename" and call.file.startswith("journal."):
            in_time.append(branch.stat().st_ino == flushed[-1])
            assert not list(state.git_dir.glob("gitstate-spare-*main"))

    with file_calls(after=after):
        state.checkpoint()

    assert in_time == [True]
    assert len(flushed) == 2
    assert state.read() == {"n": "meanwhile"}
    judge(path, [], None)


def test_a_checkpoint_flushes_no_more_under_the_lock_however_many_refs_have_moved(
    path: Path,
) -> None:
    state = _with_versions(path, 2)
    lock = open_store(path).lock
    under_the_lock: list[list[str]] = []
    for names in (1, 40):
        for number in range(names):
            state.create_backup(f"{names}-{number}")
        calls: list[str] = []

        def before(call: Call, calls: list[str] = calls) -> None:
            if call.name in {"fsync", "fdatasync"} and lock.held_here():
                calls.append(os.path.relpath(call.target, path.parent))

        with file_calls(before):
            state.checkpoint()
        under_the_lock.append(calls)

    few, many = under_the_lock
    assert ".pipeline/repo" in few
    assert len(many) == len(few), many


@needs_git
def test_a_folder_that_git_removes_during_a_checkpoint_need_not_be_flushed(path: Path) -> None:
    state = _with_versions(path, 2)
    git(state, "pack-refs", "--all")
    copies = path.parent / ".pipeline/backups"
    copies.mkdir()
    (copies / "pipeline_20250301_120000_000000.json.bak").write_text('{"n": "old"}')
    (name,) = state.import_backups().names
    folder = state.git_dir / "refs/backups/import"

    def after(call: Call) -> None:
        if call.name == "fsync" and call.file == "packed-refs":
            git(state, "pack-refs", "--all")  # the folder has been found, and is flushed next

    with file_calls(after=after):
        state.checkpoint()

    assert not folder.exists()
    assert state.read(at=name) == {"n": "old"}


@pytest.mark.parametrize("name", ["HEAD", 1])
def test_what_follows_a_restore_over_a_broken_file_follows_it(name: str | int, path: Path) -> None:
    """One record moves two refs there: the one that keeps the broken bytes, and the branch or the audit trail."""
    state = fresh(path)
    for number in (1, 2):
        state.write({"n": number})
    for times in (1, 2):
        path.write_bytes(b"broken %d" % times)
        state.restore_backup(name)
    state.write({"n": 3})
    fresh(path).write({"n": 4})

    judge(path, [], None)
    restored = [
        event for event in state.get_transaction_history() if event["operation"] == "restore_commit"
    ]
    assert len(restored) == 2


def test_an_older_file_that_somebody_puts_back_is_an_edit_though_another_has_written(
    path: Path,
) -> None:
    state = _with_versions(path, 1)
    other = _meanwhile(path, lambda state: state.write({"n": "theirs"}))
    next(other)
    state.write({"n": "kept"})
    os.link(path, path.with_name("kept.json"))
    state.write({"n": "after it"})
    next(other)
    os.replace(path.with_name("kept.json"), path)

    with state.transaction() as txn:
        txn.data["more"] = True

    last = [version.read() for version in state.log(limit=3)]
    assert last == [{"n": "kept", "more": True}, {"n": "kept"}, {"n": "theirs"}]
    judge_disk(state)


@needs_git
def test_an_older_id_that_somebody_puts_on_the_branch_stays_though_another_has_written(
    path: Path,
) -> None:
    state = _with_versions(path, 1)
    other = _meanwhile(path, lambda state: state.write({"n": "theirs"}))
    next(other)
    for number in (2, 3):
        state.write({"n": number})
    next(other)
    git(state, "update-ref", "refs/heads/main", "main~2")
    put = git(state, "rev-parse", "main")

    with pytest.raises(StateConflictError) as caught:
        state.write({"n": "too late"})

    assert caught.value.code == "ref-moved"
    assert git(state, "rev-parse", "main") == put


@pytest.mark.parametrize("then", ["write", "checkpoint", "close"])
def test_a_damaged_record_among_those_of_another_process_is_damage_where_all_are_read(
    then: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def writes(other: PipelineState) -> None:
        for number in (1, 2):
            other.write({"theirs": number})

    state = _with_versions(path, 2)
    other = _meanwhile(path, writes)
    next(other)
    state.write({"n": 3})
    with contextlib.closing(Journal.open(path.parent / ".pipeline")) as journal:
        journal.follow()
        first_of_theirs = journal.size
    next(other)
    content = bytearray(_journal(path).read_bytes())
    content[first_of_theirs + 200] ^= 1
    _journal(path).write_bytes(content)
    path.write_text('{"by": "hand"}')  # so that the last record is not in place, and all are read

    if then == "close":
        state.close()
        assert "journal is damaged" in caplog.text
    else:
        with pytest.raises(StateReadError) as caught:
            state.write({"n": 4}) if then == "write" else state.checkpoint()
        assert caught.value.code == "journal-damaged"
    assert _journal(path).read_bytes() == content


def test_a_program_that_ends_with_a_transaction_in_its_hands_says_nothing(path: Path) -> None:
    # Something outside that refers to a function of the program keeps its variables to the interpreter's last moments.
    program = """
import os, sys
from gitstate import PipelineState
os.of_the_program = lambda: None
state = PipelineState(sys.argv[1])
with state.transaction() as txn:
    txn.data["n"] = 1
state.read(at=1)
state.close()
"""
    command = [sys.executable, "-c", program, os.fspath(path)]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("", "")
