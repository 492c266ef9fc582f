"""The refs of the repository: moved by compare and swap, under Git's locks, in files that are used again."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from typing import TYPE_CHECKING

import pytest
from oracle import Call, file_calls, fresh, leave

from gitstate import StateWriteError
from gitstate.repository.refs import Refs

if TYPE_CHECKING:
    from pathlib import Path

MAIN = "refs/heads/main"
IDS = [f"{number:040x}" for number in range(1, 8)]


@pytest.fixture
def refs(tmp_path: Path) -> Refs:
    return Refs(tmp_path)


def _move_along(refs: Refs, ids: list[str], before: str | None = None) -> None:
    for new in ids:
        refs.move(MAIN, (before,), new)
        before = new


def test_moving_a_ref_again_and_again_makes_no_new_files(tmp_path: Path, refs: Refs) -> None:
    _move_along(refs, IDS[:2])

    with contextlib.ExitStack() as opened:  # or the inode of one might be given to the next
        files = set()
        for before, new in itertools.pairwise(IDS[1:]):
            refs.move(MAIN, (before,), new)
            file = opened.enter_context((tmp_path / MAIN).open())
            files.add(os.fstat(file.fileno()).st_ino)
            assert refs.read(MAIN) == new

    assert len(files) == 2


def test_a_copy_of_the_repository_made_of_links_does_not_follow(tmp_path: Path, refs: Refs) -> None:
    copy = tmp_path / "copy"
    _move_along(refs, IDS[:3])
    os.link(tmp_path / MAIN, copy)

    _move_along(refs, IDS[3:], before=IDS[2])

    assert copy.read_text().strip() == IDS[2]
    assert refs.read(MAIN) == IDS[-1]


@pytest.mark.parametrize("stop", range(3))
def test_an_interrupt_in_a_move_leaves_the_old_id_or_the_new_one(
    stop: int, tmp_path: Path, refs: Refs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _move_along(refs, IDS[:2])
    calls = iter(range(3))
    for name in ("link", "replace"):
        real = getattr(os, name)

        def interrupted(*arguments: object, real: object = real) -> None:
            real(*arguments)  # type: ignore[operator]
            if next(calls, None) == stop:
                raise KeyboardInterrupt

        monkeypatch.setattr(os, name, interrupted)

    with pytest.raises(KeyboardInterrupt):
        refs.move(MAIN, (IDS[1],), IDS[2])
    monkeypatch.undo()

    at = refs.read(MAIN)
    assert at in IDS[1:3]
    refs.sweep(IDS)
    _move_along(refs, IDS[3:], before=at)
    assert refs.read(MAIN) == IDS[-1]
    assert sorted(os.listdir(tmp_path / "refs/heads")) == ["main"]


def test_another_writer_at_the_same_spare_file_cannot_publish_the_wrong_id(
    refs: Refs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of them can only be there once the state's lock is lost (PITFALLS L3)."""
    _move_along(refs, IDS[:2])
    real = os.link

    def late(old: str, new: str) -> None:
        monkeypatch.undo()
        refs.move(MAIN, (IDS[1],), IDS[2])
        refs.move(MAIN, (IDS[2],), IDS[3])
        refs._write_spare(os.fspath(old), IDS[4].encode() + b"\n")
        real(old, new)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(StateWriteError) as caught:
        refs.move(MAIN, (IDS[3],), IDS[5])

    assert caught.value.code == "ref-locked"
    assert refs.read(MAIN) == IDS[3]
    refs.move(MAIN, (IDS[3],), IDS[5])


def test_a_ref_that_is_there_already_is_left_alone(tmp_path: Path, refs: Refs) -> None:
    _move_along(refs, IDS[:2])
    before = (tmp_path / MAIN).stat()

    refs.move(MAIN, (IDS[0],), IDS[1])

    assert (tmp_path / MAIN).stat().st_ino == before.st_ino
    assert os.listdir(tmp_path / "refs/heads") == ["main"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "no"), KeyboardInterrupt()])
