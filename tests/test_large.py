"""Large objects: each in a file beside the journal, which the repository has by another name, until it is packed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from oracle import (
    KILLED,
    Call,
    Tell,
    counted,
    dying_before,
    file_calls,
    flushes_journal,
    fork,
    forks,
    fresh,
    git,
    journal_of,
    leave,
    loose_objects,
    moves_branch,
    needs_git,
    recorded_calls,
    replaces_state,
)

from gitstate import PipelineState, StateConflictError, StateReadError, StateWriteError, large
from gitstate.lock import StateLock

pytestmark = forks


@pytest.fixture
def every_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest object is a large one."""
    monkeypatch.setattr(large, "LARGE", 0)


def _beside(path: Path) -> list[Path]:
    return sorted((path.parent / ".pipeline").glob("journal-*.object"))


def _noise(number: int) -> dict[str, object]:
    """A state that hardly compresses."""
    return {"n": number, "noise": os.urandom(700_000).hex()}


def _write_and_die(state: PipelineState, death: Callable[[Call], bool]) -> None:
    """A child writes n = 2, and is killed before the first call that `death` accepts."""

    def work(tell: Tell) -> None:
        with dying_before(death):
            state.write({"n": 2})

    assert fork(work).wait() == KILLED
    leave(state)


@needs_git
def test_a_large_state_is_on_the_disk_twice_and_not_in_the_journal(path: Path) -> None:
    state = PipelineState(path)
    state.write({"n": 0})
    small = journal_of(path).stat().st_size
    state.write(_noise(1))

    (kept,) = _beside(path)

    assert kept.stat().st_size > large.LARGE
    assert journal_of(path).stat().st_size == small
    assert [each for each in loose_objects(path) if each.samefile(kept)]
    assert git(state, "show", "HEAD:pipeline.json") == path.read_bytes()
    assert state.verify().ok


@needs_git
def test_a_large_object_goes_when_it_is_packed(path: Path) -> None:
    state = PipelineState(path, max_backups=None)
    documents = [_noise(number) for number in range(3)]
    for document in documents:
        state.write(document)
    assert len(_beside(path)) == 3

    state.checkpoint()

    assert not _beside(path)
    assert [version.read() for version in state.log()] == documents[::-1]
    git(state, "fsck", "--strict")


def test_a_large_state_is_flushed_four_times(path: Path) -> None:
    """The state file, the object's file and its name, and the record."""
    state = PipelineState(path)
    for number in (1, 2):
        state.write(_noise(number))
    calls, recording = recorded_calls()

    with recording:
        state.write(_noise(3))

    assert [call.name for call in calls if "sync" in call.name] == ["fsync"] * 3 + ["fdatasync"]


def test_large_states_fall_due_for_a_checkpoint_though_the_journal_is_short(path: Path) -> None:
    state = PipelineState(path, max_backups=None)
    for number in range(12):
        state.write(_noise(number))

    assert len(_beside(path)) < 8


def test_a_small_object_is_in_the_journal(path: Path) -> None:
    PipelineState(path).write({"n": 1, "text": "x" * 1_000_000})

    assert not _beside(path)


@pytest.mark.usefixtures("every_object")
@pytest.mark.parametrize("death", [replaces_state, moves_branch])
def test_whoever_comes_after_a_kill_finds_it(path: Path, death: Callable[[Call], bool]) -> None:
    state = PipelineState(path)
    state.write({"n": 1})

    _write_and_die(state, death)
    state = fresh(path)

    assert state.read() == {"n": 2}
    assert counted(version.read() for version in state.log()) == [2, 1]
    assert state.verify().ok


@pytest.mark.usefixtures("every_object")
def test_what_is_put_in_place_twice_leaves_no_third_name(path: Path) -> None:
    state = PipelineState(path)
    state.write({"n": 1})
    lock = state.git_dir / "refs" / "heads" / "main.lock"
    lock.touch()
    state.write({"n": 2})  # its branch waits for whoever holds that
    lock.unlink()
    state.write({"n": 3})

    assert counted(version.read() for version in state.log()) == [3, 2, 1]
    names = [name for _, _, names in os.walk(path.parent) for name in names]
    assert not [name for name in names if name.startswith("tmp_obj")]


