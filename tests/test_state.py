"""PipelineState: the promises of the public API, kept on real files."""

import contextlib
import errno
import gc
import json
import logging
import math
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gitstate import (
    Holder,
    PipelineState,
    StateConflictError,
    StateError,
    StateLockError,
    StateReadError,
    StateTransactionError,
    StateValidationError,
    StateWriteError,
    Version,
    codec,
    files,
)

NOBODY = 65534

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="only root can give files away and mount disks")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
posix = pytest.mark.skipif(sys.platform == "win32", reason="modes and owners are POSIX")


def serials(state: PipelineState) -> list[int]:
    return [version.serial for version in state.log()]


def operations(state: PipelineState) -> list[str]:
    return [version.operation for version in state.log()]


def last_failure(state: PipelineState) -> dict[str, Any]:
    newest = state.get_transaction_history(1)[0]
    assert newest["success"] is False
    return newest["details"]


def refs(state: PipelineState) -> dict[str, str]:
    """Every ref but those of the audit trail."""
    top = state.git_dir
    found = {
        file.relative_to(top).as_posix(): file.read_text()
        for file in (top / "refs").rglob("*")
        if file.is_file()
    }
    return {name: at for name, at in found.items() if not name.startswith("refs/audit/")}


def picture(state: PipelineState) -> dict[str, Any]:
    """What a failed transaction must leave as it was."""
    path = state.path
    status = path.stat() if path.exists() else None
    return {
        "content": path.read_bytes() if status else None,
        "status": status and (status.st_ino, status.st_mode, status.st_uid, status.st_mtime_ns),
        "versions": [version.id for version in state.log()],
        "refs": refs(state),
        "listing": sorted(os.listdir(path.parent)),
    }


def in_child(function: Callable[[], object], *, uid: int | None = None) -> Any:
    """What `function` gives, as JSON, or the error it raises, in a forked process of the user `uid`."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.close(reader)
            if uid is not None:
                os.setgroups([])
                os.setegid(uid)
                os.seteuid(uid)
            try:
                told: object = function()
            except StateError as error:
                told = {"error": type(error).__name__, "code": error.code, "message": str(error)}
            except BaseException as error:
                told = {"error": type(error).__name__, "message": str(error)}
            os.write(writer, json.dumps(told).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return json.loads(told)


def unprivileged(function: Callable[[], object]) -> Any:
    """`in_child`, in any case as somebody whom permissions stop."""
    return in_child(function, uid=NOBODY if ROOT else None)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that the user of `unprivileged` owns and can reach."""
    directory = Path(tempfile.mkdtemp(prefix="gitstate-open-"))
    directory.chmod(0o755)
    if ROOT:
        os.chown(directory, NOBODY, NOBODY)
    yield directory
    directory.chmod(0o755)
    for folder, names, _ in os.walk(directory):
        for name in names:
            os.chmod(os.path.join(folder, name), 0o755)
    shutil.rmtree(directory)


@contextlib.contextmanager
def locked_elsewhere(path: Path, operation: str = "training") -> Iterator[int]:
    """Another process is in the middle of a transaction; gives its process id."""
    script = (
        "import sys; from gitstate import PipelineState\n"
        "with PipelineState(sys.argv[1]).transaction(operation=sys.argv[2]) as txn:\n"
        "    print('in', flush=True); sys.stdin.read(); txn.rollback()\n"
    )
    command = [sys.executable, "-c", script, os.fspath(path), operation]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        try:
            yield process.pid
        finally:
            process.communicate()
    assert process.returncode == 0


# -- making a handle ---------------------------------------------------------------------------------------------------


def test_making_a_handle_and_looking_creates_nothing(state, tmp_path):
    assert state.read() == {}
    assert state.list_backups() == []
    assert list(state.log()) == []
    assert state.get_transaction_history() == []
    assert state.verify().ok
    assert state.git_dir == tmp_path / ".pipeline" / "repo"
    state.checkpoint()
    state.close()

    assert os.listdir(tmp_path) == []


def test_a_backup_of_nothing_is_nothing(state, path):
    assert state.create_backup() is None
    assert state.create_backup("named") is None

    assert not path.exists()
    assert state.read() == {}


def test_the_first_four_arguments_may_be_given_by_position(path):
    with PipelineState(path, True, 2, False) as state:
        assert state.write({"a": 1}) is None
        path.write_text('{"phase1": "done"}')
        with pytest.raises(StateValidationError):
            state.read()
    assert json.loads((path.parent / ".pipeline" / "settings.json").read_text())["max_backups"] == 2


@pytest.mark.parametrize("kind", [str, Path, os.fspath])
def test_a_path_may_be_text_or_a_path(path, kind):
    with PipelineState(kind(path)) as state:
        state.write({"a": 1})

        assert state.path == path
        assert path.exists()
        assert repr(state) == f"PipelineState({str(path)!r})"


def test_a_relative_path_means_the_same_file_wherever_the_process_goes(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with PipelineState("pipeline.json") as state:
        monkeypatch.chdir(tmp_path / "elsewhere")
        state.write({"a": 1})

    assert (tmp_path / "pipeline.json").exists()
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"timeout": -1},
        {"timeout": math.nan},
        {"timeout": math.inf},
        {"timeout": "10"},
        {"max_backups": -1},
        {"max_backups": True},
        {"max_backups": 2.5},
        {"max_backups": "5"},
        {"author": 5},
        {"schema": "PipelineSchema"},
    ],
    ids=str,
)
def test_an_argument_that_makes_no_sense_is_refused_at_once(path, arguments):
    with pytest.raises((TypeError, ValueError)):
        PipelineState(path, **arguments)

    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("name", ["", "a\0b", ".git", ".GIT", ".gitmodules", "git~1", "/"])
def test_a_name_that_git_would_refuse_is_refused_at_once(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"path|called"):
        PipelineState(name)


@pytest.mark.parametrize("path", [b"pipeline.json", None, 5])
def test_a_path_of_another_type_is_refused_at_once(path):
    with pytest.raises(TypeError):
        PipelineState(path)


# -- reading and writing -----------------------------------------------------------------------------------------------


def test_what_was_written_is_read_and_lies_in_the_file_as_plain_json(state, path):
    document = {"b": [1, 1.0, True, None, 2**70, "é\u2028"], "a": {}}

    state.write(document)

    assert repr(state.read()) == repr(document)
    assert path.read_bytes() == codec.encode(document)
    assert json.loads(path.read_text(encoding="utf-8")) == document


def test_a_write_gives_the_version_it_made(state):
    before = datetime.now(UTC)
    first = state.write({"a": 1, "b": 1})
    second = state.write({"a": 2, "b": 1, "c": 1}, operation="step", message="why\n\nbecause")

    assert [first.serial, second.serial] == [1, 2]
    assert (first.operation, second.operation) == ("write", "step")
    assert second.message == "why\n\nbecause"
    assert first.changed_keys == ("a", "b")
    assert second.changed_keys == ("a", "c")
    assert first.parents == ()
    assert second.parents == (first.id,)
    assert len(second.id) == 40
    assert set(second.id) <= set("0123456789abcdef")
    assert second.id.startswith(second.short_id)
    assert str(second) == second.id
    assert before <= first.timestamp <= second.timestamp <= datetime.now(UTC)
    assert second.timestamp.utcoffset() == timedelta(0)
    assert (first.read(), second.read()) == ({"a": 1, "b": 1}, {"a": 2, "b": 1, "c": 1})


@pytest.mark.parametrize("message", [None, "", "my own words", "  two\n\n\nlines  "])
def test_the_version_of_a_write_is_the_one_in_the_history(state, message):
    made = state.write({"a": 1}, message=message)

    (logged,) = state.log()
    assert made == logged
    assert made.message == logged.message
    assert hash(made) == hash(logged)


def test_a_version_cannot_be_changed(state):
    version = state.write({"a": 1})

    with pytest.raises(AttributeError):
        version.serial = 7
    assert version.read() is not version.read()


def test_a_write_replaces_everything(state):
    state.write({"a": 1, "b": 2})
    state.write({"c": 3})

    assert state.read() == {"c": 3}


def test_what_was_read_or_written_is_a_copy(state):
    document = {"a": [1]}
    state.write(document)
    document["a"].append(2)
    state.read()["a"].append(3)

    assert state.read() == {"a": [1]}


def test_the_empty_object_is_a_state(state, path):
    version = state.write({})

    assert version.serial == 1
    assert path.read_text() == "{}\n"
    assert state.read() == {}


def test_writing_the_same_again_makes_no_version_and_touches_no_file(state, path):
    version = state.write({"a": 1})
    before = picture(state)
    history = state.get_transaction_history()

    again = state.write({"a": 1})

    assert again == version
    assert picture(state) == before
    assert state.get_transaction_history() == history


