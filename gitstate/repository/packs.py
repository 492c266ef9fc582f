"""Packs: many objects in one file, durable before anything that it replaces is deleted (PITFALLS D2).

Source of the format: gitformat-pack(5).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import time
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.errors import StateReadError, StateWriteError
from gitstate.progress import ProgressError, counted
from gitstate.repository.index import FRAME_SIZE, ROW_SIZE
from gitstate.repository.packfile import CHECKSUM_SIZE, PackFile, Tip
from gitstate.repository.packing import Packing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from gitstate.repository.objects import Raw
    from gitstate.repository.packing import Written

MAX_PACKS: Final = 16
"""Each pack that has been touched holds four descriptors (PITFALLS D15)."""

_ALWAYS_SMALL: Final = 1000
"""What is written anew in any case while it weighs no more: each pack begins with an object that is no delta."""

_MAX_FOLDED: Final = 64
"""Each pack that is written anew is an open file."""

_NOT_ITS_FAULT: Final = (errno.ENOENT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What is wrong with the system, or with the moment, where a pack cannot be opened."""

_OUR_MARK: Final = b"gitstate is writing this pack\n"
_ABANDONED_SECONDS: Final = 3600.0
_TIPS_AMONG: Final = 8
"""Objects at the end of a pack among which are those that the next ones are deltas against."""

_MAX_REMEMBERED: Final = 8 * 1024 * 1024
"""Bytes of these that are kept in memory for the next pack."""

_DERIVED: Final = (
    "info/commit-graph",
    "info/commit-graphs/*",
    "pack/multi-pack-index*",
    "pack/*.rev",
    "pack/*.bitmap",
)
_INDEX_NAME: Final = re.compile(rb"pack-[0-9a-f]{40}\.idx")


