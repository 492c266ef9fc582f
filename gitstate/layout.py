"""Where a store lies, how one is made, and whether it may be trusted.

    pipeline.json            the state file
    pipeline.json.lock       its lock
    .pipeline/               the store of `pipeline.json`, mode 0700
      .gitignore             `*`: a project's own Git repository does not see the store
      format                 the version of everything below, `1`
      settings.json          {"max_backups": 50}
      remotes.json           see remotes.py; there is none before the first remote
      contacts/              what came of the last pushes and pulls: see sync/contacts.py
      remote.lock            one push or pull at a time
      queue.lock             who gets the state's lock next
      maintenance.lock       one checkpoint at a time
      journal.00000001       see journal.py
      serials                where each version is: see chain.py
      quarantine/            what a repair has replaced: see swap.py
      hooks/post-commit      its owner's own program, run after each commit: see hooks.py
      repo/                  the hidden bare repository
      data.json.d/           the store of a state file of another name, with the same content

A store is whole when `repo` is there: that is renamed into place last. A crash before leaves parts that the next
creation replaces.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gitstate import files, remotes, swap
from gitstate.errors import StateReadError, StateWriteError, store_unreadable
from gitstate.generations import generations
from gitstate.journal import Journal
from gitstate.record import Standing
from gitstate.repository import Repository
from gitstate.repository.frame import Fault, content_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gitstate.files import Identity
    from gitstate.remotes import Remote

FORMAT: Final = 1
DEFAULT_MAX_BACKUPS: Final = 50

_NO_SETTINGS: Final = (FileNotFoundError, IsADirectoryError)
_DEFAULT_NAME: Final = "pipeline.json"
_SCRATCH: Final = re.compile(r"new\.[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is stored with a store: how many earlier versions to keep, None for all."""

    max_backups: int | None = DEFAULT_MAX_BACKUPS


DEFAULT_SETTINGS: Final = Settings()


