"""The file operations that durability rests on, and the only flushes in the package.

`OSError` passes through here; `refused` turns it into a typed error where the caller knows what is still safe.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from gitstate.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BINARY: Final = getattr(os, "O_BINARY", 0)
_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)
_NONBLOCK: Final = getattr(os, "O_NONBLOCK", 0)
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_READ_SIZE: Final = 64 * 1024
_NOT_THERE: Final = {errno.ENOENT, errno.ENOTDIR}
_SOMETHING_ELSE: Final = {errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENXIO}

NETWORK_FILESYSTEMS: Final = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ncpfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "lustre",
    }
)


class Identity(NamedTuple):
    """Which file it is, and in which state, without reading it: the inode, its size in bytes, its mtime in ns."""

    inode: int
    size: int
    mtime_ns: int


def identity_of(status: os.stat_result) -> Identity:
    """The identity that `status` describes."""
    return Identity(status.st_ino, status.st_size, status.st_mtime_ns)


def identity(path: Path | str) -> Identity | None:
    """The identity of the file at `path`, None where there is none."""
    try:
        return identity_of(os.stat(path))
    except FileNotFoundError:
        return None


def read(path: Path | str) -> tuple[bytes, os.stat_result]:
    """The content of a file, and its status while it was read."""
    # Without blocking: somebody may have put a pipe in its place.
    descriptor = os.open(path, os.O_RDONLY | _BINARY | _CLOEXEC | _NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        content = os.read(descriptor, status.st_size + 1)
        while more := os.read(
            descriptor, _READ_SIZE
        ):  # it has grown, or the system gave less than asked
            content += more
        return content, os.fstat(descriptor)
    finally:
        os.close(descriptor)


class NewFile:
    """A new file on its way to the disk: whoever has other work to do does it between `write` and `finish`.

    Attributes:
        path: where it is.
        content: what it holds.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self.content = b""
        self._descriptor = -1
        self._pid = os.getpid()

    def write(
        self, content: bytes, *, mode: int = 0o600, like: os.stat_result | None = None
    ) -> None:
        """Makes it, with `mode`, or the mode and owner of `like`.

        Raises:
            OSError: nothing is left behind.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY | _CLOEXEC | _NOFOLLOW
        self._descriptor = os.open(self.path, flags, mode)
        try:
            write_all(self._descriptor, content)
            if like is not None:
                _take_after(self._descriptor, like)
            self.content = content
        except BaseException:
            self.discard()
            raise

    def hasten(self) -> None:
        """Has the disk write while other work is done, where the system can; `finish` then waits for less.

        Linux starts to write out the pages that it is told will not be needed: posix_fadvise(2).
        """
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):  # a filesystem that cannot loses nothing but time
                os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def finish(self) -> Identity:
        """Its identity, once it is flushed. Its name is not flushed yet.

        Raises:
            OSError: nothing is left behind.
        """
        try:
            # fsync, not fdatasync: the identity of the file includes its mtime (PITFALLS O10).
            os.fsync(self._descriptor)
            made = identity_of(os.fstat(self._descriptor))
            self._close()
        except BaseException:
            self.discard()
            raise
        return made

    def discard(self) -> None:
        """Removes it, unless this is a child of the process that made it."""
        with contextlib.suppress(OSError):
            self._close()
        if os.getpid() == self._pid:
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def write_new(
    path: Path | str, content: bytes, *, mode: int = 0o600, like: os.stat_result | None = None
) -> Identity:
    """A new file with `content`, flushed, with `mode`, or the mode and owner of `like`. Its name is not flushed yet.

    Raises:
        OSError: nothing is left behind.
    """
    made = NewFile(path)
    made.write(content, mode=mode, like=like)
    return made.finish()


@contextlib.contextmanager
def writing_new(path: Path) -> Iterator[BinaryIO]:
    """A new file to write into, flushed when the block ends. Its name is not flushed yet.

    Raises:
        OSError: nothing is left behind.
    """
    try:
        with open(path, "xb", opener=partial(os.open, mode=0o600)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def make_directories(path: Path) -> None:
    """`path` and its missing parents as directories, each flushed into its parent."""
    if not path.is_dir():
        make_directories(path.parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
        sync_directory(path.parent)


def replace(path: Path, content: bytes) -> None:
    """`content` under the name `path`, durable: after a crash at any instant the old file or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{token()}.tmp")
    write_new(temporary, content)
    # A crash here leaves the temporary file; creating or recovering the store removes it.
    try:
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(path.parent)