class Packs:
    """The packs below `directory`, the repository's folder of objects."""

    def __init__(self, directory: Path) -> None:
        self._objects = directory
        self._directory = directory / "pack"
        # The last pack that was written here, and what the next objects may be deltas against.
        self._written: tuple[Path | None, dict[bytes, Tip]] = None, {}

    def write(
        self, ids: Iterable[str], raws: Iterable[Raw], scratch: Path, fold: Iterable[Path]
    ) -> list[Path]:
        """One pack of what the packs `fold` hold and of objects, durable, and read back before it has its name.

        `ids` are those of the objects. A pack that is damaged is left out. It is built in the folder `scratch`, on the same filesystem.

        Returns:
            The packs that it replaces.

        Raises:
            StateWriteError: the disk refused, or did not give back what was written; the repository is as it was.
            StateReadError: one of the objects is damaged; the repository is as it was.
        """
        safe = "The history is as it was, and safe in the journal."
        refused = files.Refused(StateWriteError, "cannot write a pack", self._directory, safe)
        with refused, contextlib.ExitStack() as opened:
            packing, folded = self._begin(fold, set(map(bytes.fromhex, ids)), opened)
            packing.add(raws)
            if not packing.added and len(folded) < 2:
                return []
            return self._place(packing, scratch, folded)

    def collect(
        self, needed: Collection[str], scratch: Path, seen: Callable[[], None]
    ) -> list[Path]:
        """A new pack of what is `needed` of the packs that hold more than that; as `write`, and kept until `release`.

        `seen` is called for each object that is taken over. What has a `.keep` file stays as it is, and objects that
        nothing reaches, which Git keeps in packs of their own.

        Returns:
            The packs that it replaces, or that hold nothing that is needed.

        Raises:
            StateWriteError: the disk refused, or did not give back what was written; the repository is as it was.
            StateReadError: one of the objects is damaged; the repository is as it was.
        """
        safe = "The history is as it was."
        refused = files.Refused(StateWriteError, "cannot write a pack", self._directory, safe)
        with refused:
            packing = Packing([], {}, set())
            names = set(map(bytes.fromhex, needed))
            replaced: list[Path] = []
            # Oldest first: each object is behind those that it is like.
            for _, _, path in sorted(self._weights(), key=lambda pack: pack[1:]):
                with contextlib.suppress(FileNotFoundError), self._opened(path) as pack:
                    kept = [name for name in names if pack.index.find(name) is not None]
                    if len(kept) < len(pack.index):
                        packing.take_over(counted(pack.held(kept), seen))
                        replaced.append(path)
            return self._place(packing, scratch, replaced) if packing.added else replaced

    def adopt(self, building: Path) -> None:
        """Takes in a pack that was checked, and its index, which are flushed here. A `git repack` leaves it until `release`.

        Raises:
            StateWriteError: the disk refused; the repository is as it was.
        """
        safe = "The history is as it was."
        with files.Refused(StateWriteError, "cannot take in a pack", self._directory, safe):
            for suffix in (".pack", ".idx"):
                files.flush_file(building.with_suffix(suffix))
            self._name(building)

    def small(self, weight: int, most: int) -> list[Path]:
        """The packs to be written anew together with objects that weigh so much, oldest first.

        They are small, or out of proportion: behind that each of the others weighs at least twice as much as all smaller
        ones together, so that there are few, and few are written often. Not more than weighs `most`, or a multiple of that
        where there are more than `MAX_PACKS` or `weight` is large. A pack with a `.keep` file stays as it
        is, and one of objects that nothing reaches, which Git keeps in packs of their own.
        """
        found = sorted(self._weights())[:_MAX_FOLDED]
        most *= max(1 + weight // _ALWAYS_SMALL, len(found) // MAX_PACKS)
        chosen = 0
        for position, (each, _, _) in enumerate(found, 1):
            if each > most:
                break
            most -= each
            weight += each
            if each < 2 * (weight - each) or weight < _ALWAYS_SMALL:
                chosen = position
        return [path for _, _, path in sorted(found[:chosen], key=lambda pack: pack[1:])]

    def drop(self, paths: Iterable[Path]) -> None:
        """Deletes packs whose objects another, flushed one holds."""
        # A commit-graph or multi-pack-index that names what is gone makes `git fsck` fail (PITFALLS G1).
        chain = "info/commit-graphs"
        stale = ("info/commit-graph", f"{chain}/commit-graph-chain", "pack/multi-pack-index")
        for name in (
            *stale,
            *(f"{chain}/{each.name}" for each in self._objects.glob(f"{chain}/*")),
        ):
            with contextlib.suppress(OSError):
                files.remove(self._objects / name)
        for path in paths:
            # A crash in between leaves an index alone: nobody looks at it. `git repack --cruft` fails at a pack alone.
            for suffix in (".pack", ".idx", ".rev", ".bitmap"):
                with contextlib.suppress(OSError):
                    files.remove(path.with_suffix(suffix))

    def release(self) -> None:
        """Lets Git have what was written here, once the packs that it replaces are dropped: gitrepository-layout(5), `.keep`.

        One process at a time may write packs and release them.
        """
        for mark in self._directory.glob("pack-*.keep"):
            with contextlib.suppress(OSError):
                if files.read(mark)[0] == _OUR_MARK:
                    files.remove(mark)

    def sweep(self) -> None:
        """Deletes what a killed process left: its marks, and of a pack that was to go, or had not come, one half.

        An index without its pack nobody reads; a pack without its index goes after an hour. One process at a time may write
        packs and sweep.
        """
        self.release()
        for path in self._directory.glob("pack-*.pack"):
            with contextlib.suppress(OSError):
                age = time.time() - path.stat().st_mtime
                if age > _ABANDONED_SECONDS and not path.with_suffix(".idx").exists():
                    files.remove(path)
        for path in self._directory.glob("pack-*.idx"):
            # Whoever writes a pack puts the index behind it.
            with contextlib.suppress(OSError):
                if not path.with_suffix(".pack").exists():
                    files.remove(path)

    def find(self, name: str) -> Raw | None:
        """The object with this id from any pack that gives it back undamaged."""
        paths: list[Path] = []
        with contextlib.suppress(OSError):
            paths = self._paths()
        for path in paths:
            with contextlib.suppress(StateReadError, OSError), self._opened(path) as pack:
                for raw in pack.objects([bytes.fromhex(name)]):
                    return raw
        return None

    def ids(self, prefix: str) -> set[str]:
        """The ids of all objects that begin with these hex digits.

        dulwich believes a table of the index unchecked, and may look for hours (PITFALLS D9).

        Raises:
            StateReadError: a pack is damaged.
            OSError: the system refused.
        """
        while True:
            # A checkpoint, or a `git repack`, may take a pack meanwhile: what it held is in another one by now.
            with contextlib.suppress(FileNotFoundError):
                found: set[str] = set()
                for path in self._paths():
                    with self._opened(path) as pack:
                        found.update(pack.index.ids(prefix))
                return found

    def raws(self) -> Iterator[Raw]:
        """The objects of all packs.

        Raises:
            StateReadError: a pack is damaged.
        """
        for path in self._paths():
            yield from self._contents(path)

    def write_whole(self, raws: Iterable[Raw], file: BinaryIO) -> None:
        """Writes a pack of all that the packs hold, and of objects, into `file`. Not flushed.

        Raises:
            StateReadError: a pack, or an object, is damaged.
            OSError: the disk refused.
        """
        while True:
            # A pack that a checkpoint, or a `git repack`, takes meanwhile: what it held is in another one by now.
            with contextlib.ExitStack() as opened, contextlib.suppress(FileNotFoundError):
                paths = self._paths()
                packing, taken = self._begin(paths, set(), opened)
                for path in paths:
                    if path not in taken:
                        packing.add(self._contents(path))
                packing.add(raws)
                packing.write(file)
                return

    def derived(self) -> Iterator[Path]:
        """The damaged ones among the files that Git makes of packs, and can make again; or one that names a lost pack."""
        for path in (found for name in _DERIVED for found in sorted(self._objects.glob(name))):
            if path.name != "commit-graph-chain":
                with contextlib.suppress(FileNotFoundError):
                    content = files.read(path)[0]
                    digest = hashlib.sha1(content[:-CHECKSUM_SIZE], usedforsecurity=False).digest()
                    named = _INDEX_NAME.findall(content) if path.name.startswith("multi-") else []
                    lost = any(not (self._directory / os.fsdecode(each)).exists() for each in named)
                    if content[-CHECKSUM_SIZE:] != digest or lost:
                        yield path

    def problems(self, seen: Callable[[], None]) -> Iterator[str]:
        """One line for each pack with a damaged object, and for each damaged file beside them; `seen` as of loose ones."""
        for path in self._paths():
            try:
                for _ in self._contents(path):
                    seen()
            except FileNotFoundError:  # a checkpoint, or a `git repack`, took it meanwhile
                continue
            except StateReadError as error:
                yield str(error)
        for path in self.derived():
            yield f"what Git derives from the packs is damaged: {path}"

    def _paths(self) -> list[Path]:
        """The packs that Git reads, whatever their names."""
        # Not a glob, which takes a folder that the system does not let us look into for an empty one.
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):  # before the first write
            names = sorted(name for name in os.listdir(self._directory) if name.endswith(".pack"))
        found = (self._directory / name for name in names)
        # A name may lead nowhere, and who takes that for a pack that has just gone looks for it for ever.
        return [path for path in found if path.exists() and path.with_suffix(".idx").exists()]

    def _weights(self) -> Iterator[tuple[int, int, Path]]:
        """Of each pack its weight, its age, and where it is."""
        for path in self._directory.glob("pack-*.pack"):
            if not any(path.with_suffix(mark).exists() for mark in (".keep", ".mtimes")):
                with contextlib.suppress(FileNotFoundError):  # no index; or a `git repack` took it
                    rows = path.with_suffix(".idx").stat().st_size - FRAME_SIZE
                    status = path.stat()
                    yield rows // ROW_SIZE + status.st_size // 1024, status.st_mtime_ns, path

    def _place(self, packing: Packing, scratch: Path, replaced: list[Path]) -> list[Path]:
        """Writes the pack, durable, and reads it back before it has its name; which of `replaced` it replaces."""
        building = scratch / "building.pack"
        with files.writing_new(building) as body:
            written = packing.write(body)
        tips = packing.tips
        if sum(len(tip.content) for tip in tips.values()) > _MAX_REMEMBERED:
            tips.clear()  # before more is read: the pack gives them back
        with files.writing_new(building.with_suffix(".idx")) as index:
            index.write(written.index_content)
        self._read_back(building, written, packing.added)
        placed = self._name(building)
        self._written = placed if tips else None, tips
        return replaced

    def _name(self, building: Path) -> Path:
        """Gives a flushed pack, and its index, that lie elsewhere on this filesystem a name here; kept until `release`."""
        # Git finds a pack by its index, so that comes last, and is durable last. A crash in between leaves waste.
        # Under a name that nobody has seen: a `git repack -d` deletes what it has listed by its name, whatever that is by
        # then. Kept, until what it replaces is gone: the pack that Git makes meanwhile may have the name of one of those.
        placed = self._directory / f"pack-{secrets.token_hex(20)}.pack"
        files.write_new(placed.with_suffix(".keep"), _OUR_MARK)
        for suffix in (".pack", ".idx"):
            os.replace(building.with_suffix(suffix), placed.with_suffix(suffix))
            files.sync_directory(self._directory)
        return placed

    def _begin(
        self, fold: Iterable[Path], fresh: set[bytes], opened: contextlib.ExitStack
    ) -> tuple[Packing, list[Path]]:
        """A packing that begins with what the packs `fold` hold, and the list of those.

        Of the objects `fresh` none is taken over unread: nobody else may have them behind this.
        """
        bodies: list[PackFile] = []
        held: set[bytes] = set()
        last: Path | None = None
        folded: list[Path] = []
        again: list[Raw] = []
        for path in fold:
            # One that is damaged stays: verify says so. A `git repack` may have taken it meanwhile.
            with contextlib.suppress(StateReadError, FileNotFoundError), self._judged(path):
                pack = opened.enter_context(contextlib.closing(PackFile(path)))
                pack.check()
                pack.index.check()
                names = pack.index.names
                if fresh.isdisjoint(names) and held.isdisjoint(names):
                    bodies.append(pack)
                    last = path
                    held.update(names)
                else:
                    again += list(self._contents(path))
                folded.append(path)
        packing = Packing(bodies, self._tips(last, bodies[-1]) if last else {}, held)
        packing.add(again)
        return packing, folded

    def _tips(self, path: Path, pack: PackFile) -> dict[bytes, Tip]:
        """The last object of each kind in a pack."""
        written, tips = self._written
        if path != written:
            tips = {}
            with contextlib.suppress(StateReadError), self._judged(path):
                tips = pack.tips(_TIPS_AMONG)
        return tips

    def _contents(self, path: Path) -> Iterator[Raw]:
        """The objects of a pack in the order of the file."""
        with self._opened(path) as pack:
            pack.check()
            yield from pack.objects()

    @contextlib.contextmanager
    def _opened(self, path: Path) -> Iterator[PackFile]:
        """A pack that is open for the block.

        Raises:
            StateReadError: it is damaged.
            OSError: it has gone, or the system has no more files or memory for it.
        """
        with self._judged(path), contextlib.closing(PackFile(path)) as pack:
            yield pack

    @contextlib.contextmanager
    def _judged(self, path: Path) -> Iterator[None]:
        """Calls what goes wrong in the block damage of the pack, but for what is no fault of it."""
        try:
            yield
        except Exception as error:  # zlib and dulwich raise whatever they trip over (PITFALLS D9)
            if isinstance(error, OSError) and error.errno in _NOT_ITS_FAULT:
                raise
            if isinstance(error, ProgressError):
                raise
            raise self._damaged(path, f"{type(error).__name__}: {error}") from error

    def _read_back(self, path: Path, written: Written, added: list[bytes]) -> None:
        """Sees that the disk has what was written, and that every object that was added comes out of it by its hash."""
        try:
            whole = files.read(path.with_suffix(".idx"))[0] == written.index_content
            with self._opened(path) as pack:
                pack.check()
                for _ in pack.objects(added):
                    pass
        except StateReadError as error:
            raise self._not_given_back() from error
        if not whole:
            raise self._not_given_back()

    def _not_given_back(self) -> StateWriteError:
        return StateWriteError(
            f"the disk does not give back what was written: {self._directory}. The history is as it was, and safe in the"
            " journal. Check the disk (dmesg says more).",
            path=self._directory,
            code="pack-damaged",
        )

    @staticmethod
    def _damaged(path: Path, why: str) -> StateReadError:
        return StateReadError(
            f"a pack is damaged ({why}): {path}. The state file is untouched. Keep the file; git verify-pack says more.",
            path=path,
            code="object-damaged",
        )