class Layout:
    """The paths of one state file and its store. `state` is resolved: lock and store lie beside the real file."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.lock = state.with_name(state.name + ".lock")
        self._top = state.parent / ".pipeline"
        own = state.name == _DEFAULT_NAME
        self.store = self._top if own else self._top / (state.name + ".d")
        self.git_dir = self.store / "repo"
        self._git_root = os.fspath(self.git_dir)
        self._beside = os.fspath(state.parent) + os.sep
        self.queue = self.store / "queue.lock"
        self.maintenance_lock = self.store / "maintenance.lock"
        self.remote_lock = self.store / "remote.lock"
        self.serials = self.store / "serials"
        self.hook = os.path.join(self.store, "hooks", "post-commit")
        self._remotes = os.path.join(self.store, remotes.FILE)
        self._seen_remotes: Identity | None = None
        self._automatic = False
        self._temporary = re.compile(rf"\.{re.escape(state.name)}\.[0-9a-f]{{16}}\.tmp")

    @property
    def file_name(self) -> bytes:
        """The state file's name in Git's trees."""
        return os.fsencode(self.state.name)

    def owns(self, path: Path) -> bool:
        """Whether `path` leads to the state file or its lock, or into the store of this or another state."""
        real = Path(os.path.realpath(path))
        return real in {self.state, self.lock} or ".pipeline" in real.parts

    def exists(self) -> bool:
        """Whether there is a store, made by whatever version of gitstate.

        Raises:
            StateReadError: something else is in its place.
        """
        try:
            return stat.S_ISDIR(os.stat(self._git_root).st_mode)
        except FileNotFoundError:
            # A repair may have been interrupted, or be at it just now, and the new one only lacks the name.
            with files.Refused(
                StateReadError,
                "cannot go on with a repair",
                self.store,
                "The state file is untouched.",
            ):
                folders = swap.interrupted(self.store)
                if not folders:
                    return False
                self._check_trust((self._top, self.store, *folders))
                return swap.go_on(self.store)
        except NotADirectoryError:
            if not os.path.lexists(self._top):
                return (
                    False  # nor is there a directory for the state file, which its reader will say
                )
            raise StateReadError(
                f"there is a file where the store should be: {self._top}. Nothing was changed. Move it away, and run"
                " it again.",
                path=self._top,
                code="store-blocked",
            ) from None
        except OSError as error:
            why = f"it cannot be looked into ({error.strerror})"
            raise self._untrusted(self.store, why, "check its owner") from error

    def beside(self, name: str) -> str:
        """The path of a file in the state file's directory."""
        return self._beside + name

    def new_temporary(self) -> str:
        """A name for a temporary file beside the state file."""
        return f".{self.state.name}.{files.token()}.tmp"

    def temporaries(self) -> list[Path]:
        """The temporary files that killed processes left beside the state file."""
        return [
            self.state.parent / name
            for name in os.listdir(self.state.parent)
            if self._temporary.fullmatch(name)
        ]

    def create(self, settings: Settings) -> None:
        """Makes the store: built aside, flushed, renamed. Its own name is flushed by the recovery that opens it.

        Raises:
            StateWriteError: the disk refused. There is no store, or a whole one.
            StateReadError: there are remains of a store that had history; they stay.
        """
        safe = "Nothing was changed."
        with files.Refused(StateWriteError, "cannot create the store", self.store, safe):
            for folder in dict.fromkeys((self._top, self.store)):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder, 0o700)
                # Not by way of a temporary file: stores of other state files share the folder, and sweep theirs.
                with contextlib.suppress(FileExistsError):
                    files.write_new(folder / ".gitignore", b"*\n")
            self.refuse_remains()
            self.sweep()
            files.replace(self.store / "format", b"%d\n" % FORMAT)
            self.store_settings(settings)
            Journal.start(self.store, Standing(), (), 0).close()
            with self.scratch() as scratch:
                Repository.create(scratch / "repo")
                files.sync_tree(scratch / "repo")
                os.rename(scratch / "repo", self.git_dir)
            # A crash here leaves no store, or one without a record, whose name is still to be flushed: the next write
            # begins again, or recovers it, which flushes that.

    def flush_place(self) -> None:
        """Makes the name of the store survive a power cut.

        Raises:
            OSError: the disk refused.
        """
        for folder in dict.fromkeys((self.store, self._top, self.state.parent)):
            files.sync_directory(folder)

    def check(self) -> None:
        """Refuses a store that cannot be trusted or read.

        Raises:
            StateReadError: another user owns it or can write it, it borrows objects from elsewhere, or a newer
                gitstate wrote it.
        """
        try:
            self._check_trust((self._top, self.store, self.git_dir))
            self._check_format()
        except OSError as error:
            raise store_unreadable(self.store, error) from error

    def check_remains(self) -> None:
        """As `check`, of whatever is left of a store.

        Raises:
            StateReadError: as `check`.
            OSError: the system does not let us look.
        """
        places = (self._top, self.store, self.git_dir)
        self._check_trust([place for place in places if place.exists()])
        if not any(fault.path.name == "format" for fault in self.faults()):
            self._check_format()

    def faults(self) -> Iterator[Fault]:
        """What is wrong with the store's own small files.

        Raises:
            OSError: one cannot be read.
        """
        path = self.store / "format"
        # A number is that of another gitstate, which is none of ours to judge.
        if not (content_of(path) or b"").strip().isdigit():
            yield Fault(path, "the format is missing", b"%d\n" % FORMAT)
        try:
            self._stored_settings()
        except StateReadError as error:
            if error.code != "settings-damaged":
                raise
            path = self.store / "settings.json"
            # How many versions are to be kept is lost, and must not be fewer.
            yield Fault(path, "the settings cannot be read", _settings(Settings(None)))
        try:
            remotes.read(self.store)
        except StateReadError as error:
            if error.code != "remotes-damaged":
                raise
            path = self.store / remotes.FILE
            yield Fault(path, "the list of remotes cannot be read", remotes.encode({}))

    def settings(self) -> Settings:
        """The settings that are stored, those of a new store where there is none.

        Raises:
            StateReadError: they cannot be read.
        """
        if not self.exists():
            return DEFAULT_SETTINGS
        self.check()
        return self._stored_settings()

    def _stored_settings(self) -> Settings:
        path = self.store / "settings.json"
        try:
            stored = json.loads(path.read_bytes())
            limit = stored["max_backups"]
            if limit is not None and not (isinstance(limit, int) and 0 <= limit <= sys.maxsize):
                raise ValueError(f"max_backups is {limit!r}")
        except (*_NO_SETTINGS, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StateReadError(
                f"the settings cannot be read ({error}): {path}. The state and its history are untouched. Write"
                f' {{"max_backups": {DEFAULT_MAX_BACKUPS}}} into that file.',
                path=path,
                code="settings-damaged",
            ) from error
        except OSError as error:
            raise store_unreadable(self.store, error) from error
        return Settings(limit)

    def remotes(self) -> dict[str, Remote]:
        """The remotes that are stored, by their names.

        Raises:
            StateReadError: they cannot be read; code `"remotes-damaged"`.
        """
        if not self.exists():
            return {}
        self.check()
        return remotes.read(self.store)

    def pushes_by_itself(self) -> bool:
        """Whether a remote is to get every version without being pushed to; cheap, as it is asked behind every commit."""
        try:
            at = files.identity(self._remotes)
        except OSError:
            return False  # what was committed is pushed behind a later commit
        if at is None:
            return False
        if at != self._seen_remotes:
            try:
                self._automatic = any(each.push == "auto" for each in self.remotes().values())
            except StateReadError:  # which every push, and every prune, says
                self._automatic = False
            self._seen_remotes = at
        return self._automatic

    def store_settings(self, settings: Settings) -> None:
        """Stores `settings`, durably.

        Raises:
            OSError: the disk refused; the old settings are in force.
        """
        files.replace(self.store / "settings.json", _settings(settings))

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A new folder in the store to build something in, removed when the block ends."""
        folder = self.store / f"new.{files.token()}"
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self) -> None:
        """Removes the temporary files that killed processes left in the store. Under the state's lock."""
        for name in os.listdir(self.store):
            if name.startswith(".") and name.endswith(".tmp"):
                files.remove(self.store / name)

    def sweep_scratch(self) -> None:
        """Removes the folders in which killed processes were building. Under the maintenance lock: others may build."""
        self.exists()  # which goes on with a repair that was interrupted
        swap.sweep(self.store)
        for name in os.listdir(self.store):
            if _SCRATCH.fullmatch(name):
                shutil.rmtree(self.store / name, ignore_errors=True)

    def check_writable_place(self, *, network: bool) -> None:
        """Refuses to write where the promises cannot be kept.

        Raises:
            StateWriteError: the state file is itself a mount point, which cannot be renamed over (PITFALLS O4), or lies
                on a network filesystem, whose locks do not exclude (L6), unless `network`.
        """
        table = files.mounts()
        if any(point == os.fspath(self.state) for _, point, _ in table):
            raise StateWriteError(
                f"the state file is a mount point of its own and cannot be replaced atomically: {self.state}. Nothing"
                " was changed. Mount the directory that holds it instead.",
                path=self.state,
                code="mount-point",
            )
        device = self.state.parent.stat().st_dev
        name = f"{os.major(device)}:{os.minor(device)}" if hasattr(os, "major") else ""
        kinds = {kind for found, _, kind in table if found == name}
        if not network and (bad := kinds & files.NETWORK_FILESYSTEMS):
            raise StateWriteError(
                f"a network filesystem ({', '.join(sorted(bad))}) does not keep locks and flushes as promised:"
                f" {self.state.parent}. Nothing was changed. Keep the state on a local disk, or pass"
                " allow_network=True if one machine alone uses it.",
                path=self.state.parent,
                code="network-filesystem",
            )

    def refuse_remains(self) -> None:
        """Refuses to take what is left of a store for none, where there is no repository.

        Raises:
            StateReadError: there is a journal with history; code `"repository-missing"`.
        """
        if not self.store.is_dir() or not generations(self.store):
            return
        journal = Journal.open(self.store)
        with contextlib.closing(journal):
            if journal.base.refs or journal.scan():
                raise StateReadError(
                    f"the repository is gone, but its journal is there: {self.git_dir}. The state file is untouched."
                    f" state.repair() puts together what is left of it; or put the repository back, or move {self.store}"
                    " away to begin a new history.",
                    path=self.git_dir,
                    code="repository-missing",
                )

    def _check_trust(self, folders: Iterable[Path]) -> None:
        for folder in dict.fromkeys(folders):
            self._check_owner(folder)
        for borrowed in ("commondir", "objects/info/alternates"):
            if (self.git_dir / borrowed).exists():
                why = "it would read from elsewhere"
                raise self._untrusted(self.git_dir / borrowed, why, "remove that file")

    def _check_owner(self, folder: Path) -> None:
        if sys.platform == "win32":
            return
        status = folder.stat()
        if status.st_uid != os.geteuid():
            why = f"it belongs to user {status.st_uid}"
            raise self._untrusted(folder, why, "run as that user, or chown it")
        if status.st_mode & 0o022:
            raise self._untrusted(folder, "other users can write it", f"chmod go-w {folder}")

    def _check_format(self) -> None:
        path = self.store / "format"
        try:
            found = path.read_bytes().decode("ascii", "replace").strip()
        except FileNotFoundError as error:
            raise StateReadError(
                f"the store does not say its format ({error.strerror}): {path}. Nothing was changed. If it is a store of"
                f" gitstate, state.repair() writes {FORMAT} into that file.",
                path=path,
                code="format-unknown",
            ) from error
        if found != str(FORMAT):
            raise StateReadError(
                f"the store has format {found[:20]!r}, and this gitstate reads format {FORMAT}: {self.store}. Nothing was"
                " changed. Install the newer gitstate that wrote it.",
                path=self.store,
                code="format-newer",
            )

    def _untrusted(self, path: Path, why: str, remedy: str) -> StateReadError:
        return StateReadError(
            f"the store is not to be trusted, {why}: {path}. Nothing was read from it or changed. If it is yours,"
            f" {remedy}.",
            path=path,
            code="store-untrusted",
        )


def _settings(settings: Settings) -> bytes:
    return (json.dumps({"max_backups": settings.max_backups}, indent=2) + "\n").encode()
