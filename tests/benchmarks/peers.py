"""What a user could keep the versions of a JSON document with instead: each peer behind the same three calls.

A peer that encodes JSON itself does so with pydantic_core, the fastest encoder at hand; where a plain file belongs to what
it gives, that is replaced durably, as the floor does it. All are set to survive a power cut where they can be; what
remains of that, and of versions, is said in each one's docstring.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import sqlite3
import subprocess
from typing import TYPE_CHECKING, Any, Protocol

from pydantic_core import from_json, to_json
from timing import floor

from gitstate import PipelineSchema, PipelineState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gitstate.codec import Document

NAME = "pipeline.json"
AUTHOR, ADDRESS = "bench", "bench@example.org"
GIT_SETTINGS = {
    "user.name": AUTHOR,
    "user.email": ADDRESS,
    "init.defaultBranch": "main",
    "core.fsync": "committed,reference",
    "gc.auto": "0",
}
"""Objects and refs are flushed, by Git 2.36 and newer; Git never flushes a directory. Nobody collects in between."""

GIT_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_COUNT": str(len(GIT_SETTINGS)),
    **{f"GIT_CONFIG_KEY_{number}": name for number, name in enumerate(GIT_SETTINGS)},
    **{f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(GIT_SETTINGS.values())},
}
"""For the environment of who opens peers: stock git, also as AcidFS runs it, then has `GIT_SETTINGS` and no others."""


class MissingPeerError(Exception):
    """What a peer needs is not installed."""


class Peer(Protocol):
    """A document below a directory, of which each write makes a version; the directory is there and empty."""

    def __init__(self, directory: Path) -> None: ...

    def write(self, document: Document) -> None:
        """Makes the document the current one."""

    def read(self) -> Document:
        """The current document."""

    def close(self) -> None:
        """Lets go of files and processes."""


def need(module: str) -> Any:
    """The module of a peer.

    Raises:
        MissingPeerError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPeerError(f"{module} is not installed") from error


def content_of(document: Document) -> bytes:
    """The document as gitstate writes it."""
    return to_json(document, indent=2) + b"\n"


def git(directory: Path, *arguments: str) -> None:
    """Runs stock git.

    Raises:
        MissingPeerError: it is not installed.
    """
    program = shutil.which("git")
    if program is None:
        raise MissingPeerError("git is not installed")
    subprocess.run([program, *arguments], cwd=directory, check=True, stdout=subprocess.DEVNULL)


def have_folders(objects: Path) -> None:
    """As in a repository that is in use: Git's folders for objects come one by one with the first thousand commits."""
    for folder in range(256):
        (objects / f"{folder:02x}").mkdir(exist_ok=True)


class Gitstate:
    """gitstate with its schema for pipelines: a step of a pipeline brings the phase that has changed.

    Each transaction reads what was there, as any block does, and validates; the file is durable, so is the commit.
    """

    schema: type[PipelineSchema] | None = PipelineSchema

    def __init__(self, directory: Path) -> None:
        self._state = PipelineState(directory / NAME, max_backups=None, schema=self.schema)

    def write(self, document: Document) -> None:
        """One transaction."""
        if not self._state.path.exists():
            self._state.write(document)
            have_folders(self._state.git_dir / "objects")
            return
        with self._state.transaction() as txn:
            txn.data["phase4"] = document["phase4"]

    def read(self) -> Document:
        """From the file."""
        return self._state.read()

    def close(self) -> None:
        """With its checkpoint."""
        self._state.close()


class GitstateWithoutSchema(Gitstate):
    """gitstate with `schema=None`."""

    schema = None


class File:
    """A plain file, durably replaced, which is a part of most peers."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME

    def replace(self, document: Document) -> bytes:
        """Writes it, and gives its content."""
        content = content_of(document)
        floor(self._path, content)
        return content

    def read(self) -> Document:
        """From the file."""
        document: Document = from_json(self._path.read_bytes())
        return document

    def close(self) -> None:
        """Nothing is open."""


class Steps(File):
    """What a transaction cannot do without: parse what was there, encode, hash, and the floor. No versions."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._content = b"{}"

    def write(self, document: Document) -> None:
        """One after the other."""
        from_json(self._content)
        self._content = self.replace(document)
        hashlib.sha1(self._content, usedforsecurity=False).digest()