def test_what_goes_wrong_behind_the_rename_does_not_touch_gits_lock(
    error: BaseException, tmp_path: Path, refs: Refs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _move_along(refs, IDS[:2])
    lock = tmp_path / (MAIN + ".lock")
    real = os.replace

    def refuses(old: str, new: str) -> None:
        if "gitstate-" in new:
            raise error
        real(old, new)
        if new.endswith("heads/main"):
            lock.touch()  # git pack-refs takes it at once

    monkeypatch.setattr(os, "replace", refuses)
    with contextlib.suppress(KeyboardInterrupt):
        refs.move(MAIN, (IDS[1],), IDS[2])
    monkeypatch.undo()

    assert refs.read(MAIN) == IDS[2]
    assert lock.exists()
    lock.unlink()
    _move_along(refs, IDS[3:], before=IDS[2])


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no modes")
def test_a_ref_that_is_not_ours_to_write_is_moved_all_the_same(
    tmp_path: Path, refs: Refs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _move_along(refs, IDS[:2])
    real = os.open

    def refuses(path: str, flags: int, *mode: int) -> int:
        if "gitstate-spare" in os.fspath(path) and not flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuses)
    _move_along(refs, IDS[2:], before=IDS[1])

    assert refs.read(MAIN) == IDS[-1]


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_where_there_are_no_links_refs_move_and_git_has_its_lock_all_the_same(
    number: int, tmp_path: Path, refs: Refs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(old: str, new: str) -> None:
        if os.path.exists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuses)
    (tmp_path / "refs/heads").mkdir(parents=True)
    _move_along(refs, IDS[:3])
    lock = tmp_path / (MAIN + ".lock")
    lock.touch()

    with pytest.raises(StateWriteError) as caught:
        refs.move(MAIN, (IDS[2],), IDS[3])

    assert caught.value.code == "ref-locked"
    assert lock.exists()
    lock.unlink()
    _move_along(refs, IDS[3:], before=IDS[2])
    assert refs.read(MAIN) == IDS[-1]
    assert os.listdir(tmp_path / "refs/heads") == ["main"]
    assert os.listdir(tmp_path) == ["refs"]


def test_a_lock_that_git_lets_go_of_while_we_look_at_it_is_ours_next(
    tmp_path: Path, refs: Refs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _move_along(refs, IDS[:2])
    real = os.link

    def just_gone(old: str, new: str) -> None:
        monkeypatch.undo()
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(os, "link", just_gone)
    refs.move(MAIN, (IDS[1],), IDS[2])

    assert os.link is real
    assert refs.read(MAIN) == IDS[2]
    assert os.listdir(tmp_path / "refs/heads") == ["main"]


def test_a_folder_of_refs_that_is_not_there_holds_none(refs: Refs) -> None:
    _move_along(refs, IDS[:1])

    assert refs.all("refs/backups/") == {}
    assert refs.all("refs/heads/main/") == {}
    assert refs.all("refs/") == {MAIN: IDS[0]}


def test_a_ref_that_goes_while_all_are_read_is_not_among_them(tmp_path: Path, refs: Refs) -> None:
    _move_along(refs, IDS[:1])
    refs.move("refs/heads/other", (None,), IDS[1])

    def take(call: Call) -> None:
        if call.file == "other":
            (tmp_path / "refs/heads/other").unlink(missing_ok=True)

    with file_calls(take, reading=True):
        assert refs.all("refs/") == {MAIN: IDS[0]}


def test_a_new_ref_has_one_name_only(tmp_path: Path, refs: Refs) -> None:
    refs.move(MAIN, (None,), IDS[0])

    assert (tmp_path / MAIN).stat().st_nlink == 1
    assert os.listdir(tmp_path) == ["refs"]


def test_a_power_cut_after_a_checkpoint_puts_no_older_id_under_the_branch(path: Path) -> None:
    """The file to be used again is not flushed by the checkpoint: on disk it may hold an id that no record knows."""
    state = fresh(path)
    for number in range(3):
        state.write({"n": number})
    (spare,) = state.git_dir.glob("gitstate-spare-*main")
    descriptor = os.open(spare, os.O_RDONLY)  # or its inode might be given to another file
    on_disk = os.read(descriptor, 64)

    state.checkpoint()
    state.write({"n": 3})

    branch = state.git_dir / MAIN
    if branch.stat().st_ino == os.fstat(descriptor).st_ino:
        branch.write_bytes(on_disk)
    os.close(descriptor)
    leave(state)

    assert [version.read()["n"] for version in fresh(path).log()] == [3, 2, 1, 0]
