"""Stored: the objects of a repository as dulwich reads them, from several threads, and beside Git."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
import weakref
from typing import TYPE_CHECKING, cast

from gitstate.errors import StateReadError, store_unreadable
from gitstate.first_use import FIRST_USE
from gitstate.repository.objects import checked_raw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dulwich.object_store import DiskObjectStore
    from dulwich.objects import ObjectID

    from gitstate.repository.objects import Raw

_all: weakref.WeakSet[StoredObjects] = weakref.WeakSet()
_inherited: list[DiskObjectStore | None] = []


class StoredObjects:
    """The objects below `git_dir`. May be used from several threads (PITFALLS D11)."""

    def __init__(self, git_dir: Path) -> None:
        self._git_dir = git_dir
        self._mutex = threading.RLock()
        self._opened: DiskObjectStore | None = None
        _all.add(self)

    def prepare(self) -> None:
        """Imports what it takes to read objects."""
        _store_of_dulwich()

    def read(self, object_id: str) -> Raw:
        """An object, checked against its hash.

        Raises:
            StateReadError: it is missing (code `"object-missing"`) or damaged (code `"object-damaged"`).
        """
        with self._mutex, self.translated(object_id):
            try:
                kind, content = self._open().get_raw(_as_dulwich_names(object_id))
            except KeyError:
                # Git may have packed it, and removed the pack we knew, meanwhile (PITFALLS D10).
                self._close()
                try:
                    kind, content = self._open().get_raw(_as_dulwich_names(object_id))
                except KeyError as error:
                    raise self.missing(object_id) from error
            return checked_raw(object_id, kind, content)

    def readable(self, object_id: str) -> bool:
        """Whether the object can be read back."""
        try:
            self.read(object_id)
        except StateReadError:
            return False
        return True

    def is_packed(self, object_id: str) -> bool:
        """Whether a pack has the object, unread.

        Raises:
            StateReadError: a pack is damaged.
        """
        with self._mutex, self.translated(object_id):
            return self._open().contains_packed(_as_dulwich_names(object_id))

    def forget(self) -> None:
        """Reads everything again from the disk from here on."""
        with self._mutex:
            self._close()

    def close(self) -> None:
        """Closes the packs, unless another thread is reading. They open again when they are used."""
        if self._mutex.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._mutex.release()

    @contextlib.contextmanager
    def translated(self, object_id: str) -> Iterator[None]:
        """Calls what goes wrong in the block damage of an object, but for what the system refuses."""
        try:
            yield
        except StateReadError:
            raise
        except Exception as error:  # dulwich raises whatever its parsers trip over (PITFALLS D9)
            # What they were looking at is part of a mapped pack, which cannot be closed before they let go.
            traceback.clear_frames(error.__traceback__)
            self._close()
            if isinstance(error, OSError):
                raise store_unreadable(self._git_dir, error) from error
            raise self.damaged(object_id, f"{type(error).__name__}: {error}") from error

    def missing(self, object_id: str) -> StateReadError:
        """The error that an object is missing."""
        return StateReadError(
            f"the object {object_id} is missing: {self._git_dir}. The state file is untouched. Open the state"
            " again: what the journal still holds is repaired.",
            path=self._git_dir,
            code="object-missing",
        )

    def damaged(self, object_id: str, why: str) -> StateReadError:
        """The error that an object is damaged."""
        return StateReadError(
            f"the object {object_id} cannot be read ({why}): {self._git_dir}. The state file is untouched."
            " state.verify() lists all that is damaged.",
            path=self._git_dir,
            code="object-damaged",
        )

    def _open(self) -> DiskObjectStore:
        if self._opened is None:
            self._opened = _store_of_dulwich()(os.fspath(self._git_dir / "objects"))
        return self._opened

    def _close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _forget_parent(self) -> None:
        # The parent's thread that holds the mutex, or reads a pack, does not exist in a forked child.
        self._mutex = threading.RLock()
        _inherited.append(self._opened)
        self._opened = None


def _store_of_dulwich() -> type[DiskObjectStore]:
    with FIRST_USE:
        from dulwich.object_store import DiskObjectStore  # noqa: PLC0415  see gitstate.first_use
    return DiskObjectStore


def _as_dulwich_names(object_id: str) -> ObjectID:
    return cast("ObjectID", object_id.encode())


def _forget_parents() -> None:
    for each in list(_all):
        each._forget_parent()  # noqa: SLF001  the same module


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_parents)
