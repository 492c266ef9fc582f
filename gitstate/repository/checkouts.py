"""Checkouts: what work trees of the repository name beside its refs, so that nobody takes it from them.

`git --work-tree=. checkout VERSION -- FILE` leaves an index; `git worktree add` a folder with one, a HEAD, refs of its own,
and logs of where they were. Git refuses all upkeep of a repository that lacks what they name.

Source: gitrepository-layout(5), `index`, `logs` and `worktrees`.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.errors import StateReadError
from gitstate.first_use import FIRST_USE

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORK_TREES: Final = "worktrees"
_ID: Final = re.compile(rb"\b[0-9a-f]{40}\b")


def checkouts(git_dir: Path) -> list[Path]:
    """The folders in which Git notes what is checked out: that of the repository below `git_dir`, and of each work tree."""
    return [git_dir, *sorted(git_dir.glob(f"{_WORK_TREES}/*"))]


def named_by(checkout: Path, *, logs: bool = True) -> Iterator[str]:
    """The ids that a checkout names, and the `logs` of where it, or the refs, were, whether or not they are there.

    Raises:
        StateReadError: its index cannot be read; code `"index-unreadable"`. Raised last.
        OSError: the system refused.
    """
    texts = [checkout / "HEAD"]
    if logs:
        texts += checkout.glob("logs/**/*")
    if checkout.parent.name == _WORK_TREES:
        texts += checkout.glob("refs/**/*")
    for path in filter(Path.is_file, texts):
        with contextlib.suppress(FileNotFoundError):
            yield from map(bytes.decode, _ID.findall(files.read(path)[0]))
    yield from _in_index(checkout / "index")


def _in_index(path: Path) -> Iterator[str]:
    if not path.exists():
        return
    with FIRST_USE:
        from dulwich.index import ConflictedIndexEntry, Index  # noqa: PLC0415  see gitstate.first_use
    try:
        entries = list(Index(path).items())
    except Exception as error:  # dulwich raises whatever its parsers trip over (PITFALLS D9)
        raise StateReadError(
            f"the index of a work tree cannot be read: {error}: {path}. The history is whole, and nothing of it is given back."
            " If nobody works in that checkout, delete the file; one that is split, `git update-index --no-split-index`"
            " makes whole.",
            path=path,
            code="index-unreadable",
        ) from error
    for _, entry in entries:
        if isinstance(entry, ConflictedIndexEntry):
            for side in (entry.ancestor, entry.this, entry.other):
                if side is not None:
                    yield side.sha.decode()
        else:
            yield entry.sha.decode()
