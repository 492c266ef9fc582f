"""The files that the generations of the journal are in: which one counts, and how the next takes its place.

A generation is a file `journal.<number>`, eight digits or more, in the store's directory. The highest number counts. The
next one is written aside under another name and flushed, renamed to its number, and the directory is flushed. Only then
the older ones are removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.errors import StateWriteError, journal_damaged

if TYPE_CHECKING:
    from pathlib import Path

_NAME: Final = re.compile(r"journal\.([0-9]{8}|[1-9][0-9]{8,})")  # as `%08d` writes them
_NEW_NAME: Final = "journal.new"


def generations(directory: Path | str) -> list[int]:
    """The numbers of the generations in `directory`, in no order."""
    return [int(found[1]) for name in os.listdir(directory) if (found := _NAME.fullmatch(name))]


def number_of(path: Path) -> int:
    """The number of the generation that is in the file `path`."""
    return int(path.name.partition(".")[2])


def open_newest(directory: Path) -> tuple[Path, int]:
    """The file of the generation that counts, and a descriptor for it: for reading alone, where writing is forbidden.

    Raises:
        FileNotFoundError: there is none.
        StateReadError: it cannot be opened.
    """
    flags = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    while numbers := generations(directory):
        path = path_of(directory, max(numbers))
        try:
            try:
                return path, os.open(path, os.O_RDWR | flags)
            except OSError as error:
                if error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
                    raise
                return path, os.open(path, os.O_RDONLY | flags)
        except FileNotFoundError:
            continue  # a newer generation has replaced it since
        except OSError as error:
            raise journal_damaged(path, f"it cannot be opened ({error.strerror})") from error
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(directory))


def publish(directory: Path, content: bytes) -> None:
    """Makes `content` the generation that counts, and removes the others.

    Raises:
        StateWriteError: the generation before is still the one that counts, unless only flushing the directory failed
            (code `"flush-failed"`: then either may be there after a power cut).
    """
    older = generations(directory)
    path, new = path_of(directory, max(older, default=0) + 1), directory / _NEW_NAME
    untouched = "The journal is as it was; nothing is lost."
    with files.Refused(StateWriteError, "cannot write a new journal", path, untouched):
        files.remove(new)
        files.write_new(new, content)
        try:
            os.rename(new, path)
        except BaseException:
            with contextlib.suppress(OSError):
                files.remove(new)
            raise
    # A crash here leaves the older generation or both; each holds every record that counts.
    sync_published(directory)
    for number in older:
        # Windows refuses while another process has it open; the next generation tries again.
        with contextlib.suppress(OSError):
            files.remove(path_of(directory, number))


def sync_published(directory: Path) -> None:
    """Makes the name of a published generation durable.

    Raises:
        StateWriteError: with code `"flush-failed"`.
    """
    try:
        files.sync_directory(directory)
    except OSError as error:
        raise StateWriteError(
            f"flushing the store's directory failed: {error.strerror}: {directory}. Nothing is lost. Check the disk,"
            " then open the state again.",
            path=directory,
            code="flush-failed",
        ) from error


def path_of(directory: Path, number: int) -> Path:
    """Where the generation with a number is, or would be."""
    return directory / f"journal.{number:08d}"
