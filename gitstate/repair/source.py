"""Source: another repository of the same history, of which only objects and refs are read.

Its config and hooks are neither read nor run. What it gives is checked against the hash that was asked for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gitstate.errors import StateReadError, store_unreadable
from gitstate.repository import Repository
from gitstate.repository.frame import content_of, is_refusal
from gitstate.repository.listing import list_refs

if TYPE_CHECKING:
    from pathlib import Path

    from gitstate.repository.objects import Raw


class Source:
    """The repository at `path`: bare, or with a work tree, also one of several."""

    def __init__(self, path: Path) -> None:
        """Finds it.

        Raises:
            ValueError: there is none.
            StateReadError: the system does not let us look; code `"store-unreadable"`.
        """
        try:
            git_dir = _git_dir(path)
        except OSError as error:
            raise store_unreadable(path, error) from error
        if git_dir is None:
            raise ValueError(f"there is no Git repository at {path}")
        self._repository = Repository(git_dir, tuple)

    def read(self, object_id: str) -> Raw | None:
        """The object with this id; None where it is missing there too, or damaged.

        Raises:
            StateReadError: the system does not let us read it; code `"store-unreadable"`.
        """
        try:
            return self._repository.raw(object_id)
        except StateReadError as error:
            if is_refusal(error):
                raise
            return None

    def refs(self) -> dict[str, str]:
        """The ids that its refs are at, as far as that can be told.

        Raises:
            StateReadError: as `read`.
        """
        git_dir = self._repository.git_dir
        try:
            return {name: ids[0] for name, ids in list_refs(git_dir).ids.items() if ids}
        except OSError as error:
            raise store_unreadable(git_dir, error) from error

    def close(self) -> None:
        """Closes its packs."""
        self._repository.close()


def _git_dir(path: Path) -> Path | None:
    """The folder with the objects. In a work tree `.git` is that folder, or names it, or one that names it."""
    for place in (path / ".git", path):
        pointer = (content_of(place) or b"").removeprefix(b"gitdir: ").rstrip(b"\n")
        folder = path / os.fsdecode(pointer) if pointer else place
        common = (content_of(folder / "commondir") or b"").rstrip(b"\n")
        folder = folder / os.fsdecode(common)
        if (folder / "objects").is_dir():
            os.listdir(folder / "objects")
            return folder
    return None