def test_another_order_of_keys_or_another_type_is_another_version(state):
    state.write({"a": 1, "b": 2})
    reordered = state.write({"b": 2, "a": 1})
    retyped = state.write({"b": 2, "a": 1.0})

    assert [reordered.serial, retyped.serial] == [2, 3]
    assert [reordered.changed_keys, retyped.changed_keys] == [(), ("a",)]
    assert list(state.read()) == ["b", "a"]


@pytest.mark.parametrize("data", [[], None, "text", [("a", 1)]], ids=repr)
def test_only_an_object_can_be_written(state, path, data):
    with pytest.raises(StateValidationError, match="JSON object"):
        state.write(data)

    assert not path.exists()


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("value", [math.nan, {1}, b"x", datetime(2026, 1, 1, tzinfo=UTC), "\ud800"])
def test_what_is_not_json_is_refused_whatever_validate_says(state, validate, value):
    state.write({"a": 0})
    before = picture(state)

    with pytest.raises(StateValidationError) as caught:
        state.write({"a": [0, value]}, validate=validate)

    assert caught.value.pointer == "/a/1"
    assert picture(state) == before
    assert last_failure(state)["reason"] == "validation"


def test_allow_nan_is_the_handles_own_choice(path):
    with PipelineState(path, allow_nan=True) as loose:
        version = loose.write({"a": math.nan, "b": [math.inf]})

        assert repr(loose.read()) == "{'a': nan, 'b': [inf]}"
        assert repr(version.read()) == "{'a': nan, 'b': [inf]}"
        assert repr(loose.read(at=1)) == "{'a': nan, 'b': [inf]}"
    with PipelineState(path) as strict, pytest.raises(StateReadError, match=r"restore_backup"):
        strict.read()


def test_writes_are_validated_unless_told_otherwise(state):
    with pytest.raises(StateValidationError, match="/phase1") as caught:
        state.write({"phase1": "done"})
    assert caught.value.code == "schema"

    state.write({"phase1": "done"}, validate=False)
    assert state.read() == {"phase1": "done"}


@pytest.mark.parametrize("by", ["the same handle", "a handle without a schema"])
def test_what_was_written_without_validation_is_validated_with_the_next_change(by, state, path):
    state.write({"phase1": {"status": "success"}})
    if by == "the same handle":
        state.write({"phase1": "done"}, validate=False)
    else:
        PipelineState(path, schema=None).write({"phase1": "done"})

    with pytest.raises(StateValidationError, match="/phase1"), state.transaction() as txn:
        txn.data["phase2"] = {"status": "success"}

    with state.transaction() as txn:
        txn.data = {"phase1": {"status": "success"}, "phase2": {}}
    with pytest.raises(StateValidationError, match="/phase2"), state.transaction() as txn:
        txn.data["phase2"] = "done"
    assert state.read() == {"phase1": {"status": "success"}, "phase2": {}}


def test_reads_are_validated_only_when_asked(path):
    PipelineState(path).write({"phase1": "done"}, validate=False)

    with PipelineState(path) as relaxed:
        assert relaxed.read() == {"phase1": "done"}
        with pytest.raises(StateValidationError, match="/phase1"):
            relaxed.read(validate=True)
    with PipelineState(path, validate_on_read=True) as strict:
        with pytest.raises(StateValidationError, match="/phase1"):
            strict.read()
        with pytest.raises(StateValidationError, match="/phase1"):
            strict.read(at=1)
        assert strict.read(validate=False) == {"phase1": "done"}


def test_a_read_leaves_no_trace(state, path):
    state.write({"a": 1})
    state.close()
    before = {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}

    with PipelineState(path) as other:
        other.read()
        other.list_backups()
        list(other.log())
        other.get_transaction_history()
        other.get_status_summary()
        assert other.verify().ok

    after = {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}
    # `verify` asks for the lock in the line, whose file is there once somebody has, and its holder is named in the lock.
    for pictures in (before, after):
        del pictures[path.with_name("pipeline.json.lock")]
        assert pictures.pop(path.parent / ".pipeline/queue.lock", b"") == b""
    assert after == before


# -- transactions ------------------------------------------------------------------------------------------------------


def test_a_block_that_ends_commits_what_is_in_data(state):
    with state.transaction() as txn:
        txn.data["phase1"] = {"status": "success"}
        assert txn.committed is False
        assert txn.version is None
        assert state.read() == {}

    assert txn.committed is True
    assert txn.version == next(state.log())
    assert txn.version.operation == "transaction"
    assert state.read() == {"phase1": {"status": "success"}}


def test_data_may_be_assigned_as_well_as_mutated(state):
    state.write({"a": 1})
    with state.transaction() as txn:
        txn.data = {"b": (1, 2)}

    assert state.read() == {"b": [1, 2]}


def test_the_snapshot_shows_what_was_there_whatever_the_block_does(state):
    state.write({"a": [1]})
    with state.transaction() as txn:
        txn.data["a"].append(2)
        txn.original_data["a"].append(3)

        assert txn.original_data == {"a": [1]}
        assert txn.data == {"a": [1, 2]}
    assert txn.original_data == {"a": [1]}


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_an_exception_rolls_back_and_reaches_the_caller_as_it_is(state, error):
    state.write({"a": 1})
    before = picture(state)

    with pytest.raises(type(error)) as caught, state.transaction(operation="step") as txn:
        txn.data["a"] = 2
        raise error

    assert caught.value is error
    assert picture(state) == before
    assert state.read() == {"a": 1}
    assert (txn.committed, txn.version) == (False, None)
    newest = state.get_transaction_history(1)[0]
    assert newest["operation"] == "step_rollback"
    assert newest["details"]["reason"] == "exception"
    assert type(error).__name__ in newest["details"]["error"]


def test_an_exception_that_cannot_be_printed_reaches_the_caller_too(state):
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    state.write({"a": 1})
    error = MuteError()

    with pytest.raises(MuteError) as caught, state.transaction() as txn:
        txn.data["a"] = 2
        raise error

    assert caught.value is error
    assert state.read() == {"a": 1}
    assert "MuteError" in last_failure(state)["error"]


def test_an_error_of_any_size_and_script_is_one_line_in_the_history(state):
    with pytest.raises(ValueError, match="x"), state.transaction():
        raise ValueError("x\n\ud800\u2028\x00é" * 100_000)

    text = last_failure(state)["error"]
    assert len(text.splitlines()) == 1
    assert len(text) <= 1000


def test_rollback_gives_the_transaction_up_without_an_exception(state):
    state.write({"a": 1})
    before = picture(state)

    with state.transaction(operation="step", message="try") as txn:
        txn.data["a"] = 2
        txn.rollback()
        txn.data["a"] = 3

    assert picture(state) == before
    assert (txn.committed, txn.version) == (False, None)
    assert last_failure(state)["reason"] == "rollback"


def test_an_exception_after_a_rollback_is_not_swallowed(state):
    with pytest.raises(ValueError, match="no"), state.transaction() as txn:
        txn.rollback()
        raise ValueError("no")


@pytest.mark.parametrize("end", ["exception", "rollback", "not-json", "schema", "nothing", "edit"])
def test_what_a_failed_block_did_to_its_data_is_gone(state, path, end):
    state.write({"a": [1], "b": {"c": 1}})
    with contextlib.suppress(StateError, ZeroDivisionError), state.transaction() as txn:
        txn.data["a"].append(2)
        txn.data["b"]["c"] = 2
        match end:
            case "exception":
                raise ZeroDivisionError
            case "rollback":
                txn.rollback()
            case "not-json":
                txn.data["a"].append({1})
            case "schema":
                txn.data["phase1"] = "done"
            case "nothing":
                txn.data = {"a": [1], "b": {"c": 1}}
            case "edit":
                os.utime(path, ns=(1, 1))

    for attempt in range(2):
        with state.transaction() as txn:
            assert txn.data == {"a": [1], "b": {"c": 1}} | ({"n": 0} if attempt else {})
            assert txn.original_data == txn.data
            txn.data["n"] = attempt
        assert state.read() == {"a": [1], "b": {"c": 1}, "n": attempt}


def test_what_a_block_held_is_its_own_afterwards(state):
    with state.transaction() as txn:
        txn.data = {"a": [1], "b": (1, {"c": 2})}
    held = txn.data
    held["a"].append(99)
    held["b"][1]["c"] = 99

    assert state.read() == {"a": [1], "b": [1, {"c": 2}]}
    with state.transaction() as txn:
        assert txn.data == {"a": [1], "b": [1, {"c": 2}]}
        held["a"].append(98)
        txn.data["n"] = 1
    assert state.read() == {"a": [1], "b": [1, {"c": 2}], "n": 1}


def test_a_failed_first_transaction_leaves_no_state(state, path):
    with pytest.raises(ZeroDivisionError), state.transaction() as txn:
        txn.data["a"] = 1 / 0

    assert not path.exists()
    assert state.read() == {}
    assert list(state.log()) == []
    assert state.list_backups() == []
    assert last_failure(state)["reason"] == "exception"
    assert state.write({"a": 1}).serial == 1