@pytest.mark.usefixtures("every_object")
def test_who_cannot_recover_answers_from_it(path: Path) -> None:
    state = PipelineState(path)
    state.write({"n": 1})

    _write_and_die(state, replaces_state)
    with _locked(path):
        assert fresh(path).read() == {"n": 2}
        for each in _beside(path):
            each.unlink()
        with pytest.raises(StateReadError) as caught:
            fresh(path).read()
    assert caught.value.code == "journal-damaged"


@pytest.mark.usefixtures("every_object")
def test_who_cannot_recover_and_finds_that_it_was_packed_meanwhile_reads_the_state_file(
    path: Path,
) -> None:
    state = PipelineState(path)
    state.write({"n": 1})

    _write_and_die(state, replaces_state)
    lock = StateLock(path.with_name("pipeline.json.lock"))
    lock.acquire(0, "test")
    opened = []

    def checkpoint(call: Call) -> None:
        if not opened and call.target.endswith(".object"):
            opened.append(call)
            lock.release()
            assert fork(lambda tell: fresh(path).checkpoint()).wait() == 0

    with file_calls(before=checkpoint, reading=True):
        assert fresh(path).read() == {"n": 2}
    assert opened
    assert not _beside(path)


@pytest.mark.usefixtures("every_object")
def test_a_child_that_is_forked_meanwhile_leaves_the_files_to_its_parent(path: Path) -> None:
    state = PipelineState(path)
    state.write({"n": 1})
    children = []

    def fork_and_end(call: Call) -> None:
        if not children and call.name == "open" and call.target.endswith(".object"):
            children.append(os.fork())
            if not children[0]:
                raise SystemExit
            os.waitpid(children[0], 0)

    try:
        with file_calls(after=fork_and_end):
            state.write({"n": 2})
    except SystemExit:
        os._exit(0)

    assert children
    assert state.verify().ok
    assert counted(version.read() for version in state.log()) == [2, 1]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Somebody else has the lock."""
    lock = StateLock(path.with_name("pipeline.json.lock"))
    lock.acquire(0, "test")
    try:
        yield
    finally:
        lock.release()


@pytest.mark.usefixtures("every_object")
def test_an_interrupt_behind_the_flush_does_not_take_what_has_happened(path: Path) -> None:
    state = PipelineState(path)
    state.write({"n": 1})

    def interrupt(call: Call) -> None:
        if flushes_journal(call):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), file_calls(after=interrupt):
        state.write({"n": 2})
    state.write({"n": 3})

    assert counted(version.read() for version in state.log()) == [3, 2, 1]
    leave(state)
    assert counted(version.read() for version in fresh(path).log()) == [3, 2, 1]


@pytest.mark.usefixtures("every_object")
def test_a_transaction_that_is_refused_leaves_no_file(path: Path) -> None:
    state = PipelineState(path)
    state.write({"n": 1})
    before = _beside(path)

    def edit(call: Call) -> None:
        if call.name == "open" and call.target.endswith(".object"):
            path.write_text('{"n": "by hand"}')

    with pytest.raises(StateConflictError), file_calls(after=edit):
        state.write({"n": 2})

    assert _beside(path) == before


def test_a_full_disk_is_a_typed_error_and_nothing_is_left(path: Path) -> None:
    resource = pytest.importorskip("resource")
    state = PipelineState(path)
    state.write({"n": 1})
    document = _noise(2)

    def work(tell: Tell) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        os.fsync = lambda descriptor: None
        written = []

        def limit(call: Call) -> None:
            if call.name == "open" and call.target.endswith(".object"):
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
                written.append(call)

        refused = pytest.raises(StateWriteError, match="cannot write a Git object")
        with refused, file_calls(before=limit):
            state.write(document)
        assert written

    assert fork(work).wait() == 0
    assert not _beside(path)
    assert state.read() == {"n": 1}
    assert state.verify().ok


@pytest.mark.usefixtures("every_object")
def test_where_a_file_has_one_name_the_repository_has_a_copy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = PipelineState(path)

    def link(source: object, target: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    for number in (1, 2):
        state.write({"n": number})

    assert counted(version.read() for version in state.log()) == [2, 1]
    assert state.verify().ok


@pytest.mark.usefixtures("every_object")
def test_what_git_has_deleted_is_put_back_from_it(path: Path) -> None:
    state = PipelineState(path)
    state.write({"n": 1})
    for each in loose_objects(path):
        each.unlink()

    assert fresh(path).read(at=1) == {"n": 1}
    assert counted(version.read() for version in fresh(path).log()) == [1]
    state = fresh(path)
    state.write({"n": 2})
    assert state.verify().ok


@pytest.mark.usefixtures("every_object")
def test_what_is_nowhere_any_more_is_an_error_with_a_name(path: Path) -> None:
    state = PipelineState(path)
    state.write({"n": 1})
    for each in (*loose_objects(path), *_beside(path)):
        each.unlink()

    with pytest.raises(StateReadError) as caught:
        fresh(path).read(at=1)

    assert caught.value.code == "object-missing"
    assert fresh(path).read() == {"n": 1}


@pytest.mark.usefixtures("every_object")
@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "folder", "loop"])
def test_damage_is_told_and_mended_as_far_as_anything_is_left(path: Path, damage: str) -> None:
    state = PipelineState(path)
    for number in (1, 2):
        state.write({"n": number})
    leave(state)
    for each in _beside(path):
        content = bytearray(each.read_bytes())
        content[len(content) // 2] ^= 0xFF
        each.chmod(0o600)
        each.unlink()  # the repository's is left as it was
        match damage:
            case "flip":
                each.write_bytes(content)
            case "cut":
                each.write_bytes(content[:10])
            case "folder":
                each.mkdir()
            case "loop":
                each.symlink_to(each.name)
    state = fresh(path)

    problems = state.verify().problems

    assert any("an object of the journal, in a file of its own" in line for line in problems)
    state.repair()
    assert state.verify().ok
    assert state.read() == {"n": 2}
    assert counted(version.read() for version in state.log()) == [2, 1]


@pytest.mark.usefixtures("every_object")
def test_what_the_repository_has_is_packed_though_the_file_has_gone(path: Path) -> None:
    state = PipelineState(path)
    for number in (1, 2):
        state.write({"n": number})
    for each in _beside(path):
        each.unlink()

    state.checkpoint()

    assert state.verify().ok
    assert counted(version.read() for version in state.log()) == [2, 1]


@pytest.mark.usefixtures("of_any_size")
def test_a_state_file_that_somebody_has_emptied_is_taken_for_no_state_that_was_there(
    path: Path,
) -> None:
    state = PipelineState(path)
    state.write({"n": 1})
    path.write_bytes(b"")

    with pytest.raises(StateReadError):
        state.write({"n": 2})
    state.restore_backup("HEAD")

    assert state.read() == {"n": 1}
    assert list((state.git_dir / "refs" / "corrupt").iterdir())


@pytest.mark.usefixtures("every_object")
def test_a_state_that_only_a_damaged_file_holds_is_an_error_with_a_name(path: Path) -> None:
    state = PipelineState(path)
    state.write({"n": 1})

    _write_and_die(state, replaces_state)
    for each in path.parent.glob(".pipeline.json.*.tmp"):
        each.unlink()
    for each in _beside(path):
        each.chmod(0o600)
        each.write_bytes(b"x" * 20)

    with pytest.raises(StateReadError) as caught:
        fresh(path).read()

    assert caught.value.code == "journal-damaged"
    assert path.read_text() == '{\n  "n": 1\n}\n'
    state = fresh(path)
    state.repair()
    assert state.verify().ok
    assert state.read() == {"n": 1}
