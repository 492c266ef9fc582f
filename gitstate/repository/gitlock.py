"""Git's lock for a file of its own, `packed-refs` or `shallow`: `<name>.lock` beside it, which must not exist yet.

Made as a link to a file that is flushed, so that it is never empty: whoever finds one of a killed process knows it by
what it holds (PITFALLS D4).

Source: gitrepository-layout(5), and the lock files of git-pack-refs(1).
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.errors import StateWriteError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MARK: Final = b"gitstate\n"
_PREFIX: Final = "gitstate-lock-"
_NAMES: Final = ("packed-refs", "shallow")
_WAIT_SECONDS: Final = 0.1
_ABANDONED_SECONDS: Final = 3600.0


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps Git from changing the file `path` for a block, in which its folder may be moved. Under the state's lock.

    Raises:
        StateWriteError: Git is at it; code `"ref-locked"`.
        OSError: the disk refused.
    """
    lock, mark = _lock(path), path.with_name(_PREFIX + path.name)
    files.remove(mark)
    files.write_new(mark, _MARK)
    try:
        _take(mark, lock)
        try:
            yield
        finally:
            # Where there is another folder by that name now, the lock in it may be Git's.
            if _is_ours(lock):
                files.remove(lock)
    finally:
        files.remove(mark)


def publish(path: Path, content: bytes) -> None:
    """Replaces the file `path`, durably. Under its lock.

    Raises:
        OSError: the disk refused; the old file is there.
    """
    made = path.with_name(f"{_PREFIX}{path.name}-new")
    files.remove(made)
    try:
        files.write_new(made, content, mode=0o644)
        os.replace(made, path)
    except BaseException:
        files.remove(made)
        raise
    files.sync_directory(path.parent)


def sweep(git_dir: Path) -> None:
    """Removes what killed processes left. Under the state's lock.

    Raises:
        OSError: the disk refused.
    """
    for name in _NAMES:
        lock = _lock(git_dir / name)
        if _abandoned(lock):
            files.remove(lock)
    for name in os.listdir(git_dir):
        if name.startswith(_PREFIX):
            files.remove(git_dir / name)


def _lock(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _take(mark: Path, lock: Path) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            os.link(mark, lock)
        except FileExistsError:
            if _abandoned(lock):
                files.remove(lock)
            elif time.monotonic() >= deadline:
                raise StateWriteError(
                    f"another program holds a lock of Git's: {lock}. Nothing is lost. If no git command is running, delete"
                    " the lock file.",
                    path=lock,
                    code="ref-locked",
                ) from None
            else:
                time.sleep(0.002)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EMLINK}:
                raise
            # A filesystem without links: the next best thing is a name that must not exist yet.
            files.write_new(lock, _MARK)
            return
        else:
            return


def _abandoned(lock: Path) -> bool:
    try:
        return _is_ours(lock) or time.time() - lock.stat().st_mtime > _ABANDONED_SECONDS
    except OSError:
        return False


def _is_ours(lock: Path) -> bool:
    try:
        return files.read(lock)[0] == _MARK
    except FileNotFoundError:
        return False