def test_a_seeded_block_starts_from_the_seed(state):
    state.write({"a": 1, "b": 2})
    seed = {"c": [3]}

    with state.transaction(seed_data=seed) as txn:
        assert txn.data == {"c": [3]}
        assert txn.original_data == {"a": 1, "b": 2}
        txn.data["c"].append(4)

    assert state.read() == {"c": [3, 4]}
    assert seed == {"c": [3]}


def test_an_empty_seed_is_a_seed(state):
    state.write({"a": 1})
    with state.transaction(seed_data={}) as txn:
        pass

    assert txn.version.serial == 2
    assert state.read() == {}


@pytest.mark.parametrize("seed", [{"a": {1}}, [1], {"a": math.nan}], ids=repr)
def test_a_seed_that_is_not_json_is_refused(state, seed):
    with pytest.raises(StateValidationError), state.transaction(seed_data=seed):
        pytest.fail("the block must not run")


def test_the_block_can_name_what_it_does(state):
    with state.transaction(operation="step", message="before") as txn:
        txn.data["a"] = 1
        txn.operation = "other step"
        txn.message = "after"

    assert (txn.version.operation, txn.version.message) == ("other step", "after")


@pytest.mark.parametrize("message", [None, ""])
def test_a_block_without_a_message_of_its_own_says_what_changed(state, message):
    with state.transaction(operation="step") as txn:
        txn.data["a"] = 1
        txn.message = message

    assert next(state.log()).message == "step: a"


@pytest.mark.parametrize(
    ("operation", "stored"),
    [
        ("a\nSerial: 9", "a Serial: 9"),
        ("  x  ", "x"),
        ("", "transaction"),
        ("é: ", "é:"),
        ("---", "---"),
    ],
)
def test_an_operation_is_one_line_whatever_it_holds(state, operation, stored):
    with state.transaction(operation=operation) as txn:
        txn.data["a"] = 1

    (logged,) = state.log()
    assert txn.version.operation == logged.operation == stored
    assert logged.serial == 1
    assert state.get_transaction_history()[0]["operation"] == f"{stored}_commit"


def test_validation_of_a_block_can_be_switched_off(state):
    for validate in (None, True):
        with pytest.raises(StateValidationError), state.transaction(validate=validate) as txn:
            txn.data["phase1"] = "done"
    with state.transaction(validate=False) as txn:
        txn.data["phase1"] = "done"

    assert state.read() == {"phase1": "done"}


@pytest.mark.parametrize(
    "inner",
    [
        lambda state: state.transaction().__enter__(),
        lambda state: PipelineState(state.path).transaction().__enter__(),
        lambda state: state.write({"b": 1}),
        lambda state: state.restore_backup(1),
        lambda state: state.create_backup(),
        lambda state: state.undo(),
        lambda state: state.checkpoint(),
    ],
    ids=[
        "transaction",
        "other-handle",
        "write",
        "restore",
        "backup",
        "undo",
        "checkpoint",
    ],
)
def test_a_transaction_inside_another_is_refused_at_once_and_does_no_harm(path, inner):
    state = PipelineState(path, timeout=0.5)
    state.write({"a": 1})
    with state.transaction() as txn:
        txn.data["a"] = 2
        # Not a StateLockError: that would be a deadlock with an end.
        with pytest.raises(StateTransactionError) as caught:
            inner(state)
        txn.data["b"] = 3

    assert caught.value.code == "nested"
    assert state.read() == {"a": 2, "b": 3}
    assert serials(state) == [2, 1]
    state.close()


def test_reading_works_inside_a_block_and_shows_what_is_committed(state):
    state.write({"a": 1})
    with state.transaction() as txn:
        txn.data["a"] = 2

        assert state.read() == {"a": 1}
        assert state.read(at="HEAD") == {"a": 1}
        assert serials(state) == [1]
        assert state.list_backups() == []
        assert len(state.get_transaction_history()) == 1
    assert state.read() == {"a": 2}


def test_another_thread_waits_its_turn(state):
    state.write({"a": 1})
    caught: list[StateLockError] = []

    def attempt() -> None:
        try:
            state.transaction(timeout=0).__enter__()
        except StateLockError as error:
            caught.append(error)

    with state.transaction(operation="mine"):
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()

    assert [error.holder.operation for error in caught] == ["mine"]
    assert caught[0].holder.pid == os.getpid()


def test_a_transaction_is_used_once(state):
    txn = state.transaction()
    with txn:
        txn.data["a"] = 1

    with pytest.raises(StateTransactionError, match="used once"), txn:
        pytest.fail("the block must not run")
    assert state.read() == {"a": 1}


def test_a_block_that_changes_nothing_makes_no_commit(state):
    version = state.write({"a": 1})
    before = picture(state)

    with state.transaction() as txn:
        txn.data["a"] = 2
        txn.data["a"] = 1

    assert txn.committed
    assert txn.version == version
    assert picture(state) == before


def test_a_first_block_that_changes_nothing_makes_the_first_version(state):
    # There was no file: `{}` is not what was there before.
    with state.transaction() as txn:
        pass

    assert txn.version is None or txn.version.serial == 1
    assert state.read() == {}


def test_an_error_names_its_path_and_the_next_step(state, path):
    state.write({"a": 1})
    path.unlink()

    with pytest.raises(StateReadError) as caught:
        state.read()

    assert caught.value.path == path
    assert str(path) in str(caught.value)
    assert caught.value.code == "state-missing"


# -- options -----------------------------------------------------------------------------------------------------------


def test_how_many_backups_is_stored_with_the_store(path):
    with PipelineState(path, max_backups=2) as named:
        for number in range(5):
            named.write({"n": number})
        assert [v.serial for v in named.list_backups()] == [4, 3]

    with PipelineState(path) as unnamed:
        assert [v.serial for v in unnamed.list_backups()] == [4, 3]
        unnamed.write({"n": 5})
        assert [v.serial for v in unnamed.list_backups()] == [5, 4]


def test_fifty_backups_are_kept_in_a_new_store(state):
    for number in range(53):
        state.write({"n": number})

    assert [v.serial for v in state.list_backups(limit=None)] == list(range(52, 2, -1))


def test_who_only_looks_changes_nobodys_setting(path):
    with PipelineState(path, max_backups=3) as owner:
        for number in range(6):
            owner.write({"n": number})
    with PipelineState(path, max_backups=1) as looking:
        assert [v.serial for v in looking.list_backups()] == [5]

    with PipelineState(path) as unnamed:
        assert [v.serial for v in unnamed.list_backups()] == [5, 4, 3]


@pytest.mark.parametrize(("given", "expected"), [(None, [5, 4, 3, 2]), (0, []), (1, [5])])
def test_a_later_writer_may_change_how_many(path, given, expected):
    with PipelineState(path, max_backups=3) as first:
        for number in range(5):
            first.write({"n": number})
    with PipelineState(path, max_backups=given) as second:
        second.write({"n": 5})

    with PipelineState(path) as third:
        assert [v.serial for v in third.list_backups()] == expected


def test_without_backups_a_write_is_in_the_history_and_makes_no_version(path):
    with PipelineState(path, backup_before_write=False) as state:
        assert state.write({"a": 1}) is None
        with state.transaction() as txn:
            txn.data["b"] = 2

        assert (txn.committed, txn.version) == (True, None)
        assert state.read() == {"a": 1, "b": 2}
        assert list(state.log()) == []
        assert state.list_backups() == []
        lines = state.get_transaction_history()
        assert [line["operation"] for line in lines] == ["transaction_commit", "write_commit"]
        assert all(line["success"] and line["commit"] is None for line in lines)
        assert [line["details"]["changed_keys"] for line in lines] == [["b"], ["a"]]
    with PipelineState(path) as other:
        assert other.read() == {"a": 1, "b": 2}
        assert len(other.get_transaction_history()) == 2
        assert other.verify().ok


def test_without_backups_the_file_is_still_ours_and_no_edit(path):
    with PipelineState(path, backup_before_write=False) as unversioned:
        unversioned.write({"a": 1})
        unversioned.write({"a": 2})
    with PipelineState(path) as versioned:
        version = versioned.write({"a": 3})

        assert (version.serial, version.operation) == (1, "write")
        assert operations(versioned) == ["write"]


def test_create_backup_commits_the_file_as_it_stands(path):
    with PipelineState(path, backup_before_write=False) as state:
        state.write({"a": 1})
        first = state.create_backup()
        again = state.create_backup()
        state.write({"a": 2})
        second = state.create_backup()

        assert first == again
        assert [first.serial, second.serial] == [1, 2]
        assert [first.read(), second.read()] == [{"a": 1}, {"a": 2}]
        assert second.content() == path.read_bytes()


