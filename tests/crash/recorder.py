"""What a process does to the files below one folder, as a list of events that a disk can be rebuilt from."""

from __future__ import annotations

import builtins
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

Inode = int
"""A file for as long as it lives; see `Numbers`."""


class Created(NamedTuple):
    """A new, empty file has the name `path`."""

    path: str
    inode: Inode
    mode: int


class MadeDirectory(NamedTuple):
    """A new directory has the name `path`."""

    path: str
    mode: int


class Wrote(NamedTuple):
    """`content` is at `offset` of a file."""

    inode: Inode
    offset: int
    content: bytes
    mtime: int


class Resized(NamedTuple):
    """A file is `size` bytes long."""

    inode: Inode
    size: int
    mtime: int


class Renamed(NamedTuple):
    """What was called `old` is called `new`; what was called so is gone."""

    old: str
    new: str


class Linked(NamedTuple):
    """What is called `old` is called `new` too."""

    old: str
    new: str


class Removed(NamedTuple):
    """Nothing is called `path` any more."""

    path: str


class FlushedFile(NamedTuple):
    """The content of a file is durable."""

    inode: Inode
    mtime: int


class FlushedDirectory(NamedTuple):
    """The names in a directory are durable."""

    path: str


class Told(NamedTuple):
    """The workload says something: what it is about to do, or what it has been promised."""

    what: Any


Event = (
    Created
    | MadeDirectory
    | Wrote
    | Resized
    | Renamed
    | Linked
    | Removed
    | FlushedFile
    | FlushedDirectory
    | Told
)


@dataclass
class Numbers:
    """The inode numbers that gitstate sees: those of the recorded files, whatever a rebuilt disk gives them.

    A record of the journal names files by their numbers. On a rebuilt disk the same files have others, and a new file
    may have one of the old: `aliases` maps what the system says to what the records say, and every other number is
    moved out of their way.
    """

    aliases: dict[int, int]

    def __getitem__(self, inode: int) -> int:
        return self.aliases.get(inode, inode + (1 << 40))

    @contextmanager
    def seen(self) -> Iterator[None]:
        """For the block, this process sees the files by these numbers."""
        from gitstate import files

        identity_of = files.identity_of
        files.identity_of = lambda status: identity_of(status)._replace(inode=self[status.st_ino])
        try:
            yield
        finally:
            files.identity_of = identity_of


