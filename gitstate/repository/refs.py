"""The refs of the hidden repository: loose files that are moved by compare and swap, under Git's own lock files.

dulwich's container is not used for them: it reads a ref that cannot be opened as absent (PITFALLS D6), leaves empty
lock files that nobody can tell from Git's (D4), and loses updates when it packs (D7).

Source of the formats: gitrepository-layout(5), git-pack-refs(1).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.errors import StateReadError, StateWriteError, moved
from gitstate.repository import gitlock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

_ID: Final = re.compile(r"[0-9a-f]{40}")
_LOCK_WAIT_SECONDS: Final = 0.1
_LOCK_ABANDONED_SECONDS: Final = 3600.0
_SYMBOLIC: Final = b"ref:"
_SPARE: Final = "gitstate-spare-"
_OLDER: Final = "gitstate-older-"
_FLAGS: Final = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class Refs:
    """Read, list and move the refs below `git_dir`."""

    def __init__(self, git_dir: Path) -> None:
        self._git_dir = git_dir
        # A plain string: this is on the path of every transaction.
        self._root = os.fspath(git_dir) + os.sep

    def read(self, name: str) -> str | None:
        """The id that the ref `name` is at, None if there is no such ref.

        Raises:
            StateReadError: there is one, but it cannot be read; code `"ref-unreadable"`.
        """
        try:
            descriptor = os.open(self._root + name, os.O_RDONLY | _FLAGS)
            try:
                # What Git takes for space, and no other.
                text = os.read(descriptor, 64).decode("ascii", "replace").strip(" \t\r\n")
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return self._packed().get(name)
        except OSError as error:
            raise self._unreadable(name, error.strerror or "error") from error
        if not _ID.fullmatch(text):
            raise self._unreadable(name, "it holds no commit hash")
        return text

    def all(self, prefix: str, known: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """Every ref below `prefix` by its full name, and the id it is at; those in `known` are not read.

        Raises:
            StateReadError: one cannot be read; code `"ref-unreadable"`.
        """
        found = dict(known or {})
        for name in self._loose(prefix):
            if name in found or self._is_symbolic(name):
                continue  # what that leads to is here by its own name
            if (id_ := self.read(name)) is not None:
                found[name] = id_
        # The packed ones last: `git pack-refs` writes them there before it deletes the files.
        packed = {name: id_ for name, id_ in self._packed().items() if name.startswith(prefix)}
        return {name: at for name, at in sorted({**packed, **found}.items()) if at is not None}

    def move(self, name: str, expected: Collection[str | None], new: str | None) -> None:
        """Moves the ref `name` to `new` if it is at one of the `expected` ids; None among them: absent or unreadable.

        With None for `new` it goes.

        Raises:
            StateConflictError: it is at another id, which stays; code `"ref-moved"`.
            StateWriteError: the disk refused, or Git holds the ref's lock (code `"ref-locked"`); the ref stays.
        """
        path, spare = self._root + name, self._beside(_SPARE, name)
        with files.Refused(StateWriteError, f"cannot move {name}", path, "The ref is as it was."):
            # What was expected last is where the records leave it.
            known = next((id_ for id_ in reversed(list(expected)) if id_ is not None), None)
            held = new or known or ""
            if new is None and not os.path.lexists(path) and name not in self._packed():
                return
            lock = self._lock(path, spare, held)
            try:
                # A crash here leaves our lock file. It holds an id of the journal, by which recovery knows it.
                at = self._read_or_none(name, unreadable_is_absent=None in expected)
                if at != new and at not in expected:
                    raise moved(self._git_dir, name, known, at)
                if new is None:
                    self._delete(name)
                elif at != new:
                    self._publish(lock, path, spare, self._beside(_OLDER, name))
                    return
            except BaseException:
                self._unlock(lock, held)
                raise
            # Not renamed, so ours unread. Left behind unsaid, it would keep everybody from the ref for an hour.
            files.remove(lock)

    def sweep(self, ours: Collection[str]) -> None:
        """Removes what a killed process left: our own files, locks that hold one of `ours`, locks an hour old."""
        gitlock.sweep(self._git_dir)
        for name in os.listdir(self._git_dir):
            if name.startswith((_SPARE, _OLDER)):
                files.remove(self._git_dir / name)
        for folder, _, names in os.walk(self._git_dir / "refs"):
            for name in names:
                path = os.path.join(folder, name)
                if name.endswith(".lock") and self._abandoned(path, ours):
                    files.remove(path)

    def flush(self, names: Iterable[str]) -> None:
        """Makes the refs `names`, and where they lie, survive a power cut, the packed ones as well.

        Raises:
            OSError: the disk refused.
        """
        folders = {self._git_dir}
        for name in names:
            path = self._git_dir / name
            with contextlib.suppress(FileNotFoundError):  # packed meanwhile
                files.flush_file(path)
            folders.update(
                p for p in path.parents if p.is_relative_to(self._git_dir) and p.is_dir()
            )
        with contextlib.suppress(FileNotFoundError):
            files.flush_file(self._git_dir / "packed-refs")
        for folder in sorted(folders, key=lambda p: len(p.parts), reverse=True):
            with contextlib.suppress(FileNotFoundError):  # Git removes empty ones (PITFALLS G3)
                files.sync_directory(folder)

    def drop_spares(self, names: Iterable[str]) -> None:
        """Deletes the spare files of the refs `names`, before the journal begins anew. Under the state's lock.

        What such a file holds on disk, unflushed, may be older than that journal, and a power cut can put it under the
        name of the ref.

        Raises:
            OSError: the disk refused.
        """
        for name in names:
            files.remove(self._beside(_SPARE, name))

    def _packed(self) -> dict[str, str]:
        rows = (line.split(" ", 1) for line in self._lines() if line[:1] not in {"#", "^", ""})
        return {row[1]: row[0] for row in rows if len(row) == 2 and _ID.fullmatch(row[0])}

    def _lines(self) -> list[str]:
        """The lines of the file of packed refs."""
        path = self._git_dir / "packed-refs"
        try:
            with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
                # Not splitlines: a name may hold what that takes for a line break.
                return file.read().split("\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unreadable("packed-refs", error.strerror or "error") from error

    def _delete(self, name: str) -> None:
        """Removes a ref; under its lock.

        First where it is packed, or it would be that again for a moment. Under the lock of that file in any case: a `git
        pack-refs` that has read the loose file already puts the name there yet.
        """
        path = self._git_dir / "packed-refs"
        with gitlock.locked(path):
            if name in self._packed():
                left: list[str] = []
                gone = False
                for line in self._lines():
                    # What a tag leads to stands behind it, in a line of its own.
                    gone = line.partition(" ")[2] == name or (gone and line.startswith("^"))
                    if not gone:
                        left.append(line)
                gitlock.publish(path, "\n".join(left).encode("utf-8", "surrogateescape"))
            files.remove(self._root + name)
        files.remove(self._beside(_SPARE, name))

    def _loose(self, prefix: str) -> Iterator[str]:
        # An error must not make refs look absent (PITFALLS D6), as os.walk does unless told.
        for folder, _, names in os.walk(self._git_dir / prefix, onerror=raise_unless_gone):
            for name in names:
                if not name.endswith(".lock"):
                    yield (self._git_dir / folder / name).relative_to(self._git_dir).as_posix()

    def _is_symbolic(self, name: str) -> bool:
        """Whether a ref names another one, as `git remote set-head` makes them."""
        with contextlib.suppress(OSError), open(self._root + name, "rb") as file:
            return file.read(len(_SYMBOLIC)) == _SYMBOLIC
        return False

    def _read_or_none(self, name: str, *, unreadable_is_absent: bool) -> str | None:
        try:
            return self.read(name)
        except StateReadError:
            if unreadable_is_absent:
                return None
            raise

    def _beside(self, kind: str, name: str) -> str:
        return self._root + kind + name.replace("/", "-")

    def _lock(self, path: str, spare: str, new: str) -> str:
        """Git's lock file for the ref at `path`, made by us, that holds `new`; `spare` is another name of it."""
        lock = path + ".lock"
        deadline = time.monotonic() + _LOCK_WAIT_SECONDS
        self._write_spare(spare, new.encode() + b"\n")
        while not self._link(spare, lock):
            if self._abandoned(lock, ()):
                files.remove(lock)
            elif time.monotonic() >= deadline:
                raise self._locked(lock)
            else:
                time.sleep(0.002)
        if not self._holds(lock, new):
            # The state's lock was lost, and another writer is at the spare file: this is not our id.
            files.remove(lock)
            raise self._locked(lock)
        return lock

    def _unlock(self, lock: str, new: str) -> None:
        # Once the lock file is renamed its name is free, and Git may have it by now.
        if self._holds(lock, new):
            with contextlib.suppress(OSError):
                files.remove(lock)

    def _holds(self, lock: str, new: str) -> bool:
        try:
            return files.read(lock)[0].strip() == new.encode()
        except OSError:
            return False

    def _write_spare(self, spare: str, line: bytes) -> None:
        # The file that the ref was before the last move is written again: a new one for each move would cost the
        # inode, and on a disk that is told of every freed block five times as much for the old one. Only while it
        # has no other name, which could be that of a ref, or of somebody's copy made of links. Who opened the ref
        # two moves ago and reads it now finds the id that it gets: its objects are there.
        with contextlib.suppress(OSError):  # none yet, or not ours to write
            descriptor = os.open(spare, os.O_WRONLY | _FLAGS | getattr(os, "O_NOFOLLOW", 0))
            try:
                status = os.fstat(descriptor)
                if status.st_nlink == 1 and status.st_size == len(line):
                    files.write_all(descriptor, line, 0)
                    return
            finally:
                os.close(descriptor)
        files.remove(spare)
        descriptor = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o644)
        try:
            # Renaming over a file makes ext4 write the new one out at once if its block is still to be chosen.
            files.allocate(descriptor, len(line))
            files.write_all(descriptor, line)
        finally:
            os.close(descriptor)

    def _publish(self, lock: str, path: str, spare: str, older: str) -> None:
        """Renames `lock` over the ref at `path`, whose file so far becomes the spare one by way of `older`."""
        kept = False
        with contextlib.suppress(OSError):  # no such ref so far, or a filesystem without links
            try:
                os.link(path, older)
            except FileExistsError:  # interrupted just below, the last time
                files.remove(older)
                os.link(path, older)
            kept = True
        os.replace(lock, path)
        # The ref has moved. What fails from here on costs a new file the next time: a spare with two names, as a
        # crash may leave it, is not written again.
        with contextlib.suppress(OSError):
            if kept:
                os.replace(older, spare)
            else:
                files.remove(spare)

    def _link(self, temporary: str, lock: str) -> bool:
        # A lock made by link() is never empty, so a crash leaves one that says whose it is (PITFALLS D4).
        try:
            os.link(temporary, lock)
        except FileExistsError:
            return False
        except FileNotFoundError:
            if not os.path.exists(temporary):
                raise
            os.makedirs(os.path.dirname(lock), 0o700, exist_ok=True)  # Git removes empty folders
            return self._link(temporary, lock)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EMLINK}:
                raise
            # A filesystem without links: the next best thing is a name that must not exist yet.
            os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
            os.replace(temporary, lock)
        return True

    def _abandoned(self, lock: str, ours: Collection[str]) -> bool:
        try:
            age = time.time() - os.stat(lock).st_mtime
            content = files.read(lock)[0][:64].decode("ascii", "replace").strip()
        except OSError:
            return False
        # Git never writes NULs: they are what a power cut leaves of a lock of ours.
        torn = content != "" and not content.strip("\0")
        return torn or content in ours or age > _LOCK_ABANDONED_SECONDS

    def _unreadable(self, name: str, why: str) -> StateReadError:
        return StateReadError(
            f"the ref {name} cannot be read: {why}: {self._git_dir / name}. The state file and the history are"
            " untouched. Open the state again: a ref that the journal knows is repaired.",
            path=self._git_dir / name,
            code="ref-unreadable",
        )

    def _locked(self, lock: str) -> StateWriteError:
        return StateWriteError(
            f"another program holds the lock of a ref: {lock}. Nothing is lost; the ref follows at the next use of the"
            " state. If no git command is running, delete the lock file.",
            path=Path(lock),
            code="ref-locked",
        )


def raise_unless_gone(error: OSError) -> None:
    """For `os.walk`: an error must not make refs look absent (PITFALLS D6)."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