def write_all(descriptor: int, content: bytes | memoryview, offset: int | None = None) -> None:
    """All of `content`, at `offset` or at the file's position: one call may write less than asked (PITFALLS O1)."""
    rest = memoryview(content)
    while rest:
        if offset is None:
            written = os.write(descriptor, rest)
        else:
            written = _write_at(descriptor, rest, offset)
            offset += written
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rest = rest[written:]


def allocate(descriptor: int, size: int) -> None:
    """Chooses the blocks of a new file's first `size` bytes now, where the system can."""
    with contextlib.suppress(OSError):  # a filesystem that cannot loses nothing but time
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)


def read_at(descriptor: int, length: int, offset: int) -> bytes:
    """Up to `length` bytes at `offset`; less only at the end of the file."""
    if hasattr(os, "pread"):
        found = os.pread(descriptor, length, offset)
        while (
            found
            and len(found) < length
            and (more := os.pread(descriptor, length - len(found), offset + len(found)))
        ):
            found += more
        return found
    os.lseek(descriptor, offset, os.SEEK_SET)
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(length)


def flush_data(descriptor: int) -> None:
    """What was written to `descriptor` survives a power cut, once this returns. Never call it again after a failure:
    the kernel may have dropped the pages and then report success (PITFALLS O2).
    """
    getattr(os, "fdatasync", os.fsync)(descriptor)


def flush_file(path: Path | str) -> None:
    """The content of an existing file survives a power cut, once this returns."""
    descriptor = os.open(path, (os.O_RDWR if sys.platform == "win32" else os.O_RDONLY) | _CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path | str) -> None:
    """The names in the directory survive a power cut, once this returns. Windows has no such call and needs none."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(top: Path) -> None:
    """Every file and directory below `top`, and `top` itself, survives a power cut, once this returns."""
    for folder, _, names in os.walk(top, topdown=False):
        for name in names:
            flush_file(top / folder / name)
        sync_directory(top / folder)


def remove(path: Path | str) -> None:
    """Deletes the file at `path`, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def token() -> str:
    """Sixteen hex digits that no other file name has."""
    return os.urandom(8).hex()  # as `secrets` has it, which takes longer to import than this module


def is_damage(error: OSError) -> bool:
    """Whether the system says that a file is missing, or something else in its place, and not that it will not tell."""
    return error.errno in _NOT_THERE | _SOMETHING_ELSE


class Refused:
    """Turns an `OSError` of the block into a `StateError`: what failed on which path, and what is still safe."""

    # A class, not a generator: a transaction enters nine of them.
    __slots__ = ("_error", "_path", "_safe", "_what")

    def __init__(self, error: type[StateError], what: str, path: Path | str, safe: str) -> None:
        self._error = error
        self._what = what
        self._path = path
        self._safe = safe

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, cause: BaseException | None, traceback: object) -> None:
        # A lock's time-out is an OSError too, and says what happened.
        if isinstance(cause, OSError) and not isinstance(cause, StateError):
            reason = cause.strerror or str(cause)
            message = f"{self._what}: {reason}: {self._path}. {self._safe} {_advice(cause)}"
            raise self._error(message, path=Path(self._path)) from cause


def mounts(table: str | None = None) -> list[tuple[str, str, str]]:
    """The mounted filesystems as (device "major:minor", mount point, type); none where the system does not tell.

    Source of the format: proc_pid_mountinfo(5). `table` stands in for /proc/self/mountinfo.
    """
    if table is None:
        try:
            with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
                table = file.read()
        except OSError:
            return []
    found = []
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) >= 5 and kind:
            point = fields[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
            found.append(
                (fields[2], point.encode("latin-1").decode("utf-8", "surrogateescape"), kind[0])
            )
    return found


def _write_at(descriptor: int, content: memoryview, offset: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, content, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.write(descriptor, content)


def _take_after(descriptor: int, like: os.stat_result) -> None:
    """Gives the file the owner and mode of `like` (PITFALLS O4)."""
    if sys.platform == "win32":
        return
    mine = os.fstat(descriptor)
    if (mine.st_uid, mine.st_gid) != (like.st_uid, like.st_gid):
        os.fchown(descriptor, like.st_uid, like.st_gid)
    if mine.st_mode & 0o7777 != like.st_mode & 0o7777:
        os.fchmod(descriptor, like.st_mode & 0o7777)


def _advice(cause: OSError) -> str:
    match cause.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "Free some space and run it again."
        case errno.EACCES | errno.EPERM:
            return "Check who owns the directory and its permissions, and run it again."
        case errno.EROFS:
            return "The filesystem is mounted read-only: mount it for writing and run it again."
        case errno.EMFILE | errno.ENFILE:
            return "Close files or raise the limit (ulimit -n), and run it again."
        case _:
            return "Check the disk (dmesg says more), and run it again."