class Recorder:
    """Notes every change that this process makes below `folder`, in the order in which it is made."""

    def __init__(self, folder: str, numbers: Numbers | None = None) -> None:
        self.events: list[Event] = []
        self._root = folder + os.sep
        self._numbers = numbers
        self._held: list[int] = []

    def tell(self, what: Any) -> None:
        """Puts something that is not about files between the events."""
        self.events.append(Told(what))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """For the block, wraps every call by which Python changes a file."""
        wrapped = {
            name: getattr(self, f"_{name}")
            for name in (
                "open",
                "write",
                "pwrite",
                "ftruncate",
                "posix_fallocate",
                "rename",
                "link",
                "unlink",
                "mkdir",
                "fsync",
            )
        }
        wrapped |= {
            "replace": wrapped["rename"],
            "remove": wrapped["unlink"],
            "rmdir": wrapped["unlink"],
            "fdatasync": wrapped["fsync"],
        }
        originals = {name: getattr(os, name) for name in wrapped}
        builtin_open = builtins.open

        def wrap(original: Callable[..., Any], note: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                return note(original, *arguments, **options)

            return call

        try:
            for name, note in wrapped.items():
                setattr(os, name, wrap(originals[name], note))
            builtins.open = wrap(builtin_open, self._open_buffered)
            yield
        finally:
            for name, original in originals.items():
                setattr(os, name, original)
            builtins.open = builtin_open
            for descriptor in self._held:
                os.close(descriptor)

    # Each of these makes the call, and notes it if it was about something below the folder.

    def _open(self, original: Any, path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        name = os.fspath(path)
        creates = flags & os.O_CREAT and self._ours(name) and not os.path.lexists(name)
        truncates = flags & os.O_TRUNC and self._ours(name) and os.path.exists(name)
        descriptor: int = original(path, flags, mode, **options)
        if creates:
            self._created(original, name)
        elif truncates:
            self._resized(descriptor)
        return descriptor

    def _open_buffered(
        self, original: Any, file: Any, mode: str = "r", *more: Any, **options: Any
    ) -> Any:
        if isinstance(file, int) or not self._ours(os.fspath(file)) or mode not in {"xb", "wb"}:
            return original(file, mode, *more, **options)
        name = os.fspath(file)
        # Its opener, if it has one, calls the `os.open` that is wrapped here.
        opener = options.get("opener") or (lambda path, flags: os.open(path, flags, 0o666))
        return io.BufferedWriter(_RawFile(self, name, mode, opener))

    def _write(self, original: Any, descriptor: int, content: Any) -> int:
        if not self._is_ours(descriptor):
            return original(descriptor, content)
        offset = os.lseek(descriptor, 0, os.SEEK_CUR)
        written: int = original(descriptor, content)
        self.wrote(descriptor, offset, bytes(content)[:written])
        return written

    def _pwrite(self, original: Any, descriptor: int, content: Any, offset: int) -> int:
        written: int = original(descriptor, content, offset)
        if self._is_ours(descriptor):
            self.wrote(descriptor, offset, bytes(content)[:written])
        return written

    def _ftruncate(self, original: Any, descriptor: int, size: int) -> None:
        original(descriptor, size)
        if self._is_ours(descriptor):
            self._resized(descriptor)

    def _posix_fallocate(self, original: Any, descriptor: int, offset: int, size: int) -> None:
        original(descriptor, offset, size)
        if self._is_ours(descriptor):
            self._resized(descriptor)

    def _rename(self, original: Any, old: Any, new: Any, **options: Any) -> None:
        original(old, new, **options)
        if self._ours(os.fspath(new)):
            self.events.append(Renamed(os.fspath(old), os.fspath(new)))

    def _link(self, original: Any, old: Any, new: Any, **options: Any) -> None:
        original(old, new, **options)
        if self._ours(os.fspath(new)):
            self.events.append(Linked(os.fspath(old), os.fspath(new)))

    def _unlink(self, original: Any, path: Any, **options: Any) -> None:
        original(path, **options)
        if self._ours(os.fspath(path)):
            self.events.append(Removed(os.fspath(path)))

    def _mkdir(self, original: Any, path: Any, mode: int = 0o777, **options: Any) -> None:
        original(path, mode, **options)
        if self._ours(os.fspath(path)):
            self.events.append(MadeDirectory(os.fspath(path), stat.S_IMODE(os.stat(path).st_mode)))

    def _fsync(self, original: Any, descriptor: int) -> None:
        # What is durable is the model's to say; the real disk need not be asked.
        status = os.fstat(descriptor)
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if not self._ours(path + os.sep):
            return
        if stat.S_ISDIR(status.st_mode):
            self.events.append(FlushedDirectory(path))
        else:
            self.events.append(FlushedFile(self._inode(status), status.st_mtime_ns))

    def wrote(self, descriptor: int, offset: int, content: bytes) -> None:
        """Notes a write that has been made."""
        status = os.fstat(descriptor)
        self.events.append(Wrote(self._inode(status), offset, content, status.st_mtime_ns))

    def _created(self, open_: Any, name: str) -> None:
        # Held open by its path alone, or its inode might be given to another file.
        self._held.append(open_(name, os.O_PATH))
        status = os.stat(name)
        self.events.append(Created(name, self._inode(status), stat.S_IMODE(status.st_mode)))

    def _resized(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self.events.append(Resized(self._inode(status), status.st_size, status.st_mtime_ns))

    def _inode(self, status: os.stat_result) -> Inode:
        return self._numbers[status.st_ino] if self._numbers else status.st_ino

    def _ours(self, path: str) -> bool:
        return isinstance(path, str) and path.startswith(self._root)

    def _is_ours(self, descriptor: int) -> bool:
        return self._ours(os.readlink(f"/proc/self/fd/{descriptor}"))


class _RawFile(io.FileIO):
    """A file that Python buffers, whose writes are noted too."""

    def __init__(self, recorder: Recorder, name: str, mode: str, opener: Any) -> None:
        super().__init__(name, mode.rstrip("b"), opener=opener)
        self._recorder = recorder

    def write(self, content: Any, /) -> int:
        offset = self.tell()
        written = super().write(content)
        self._recorder.wrote(self.fileno(), offset, bytes(content)[:written])
        return written
