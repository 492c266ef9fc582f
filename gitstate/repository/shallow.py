"""Shallow: Git's file of the commits at which history ends, though they name parents.

Git takes such a commit for one without parents: what is older may be gone.

Source of the format: gitrepository-layout(5), `shallow`: an id in each line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.errors import StateReadError
from gitstate.repository import gitlock

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_ID: Final = re.compile(rb"[0-9a-f]{40}")


class Shallow:
    """The boundary of the repository below `git_dir`."""

    def __init__(self, git_dir: Path) -> None:
        self._path = git_dir / "shallow"

    def read(self) -> frozenset[str]:
        """The ids of the commits behind which there is nothing; none where all history is kept.

        Raises:
            StateReadError: it cannot be read; code `"ref-unreadable"`.
        """
        try:
            lines = files.read(self._path)[0].rstrip(b"\n").split(b"\n")
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise self._unreadable(error.strerror or "error") from error
        if lines == [b""]:
            return frozenset()
        if not all(map(_ID.fullmatch, lines)):
            raise self._unreadable("it holds something else than commit hashes")
        return frozenset(line.decode() for line in lines)

    def write(self, ids: Collection[str]) -> None:
        """Replaces the boundary, durably; none of `ids` for all history. Under the state's lock.

        Raises:
            StateWriteError: Git is at it; code `"ref-locked"`.
            OSError: the disk refused; the old boundary holds.
        """
        with gitlock.locked(self._path):
            if ids:
                content = "".join(f"{each}\n" for each in sorted(ids))
                gitlock.publish(self._path, content.encode())
            else:
                files.remove(self._path)
                files.sync_directory(self._path.parent)

    def _unreadable(self, why: str) -> StateReadError:
        return StateReadError(
            f"where Git's history ends cannot be read: {why}: {self._path}. The state file and the versions are untouched."
            " prune() makes that file anew.",
            path=self._path,
            code="ref-unreadable",
        )