class SQLite(File):
    """SQLite in WAL mode with synchronous=FULL, a row for each version, and the durable file."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._connection = sqlite3.connect(directory / "versions.sqlite", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("CREATE TABLE versions (id INTEGER PRIMARY KEY, content BLOB)")

    def write(self, document: Document) -> None:
        """The row, which commits by itself, then the file."""
        content = content_of(document)
        self._connection.execute("INSERT INTO versions (content) VALUES (?)", (content,))
        floor(self._path, content)

    def close(self) -> None:
        """With its checkpoint."""
        self._connection.close()


class DiskCache:
    """diskcache as it comes: WAL with synchronous=NORMAL, so a power cut may take the last versions; no plain file.

    A key for each version, the document pickled, those of 32 KB or more in files of their own that are not flushed.
    """

    def __init__(self, directory: Path) -> None:
        self._cache = need("diskcache").Cache(str(directory / "cache"))
        self._number = 0

    def write(self, document: Document) -> None:
        """One more key."""
        self._cache[self._number + 1] = document
        self._number += 1

    def read(self) -> Document:
        """The newest key."""
        document: Document = self._cache[self._number]
        return document

    def close(self) -> None:
        """Closes the database."""
        self._cache.close()


class GitCommandLine(File):
    """`git add` and `git commit` in a work tree whose file is durable, with `GIT_SETTINGS`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._directory = directory
        git(directory, "init", "-q")
        have_folders(directory / ".git" / "objects")

    def write(self, document: Document) -> None:
        """The file, then the two commands."""
        self.replace(document)
        git(self._directory, "add", NAME)
        git(self._directory, "commit", "-q", "-m", "transaction")


class PyGit2(File):
    """pygit2 with libgit2's flushes on: blob, tree and commit in a bare repository, and the durable file."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._pygit2 = need("pygit2")
        self._pygit2.settings.enable_fsync_gitdir(True)
        self._repository = self._pygit2.init_repository(directory / "repo.git", bare=True)
        self._parents: list[Any] = []
        have_folders(directory / "repo.git" / "objects")

    def write(self, document: Document) -> None:
        """The file, then the commit."""
        content = self.replace(document)
        repository, pygit2 = self._repository, self._pygit2
        builder = repository.TreeBuilder()
        builder.insert(NAME, repository.create_blob(content), pygit2.enums.FileMode.BLOB)
        who = pygit2.Signature(AUTHOR, ADDRESS)
        tree = builder.write()
        commit = repository.create_commit("HEAD", who, who, "transaction", tree, self._parents)
        self._parents = [commit]

    def close(self) -> None:
        """Lets go of the repository."""
        self._repository.free()


class DulwichPorcelain(File):
    """dulwich's `porcelain.add` and `porcelain.commit` in a work tree whose file is durable, its flushes on."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._porcelain = need("dulwich.porcelain")
        with self._porcelain.init(str(directory)) as repository:
            config = repository.get_config()
            config.set((b"core",), b"fsyncObjectFiles", True)
            config.write_to_path()
        self._repository = need("dulwich.repo").Repo(str(directory))
        have_folders(directory / ".git" / "objects")

    def write(self, document: Document) -> None:
        """The file, then the two calls."""
        self.replace(document)
        who = f"{AUTHOR} <{ADDRESS}>".encode()
        self._porcelain.add(self._repository, paths=[os.fspath(self._path)])
        self._porcelain.commit(self._repository, b"transaction", author=who, committer=who)

    def close(self) -> None:
        """Lets go of the repository."""
        self._repository.close()


class AcidFS:
    """AcidFS in a work tree, with `GIT_SETTINGS`; the file that it checks out there is not flushed."""

    def __init__(self, directory: Path) -> None:
        acidfs = need("acidfs")
        self._transaction = need("transaction")
        repository = directory / "tree"
        git(directory, "--version")
        self._files = acidfs.AcidFS(str(repository), user_name=AUTHOR, user_email=ADDRESS)
        have_folders(repository / ".git" / "objects")

    def write(self, document: Document) -> None:
        """One transaction."""
        with self._files.open(NAME, "wb") as file:
            file.write(content_of(document))
        self._transaction.commit()

    def read(self) -> Document:
        """From the repository."""
        with self._files.open(NAME, "rb") as file:
            document: Document = from_json(file.read())
        return document

    def close(self) -> None:
        """Ends the transaction that the last read has begun."""
        self._transaction.abort()


class TinyDB:
    """TinyDB with its own storage: one flushed file, written over in place, so a crash may halve it; no versions."""

    def __init__(self, directory: Path) -> None:
        self._db = need("tinydb").TinyDB(directory / NAME)
        self._ids: list[int] = []

    def write(self, document: Document) -> None:
        """Updates the one document."""
        if self._ids:
            self._db.update(document, doc_ids=self._ids)
        else:
            self._ids.append(self._db.insert(document))

    def read(self) -> Document:
        """From the file."""
        return dict(self._db.get(doc_id=self._ids[0]))

    def close(self) -> None:
        """Closes the file."""
        self._db.close()


PEERS: dict[str, Callable[[Path], Peer]] = {
    "gitstate": Gitstate,
    "gitstate, no schema": GitstateWithoutSchema,
    "SQLite + file": SQLite,
    "diskcache": DiskCache,
    "git add, git commit": GitCommandLine,
    "pygit2": PyGit2,
    "dulwich porcelain": DulwichPorcelain,
    "AcidFS": AcidFS,
    "TinyDB": TinyDB,
}
"""By the names under which they are listed."""
