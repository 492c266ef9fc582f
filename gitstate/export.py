"""Export: versions as plain files; the whole history, or one version, as one file that Git can clone."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.errors import StateReadError, StateWriteError, VersionPrunedError
from gitstate.progress import counting
from gitstate.repository import BRANCH, make_blob, make_commit, make_tree
from gitstate.repository.bundle import write_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from gitstate.history import History
    from gitstate.progress import ProgressCallback
    from gitstate.store import Store
    from gitstate.version import Version

_VERSION: Final = "Version"
"""The field by which the commit of a bundle says which version it is."""


class Exporter:
    """Writes what is in `history`, which is that of `store`, to other places."""

    def __init__(self, store: Store, history: History) -> None:
        self._store = store
        self._history = history

    def version(self, name: Version | int | str, target: Path) -> None:
        """One version as the file `target`, with its bytes; an older file is replaced.

        Raises:
            VersionNotFoundError: there is no such version; nothing was written.
            StateWriteError: the disk refused; an older file is as it was.
        """
        self._write(target, self._history.version(name).content())

    def versions(self, folder: Path, tell: ProgressCallback) -> None:
        """Every version as a file in `folder`: by number and hash, from beyond the window by the name of the backup and hash.

        Raises:
            StateReadError: there is no history, or one cannot be read; those before are written.
            StateWriteError: the disk refused; those before are written.
        """
        head = self._refs().get(BRANCH)
        with self._refused(folder):
            os.makedirs(self._checked(folder), exist_ok=True)
        total = None
        if head is not None:
            total = self._store.repository.commit(head).note.serial - self._store.chain.oldest() + 1
        with counting(tell, "writing", total) as seen:
            self._write_all(folder, seen)

    def _write_all(self, folder: Path, written: Callable[[], None]) -> None:
        stem, suffix = self._store.layout.state.stem, self._store.layout.state.suffix
        seen = set()
        with contextlib.suppress(VersionPrunedError):  # since we began; so are those before it
            for version in self._history.log():
                name = f"{stem}_{version.serial:06}_{version.short_id}{suffix}"
                self._write(folder / name, version.content())
                written()
                seen.add(version.id)
        for named, version in self._history.named().items():
            if version.id not in seen:
                # The hash tells import/x from import_x.
                name = f"{stem}_{named.replace('/', '_')}_{version.short_id}{suffix}"
                with contextlib.suppress(VersionPrunedError):  # its name was deleted since
                    self._write(folder / name, version.content())

    def bundle(self, target: Path, tell: ProgressCallback) -> None:
        """All versions, backups and the audit trail as a Git bundle; an older file is replaced.

        Raises:
            StateReadError: there is no history, or a part of it is damaged; an older file is as it was.
            StateWriteError: the disk refused; an older file is as it was.
        """
        refs, repository = self._refs(), self._store.repository
        if self._store.chain.oldest() > 1 or repository.shallow.read():
            raise StateReadError(
                f"a bundle cannot hold a history whose beginning is not there: {self._store.layout.git_dir}. Nothing was"
                f" written. `git clone --mirror file://{self._store.layout.git_dir}` copies it, export_bundle(target, version)"
                " bundles one version, export() writes all of them as files.",
                path=self._store.layout.git_dir,
                code="history-pruned",
            )
        with counting(tell, "following") as seen:
            repository.reachable(refs.values(), (), seen)
        with self._replacing(target) as file:
            repository.bundle(refs, file)

    def bundle_of(self, name: Version | int | str, target: Path) -> None:
        """One version as a Git bundle; an older file is replaced.

        Its commit has no parent, so that it needs no history, and says which version it is. The same version gives the
        same commit.

        Raises:
            VersionNotFoundError: there is no such version; nothing was written.
            StateReadError: it is damaged; an older file is as it was.
            StateWriteError: the disk refused; an older file is as it was.
        """
        version = self._history.version(name)
        blob = make_blob(version.content())
        tree = make_tree({self._store.layout.file_name: blob.id})
        commit = self._store.repository.commit(version.id)
        note = replace(commit.note, extra={**commit.note.extra, _VERSION: version.id})
        alone = make_commit(tree.id, (), commit.author, note)
        with self._replacing(target) as file:
            write_bundle({BRANCH: alone.id}, (blob, tree, alone), file)

    @contextlib.contextmanager
    def _replacing(self, target: Path) -> Iterator[BinaryIO]:
        """A file that becomes `target`, durably, when the block has written it."""
        with self._refused(target):
            temporary = self._checked(target).with_name(f".{target.name}.{files.token()}.tmp")
            with files.writing_new(temporary) as file:
                yield file
            # A crash before this leaves the temporary file beside the older one, which is whole.
            try:
                os.replace(temporary, target)
            except BaseException:
                files.remove(temporary)
                raise
            files.sync_directory(target.parent)

    def _refs(self) -> dict[str, str]:
        refs = self._store.reader.refs()
        if not refs:
            raise StateReadError(
                f"there is no history yet: {self._store.layout.state}. Nothing was written. Write the state first.",
                path=self._store.layout.state,
                code="no-history",
            )
        return refs

    def _write(self, target: Path, content: bytes) -> None:
        with self._refused(target):
            files.replace(self._checked(target), content)

    def _checked(self, target: Path) -> Path:
        """`target`, unless that is a part of what is exported, or of the store of another state.

        Raises:
            ValueError: it is.
        """
        if self._store.layout.owns(target):
            raise ValueError(f"cannot export to a part of the state itself: {target}")
        return target

    @staticmethod
    def _refused(target: Path) -> files.Refused:
        safe = "The state and its history are untouched."
        return files.Refused(StateWriteError, "cannot export", target, safe)
