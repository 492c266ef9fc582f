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

from dulwich.index import ConflictedIndexEntry, Index

from gitstate import files
from gitstate.errors import StateReadError

if TYPE_CHECKING:
    from collections.abc import Iterator

_ID: Final = re.compile(rb"\b[0-9a-f]{40}\b")


def named_by_checkouts(git_dir: Path) -> Iterator[str]:
    """The ids that work trees, and logs of refs, below `git_dir` name, whether or not they are there.

    Raises:
        StateReadError: an index cannot be read; code `"index-unreadable"`.
        OSError: the system refused.
    """
    for folder in (git_dir, *sorted(git_dir.glob("worktrees/*"))):
        texts = [folder / "HEAD", *folder.glob("logs/**/*")]
        if folder != git_dir:
            texts += folder.glob("refs/**/*")
        for path in filter(Path.is_file, texts):
            with contextlib.suppress(FileNotFoundError):
                yield from map(bytes.decode, _ID.findall(files.read(path)[0]))
        yield from _in_index(folder / "index")


def _in_index(path: Path) -> Iterator[str]:
    if not path.exists():
        return
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
