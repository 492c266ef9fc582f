"""A disk that remembers what is durable, and what it may look like after a power cut.

Three models of what a power cut leaves of everything that was not flushed:

`strict`   What POSIX promises, and no more. A change of a name lasts once its directory has been flushed; until then it
           has happened or not, each by itself (a rename as a whole). The bytes of a file last once it has been flushed;
           until then each block of 4,096 is as it was flushed last or as it was written, and the length either.
`ordered`  ext4 with data=ordered. Changes of names are a journal: some first part of them has happened, at least what
           came before the last flush of anything. What was written into new space of a file that was not flushed is
           there as a whole or not at all; what was overwritten in place is as in `strict`.
`torn`     All names are there. What was not flushed is torn into pieces of 512 or 4,096 bytes, each of which is as it was
           flushed last, as it was written, or zeros.

Sources: POSIX.1-2017 fsync(); Linux Documentation/filesystems/ext4/journal.rst; ALICE (Pillai et al., OSDI 2014).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from recorder import (
    Created,
    Event,
    FlushedDirectory,
    FlushedFile,
    Inode,
    Linked,
    MadeDirectory,
    Numbers,
    Removed,
    Renamed,
    Resized,
    Told,
    Wrote,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

BLOCK: Final = 4096
SECTOR: Final = 512
MODELS: Final = ("strict", "ordered", "torn")

Entry = int | None
"""What a name stands for: the key of a file or a directory, None for nothing."""


@dataclass
class File:
    """The content of a file: as it was flushed last, and as it was written since."""

    number: Inode
    mode: int
    content: bytes = b""
    mtime: int = 0
    durable: bytes = b""
    durable_mtime: int = 0
    dirty: bool = False


@dataclass
class Directory:
    """The names in a directory, as they were flushed last and as they are now."""

    mode: int
    names: dict[str, int] = field(default_factory=dict)
    durable: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """Names that change together: (directory, name) to what they stand for from then on."""

    names: tuple[tuple[int, str, Entry], ...]


@dataclass(frozen=True)
class Image:
    """What is left after a power cut: by their paths, directories with their modes, and files."""

    directories: dict[str, int]
    files: dict[str, tuple[int, Inode, int, int, bytes]]  # key, number, mode, mtime, content

    def digest(self) -> int:
        """Equal for equal disks."""
        files = ((path, hash(file)) for path, file in sorted(self.files.items()))
        return hash((*sorted(self.directories.items()), *files))

    def build(self, folder: Path) -> Numbers:
        """Makes it a real folder, and tells by which numbers its files are to be seen."""
        for path, mode in sorted(self.directories.items()):
            (folder / path).mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / path).chmod(mode)
        built: dict[int, str] = {}
        aliases: dict[int, int] = {}
        for path, (key, number, mode, mtime, content) in self.files.items():
            target = str(folder / path)
            if key in built:
                os.link(built[key], target)
                continue
            built[key] = target
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(descriptor, content.rstrip(b"\0"))
            os.ftruncate(descriptor, len(content))
            os.fchmod(descriptor, mode)
            aliases[os.fstat(descriptor).st_ino] = number
            os.close(descriptor)
            os.utime(target, ns=(mtime, mtime))
        return Numbers(aliases)


class Disk:
    """The files below one folder, event by event."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._directories: dict[int, Directory] = {0: Directory(0o755)}
        self._files: dict[int, File] = {}
        self._by_number: dict[Inode, int] = {}
        self._keys = 0
        # In the order in which they were made; those that a flush has made durable are taken out.
        self._pending: list[Change] = []
        # How many of them came before the last flush of anything, which on ext4 commits them all.
        self._committed = 0

    @classmethod
    def of(cls, image: Image, root: str) -> Disk:
        """A disk that holds `image`, durable."""
        disk = cls(root)
        for path, mode in sorted(image.directories.items()):
            disk.apply(MadeDirectory(os.path.join(root, path), mode))
        keys: dict[int, str] = {}
        for path, (key, number, mode, mtime, content) in image.files.items():
            full = os.path.join(root, path)
            if key in keys:
                disk.apply(Linked(keys[key], full))
                continue
            keys[key] = full
            disk.apply(Created(full, number, mode))
            disk.apply(Wrote(number, 0, content, mtime))
            disk.apply(FlushedFile(number, mtime))
        for key in list(disk._directories):
            disk._flush_directory(key)
        disk._committed = 0
        return disk

    def apply(self, event: Event) -> None:
        """Changes the disk as the recorded process did."""
        match event:
            case Created(path, number, mode):
                key = self._new_key()
                self._files[key] = File(number, mode)
                self._by_number[number] = key
                self._change((path, key))
            case MadeDirectory(path, mode):
                key = self._new_key()
                self._directories[key] = Directory(mode)
                self._change((path, key))
            case Wrote(number, offset, content, mtime):
                file = self._file(number)
                padded = file.content[:offset].ljust(offset, b"\0")
                file.content = padded + content + file.content[offset + len(content) :]
                file.mtime, file.dirty = mtime, True
            case Resized(number, size, mtime):
                file = self._file(number)
                file.content = file.content[:size].ljust(size, b"\0")
                file.mtime, file.dirty = mtime, True
            case Renamed(old, new):
                if (key := self._at(old)) is not None and key != self._at(new):
                    self._change((old, None), (new, key))
            case Linked(old, new):
                self._change((new, self._at(old)))
            case Removed(path):
                self._change((path, None))
            case FlushedFile(number, mtime):
                file = self._file(number)
                file.durable, file.durable_mtime, file.dirty = file.content, mtime, False
                file.mtime = mtime
                self._committed = len(self._pending)
            case FlushedDirectory(path):
                self._flush_directory(self._directory(path))
                self._committed = len(self._pending)
            case Told():
                pass

    def now(self) -> Image:
        """The disk as a process sees it: everything that was done has happened."""
        names = {key: directory.names for key, directory in self._directories.items()}
        return self._image(names, lambda file: (file.content, file.mtime))

    def after_power_cut(self, model: str, chance: random.Random, kind: str = "any") -> Image:
        """One state that `model` allows; `kind` "lost" and "kept" are its ends, "names" keeps names and loses bytes."""
        choose = _Choice(chance, kind)
        match model:
            case "strict":
                names = self._names_after([change for change in self._pending if choose.name()])
                return self._image(names, lambda file: _by_blocks(file, choose, BLOCK, zeros=False))
            case "ordered":
                count = choose.count(len(self._pending) - self._committed)
                names = self._names_after(self._pending[: self._committed + count])
                return self._image(names, lambda file: _ordered(file, choose))
            case "torn":
                size = choose.of([SECTOR, BLOCK])
                names = {key: directory.names for key, directory in self._directories.items()}
                return self._image(names, lambda file: _by_blocks(file, choose, size, zeros=True))
        raise ValueError(model)

    def _change(self, *names: tuple[str, Entry]) -> None:
        change = []
        for path, key in names:
            directory, name = self._directory(os.path.dirname(path)), os.path.basename(path)
            if key is None:
                self._directories[directory].names.pop(name, None)
            else:
                self._directories[directory].names[name] = key
            change.append((directory, name, key))
        self._pending.append(Change(tuple(change)))

    def _flush_directory(self, key: int) -> None:
        self._directories[key].durable = dict(self._directories[key].names)
        kept = []
        for change in self._pending:
            # A rename between directories is one change: flushing either makes it last.
            if any(directory == key for directory, _, _ in change.names):
                for directory, name, entry in change.names:
                    if directory != key:
                        _set(self._directories[directory].durable, name, entry)
            else:
                kept.append(change)
        self._pending = kept

    def _names_after(self, changes: Iterable[Change]) -> dict[int, dict[str, int]]:
        names = {key: dict(directory.durable) for key, directory in self._directories.items()}
        for change in changes:
            for directory, name, entry in change.names:
                _set(names[directory], name, entry)
        return names

    def _image(self, names: dict[int, dict[str, int]], content: Any) -> Image:
        directories: dict[str, int] = {}
        files: dict[str, tuple[int, Inode, int, int, bytes]] = {}
        spoilt: dict[int, tuple[bytes, int]] = {}
        todo = [(0, "")]
        while todo:
            key, path = todo.pop()
            directories[path] = self._directories[key].mode
            for name, entry in sorted(names[key].items()):
                below = os.path.join(path, name)
                if entry in self._directories:
                    todo.append((entry, below))
                else:
                    file = self._files[entry]
                    if entry not in spoilt:
                        spoilt[entry] = content(file) if file.dirty else (file.content, file.mtime)
                    left, mtime = spoilt[entry]
                    files[below] = (entry, file.number, file.mode, mtime, left)
        return Image(directories, files)

    def _directory(self, path: str) -> int:
        key = self._at(path)
        if key not in self._directories:
            raise AssertionError(f"no directory was seen to be made at {path}")
        return key

    def _at(self, path: str) -> Entry:
        key: Entry = 0
        relative = os.path.relpath(path, self._root)
        for part in [] if relative == "." else relative.split(os.sep):
            if key is None or key not in self._directories:
                return None
            key = self._directories[key].names.get(part)
        return key

    def _file(self, number: Inode) -> File:
        return self._files[self._by_number[number]]

    def _new_key(self) -> int:
        self._keys += 1
        return self._keys


