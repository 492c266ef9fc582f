"""Large: Git objects that would fill the journal, each in a file of its own beside it, which the record names.

A large state so is written twice, and not three times: as the state file, and as such a file, which the repository has
by another name, as a loose object (a hard link). The file, and its name, are flushed before the record that names it;
it is removed once no record that counts names it. No name is used twice, and no file is changed.

A crash in between leaves a file that no record names, which the next recovery removes.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.errors import StateWriteError
from gitstate.record import LARGE_OBJECT, GitObject

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LARGE: Final = 512 * 1024
"""Bytes of an object, compressed, from which on it has a file. Two flushes more cost as much as they spare at 380 KB, a
state of half a megabyte that hardly compresses; at ten times that a transaction takes 7 % less."""


class LargeObjects:
    """The large objects of the transactions of one process, with their files in `directory`. Under the state's lock.

    Attributes:
        weight: the bytes in such files, as far as this process knows.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fresh: list[Path] = []
        self._pid = 0
        self.weight = 0

    def keep(self, objects: Iterable[GitObject]) -> tuple[GitObject, ...]:
        """`objects`, the large ones among them in files, flushed; `drop` removes these if no record gets to name them.

        Raises:
            StateWriteError: the disk refused; nothing was changed.
        """
        self._pid = os.getpid()
        kept = tuple(map(self._keep, objects))
        if self._fresh:
            with self._refused():
                files.sync_directory(self._directory)
        return kept

    def hand_over(self) -> None:
        """The files belong to a record that is durable: `drop` leaves them."""
        self._fresh.clear()

    def drop(self, *, unknown: bool) -> None:
        """Removes the files that no record names; where that is `unknown`, recovery may need them."""
        fresh, self._fresh = self._fresh, []
        if unknown or os.getpid() != self._pid:  # a forked child's parent goes on with them
            return
        for path in fresh:
            with contextlib.suppress(OSError):
                self.weight -= os.stat(path).st_size
                files.remove(path)

    def weigh(self) -> None:
        """Sees how much there is."""
        self.weight = 0
        with contextlib.suppress(OSError):
            for name in names_in(self._directory):
                self.weight += os.stat(self._directory / name).st_size

    def _keep(self, made: GitObject) -> GitObject:
        if not isinstance(made.held, bytes) or made.size < LARGE:
            return made
        path = self._directory / f"journal-{files.token()}.object"
        # Known before it is there: an interrupt at any point leaves it to `drop`, a crash to the next recovery.
        self._fresh.append(path)
        with self._refused():
            files.write_new(path, made.held, mode=0o444)  # as Git's objects are
        self.weight += made.size
        return GitObject(made.id, path)

    def _refused(self) -> files.Refused:
        safe = "The state and its history are untouched."
        return files.Refused(StateWriteError, "cannot write a Git object", self._directory, safe)


def sweep(directory: Path, needed: Iterable[GitObject]) -> None:
    """Removes all files of large objects in `directory` but those of the `needed` ones. Under the state's lock.

    What the disk refuses to remove is waste, which the next one tries again.
    """
    kept = {made.held.name for made in needed if not isinstance(made.held, bytes)}
    with contextlib.suppress(OSError):
        for name in names_in(directory):
            if name not in kept:
                with contextlib.suppress(OSError):
                    files.remove(directory / name)


def names_in(directory: Path) -> list[str]:
    """The names of the files of large objects in `directory`.

    Raises:
        OSError: the system does not let us look.
    """
    return [name for name in os.listdir(directory) if LARGE_OBJECT.fullmatch(name)]
