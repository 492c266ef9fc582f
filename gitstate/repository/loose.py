"""Loose objects: one file each, written aside and renamed, so that a name never holds half an object.

dulwich's own writing is not used: it believes any file that is there (PITFALLS D1), and a killed process leaves locks
that make the same object unwritable for ever (D4).

Source of the format: gitrepository-layout(5).
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.errors import StateWriteError
from gitstate.record import GitObject
from gitstate.repository.objects import checked_loose

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from pathlib import Path

_NAME: Final = re.compile(r"[0-9a-f]{38}")
_ID: Final = re.compile(r"[0-9a-f]{40}")
_FOLDER: Final = re.compile(r"[0-9a-f]{2}")
_TEMPORARY: Final = "tmp_obj_gitstate_"
_TRIES: Final = 100
_ABANDONED_SECONDS: Final = 3600.0


class LooseObjects:
    """The loose objects below `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._root = os.fspath(directory) + os.sep  # plain strings: every transaction comes by

    def contains(self, object_id: str) -> bool:
        """Whether there is a file for the object, unread."""
        return os.path.exists(self._path(object_id))

    def put(self, objects: Iterable[GitObject]) -> None:
        """Writes the objects, each whole or not at all. Not flushed: the journal is.

        A file that is there is replaced: believing it costs as much as writing it (PITFALLS D1).

        Raises:
            StateWriteError: the disk refused; some of them may have been written.
        """
        safe = "The transaction is safe in the journal; its history follows at the next use."
        for made in objects:
            path = self._path(made.id)
            with files.Refused(StateWriteError, "cannot write a Git object", path, safe):
                self._write_again(path, made)

    def drop(self, object_ids: Iterable[str]) -> None:
        """Deletes the files of objects that a flushed pack holds."""
        for object_id in object_ids:
            with contextlib.suppress(OSError):
                files.remove(self._path(object_id))

    def sweep(self) -> None:
        """Reads every object and deletes those that fail their hash, and what killed processes left.

        A power cut leaves objects of 0 bytes, even ones that had been deleted (PITFALLS D2, O8).

        Raises:
            OSError: the disk refused.
        """
        for path in self._files():
            name = os.path.basename(path)
            if name.startswith(_TEMPORARY) or (_NAME.fullmatch(name) and _damaged(path)):
                files.remove(path)

    def ids(self, prefix: str) -> Iterator[str]:
        """The ids of the objects that begin with these hex digits.

        Raises:
            OSError: the system refused.
        """
        for path in self._files(prefix[:2]):
            if _ID.fullmatch(named := _named(path)) and named.startswith(prefix):
                yield named

    def all(self) -> Iterator[GitObject]:
        """Every object that is there, unchecked.

        Raises:
            OSError: one cannot be read.
        """
        for path in self._files():
            if _ID.fullmatch(named := _named(path)):
                with contextlib.suppress(FileNotFoundError):  # packed and removed meanwhile
                    yield GitObject(named, files.read(path)[0])

    def collect(self, needed: Container[str]) -> None:
        """Deletes old objects that are not `needed`. Under the state's lock: a transaction may write one again.

        A young one may be somebody's who has not named it yet, as a `git fetch` does last.

        Raises:
            OSError: the disk refused.
        """
        for path in self._files():
            if _ID.fullmatch(named := _named(path)) and named not in needed:
                with contextlib.suppress(FileNotFoundError):  # Git's upkeep took it meanwhile
                    if time.time() - os.stat(path).st_mtime > _ABANDONED_SECONDS:
                        files.remove(path)

    def problems(self, seen: Callable[[], None]) -> Iterator[str]:
        """One line for each object that fails its hash; `seen` is called for each there is."""
        for path in self._files():
            seen()
            try:
                damaged = _NAME.fullmatch(os.path.basename(path)) and _damaged(path)
            except OSError as error:
                yield f"a loose object cannot be read ({error.strerror}): {path}"
            else:
                if damaged:
                    yield f"a loose object is damaged: {path}"

    def _path(self, object_id: str) -> str:
        return f"{self._root}{object_id[:2]}{os.sep}{object_id[2:]}"

    def _files(self, begins: str = "") -> Iterator[str]:
        for folder in [begins] if begins else sorted(os.listdir(self._directory)):
            if _FOLDER.fullmatch(folder):
                with contextlib.suppress(FileNotFoundError):  # Git removes empty ones (PITFALLS G3)
                    for name in sorted(os.listdir(self._root + folder)):
                        yield os.path.join(self._root, folder, name)

    def _write_again(self, path: str, made: GitObject) -> None:
        for _ in range(_TRIES):
            try:
                return self._write(path, made)
            except FileNotFoundError:
                # New, or removed by Git because it was empty; `git gc --prune=now` removes even what is just being
                # written (PITFALLS G3).
                with contextlib.suppress(FileExistsError):  # and Git removed it again
                    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            except PermissionError:
                # Windows does not rename over a file that is read-only, as Git's objects are, or open.
                if os.path.exists(path):
                    return None
                raise
        return self._write(path, made)

    def _write(self, path: str, made: GitObject) -> None:
        folder = os.path.dirname(path)
        temporary = folder + os.sep + _TEMPORARY + files.token()
        if not isinstance(made.held, bytes) and _linked(made.held, temporary):
            try:
                os.replace(temporary, path)
            finally:
                files.remove(temporary)  # a rename to another name of the same file does nothing
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(temporary, flags, 0o444)
        try:
            try:
                files.write_all(descriptor, made.loose)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                files.remove(temporary)
            raise


def _linked(path: Path, name: str) -> bool:
    """Whether the file at `path` has that name, too, now; not where the filesystem has no such links, or no more.

    Raises:
        FileNotFoundError: there is no such file, or no such folder.
    """
    try:
        os.link(path, name)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _named(path: str) -> str:
    """The id that a file would have by its name."""
    return "".join(path.split(os.sep)[-2:])


def _damaged(path: str) -> bool:
    """Whether the file was read, and does not hold the object of its name."""
    try:
        return checked_loose(GitObject(_named(path), files.read(path)[0])) is None
    except FileNotFoundError:
        return False  # packed and removed by Git meanwhile