def test_without_backups_an_unchanged_write_leaves_no_line(path):
    with PipelineState(path, backup_before_write=False) as state:
        state.write({"a": 1})
        state.write({"a": 1})

        assert len(state.get_transaction_history()) == 1


def test_without_backups_a_failure_is_a_failure(path):
    with PipelineState(path, backup_before_write=False) as state:
        state.write({"a": 1})
        with pytest.raises(ZeroDivisionError), state.transaction() as txn:
            txn.data["a"] = 1 / 0

        assert state.read() == {"a": 1}
        assert last_failure(state)["reason"] == "exception"


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("Ada Lovelace <ada@example.org>", "Ada Lovelace <ada@example.org>"),
        ("Ada\nX <ada\n@example.org>\n\nfake", "Ada X <ada @example.org>"),
        ("a\0b<c>d<e>", "a b <c>"),
    ],
)
def test_an_author_is_cleaned_so_that_git_can_read_it(path, git, given, stored):
    with PipelineState(path, author=given) as state:
        version = state.write({"a": 1})

        assert version.author == next(state.log()).author == stored
        assert git("--git-dir", state.git_dir, "log", "--format=%an <%ae>").strip() == stored
        git("--git-dir", state.git_dir, "fsck", "--strict")


@pytest.mark.parametrize("given", [None, "Ada", "", "<>", "\n"])
def test_an_author_without_an_address_gets_one(path, git, given):
    with PipelineState(path, author=given) as state:
        name, _, address = state.write({"a": 1}).author.partition(" <")

        assert name
        assert "@" in address
        git("--git-dir", state.git_dir, "fsck", "--strict")


def test_times_never_go_backwards_though_the_clock_does(state, monkeypatch):
    now = datetime(2030, 1, 1, tzinfo=UTC)

    class Backwards(datetime):
        @classmethod
        def now(cls, tz=None):
            nonlocal now
            now -= timedelta(hours=1)
            return now

    monkeypatch.setattr("gitstate.draft.datetime", Backwards)
    for number in range(4):
        state.write({"n": number})
    state.restore_backup(1)
    state.undo()
    times = [version.timestamp for version in state.log()]

    assert times == sorted(times, reverse=True)
    assert serials(state) == [6, 5, 4, 3, 2, 1]
    assert [line["operation"] for line in state.get_transaction_history(2)] == [
        "undo_commit",
        "restore_commit",
    ]


# -- edits by somebody else --------------------------------------------------------------------------------------------


def test_an_edit_is_kept_with_its_own_bytes_below_what_builds_on_it(state, path):
    state.write({"a": 1})
    edit = b'{ "a":1,\t"mine": [ 1.50, "\\u00e9" ] }'
    path.write_bytes(edit)

    assert state.read() == {"a": 1, "mine": [1.5, "é"]}
    with state.transaction() as txn:
        assert txn.data == {"a": 1, "mine": [1.5, "é"]}
        txn.data["b"] = 2

    assert operations(state) == ["transaction", "external_edit", "write"]
    top, middle, _ = state.log()
    assert middle.content() == edit
    assert middle.changed_keys == ("mine",)
    assert top.changed_keys == ("b",)
    assert top.parents == (middle.id,)
    assert state.read() == {"a": 1, "mine": [1.5, "é"], "b": 2}


def test_a_file_from_before_the_first_write_is_kept_too(state, path):
    path.write_text('{"old": true}')

    version = state.write({"new": True})

    assert version.serial == 2
    assert operations(state) == ["write", "external_edit"]
    assert state.read(at=1) == {"old": True}


def test_an_edit_alone_is_committed_as_it_is_by_a_block_that_changes_nothing(state, path):
    state.write({"a": 1})
    path.write_text('{"a":1,"b":2}')

    with state.transaction() as txn:
        pass

    assert path.read_text() == '{"a":1,"b":2}'
    assert (txn.version.serial, txn.version.operation) == (2, "external_edit")
    assert state.read(at="HEAD") == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.restore_backup(1),
        lambda state: state.undo(),
        lambda state: state.create_backup("kept"),
        lambda state: state.write({"a": 9}),
    ],
    ids=["restore", "undo", "create_backup", "write"],
)
def test_an_edit_is_never_lost_whatever_comes_next(state, path, change):
    state.write({"a": 1})
    path.write_text('{"a":5}')

    change(state)

    edit = next(version for version in state.log() if version.operation == "external_edit")
    assert edit.content() == b'{"a":5}'


def test_an_edit_that_was_taken_back_leaves_no_trace(state, path):
    version = state.write({"a": 1})
    content = path.read_bytes()
    path.write_text('{"a":5}')
    path.write_bytes(content)

    assert state.write({"a": 1}) == version
    assert serials(state) == [1]


def test_an_edit_with_unchanged_values_is_an_edit_all_the_same(state, path):
    state.write({"a": 1})
    path.write_text('{"a":1}')

    state.create_backup()

    newest = next(state.log())
    assert (newest.operation, newest.changed_keys, newest.content()) == (
        "external_edit",
        (),
        b'{"a":1}',
    )


@pytest.mark.parametrize(
    "edit",
    [
        lambda path: path.write_text('{"mine": 1}'),
        lambda path: path.write_text("not json"),
        lambda path: path.write_bytes(path.read_bytes().replace(b"1", b"7")),
        lambda path: path.unlink(),
        lambda path: (
            path.with_name("tmp").write_text('{"mine": 1}'),
            path.with_name("tmp").rename(path),
        ),
    ],
    ids=["other", "corrupt", "same-size", "removed", "renamed-over"],
)
def test_an_edit_while_a_block_runs_is_noticed_and_stays(state, path, edit):
    state.write({"a": 1})
    before = [version.id for version in state.log()]

    with pytest.raises(StateConflictError) as caught, state.transaction() as txn:
        txn.data["a"] = 2
        edit(path)
        found = path.read_bytes() if path.exists() else None

    assert caught.value.code == "edited"
    assert (path.read_bytes() if path.exists() else None) == found
    assert [version.id for version in state.log()] == before
    assert not list(path.parent.glob(".pipeline.json*"))
    assert last_failure(state)["reason"] == "conflict"
    assert not txn.committed


@pytest.mark.parametrize("content", ['{"mine": 1}', "not json"])
def test_an_edit_in_the_very_moment_of_the_commit_is_noticed_too(state, path, monkeypatch, content):
    state.write({"a": 1})
    flush = files.flush_data

    def edit_and_flush(descriptor: int) -> None:
        monkeypatch.setattr(files, "flush_data", flush)
        path.write_text(content)
        flush(descriptor)

    monkeypatch.setattr(files, "flush_data", edit_and_flush)
    with pytest.raises(StateConflictError), state.transaction() as txn:
        txn.data["a"] = 2

    assert files.flush_data is flush  # it was called
    assert path.read_text() == content
    assert serials(state) == [1]
    assert not list(path.parent.glob(".pipeline.json*"))
    state.close()
    with PipelineState(path) as other:
        assert path.read_text() == content
        assert serials(other) == [1]
        other.restore_backup("HEAD")
        assert other.read() == {"a": 1}


def test_after_a_conflict_the_next_block_starts_from_the_edit(state, path):
    state.write({"a": 1})
    with pytest.raises(StateConflictError), state.transaction() as txn:
        txn.data["a"] = 2
        path.write_text('{"mine": 1}')

    with state.transaction() as txn:
        assert txn.data == {"mine": 1}
        txn.data["a"] = 2

    assert state.read() == {"mine": 1, "a": 2}
    assert operations(state) == ["transaction", "external_edit", "write"]


def test_a_file_that_appears_while_the_first_block_runs_is_not_overwritten(state, path):
    with pytest.raises(StateConflictError), state.transaction() as txn:
        txn.data["a"] = 1
        path.write_text('{"mine": 1}')

    assert path.read_text() == '{"mine": 1}'
    assert list(state.log()) == []


def test_an_edit_with_duplicate_keys_is_refused_and_left_alone(state, path):
    state.write({"a": 1})
    path.write_text('{"a": 1, "a": 2}')

    for attempt in (state.read, lambda: state.write({"b": 1})):
        with pytest.raises(StateReadError, match="duplicate key") as caught:
            attempt()
        assert caught.value.code == "duplicate-key"
    assert path.read_text() == '{"a": 1, "a": 2}'


# -- a state that is damaged or gone -----------------------------------------------------------------------------------


def test_a_file_that_is_gone_is_an_error_that_says_how_to_get_it_back(state, path):
    state.write({"a": 1})
    path.unlink()

    for attempt in (
        state.read,
        lambda: state.write({"b": 1}),
        state.create_backup,
        state.get_status_summary,
    ):
        with pytest.raises(StateReadError, match='restore_backup\\("HEAD"\\)') as caught:
            attempt()
        assert caught.value.code == "state-missing"
    with PipelineState(path) as other, pytest.raises(StateReadError):
        other.read()
    assert not path.exists()


