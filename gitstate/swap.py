"""Swap: a repository that was built anew, and its journal, take the place of the damaged ones, which are put away.

All that a repair makes is in a folder of its own in the store::

    repair.<16 hex digits>/
      repo/               the new repository
      journal.00000008    the next generation of the journal
      old/                the old repository, once it was moved
      kept/               files of the store that are replaced, the old generations of the journal among them

From the moment when `old` is there, the new one is what counts: whoever finds no repository in the store, and such a
folder with an `old`, gets the rest of it into place, with or without a lock. Before that moment nothing has happened.
In the end the folder goes to `quarantine/<time>`, and its `old` is called `repo` there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from datetime import UTC, datetime
from stat import S_IMODE
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.generations import generations, path_of
from gitstate.large import names_in

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER: Final = re.compile(r"repair\.[0-9a-f]{16}")
_QUARANTINE: Final = "quarantine"


def begin(store: Path) -> Path:
    """A new folder in the store at `store`, to build in.

    Raises:
        OSError: the disk refused.
    """
    folder = store / f"repair.{files.token()}"
    folder.mkdir(mode=0o700)
    (folder / "kept").mkdir(mode=0o700)
    return folder


def flush(folder: Path) -> None:
    """Makes all that is in `folder` durable, so that `exchange` takes no time.

    Raises:
        OSError: the disk refused.
    """
    files.sync_tree(folder)
    files.sync_directory(folder.parent)


def exchange(store: Path, folder: Path) -> Path:
    """Puts what is in `folder`, which is flushed, in place; where the old things are. Under the state's lock.

    Raises:
        OSError: the disk refused. Nothing has happened, or the next use of the store goes on from there.
    """
    # A crash before this leaves the folder, without `old`: the next one at the upkeep removes it.
    try:
        os.rename(store / "repo", folder / "old")
    except FileNotFoundError:
        os.mkdir(folder / "old", 0o700)
    # A crash from here on leaves a store that `go_on` finishes.
    files.sync_directory(folder)
    _put_in_place(store, folder)
    return put_away(store, folder)


def keep_generations(store: Path, folder: Path) -> None:
    """Puts copies of the generations of the journal, and of large objects, beside the other things that are replaced.

    Raises:
        OSError: the disk refused, or does not let us read one.
    """
    generation_files = [path_of(store, number).name for number in generations(store)]
    for path in [store / name for name in (*generation_files, *names_in(store))]:
        if path.is_file():
            content, status = files.read(path)
            files.write_new(folder / "kept" / path.name, content, mode=S_IMODE(status.st_mode))


def discard(folder: Path) -> None:
    """Removes what was built, if it was not put in place."""
    if not os.path.lexists(folder / "old"):
        shutil.rmtree(folder, ignore_errors=True)


def interrupted(store: Path) -> list[Path]:
    """The folders of repairs that were interrupted behind the moment from which theirs is what counts.

    Raises:
        OSError: the system does not let us look.
    """
    try:
        names = os.listdir(store)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [store / name for name in names if _is_one(store / name) and _has_old(store / name)]


def go_on(store: Path) -> bool:
    """Whether there is a repository in the store now: where none was, for a repair that was interrupted put it aside.

    Raises:
        OSError: the disk refused.
    """
    for folder in interrupted(store):
        _put_in_place(store, folder)
    return (store / "repo").is_dir()


def is_left(store: Path) -> bool:
    """Whether there is something for `sweep`.

    Raises:
        OSError: the system does not let us look.
    """
    return any(_is_one(store / name) for name in os.listdir(store))


def sweep(store: Path) -> None:
    """Sees to what interrupted repairs have left in a store, once `go_on` was asked. Under the maintenance lock.

    Raises:
        OSError: the disk refused.
    """
    for folder in [store / name for name in os.listdir(store) if _is_one(store / name)]:
        if _has_old(folder):
            put_away(store, folder)
        else:
            discard(folder)


def put_away(store: Path, folder: Path) -> Path:
    """Moves what was replaced into the quarantine, and says where it is.

    Raises:
        OSError: the disk refused.
    """
    newest = max(generations(store), default=0)
    for number in generations(store):
        path = path_of(store, number)
        # A crash here leaves older generations: they do not count, and the next one that is begun removes them.
        if number < newest and path.is_file():
            files.remove(path)
        elif number < newest:
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, folder / "kept" / path.name)
    quarantine = store / _QUARANTINE
    with contextlib.suppress(FileExistsError):
        os.mkdir(quarantine, 0o700)
    if quarantine.is_symlink() or not quarantine.is_dir():
        return folder  # somebody's: whither it leads is not ours to fill
    place = quarantine / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{folder.name[-4:]}"
    os.rename(folder, place)
    with contextlib.suppress(FileNotFoundError):  # there was no repository, or it stays as it is
        os.rename(place / "old", place / "repo")
    for each in (place, quarantine, store):
        files.sync_directory(each)
    return place


def _put_in_place(store: Path, folder: Path) -> None:
    # Twice, or by two at once, does no harm: what is not there any more is in place. The journal first, so that nobody
    # ever finds the new repository with the records of the old one.
    for number in generations(folder):
        with contextlib.suppress(FileNotFoundError):
            os.rename(path_of(folder, number), path_of(store, number))
    files.sync_directory(store)
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder / "repo", store / "repo")
    files.sync_directory(store)


def _is_one(folder: Path) -> bool:
    # Whither a link leads is not ours to move, nor to delete.
    return bool(_FOLDER.fullmatch(folder.name)) and folder.is_dir() and not folder.is_symlink()


def _has_old(folder: Path) -> bool:
    return os.path.lexists(folder / "old")
