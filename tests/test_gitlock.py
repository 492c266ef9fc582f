"""Git's locks for files of its own: ours says whose it is, and one of Git's is waited for, then left."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from oracle import Call, file_calls

from gitstate import StateWriteError
from gitstate.repository import gitlock


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file that is to be changed."""
    path = tmp_path / "packed-refs"
    path.write_bytes(b"old")
    return path


def lock_of(file: Path) -> Path:
    return file.with_name(file.name + ".lock")


@contextmanager
def failing(name: str, code: int) -> Iterator[None]:
    """File calls of that name fail."""

    def fail(call: Call) -> None:
        if call.name == name:
            raise OSError(code, os.strerror(code), call.target)

    with file_calls(fail):
        yield


def test_the_lock_is_there_for_the_block_and_says_whose_it_is(file: Path) -> None:
    with gitlock.locked(file):
        assert lock_of(file).read_bytes() == b"gitstate\n"
        gitlock.publish(file, b"new")

    assert os.listdir(file.parent) == [file.name]
    assert file.read_bytes() == b"new"


def test_the_lock_goes_whatever_happens_in_the_block(file: Path) -> None:
    with pytest.raises(ZeroDivisionError), gitlock.locked(file):
        _ = 1 / 0

    assert os.listdir(file.parent) == [file.name]


def test_a_lock_of_gits_is_waited_for_and_left(file: Path) -> None:
    lock_of(file).touch()

    with pytest.raises(StateWriteError) as caught, gitlock.locked(file):
        raise AssertionError

    assert caught.value.code == "ref-locked"
    assert sorted(os.listdir(file.parent)) == [file.name, lock_of(file).name]


@pytest.mark.parametrize("what", ["ours, of a killed process", "an hour old"])
def test_a_lock_that_nobody_holds_is_taken_over(file: Path, what: str) -> None:
    lock_of(file).write_bytes(b"gitstate\n" if what.startswith("ours") else b"")
    if not what.startswith("ours"):
        os.utime(lock_of(file), (0, 0))

    with gitlock.locked(file):
        gitlock.publish(file, b"new")

    assert os.listdir(file.parent) == [file.name]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_a_filesystem_without_links_has_the_lock_by_its_name_alone(file: Path, code: int) -> None:
    with failing("link", code), gitlock.locked(file):
        assert lock_of(file).read_bytes() == b"gitstate\n"

    assert os.listdir(file.parent) == [file.name]


def test_a_disk_that_refuses_the_lock_is_said(file: Path) -> None:
    with failing("link", errno.EIO), pytest.raises(OSError, match="error"), gitlock.locked(file):
        raise AssertionError

    assert os.listdir(file.parent) == [file.name]


def test_a_file_that_cannot_be_replaced_is_as_it_was(file: Path) -> None:
    with failing("replace", errno.EIO), pytest.raises(OSError, match="error"), gitlock.locked(file):
        gitlock.publish(file, b"new")

    assert os.listdir(file.parent) == [file.name]
    assert file.read_bytes() == b"old"


def test_what_killed_processes_left_is_swept_and_what_is_gits_is_not(tmp_path: Path) -> None:
    for name, content in {
        "packed-refs.lock": b"gitstate\n",
        "shallow.lock": b"",
        "gitstate-lock-shallow": b"gitstate\n",
        "gitstate-lock-shallow-new": b"half",
        "HEAD": b"ref: refs/heads/main\n",
    }.items():
        (tmp_path / name).write_bytes(content)

    gitlock.sweep(tmp_path)

    assert sorted(os.listdir(tmp_path)) == ["HEAD", "shallow.lock"]