def test_a_file_that_is_gone_can_be_restored(state, path):
    version = state.write({"a": 1})
    content = path.read_bytes()
    path.unlink()

    assert state.restore_backup("HEAD") is True

    assert path.read_bytes() == content
    assert state.read() == {"a": 1}
    assert state.read(at="HEAD") == {"a": 1}
    assert state.verify().ok
    assert version.id in [v.id for v in state.log()]


def test_a_file_that_is_gone_is_missed_by_a_new_handle_after_a_checkpoint(state, path):
    state.write({"a": 1})
    state.close()
    path.unlink()

    with PipelineState(path) as other:
        with pytest.raises(StateReadError, match="restore_backup"):
            other.read()
        other.restore_backup("HEAD")
        assert other.read() == {"a": 1}


def test_without_versions_a_file_that_is_gone_is_missed_too(path):
    with PipelineState(path, backup_before_write=False) as state:
        state.write({"a": 1})
    path.unlink()

    with PipelineState(path) as other, pytest.raises(StateReadError, match="gone"):
        other.read()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "not-json"),
        (b'{"a": 1', "not-json"),
        (b"[1]\n", "not-an-object"),
        (b'{"a": "\xff"}', "not-json"),
        (b"\x00" * 64, "not-json"),
        (b'{"a": NaN}', "not-json"),
        (b'{"a": 1e999}', "not-json"),
        (b'\xef\xbb\xbf{"a": 1}', "not-json"),
        (b'{"k":' * 5000 + b"1" + b"}" * 5000, "not-json"),
        (b'{"a": 1, "a": 1}', "duplicate-key"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_damage_is_a_typed_error_and_a_restore_keeps_the_bytes(state, path, content, code):
    state.write({"a": 1})
    state.write({"a": 2})
    path.write_bytes(content)

    for attempt in (state.read, lambda: state.write({"b": 1}), state.create_backup):
        with pytest.raises(StateReadError) as caught:
            attempt()
        assert caught.value.code == code
        assert caught.value.path == path
        assert "restore_backup" in str(caught.value)
    assert path.read_bytes() == content

    assert state.restore_backup(1) is True

    assert state.read() == {"a": 1}
    assert operations(state) == ["restore", "write", "write"]
    (kept,) = [name for name in refs(state) if name.startswith("refs/corrupt/")]
    assert kept_bytes(state, kept) == content
    assert state.verify().ok


def kept_bytes(state: PipelineState, ref: str) -> bytes:
    repository = state._parts.store.repository
    commit = repository.commit(repository.refs.read(ref))
    return repository.read(repository.file_id(commit.tree, b"pipeline.json"))


def test_the_same_damage_twice_is_kept_once_and_other_damage_too(state, path):
    state.write({"a": 1})
    for content in (b"damaged", b"otherwise", b"damaged"):
        path.write_bytes(content)
        state.restore_backup("HEAD")

    assert serials(state) == [1]
    kept = [name for name in refs(state) if name.startswith("refs/corrupt/")]
    assert sorted(kept_bytes(state, name) for name in kept) == [b"damaged", b"otherwise"]
    assert state.read() == {"a": 1}


def test_damage_before_any_history_is_a_typed_error_that_touches_nothing(state, path):
    path.write_text("not json")

    for attempt in (state.read, lambda: state.write({"a": 1}), state.create_backup):
        with pytest.raises(StateReadError, match="not valid JSON"):
            attempt()

    assert path.read_text() == "not json"
    assert list(state.log()) == []


def test_a_directory_in_place_of_the_state_file_is_a_typed_error(state, path):
    path.mkdir()

    with pytest.raises(StateReadError, match="directory"):
        state.read()
    with pytest.raises(StateError):
        state.write({"a": 1})
    assert path.is_dir()
    assert os.listdir(path) == []


def test_a_deleted_store_begins_anew_and_keeps_what_is_in_the_file(state, path):
    state.write({"a": 1})
    state.write({"a": 2})
    shutil.rmtree(path.parent / ".pipeline")

    assert state.read() == {"a": 2}
    assert state.write({"a": 3}).serial == 2
    assert operations(state) == ["write", "external_edit"]
    assert state.read(at=1) == {"a": 2}


def test_a_missing_repository_beside_its_journal_is_a_typed_error(state, path):
    state.write({"a": 1})
    state.close()
    shutil.rmtree(path.parent / ".pipeline" / "repo")

    with PipelineState(path) as other, pytest.raises(StateError):
        other.write({"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_copied_directory_is_a_state_of_its_own(state, path, tmp_path):
    state.write({"a": 1})
    state.write({"a": 2})
    shutil.copytree(tmp_path, tmp_path.with_name("copy"))

    with PipelineState(tmp_path.with_name("copy") / "pipeline.json") as copy:
        assert copy.read() == {"a": 2}
        assert copy.verify().ok
        copy.write({"a": 3})
        assert operations(copy) == ["write", "write", "write"]
    assert state.read() == {"a": 2}
    assert serials(state) == [2, 1]


# -- where the file lies -----------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755, 0o666])
def test_the_mode_of_the_file_survives_a_write(state, path, mode):
    state.write({"a": 1})
    path.chmod(mode)

    state.write({"a": 2})
    state.restore_backup(1)
    state.undo()

    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert state.read() == {"a": 2}


@needs_root
def test_the_owner_of_the_file_survives_a_write(state, path):
    state.write({"a": 1})
    os.chown(path, NOBODY, NOBODY)
    path.chmod(0o640)

    state.write({"a": 2})

    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (NOBODY, NOBODY, 0o640)


@needs_root
def test_where_the_owner_cannot_survive_the_write_is_refused(open_directory):
    path = open_directory / "pipeline.json"

    def attempt() -> object:
        PipelineState(path).write({"a": 2})

    assert in_child(lambda: PipelineState(path).write({"a": 1}).serial, uid=NOBODY) == 1
    os.chown(path, 0, 0)
    path.chmod(0o666)
    before = sorted(os.listdir(open_directory))

    refusal = in_child(attempt, uid=NOBODY)

    assert refusal["error"] == "StateWriteError"
    assert str(path) in refusal["message"]
    assert json.loads(path.read_text()) == {"a": 1}
    assert sorted(os.listdir(open_directory)) == before
    assert in_child(lambda: [v.serial for v in PipelineState(path).log()], uid=NOBODY) == [1]


@posix
def test_the_mode_of_a_new_file_is_what_the_user_has_asked_for(path):
    before = os.umask(0o027)
    try:
        PipelineState(path).write({"a": 1})
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@posix
@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_store_and_lock_are_private_whatever_the_umask(path, umask):
    before = os.umask(umask)
    try:
        with PipelineState(path) as state:
            state.write({"a": 1})
            state.create_backup("named")
            with contextlib.suppress(ZeroDivisionError), state.transaction():
                _ = 1 / 0
            state.write({"a": 2})
        with PipelineState(path) as state:
            state.write({"a": 3})
    finally:
        os.umask(before)

    store = path.parent / ".pipeline"
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.with_name("pipeline.json.lock").stat().st_mode) == 0o600
    for file in store.rglob("*"):
        assert file.stat().st_mode & 0o022 == 0, file


@pytest.mark.parametrize("existing", [True, False])
def test_a_symlink_survives_and_the_store_lies_beside_what_it_leads_to(tmp_path, existing):
    real = tmp_path / "real"
    real.mkdir()
    if existing:
        (real / "data.json").write_text('{"old": 1}')
    near = tmp_path / "near"
    near.mkdir()
    (near / "middle.json").symlink_to("../real/data.json")
    (near / "pipeline.json").symlink_to(near / "middle.json")

    with PipelineState(near / "pipeline.json") as state:
        state.write({"a": 1})

        assert state.path == real / "data.json"
    assert (near / "pipeline.json").is_symlink()
    assert (near / "middle.json").is_symlink()
    assert sorted(os.listdir(near)) == ["middle.json", "pipeline.json"]
    assert sorted(os.listdir(real)) == [".pipeline", "data.json", "data.json.lock"]
    assert json.loads((near / "pipeline.json").read_text()) == {"a": 1}


def test_handles_by_different_names_of_one_file_are_one_state(tmp_path):
    (tmp_path / "link.json").symlink_to("pipeline.json")
    (tmp_path / "sub").mkdir()
    with (
        PipelineState(tmp_path / "pipeline.json") as one,
        PipelineState(tmp_path / "link.json") as two,
        PipelineState(tmp_path / "sub" / ".." / "pipeline.json") as three,
    ):
        one.write({"a": 1})
        two.write({"a": 2})
        three.write({"a": 3})

        assert serials(one) == serials(two) == serials(three) == [3, 2, 1]


def test_missing_parent_directories_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "pipeline.json"
    with PipelineState(path) as state:
        assert state.read() == {}
        assert not (tmp_path / "a").exists()
        state.write({"a": 1})

        assert state.read() == {"a": 1}


def test_two_states_in_one_directory_share_nothing(tmp_path):
    with (
        PipelineState(tmp_path / "pipeline.json") as one,
        PipelineState(tmp_path / "other.json") as two,
    ):
        one.write({"one": 1})
        with two.transaction() as txn:
            txn.data["two"] = 1
            one.write({"one": 2})  # no lock in common either
        one.create_backup("named")

        assert (one.read(), two.read()) == ({"one": 2}, {"two": 1})
        assert (serials(one), serials(two)) == ([2, 1], [1])
        assert one.git_dir != two.git_dir
        assert two.git_dir == tmp_path / ".pipeline" / "other.json.d" / "repo"
        with pytest.raises(LookupError):
            two.read(at="named")
        with pytest.raises(LookupError):
            two.restore_backup(one.create_backup())
    assert sorted(os.listdir(tmp_path)) == [
        ".pipeline",
        "other.json",
        "other.json.lock",
        "pipeline.json",
        "pipeline.json.lock",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "with space.json",
        'it\'s "quoted".json',
        "größe-☃.json",
        "-rf.json",
        "--help",
        "HEAD.json",
        "HEAD",
        "new.json",
        "new.0123456789abcdef",
        "repo",
        "journal",
        "journal.00000001",
        "format",
        "settings.json",
        "maintenance.lock",
        "refs",
        "no-extension",
        ".hidden.json",
        ".dot.tmp",
        "a.lock",
        "star*.json",
        "back\\slash.json",
        "tab\tnewline\n.json",
        "%d%s{}.json",
        "pipeline.json.d",
        "~",
        "con.json",
        "x" * 230,
        "é" * 115,
    ],
)
def test_a_file_of_any_name_works_and_git_is_content(tmp_path, git, name):
    path = tmp_path / name
    with PipelineState(path) as state:
        state.write({"a": 1})
        state.write({"a": 2})
        path.write_text('{"edit":1}')
        state.create_backup("named")
        path.write_text("damaged")
        state.restore_backup(1)
    with PipelineState(path) as state:
        assert state.read() == {"a": 1}
        assert state.read(at="named") == {"edit": 1}
        assert operations(state) == ["restore", "external_edit", "write", "write"]
        assert state.verify().ok
        git("--git-dir", state.git_dir, "fsck", "--strict")
        listed = git("--git-dir", state.git_dir, "ls-tree", "-z", "--name-only", "HEAD")
        assert listed == name + "\0"
    assert sorted(os.listdir(tmp_path)) == sorted([".pipeline", name, name + ".lock"])


@posix
def test_a_name_that_is_not_utf8_works(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.json")
    with PipelineState(path) as state:
        state.write({"a": 1})
        state.write({"a": 2})
        state.restore_backup(1)
    with PipelineState(path) as state:
        assert state.read() == {"a": 1}
        assert state.verify().ok


@pytest.mark.parametrize(
    "name", ["x" * 240, "é" * 120, "x" * 251, "x" * 255, "x" * 256, "x" * 5000], ids=len
)
@pytest.mark.parametrize("beside", [True, False])
def test_a_name_that_is_too_long_is_a_typed_error_in_every_call(tmp_path, name, beside):
    if beside:
        PipelineState(tmp_path / "pipeline.json").write({"a": 1})
    before = sorted(os.listdir(tmp_path))
    state = PipelineState(tmp_path / name)

    for attempt in (state.read, state.list_backups, state.verify, state.create_backup):
        with contextlib.suppress(StateError):
            attempt()
    with pytest.raises(StateError, match="too long"):
        state.write({"a": 1})
    left = [entry for entry in os.listdir(tmp_path) if entry not in (*before, ".pipeline")]
    assert left in ([], [name + ".lock"])


def test_a_projects_own_git_does_not_see_the_store(state, path, git):
    git("init", "-q", path.parent)
    state.write({"a": 1})

    status = git("-C", path.parent, "status", "--porcelain", "--untracked-files=all")

    assert ".pipeline/" not in status
    assert "pipeline.json" in status


# -- the store ---------------------------------------------------------------------------------------------------------


def test_a_file_where_the_store_should_be_is_refused_by_name_and_stays(state, path):
    (path.parent / ".pipeline").write_text("mine")

    for attempt in (state.read, lambda: state.write({"a": 1}), lambda: list(state.log())):
        with pytest.raises(StateError, match=r"\.pipeline"):
            attempt()

    assert (path.parent / ".pipeline").read_text() == "mine"
    assert not path.exists()


@pytest.mark.parametrize(
    ("content", "code"),
    [("2\n", "format-newer"), ("one", "format-newer"), (None, "format-unknown")],
)
def test_a_store_of_another_format_is_refused_by_name_and_untouched(state, path, content, code):
    state.write({"a": 1})
    state.close()
    marker = path.parent / ".pipeline" / "format"
    if content is None:
        marker.unlink()
    else:
        marker.write_text(content)

    with PipelineState(path) as other:
        for attempt in (other.read, lambda: other.write({"a": 2}), lambda: list(other.log())):
            with pytest.raises(StateReadError) as caught:
                attempt()
            assert caught.value.code == code
            assert "format" in str(caught.value)
    assert json.loads(path.read_text()) == {"a": 1}


@needs_root
@pytest.mark.parametrize("part", ["", "repo"])
def test_a_store_of_another_user_is_refused(state, path, part):
    state.write({"a": 1})
    state.close()
    os.chown(path.parent / ".pipeline" / part, NOBODY, NOBODY)

    with PipelineState(path) as other:
        for attempt in (other.read, lambda: other.write({"a": 2}), lambda: list(other.log())):
            with pytest.raises(StateReadError, match=f"user {NOBODY}") as caught:
                attempt()
            assert caught.value.code == "store-untrusted"


@needs_root
@needs_fork
def test_a_private_store_of_another_user_is_a_typed_error(open_directory):
    path = open_directory / "pipeline.json"
    with PipelineState(path) as state:
        state.write({"a": 1})

    for attempt in (
        lambda: PipelineState(path).read(),
        lambda: PipelineState(path).list_backups(),
        lambda: PipelineState(path).write({"a": 2}),
        lambda: bool(PipelineState(path).verify()),
    ):
        assert in_child(attempt, uid=NOBODY)["error"] in {"StateReadError", "StateWriteError"}


@posix
@pytest.mark.parametrize("part", ["", "repo"])
@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_store_that_others_can_write_is_refused(state, path, part, mode):
    state.write({"a": 1})
    state.close()
    (path.parent / ".pipeline" / part).chmod(mode)

    with PipelineState(path) as other:
        for attempt in (other.read, lambda: other.write({"a": 2}), lambda: list(other.log())):
            with pytest.raises(StateReadError, match="chmod") as caught:
                attempt()
            assert caught.value.code == "store-untrusted"
    (path.parent / ".pipeline" / part).chmod(0o700)
    with PipelineState(path) as other:
        assert other.write({"a": 2}).serial == 2


@pytest.mark.parametrize("name", ["commondir", "objects/info/alternates"])
def test_a_repository_that_borrows_from_elsewhere_is_refused(state, path, name):
    state.write({"a": 1})
    state.close()
    (state.git_dir / name).write_text("/elsewhere\n")

    with PipelineState(path) as other, pytest.raises(StateReadError) as caught:
        other.read()
    assert caught.value.code == "store-untrusted"


@posix
def test_what_the_repositorys_hooks_and_config_say_is_not_obeyed(state, path, tmp_path):
    state.write({"a": 1})
    hooks = state.git_dir / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("reference-transaction", "post-commit", "update", "post-update", "pre-auto-gc"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path / 'obeyed'}\nexit 1\n")
        (hooks / name).chmod(0o755)
    (state.git_dir / "config").write_text(
        f"[core]\n\tworktree = {tmp_path / 'obeyed'}\n\tbare = false\n\tcompression = nonsense\n"
        f"\thooksPath = {hooks}\n\tlooseCompression = 99\n[extensions]\n\tobjectFormat = sha256\n"
        f"[include]\n\tpath = {tmp_path / 'missing'}\n[user]\n\tname = Somebody Else\n"
    )
    state.close()

    with PipelineState(path) as other:
        version = other.write({"a": 2})
        other.restore_backup(1)
        other.checkpoint()

        assert "Somebody" not in version.author
        assert other.read() == {"a": 1}
        assert other.verify().ok
    assert not (tmp_path / "obeyed").exists()


def test_damaged_settings_are_a_typed_error_with_the_remedy(state, path):
    state.write({"a": 1})
    state.close()
    (path.parent / ".pipeline" / "settings.json").write_text("{")

    with PipelineState(path) as other:
        assert other.read() == {"a": 1}
        with pytest.raises(StateReadError, match="settings"):
            other.write({"a": 2})


@posix
def test_opening_a_state_again_after_closing_works_on_the_same_handle(state):
    state.write({"a": 1})
    state.close()
    state.close()

    assert state.read() == {"a": 1}
    assert state.write({"a": 2}).serial == 2
    with state as again:
        assert again is state
        again.write({"a": 3})
    assert serials(state) == [3, 2, 1]


@pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="the system does not tell open files"
)
def test_a_closed_handle_holds_no_file(path):
    def open_files() -> list[str]:
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        found = [os.readlink(link) for link in links if os.path.lexists(link)]
        return [name for name in found if name.startswith(os.fspath(path.parent))]

    gc.disable()  # what is left to the collector is open for as long as it likes
    try:
        for number in range(3):
            with PipelineState(path) as state:
                state.write({"n": number})
                state.checkpoint()
                assert state.read(at=1) == {"n": 0}
                assert open_files()
            assert open_files() == []
    finally:
        gc.enable()


def test_a_version_can_be_read_after_its_handle_was_closed(state):
    version = state.write({"a": 1})
    state.write({"a": 2})
    state.close()

    assert version.read() == {"a": 1}


def test_the_backup_managers_create_backup_is_the_states_own(state):
    version = state.write({"a": 1})

    assert state.backup_manager.create_backup() == version
    assert state.backup_manager.create_backup("named") == version


# -- the lock ----------------------------------------------------------------------------------------------------------


@needs_fork
def test_a_lock_that_another_process_holds_is_an_error_that_names_it(state, path):
    state.write({"a": 1})
    before = state.get_transaction_history()
    with locked_elsewhere(path) as pid:
        for attempt in (
            lambda: state.transaction(timeout=0).__enter__(),
            lambda: PipelineState(path, timeout=0).write({"a": 2}),
            lambda: PipelineState(path, timeout=0.05).write({"a": 2}),
            lambda: PipelineState(path, timeout=0).restore_backup(1),
            lambda: PipelineState(path, timeout=0).create_backup(),
            lambda: PipelineState(path, timeout=0).undo(),
        ):
            with pytest.raises(StateLockError) as caught:
                attempt()
            error = caught.value
            assert isinstance(error, TimeoutError)
            assert isinstance(error.holder, Holder)
            assert error.holder.pid == pid
            assert error.holder.operation == "training"
            assert error.holder.host
            assert datetime.fromisoformat(error.holder.since).utcoffset() == timedelta(0)
            assert f"pid {pid}" in str(error)
            assert "training" in str(error)
            assert error.code == "locked"

        assert state.read() == {"a": 1}
        assert serials(state) == [1]
        assert state.get_transaction_history() == before

    assert state.write({"a": 2}).serial == 2
    # The other one gave up by rollback; a refused lock is not recorded.
    assert [line["success"] for line in state.get_transaction_history()] == [True, False, True]


def test_a_lock_file_that_lies_around_means_nothing(state, path):
    path.with_name("pipeline.json.lock").write_text(
        '\n{"pid": 1, "host": "x", "operation": "y", "since": "z"}'
    )

    with state.transaction(timeout=0) as txn:
        txn.data["a"] = 1

    assert state.read() == {"a": 1}


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff", b"[]", b"{}", b'{"pid": "x"}', b"9" * 10_000]
)
def test_whatever_the_lock_file_says_the_error_is_a_lock_error(state, path, content):
    state.write({"a": 1})
    caught: list[BaseException] = []

    def attempt() -> None:
        path.with_name("pipeline.json.lock").write_bytes(content)
        try:
            state.transaction(timeout=0).__enter__()
        except BaseException as error:
            caught.append(error)

    with state.transaction():
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()

    assert [type(error) for error in caught] == [StateLockError]
    assert caught[0].holder is None


