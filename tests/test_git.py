"""Stock Git as the judge of the hidden repository, and as its neighbour: nothing that it does loses a version."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from oracle import (
    GIT,
    Call,
    Tell,
    counted,
    dying_before,
    file_calls,
    fork,
    fresh,
    git,
    git_environment,
    judge,
    judge_disk,
    leave,
    locks_branch,
    moves_branch,
    needs_git,
    replaces_state,
)

from gitstate import PipelineState, StateConflictError, Version

pytestmark = needs_git

FSCK = ("fsck", "--strict", "--no-progress", "--no-dangling")


def _versions(path: Path, count: int, start: int = 1, **options: Any) -> PipelineState:
    """A handle on a state whose versions hold `n` = `start`, `start` + 1, ..."""
    state = PipelineState(path, max_backups=None, **options)
    for number in range(start, start + count):
        state.write({"n": number, "text": f"line {number}"})
    return state


def _increment(state: PipelineState) -> Version:
    with state.transaction() as txn:
        txn.data["n"] += 1
    assert txn.version is not None
    return txn.version


def _branch(state: PipelineState) -> Path:
    return state.git_dir / "refs" / "heads" / "main"


# -- reading -------------------------------------------------------------------------------------------------------


def test_git_log_lists_the_versions_newest_first(path: Path) -> None:
    state = _versions(path, 5)

    listed = git(state, "log", "--format=%H %s").decode().splitlines()

    assert listed == [f"{version.id} write: n, text" for version in state.log()]


def test_git_log_with_patches_shows_the_changed_lines(path: Path) -> None:
    state = _versions(path, 3)

    patches = git(state, "log", "-p").decode()

    for number in (1, 2, 3):
        assert f'+  "n": {number},' in patches
    assert '-  "n": 2,' in patches


def test_every_version_that_git_shows_is_equal_byte_for_byte(path: Path) -> None:
    state = _versions(path, 6)
    contents = []
    for number in range(7, 10):
        state.write({"n": number, "ü": ["\u2028", 2**70, 0.1, None, {}]})
        contents.append(path.read_bytes())

    shown = [git(state, "show", f"HEAD~{steps}:pipeline.json") for steps in (2, 1, 0)]

    assert shown == contents
    assert git(state, "show", "HEAD~3:pipeline.json") == b'{\n  "n": 6,\n  "text": "line 6"\n}\n'


def test_the_tree_of_a_version_holds_the_state_file_and_nothing_else(tmp_path: Path) -> None:
    for name in ("pipeline.json", "other name.json", "zustand-ü.json"):
        state = _versions(tmp_path / name, 2)

        listed = git(state, "ls-tree", "-r", "-z", "HEAD").rstrip(b"\0").split(b"\0")

        blob = git(state, "hash-object", str(tmp_path / name)).strip()
        assert listed == [b"100644 blob " + blob + b"\t" + name.encode()]


@pytest.mark.parametrize(
    "message",
    ["plain", "a subject\n\nand a body\n\nSerial: 99\nOperation: forged", "---\nSerial: 7"],
)
def test_git_reads_the_machine_readable_fields_as_trailers(message: str, path: Path) -> None:
    state = _versions(path, 1)
    version = state.write({"n": 2}, operation="phase4", message=message)
    assert version is not None

    body = git(state, "log", "-1", "--format=%B")
    by_log = git(state, "log", "-1", "--format=%(trailers:only,unfold)").decode()
    command = [GIT or "git", "interpret-trailers", "--parse"]
    by_parser = subprocess.run(
        command, input=body, capture_output=True, check=True, env=git_environment()
    ).stdout.decode()

    for text in (by_log, by_parser):
        fields = [tuple(line.split(": ", 1)) for line in text.splitlines() if line]
        assert fields == [
            ("Operation", "phase4"),
            ("Serial", "2"),
            ("Time", version.timestamp.isoformat(timespec="microseconds")),
            ("Changed-Keys", '["n", "text"]'),
            ("Pid", str(os.getpid())),
            ("Host", fields[-1][1]),
        ]


def test_git_clones_the_history_and_the_state(path: Path, tmp_path: Path) -> None:
    state = _versions(path, 4)
    with pytest.raises(ZeroDivisionError), state.transaction():
        _ = 1 / 0
    state.create_backup("kept")

    target = tmp_path / "clone"
    git(state.git_dir, "clone", "--quiet", "--no-local", str(state.git_dir), str(target))

    assert (target / "pipeline.json").read_bytes() == path.read_bytes()
    assert git(target / ".git", "rev-list", "HEAD") == git(state, "rev-list", "HEAD")
    assert not git(target / ".git", *FSCK).strip()


def test_git_pushes_the_history_to_an_empty_repository(path: Path, tmp_path: Path) -> None:
    state = _versions(path, 4)
    remote = tmp_path / "remote.git"
    git(remote, "init", "--quiet", "--bare", str(remote))

    git(state, "push", "--quiet", str(remote), "main", "+refs/audit/*:refs/audit/*")

    assert git(remote, "rev-list", "main") == git(state, "rev-list", "main")
    assert not git(remote, *FSCK).strip()


def test_the_projects_own_repository_does_not_see_the_store(path: Path, tmp_path: Path) -> None:
    subprocess.run(
        [GIT or "git", "init", "--quiet", str(tmp_path)], check=True, env=git_environment()
    )
    _versions(path, 2).close()

    seen = git(
        tmp_path / ".git", "--work-tree=.", "status", "--porcelain", "-uall", cwd=tmp_path
    ).decode()

    assert ".pipeline" not in seen


# -- maintenance by others -----------------------------------------------------------------------------------------

UPKEEP = {
    "gc": [("gc", "--quiet", "--prune=now")],
    "gc --aggressive": [("gc", "--quiet", "--aggressive", "--prune=now")],
    "repack": [("repack", "-ad", "--quiet")],
    "repack with bitmaps": [("repack", "-adb", "--quiet")],
    "pack-refs": [("pack-refs", "--all", "--prune")],
    "prune": [("prune", "--expire=now"), ("prune-packed", "--quiet")],
    "indexes": [
        ("repack", "-d", "--quiet"),
        ("commit-graph", "write", "--reachable"),
        ("multi-pack-index", "write"),
    ],
    "split commit-graph": [("commit-graph", "write", "--reachable", "--split")],
    "reflogs": [("reflog", "expire", "--expire=now", "--all"), ("gc", "--quiet")],
}


@pytest.mark.parametrize("upkeep", UPKEEP)
@pytest.mark.parametrize("handle", ["same handle", "new handle"])
def test_nothing_is_lost_by_gits_upkeep_and_work_goes_on(
    upkeep: str, handle: str, path: Path
) -> None:
    state = _versions(path, 4)
    with pytest.raises(ZeroDivisionError), state.transaction():
        _ = 1 / 0
    state.create_backup("kept")
    for round_ in range(3):
        for command in UPKEEP[upkeep]:
            git(state, *command)
        if handle == "new handle":
            state = fresh(path)

        version = _increment(state)

        assert version.serial == 5 + round_
        assert counted(v.read() for v in state.log()) == list(range(5 + round_, 0, -1))
        assert git(state, "show", "HEAD:pipeline.json") == path.read_bytes()
    for command in UPKEEP[upkeep]:
        git(state, *command)
    state.checkpoint()

    assert state.read(at="kept")["n"] == 4
    assert [line["success"] for line in state.get_transaction_history()].count(False) == 1
    judge_disk(state)
    judge(path, [], None)


def test_a_commit_graph_and_a_multi_pack_index_do_not_outlive_what_they_name(path: Path) -> None:
    state = _versions(path, 3)
    for round_ in range(20):
        git(state, "repack", "-d", "--quiet")
        git(state, "commit-graph", "write", "--reachable")
        git(state, "multi-pack-index", "write")
        _versions(path, 3, start=10 * round_ + 10)
        state.checkpoint()

        assert not git(state, *FSCK).strip()
    judge_disk(state)


@pytest.mark.parametrize(
    "command", [("gc", "--quiet", "--prune=now"), ("pack-refs", "--all", "--prune")]
)
def test_upkeep_at_any_file_call_of_a_transaction_loses_nothing(
    command: tuple[str, ...], path: Path
) -> None:
    state = _versions(path, 2)
    calls: list[Call] = []
    number = 0

    def interfere(call: Call) -> None:
        calls.append(call)
        if call.number == number:
            git(state, *command)

    while number <= len(calls):
        number += 1
        calls.clear()
        with file_calls(interfere):
            version = _increment(state)

        # Git, right after the block, has no journal to look into (PITFALLS G2).
        assert git(state, "show", "HEAD:pipeline.json") == path.read_bytes()
        assert state.log().__next__().id == version.id
        assert state.read(at=version)["n"] == number + 2
        assert state.read(at="HEAD~1")["n"] == number + 1

    assert number > 10
    assert counted(judge(path, [], None)) == list(range(1, number + 3))


@pytest.mark.parametrize("read", ["log", "named", "audit"])
def test_packing_of_refs_at_any_file_call_of_a_reader_hides_nothing(read: str, path: Path) -> None:
    state = _versions(path, 4)
    with pytest.raises(ZeroDivisionError), state.transaction():
        _ = 1 / 0
    _increment(state)
    readers: dict[str, Callable[[PipelineState], Any]] = {
        "log": lambda state: counted(v.read() for v in state.log()),
        "named": lambda state: state.read(at="kept"),
        "audit": lambda state: [line["success"] for line in state.get_transaction_history()],
    }
    state.create_backup("kept")
    expected = readers[read](fresh(path))
    calls = number = 0

    def interfere(call: Call) -> None:
        nonlocal calls
        calls += "refs" in call.target
        if calls == number and "refs" in call.target:
            git(state, "pack-refs", "--all", "--prune")

    while number <= calls:
        number, calls = number + 1, 0
        state = fresh(path)
        # Loose again, so that the packing has something to do.
        for line in git(state, "for-each-ref", "--format=%(objectname) %(refname)").splitlines():
            commit, name = line.decode().split()
            loose = state.git_dir / name
            loose.parent.mkdir(parents=True, exist_ok=True)
            loose.write_text(commit + "\n")
        (state.git_dir / "packed-refs").unlink(missing_ok=True)

        with file_calls(interfere, reading=True):
            seen = readers[read](state)

        assert seen == expected, f"at call {number} of {calls}"
    assert number > 3


@pytest.mark.parametrize("call", ["log", "new handle", "transaction", "new process", "checkpoint"])
def test_objects_that_a_prune_deletes_after_the_commit_are_not_missed(
    call: str, path: Path
) -> None:
    state = _versions(path, 2)
    version = _increment(state)
    # A prune that began before the branch moved has an older view of what is needed.
    names = (version.id, f"{version.id}^{{tree}}", f"{version.id}:pipeline.json")
    for found in git(state, "rev-parse", *names).decode().split():
        (state.git_dir / "objects" / found[:2] / found[2:]).unlink()

    match call:
        case "new handle":
            leave(state)
            state = fresh(path)
        case "transaction":
            _increment(state)
        case "new process":
            fork(lambda tell: tell(_increment(fresh(path)).serial)).finish()
        case "checkpoint":
            state.checkpoint()

    history = counted(v.read() for v in state.log())
    assert history == ([4, 3, 2, 1] if call in {"transaction", "new process"} else [3, 2, 1])
    judge(path, [], None)


def test_a_writer_and_readers_beside_gc_in_a_loop_lose_nothing(path: Path) -> None:
    state = _versions(path, 2, timeout=None)
    stop = path.with_name("stop")

    def collect(tell: Tell) -> None:
        rounds = 0
        while not stop.exists():
            git(state, "gc", "--quiet", "--prune=now", check=False)
            rounds += 1
        tell(rounds)

    def look(tell: Tell) -> None:
        seen = 0
        mine = fresh(path)
        while not stop.exists():
            history = counted(version.read() for version in mine.log())
            assert history == list(range(len(history), 0, -1))
            assert len(history) >= seen
            seen = len(history)
        tell(seen)

    children = [fork(collect), fork(look)]
    for _ in range(100):
        _increment(state)
    stop.touch()
    rounds, _ = [child.finish()[-1] for child in children]
    stop.unlink()

    assert rounds > 2
    assert counted(judge(path, [], None)) == list(range(1, 103))


# -- the work folder -----------------------------------------------------------------------------------------------


def test_an_old_version_checked_out_by_git_is_an_edit_that_the_next_transaction_builds_on(
    path: Path, tmp_path: Path
) -> None:
    state = _versions(path, 4)

    git(
        state, "--work-tree=.", "checkout", "--quiet", "HEAD~2", "--", "pipeline.json", cwd=tmp_path
    )
    assert state.read() == {"n": 2, "text": "line 2"}
    with state.transaction() as txn:
        txn.data["more"] = True

    newest, edit, before, *_ = state.log()
    assert (edit.operation, edit.read()) == ("external_edit", {"n": 2, "text": "line 2"})
    assert newest.read() == {"n": 2, "text": "line 2", "more": True}
    assert before.read()["n"] == 4
    assert [v.serial for v in state.log()] == [6, 5, 4, 3, 2, 1]
    judge(path, [], None)


def test_a_checkout_after_a_crash_is_not_overwritten_by_the_recovery(
    path: Path, tmp_path: Path
) -> None:
    def work(tell: Tell) -> None:
        state = _versions(path, 3)
        with dying_before(replaces_state):
            _increment(state)

    fork(work).wait()
    state = fresh(path)
    git(
        state, "--work-tree=.", "checkout", "--quiet", "HEAD~2", "--", "pipeline.json", cwd=tmp_path
    )

    assert state.read() == {"n": 1, "text": "line 1"}
    with state.transaction() as txn:
        txn.data["more"] = True
    assert [(v.operation, v.read()["n"]) for v in state.log(3)] == [
        ("transaction", 1),
        ("external_edit", 1),
        ("transaction", 4),
    ]
    judge(path, [], None)


# -- the branch ----------------------------------------------------------------------------------------------------


def test_a_lock_that_git_holds_on_the_branch_delays_the_ref_and_nothing_else(path: Path) -> None:
    state = _versions(path, 2)
    before = _branch(state).read_bytes()
    lock = _branch(state).with_name("main.lock")
    lock.touch()  # as `git pack-refs` does

    version = _increment(state)

    assert lock.exists()
    assert lock.read_bytes() == b""
    assert _branch(state).read_bytes() == before
    assert state.read() == fresh(path).read() == {"n": 3, "text": "line 2"}
    for handle in (state, fresh(path)):
        assert [v.id for v in handle.log(1)] == [version.id]
        assert counted(v.read() for v in handle.log()) == [3, 2, 1]
    second = _increment(state)
    lock.unlink()
    third = _increment(state)

    assert [v.id for v in state.log(3)] == [third.id, second.id, version.id]
    assert git(state, "rev-parse", "main").decode().strip() == third.id
    assert counted(judge(path, [], None)) == [1, 2, 3, 4, 5]


def test_a_lock_that_git_holds_on_the_branch_is_waited_for_by_a_new_process_too(path: Path) -> None:
    state = _versions(path, 2)
    lock = _branch(state).with_name("main.lock")
    lock.touch()
    _increment(state)
    leave(state)

    later = fresh(path)
    _increment(later)
    later.close()  # cannot pack before the ref has moved, and says nothing about it
    assert lock.read_bytes() == b""
    lock.unlink()

    assert counted(judge(path, [], None)) == [1, 2, 3, 4]


@pytest.mark.parametrize("death", [moves_branch, replaces_state, locks_branch])
def test_our_own_lock_that_a_killed_process_left_is_removed(
    death: Callable[[Call], bool], path: Path
) -> None:
    def work(tell: Tell) -> None:
        state = _versions(path, 3)
        with dying_before(death):
            _increment(state)

    fork(work).wait()
    lock = path.parent / ".pipeline/repo/refs/heads/main.lock"
    assert lock.exists() == (death is moves_branch)

    state = fresh(path)
    assert counted(v.read() for v in state.log()) == [4, 3, 2, 1]

    assert not lock.exists()
    assert git(state, "show", "main:pipeline.json") == path.read_bytes()
    judge(path, [], None)


def test_a_foreign_lock_with_a_hash_of_its_own_is_left_until_it_is_old(path: Path) -> None:
    state = _versions(path, 2)
    lock = _branch(state).with_name("main.lock")
    lock.write_text("1234567890" * 4 + "\n")

    _increment(state)
    leave(state)
    state = fresh(path)
    state.create_backup()
    assert lock.exists()
    hours = time.time() - 2 * 3600
    os.utime(lock, (hours, hours))
    _increment(state)

    assert not lock.exists()
    assert counted(judge(path, [], None)) == [1, 2, 3, 4]


def test_a_lock_of_nul_bytes_left_by_a_power_cut_is_removed(path: Path) -> None:
    state = _versions(path, 2)
    leave(state)
    lock = _branch(state).with_name("main.lock")
    lock.write_bytes(bytes(41))

    state = fresh(path)
    version = _increment(state)

    assert not lock.exists()
    assert git(state, "rev-parse", "main").decode().strip() == version.id


@pytest.mark.parametrize("bad", ["absent", "empty", "NUL", "garbage", "missing object"])
@pytest.mark.parametrize("call", ["transaction", "log", "backup"])
@pytest.mark.parametrize("journal", ["full journal", "empty journal"])
def test_a_branch_that_names_nothing_is_put_back(
    bad: str, call: str, journal: str, path: Path
) -> None:
    state = _versions(path, 3)
    if journal == "empty journal":
        state.checkpoint()
    leave(state)
    branch = _branch(state)
    branch.unlink()
    match bad:
        case "empty":
            branch.touch()
        case "NUL":
            branch.write_bytes(bytes(41))
        case "garbage":
            branch.write_bytes(b"\xff\xfe not a hash")
        case "missing object":
            branch.write_text("1234567890" * 4 + "\n")

    state = fresh(path)
    match call:
        case "transaction":
            _increment(state)
        case "backup":
            state.create_backup()
    history = counted(v.read() for v in state.log())

    assert history in ([4, 3, 2, 1], [3, 2, 1])
    assert (len(history) == 4) == (call == "transaction")
    judge(path, [], None)


@pytest.mark.parametrize("bad", ["absent", "empty", "NUL"])
def test_a_branch_that_goes_bad_under_an_open_handle_is_put_back(bad: str, path: Path) -> None:
    state = _versions(path, 3)
    _branch(state).unlink()
    if bad != "absent":
        _branch(state).write_bytes(b"" if bad == "empty" else bytes(41))

    version = _increment(state)

    assert git(state, "rev-parse", "main").decode().strip() == version.id
    assert counted(judge(path, [], None)) == [1, 2, 3, 4]


@pytest.mark.parametrize("why", ["held by Git", "state locked"])
def test_a_branch_that_cannot_be_repaired_just_now_is_answered_from_the_journal(
    why: str, path: Path
) -> None:
    state = _versions(path, 3)
    _branch(state).write_bytes(b"")
    if why == "held by Git":
        _branch(state).with_name("main.lock").touch()
    leave(state)

    def look(tell: Tell) -> None:
        mine = fresh(path)
        tell((mine.read(), counted(v.read() for v in mine.log()), len(mine.list_backups())))

    if why == "held by Git":
        told = fork(look).finish()
    else:

        def hold(tell: Tell) -> None:
            # Somebody at work on the file's lock, of whom nothing else is known.
            from filelock import FileLock

            with FileLock(str(path) + ".lock"):
                tell("held")
                for _ in tell.steps():
                    pass

        holder = fork(hold)
        holder.await_line()
        told = fork(look).finish()
        holder.finish()

    assert told == [[{"n": 3, "text": "line 3"}, [3, 2, 1], 2]]


def _do_as_advised(error: StateConflictError) -> None:
    """Runs the commands that the message names."""
    commands = re.findall(r"\((git [^)]*)\)", str(error))
    assert len(commands) == 2, str(error)
    for command in commands:
        subprocess.run(command, shell=True, check=True, env=git_environment())


@pytest.mark.parametrize("handle", ["same handle", "new handle"])
def test_a_branch_that_somebody_moved_is_a_conflict_and_nothing_is_overwritten(
    handle: str, path: Path
) -> None:
    state = _versions(path, 3)
    if handle == "new handle":
        leave(state)
        state = fresh(path)
    ours = git(state, "rev-parse", "main").decode().strip()
    tree = git(state, "rev-parse", "main^{tree}").decode().strip()
    theirs = git(state, "commit-tree", tree, "-p", "main", "-m", "theirs").decode().strip()
    git(state, "update-ref", "refs/heads/main", theirs)
    content = path.read_bytes()

    for _ in range(2):
        with pytest.raises(StateConflictError) as caught, state.transaction() as txn:
            txn.data["n"] = 99
        assert caught.value.code == "ref-moved"
        assert git(state, "rev-parse", "main").decode().strip() == theirs
        assert path.read_bytes() == content
    assert state.read()["n"] == 3
    _do_as_advised(caught.value)

    assert git(state, "rev-parse", "main").decode().strip() == ours
    assert _increment(state).serial == 4
    assert git(state, "rev-parse", "theirs").decode().strip() == theirs
    assert counted(judge(path, [], None)) == [1, 2, 3, 4]


def test_a_branch_that_somebody_moves_while_a_block_runs_keeps_their_commit_and_ours(
    path: Path,
) -> None:
    state = _versions(path, 3)
    theirs = ""

    with state.transaction() as txn:
        txn.data["n"] = 4
        tree = git(state, "rev-parse", "main^{tree}").decode().strip()
        theirs = git(state, "commit-tree", tree, "-p", "main", "-m", "theirs").decode().strip()
        git(state, "update-ref", "refs/heads/main", theirs)
    assert txn.committed  # its record was durable before the ref was looked at
    assert git(state, "rev-parse", "main").decode().strip() == theirs
    assert state.read()["n"] == fresh(path).read()["n"] == 4
    with pytest.raises(StateConflictError) as caught:
        _increment(state)
    assert caught.value.code == "ref-moved"
    assert git(state, "rev-parse", "main").decode().strip() == theirs
    _do_as_advised(caught.value)

    assert _increment(state).serial == 5
    assert git(state, "rev-parse", "theirs").decode().strip() == theirs
    assert counted(judge(path, [], None)) == [1, 2, 3, 4, 5]


def test_a_branch_rewound_beyond_the_journal_is_a_conflict(path: Path) -> None:
    state = _versions(path, 3)
    newest = next(state.log(1)).id
    state.checkpoint()
    leave(state)
    git(state, "update-ref", "refs/heads/main", "main~1")

    with pytest.raises(StateConflictError):
        fresh(path).write({"n": 99})

    assert fresh(path).read()["n"] == 3
    git(state, "update-ref", "refs/heads/main", newest)
    assert counted(judge(path, [], None)) == [1, 2, 3]


def test_a_branch_rewound_to_where_the_journal_has_seen_it_is_set_again(path: Path) -> None:
    state = _versions(path, 3)
    leave(state)
    git(state, "update-ref", "refs/heads/main", "main~1")  # a lost rename looks no different

    assert counted(version.read() for version in fresh(path).log()) == [3, 2, 1]
    assert counted(judge(path, [], None)) == [1, 2, 3]


def test_a_branch_of_somebody_elses_is_left_alone(path: Path) -> None:
    state = _versions(path, 3)
    git(state, "branch", "experiment", "main~1")
    git(state, "tag", "-a", "v1", "-m", "a release", "main")

    _increment(state)
    state.checkpoint()
    state.close()

    assert (
        git(state, "rev-parse", "experiment").strip() == git(state, "rev-parse", "main~2").strip()
    )
    assert git(state, "cat-file", "-t", "v1").strip() == b"tag"
    judge(path, [], None)
