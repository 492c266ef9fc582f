"""Frame: the files and folders without which Git takes a folder for no repository, as `Repository.create` makes them.

Source of the formats: gitrepository-layout(5), git-config(1).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from gitstate import files
from gitstate.repository.config import remotes_in, usable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BRANCH: Final = "refs/heads/main"
HEAD: Final = f"ref: {BRANCH}\n".encode()
CONFIG: Final = b"[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"

_FOLDERS: Final = ("", "objects", "objects/pack", "refs")
_ID: Final = re.compile(rb"[0-9a-f]{40}")


class Fault(NamedTuple):
    """A file, or a folder, that is not as it must be.

    Attributes:
        path: where it is, or should be.
        why: what is wrong with it.
        content: what belongs into the file; None for a folder.
    """

    path: Path
    why: str
    content: bytes | None


def faults(git_dir: Path) -> Iterator[Fault]:
    """What is wrong with the frame of the repository.

    Raises:
        OSError: a file cannot be read.
    """
    for folder in _FOLDERS:
        if not (git_dir / folder).is_dir():
            yield Fault(git_dir / folder, "a folder of the repository is missing", None)
    if not _names_something(git_dir, content_of(git_dir / "HEAD") or b""):
        yield Fault(git_dir / "HEAD", "HEAD is missing, or names nothing", HEAD)
    config = content_of(git_dir / "config")
    if config is None or not usable(config):
        yield Fault(git_dir / "config", "the repository's config is missing or damaged", CONFIG)


def remotes(git_dir: Path) -> list[str]:
    """The names of the remotes that the repository's own config tells of.

    Raises:
        ValueError: that is missing or damaged.
        OSError: it cannot be read.
    """
    config = content_of(git_dir / "config")
    if config is None or not usable(config):
        raise ValueError(f"missing or damaged: {git_dir / 'config'}")
    return remotes_in(config)


def content_of(path: Path | str) -> bytes | None:
    """The bytes of a file; None where there is none, or something else is in its place.

    Raises:
        OSError: the system refuses to read it, which says nothing about what is there.
    """
    try:
        return files.read(path)[0]
    except OSError as error:
        if files.is_damage(error):
            return None
        raise


def is_refusal(error: BaseException) -> bool:
    """Whether an error says that the system will not tell, so that nothing is known to be damaged."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and not files.is_damage(cause)


def _names_something(git_dir: Path, head: bytes) -> bool:
    """Whether HEAD names the branch, as we wrote it, or, as its owner wished, another ref or a commit."""
    line = head.rstrip(b"\r\n")
    if line == HEAD.rstrip() or _ID.fullmatch(line):
        return True
    name = line.removeprefix(b"ref: ")
    if name == line or b"\0" in name or not name.startswith(b"refs/"):
        return False
    packed = content_of(git_dir / "packed-refs") or b""
    return (git_dir / name.decode(errors="surrogateescape")).is_file() or (
        b" " + name + b"\n" in packed
    )