def test_a_lock_file_removed_while_a_block_runs_is_noticed(state, path):
    state.write({"a": 1})

    with pytest.raises(StateConflictError) as caught, state.transaction() as txn:
        txn.data["a"] = 2
        path.with_name("pipeline.json.lock").unlink()

    assert caught.value.code == "lock-lost"
    assert state.read() == {"a": 1}
    assert state.write({"a": 3}).serial == 2


# -- fork --------------------------------------------------------------------------------------------------------------


@needs_fork
def test_the_child_of_a_fork_inside_a_block_cannot_commit_it(state):
    state.write({"a": 1})

    def leave_block() -> object:
        txn.data["a"] = 99
        txn.__exit__(None, None, None)

    def write() -> object:
        PipelineState(state.path, timeout=0).write({"a": 98})

    def same_handle() -> object:
        state.transaction(timeout=0).__enter__()

    with state.transaction(operation="parent") as txn:
        txn.data["a"] = 2
        left = in_child(leave_block)
        written = in_child(write)
        entered = in_child(same_handle)
        read = in_child(state.read)
        txn.data["b"] = 3

    assert (left["error"], left["code"]) == ("StateTransactionError", "forked")
    assert (written["error"], entered["error"]) == ("StateLockError", "StateLockError")
    assert f"pid {os.getpid()}" in written["message"]
    assert read == {"a": 1}
    assert txn.committed
    assert state.read() == {"a": 2, "b": 3}
    assert serials(state) == [2, 1]