class _Choice:
    """Picks among what a power cut may leave."""

    def __init__(self, chance: random.Random, kind: str) -> None:
        self._chance = chance
        self._kind = kind
        # Not every state is half and half: some lose almost nothing, others almost everything.
        self._share = chance.choice((0.1, 0.5, 0.9))

    def name(self) -> bool:
        """Whether a change of a name has happened."""
        return self._pick(lost=False, kept=True, names=True)

    def bytes(self) -> bool:
        """Whether what was written is there."""
        return self._pick(lost=False, kept=True, names=False)

    def count(self, most: int) -> int:
        """How many of the last changes of names have happened."""
        return {"lost": 0, "kept": most, "names": most}.get(self._kind) or (
            self._chance.randint(0, most) if self._kind == "any" else 0
        )

    def of(self, what: list[Any]) -> Any:
        """One of these."""
        return self._chance.choice(what)

    def _pick(self, *, lost: bool, kept: bool, names: bool) -> bool:
        ends = {"lost": lost, "kept": kept, "names": names}
        return ends.get(self._kind, self._chance.random() < self._share)


def _by_blocks(file: File, choose: _Choice, size: int, *, zeros: bool) -> tuple[bytes, int]:
    length = len(file.content) if choose.bytes() else len(file.durable)
    old, new = (each[:length].ljust(length, b"\0") for each in (file.durable, file.content))
    left = bytearray(old)
    for start in range(0, length, size):
        end = start + size
        if old[start:end] != new[start:end]:
            if choose.bytes():
                left[start:end] = new[start:end]
            elif zeros and choose.of([True, False]):
                left[start:end] = bytes(len(left[start:end]))
    return _dated(file, bytes(left))


def _ordered(file: File, choose: _Choice) -> tuple[bytes, int]:
    common = min(len(file.durable), len(file.content))
    tail = file.content[common:] if choose.bytes() else file.durable[common:]
    left = bytearray(file.durable[:common])
    for start in range(0, common, BLOCK):
        if choose.bytes():
            left[start : start + BLOCK] = file.content[start : min(start + BLOCK, common)]
    return _dated(file, bytes(left) + tail)


def _dated(file: File, left: bytes) -> tuple[bytes, int]:
    return left, file.durable_mtime if left == file.durable else file.mtime


def _set(names: dict[str, int], name: str, entry: Entry) -> None:
    if entry is None:
        names.pop(name, None)
    else:
        names[name] = entry