@needs_fork
def test_an_exception_in_the_child_passes_and_changes_nothing(state):
    state.write({"a": 1})

    def fail() -> object:
        with contextlib.ExitStack() as stack:
            stack.push(txn.__exit__)
            raise ValueError("in the child")

    with state.transaction() as txn:
        txn.data["a"] = 2
        told = in_child(fail)

    assert (told["error"], told["message"]) == ("ValueError", "in the child")
    assert state.read() == {"a": 2}
    assert [line["success"] for line in state.get_transaction_history()] == [True, True]


@needs_fork
def test_parent_and_child_both_use_the_handle_after_a_fork(state):
    state.write({"n": 0})
    for number in range(1, 6):
        assert in_child(lambda n=number: state.write({"child": n}).serial) == 2 * number
        assert state.write({"parent": number}).serial == 2 * number + 1

    assert serials(state) == list(range(11, 0, -1))
    assert state.verify().ok


# -- the disk says no --------------------------------------------------------------------------------------------------


@needs_fork
@posix
def test_a_directory_without_write_permission_is_readable_and_refuses_writes(open_directory):
    path = open_directory / "pipeline.json"

    def attempt_all() -> object:
        with PipelineState(path) as state:
            state.write({"a": 1})
            state.write({"a": 2})
        os.chmod(open_directory, 0o555)
        state = PipelineState(path)
        told: list[object] = [state.read(), [v.serial for v in state.log()], state.read(at=1)]
        for attempt in (
            lambda: state.write({"a": 3}),
            lambda: state.restore_backup(1),
            state.undo,
        ):
            try:
                attempt()
            except StateError as error:
                told.append(type(error).__name__)
        return [*told, state.read(), [v.serial for v in state.log()]]

    assert unprivileged(attempt_all) == [
        {"a": 2},
        [2, 1],
        {"a": 1},
        *["StateWriteError"] * 3,
        {"a": 2},
        [2, 1],
    ]


@needs_fork
@posix
def test_a_first_write_into_a_directory_without_permission_is_refused_and_leaves_nothing(
    open_directory,
):
    path = open_directory / "pipeline.json"
    os.chmod(open_directory, 0o555)

    def attempt() -> object:
        state = PipelineState(path)
        assert state.read() == {}
        state.write({"a": 1})

    refusal = unprivileged(attempt)

    assert refusal["error"] == "StateWriteError"
    assert "permission" in refusal["message"].lower()
    assert os.listdir(open_directory) == []


@needs_fork
@posix
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_directory_that_cannot_be_searched_is_a_typed_error(open_directory, mode):
    path = open_directory / "sub" / "pipeline.json"

    def attempt_all() -> object:
        with PipelineState(path) as state:
            state.write({"a": 1})
        os.chmod(path.parent, mode)
        told: list[object] = []
        for attempt in (
            lambda: PipelineState(path).read(),
            lambda: PipelineState(path).write({"a": 2}),
            lambda: PipelineState(path).list_backups(),
            lambda: list(PipelineState(path).log()),
            lambda: PipelineState(path).get_transaction_history(),
            lambda: PipelineState(path).verify(),
            lambda: PipelineState(path).restore_backup(1),
        ):
            try:
                attempt()
            except Exception as error:
                told.append(isinstance(error, StateError) or repr(error))
            else:
                told.append("nothing raised")
        return told

    assert unprivileged(attempt_all) == [True] * 7


@needs_fork
@posix
def test_an_unreadable_state_file_is_a_typed_error(open_directory):
    path = open_directory / "pipeline.json"

    def attempt_all() -> object:
        with PipelineState(path) as state:
            state.write({"a": 1})
        path.chmod(0)
        told: list[object] = []
        for attempt in (
            lambda: PipelineState(path).read(),
            lambda: PipelineState(path).write({"a": 2}),
            lambda: PipelineState(path).create_backup(),
        ):
            try:
                attempt()
            except Exception as error:
                told.append(type(error).__name__)
        return told

    assert unprivileged(attempt_all) == ["StateReadError"] * 3


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 3 MB of its own."""
    if not ROOT or sys.platform != "linux":
        pytest.skip("only root can mount a disk")
    point = tmp_path / "disk"
    point.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,mode=755", "tmpfs", point],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"cannot mount a disk: {done.stderr.strip()}")
    yield point
    subprocess.run(["umount", "-l", point], check=True)


def fill(disk: Path, *, leave: int) -> None:
    """Fills the disk up, all but `leave` pages."""
    with open(disk / "filler", "wb", buffering=0) as file:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            while file.write(bytes(4096)):
                pass
        size = file.tell() // 4096 * 4096
        file.truncate(max(0, size - leave * 4096))


def test_a_full_disk_leaves_everything_as_it_was(small_disk):
    with PipelineState(small_disk / "pipeline.json") as state:
        state.write({"a": "x" * 1000})
        fill(small_disk, leave=0)
        before = picture(state)

        with pytest.raises(StateWriteError) as caught:
            state.write({"a": "y" * 100_000})

        assert isinstance(caught.value.__cause__, OSError)
        assert "space" in str(caught.value)
        assert picture(state) == before
        (small_disk / "filler").unlink()
        assert state.write({"a": "z"}).serial == 2
        assert state.verify().ok


def test_a_disk_that_fills_up_anywhere_on_the_way_leaves_one_state_or_the_other(small_disk, caplog):
    caplog.set_level(logging.ERROR)
    path = small_disk / "pipeline.json"
    outcomes = set()
    expected: dict[str, Any] = {"n": -1, "pad": "x" * 9000}
    with PipelineState(path) as state:
        state.write(expected)
    for pages in range(24):
        with PipelineState(path) as state:
            fill(small_disk, leave=pages)
            serial = next(state.log()).serial
            new = {"n": pages, "pad": "y" * 9000 * (1 + pages % 3)}
            try:
                made = state.write(new)
            except StateWriteError:
                outcomes.add("refused")
            else:
                assert made.serial == serial + 1
                outcomes.add("committed")
                expected, serial = new, made.serial
            assert state.read() == expected
            assert next(state.log()).serial == serial
            assert next(state.log()).read() == expected
            assert sorted(os.listdir(small_disk)) == [
                ".pipeline",
                "filler",
                "pipeline.json",
                "pipeline.json.lock",
            ]
            (small_disk / "filler").unlink()
        with PipelineState(path) as state:
            assert state.read() == expected
            assert next(state.log()).serial == serial
            assert state.verify().ok
    assert outcomes == {"refused", "committed"}


def test_a_disk_that_is_full_from_the_start_leaves_no_state(small_disk):
    path = small_disk / "pipeline.json"
    for pages in range(0, 80, 4):
        fill(small_disk, leave=pages)
        try:
            PipelineState(path).write({"a": 1})
        except StateWriteError:
            assert not path.exists()
            assert PipelineState(path).read() == {}
        else:
            break
        (small_disk / "filler").unlink()
    else:
        pytest.fail("it never fitted")
    (small_disk / "filler").unlink(missing_ok=True)

    with PipelineState(path) as state:
        assert state.read() == {"a": 1}
        assert state.verify().ok


@needs_fork
@posix
def test_too_few_descriptors_are_a_typed_error_or_no_matter(path):
    resource = pytest.importorskip("resource")
    PipelineState(path).write({"n": 0})

    def attempt(free: int) -> object:
        logging.disable()
        used = max(int(name) for name in os.listdir("/dev/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + free, used + free))
        told: list[object] = []
        for call in (
            lambda: PipelineState(path).write({"n": free}).serial,
            lambda: PipelineState(path).read()["n"],
            lambda: len(PipelineState(path).list_backups()) >= 0,
            lambda: PipelineState(path).restore_backup(1),
        ):
            try:
                told.append(call())
            except StateError:
                told.append("refused")
        return told

    for free in range(14):
        told = in_child(lambda free=free: attempt(free))
        assert isinstance(told, list), told
        assert set(map(type, told)) <= {int, bool, str}
    with PipelineState(path) as state:
        assert state.verify().ok
        assert state.read(at=1) == {"n": 0}
        assert serials(state) == list(range(len(serials(state)), 0, -1))
        assert state.read() == state.read(at="HEAD")


@needs_fork
def test_a_state_that_is_too_large_for_the_file_size_limit_is_refused(path):
    resource = pytest.importorskip("resource")
    PipelineState(path).write({"a": 1})

    def attempt() -> object:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        PipelineState(path).write({"a": "x" * 600_000})

    assert in_child(attempt)["error"] == "StateWriteError"
    with PipelineState(path) as state:
        assert state.read() == {"a": 1}
        assert serials(state) == [1]
        assert state.write({"a": 2}).serial == 2
        assert state.verify().ok


PEAK = """
import re, sys
from gitstate import PipelineState
with PipelineState(sys.argv[1], schema=None).transaction() as txn:
    txn.data["n"] = int(sys.argv[2])
print(re.search("VmHWM:[^0-9]*([0-9]+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux alone tells the peak")
def test_a_large_document_is_in_memory_only_as_often_as_it_takes(tmp_path):
    """8 times its bytes at the peak, also of what packs it: of this one the document alone takes 3; it was 12 times once."""
    record = {"name": "chapter", "status": "success", "seconds": 11.5, "tags": ["a"], "more": {}}
    peaks = []
    for count in (1, 100_000):
        path = tmp_path / f"{count}.json"
        with PipelineState(path, schema=None) as state:
            state.write({"chunks": [{**record, "number": number} for number in range(count)]})
        peaks.append(
            max(
                int(subprocess.check_output([sys.executable, "-c", PEAK, path, str(number)])) * 1024
                for number in range(4)
            )
        )

    assert list((path.parent / ".pipeline" / f"{path.name}.d" / "repo/objects/pack").glob("*.pack"))
    assert peaks[1] - peaks[0] < 9 * path.stat().st_size


# -- filesystems -------------------------------------------------------------------------------------------------------

MOUNTINFO = (
    "22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw\n"
    "28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "36 28 0:50 / /mnt/with\\040space\\011tab\\134 rw - nfs4 server:/export rw,vers=4.2\n"
    "37 28 0:51 /sub /mnt/é rw master:1 propagate_from:2 - fuse.sshfs x@y:/ rw\n"
    "a line of something else\n"
)


def test_the_table_of_mounts_is_read_with_its_escapes():
    assert files.mounts(MOUNTINFO) == [
        ("0:21", "/proc", "proc"),
        ("8:1", "/", "ext4"),
        ("0:50", "/mnt/with space\ttab\\", "nfs4"),
        ("0:51", "/mnt/é", "fuse.sshfs"),
    ]
    assert files.mounts("") == []


def mounted(
    monkeypatch: pytest.MonkeyPatch, path: Path, kind: str, point: str = "/somewhere"
) -> None:
    device = path.parent.stat().st_dev
    row = (f"{os.major(device)}:{os.minor(device)}", point, kind)
    monkeypatch.setattr(files, "mounts", lambda table=None: [("0:1", "/", "ext4"), row])


@posix
@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "lustre"])
def test_a_network_filesystem_is_refused_unless_asked_for(path, monkeypatch, kind):
    mounted(monkeypatch, path, kind)

    with PipelineState(path) as state, pytest.raises(StateWriteError, match=kind) as caught:
        state.write({"a": 1})
    assert caught.value.code == "network-filesystem"
    assert "allow_network" in str(caught.value)
    assert os.listdir(path.parent) == []

    with PipelineState(path, allow_network=True) as state:
        assert state.write({"a": 1}).serial == 1


@posix
def test_a_network_filesystem_may_be_read(path, monkeypatch):
    PipelineState(path).write({"a": 1})
    PipelineState(path).close()
    mounted(monkeypatch, path, "nfs4")

    with PipelineState(path) as state:
        assert state.read() == {"a": 1}
        assert serials(state) == [1]


@posix
@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs", "overlay", "btrfs"])
def test_a_local_filesystem_is_fine(path, monkeypatch, kind):
    mounted(monkeypatch, path, kind)

    assert PipelineState(path).write({"a": 1}).serial == 1


@posix
def test_a_state_file_that_is_a_mount_point_is_refused_before_anything_happens(path, monkeypatch):
    path.write_text('{"a": 1}')
    mounted(monkeypatch, path, "ext4", os.fspath(path))

    with PipelineState(path, allow_network=True) as state, pytest.raises(StateWriteError) as caught:
        state.write({"a": 2})
    assert caught.value.code == "mount-point"
    assert path.read_text() == '{"a": 1}'


def test_versions_are_of_the_public_type(state):
    assert type(state.write({"a": 1})) is Version
