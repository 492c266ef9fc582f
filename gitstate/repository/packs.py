"""Packs: many objects in one file, durable before anything that it replaces is deleted (PITFALLS D2).

Source of the format: gitformat-pack(5).
"""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from typing import TYPE_CHECKING, Final

from dulwich.object_format import DEFAULT_OBJECT_FORMAT
from dulwich.pack import Pack, UnpackedObject, write_pack_data, write_pack_index_v2

from gitstate import files
from gitstate.errors import StateReadError, StateWriteError
from gitstate.repository.objects import TYPE_NUMBERS, Raw, object_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MAX_PACKS: Final = 16
"""Each pack that has been touched holds four descriptors (PITFALLS D15)."""

_OUR_MARK: Final = b"gitstate is writing this pack\n"
_ABANDONED_SECONDS: Final = 3600.0


class Packs:
    """The packs below `directory`, the repository's folder of objects."""

    def __init__(self, directory: Path) -> None:
        self._objects = directory
        self._directory = directory / "pack"

    def write(self, raws: Iterable[Raw], count: int, scratch: Path) -> Path:
        """One pack of `count` objects, flushed, every object read back by its hash, then moved into place, durable.

        It is built in the folder `scratch`, on the same filesystem.

        Raises:
            StateWriteError: the disk refused, or did not give back what was written; the repository is as it was.
        """
        unpacked = (
            UnpackedObject(
                TYPE_NUMBERS[raw.kind], sha=bytes.fromhex(raw.id), decomp_chunks=[raw.content]
            )
            for raw in raws
        )
        safe = "The history is as it was, and safe in the journal."
        with files.Refused(StateWriteError, "cannot write a pack", self._directory, safe):
            building = scratch / "building.pack"
            with files.writing_new(building) as body:
                entries, checksum = write_pack_data(
                    body.write, unpacked, DEFAULT_OBJECT_FORMAT, num_records=count
                )
            with files.writing_new(building.with_suffix(".idx")) as index:
                rows = sorted((sha, offset, crc) for sha, (offset, crc) in entries.items())
                write_pack_index_v2(index, rows, checksum)
            self._read_back(building, {sha.hex() for sha in entries})
            # Git finds a pack by its index, so that comes last, and is durable last. A crash in between leaves waste.
            placed = self._directory / f"pack-{checksum.hex()}.pack"
            with self._kept(placed.with_suffix(".keep")):
                for suffix in (".pack", ".idx"):
                    os.replace(building.with_suffix(suffix), placed.with_suffix(suffix))
                    files.sync_directory(self._directory)
        return placed

    def merge(self, scratch: Path, limit: int | None) -> list[Path]:
        """If there are more than `MAX_PACKS`, writes the small ones into one, and gives those that this replaces.

        Not more than `limit` bytes of them for every `MAX_PACKS` there are, None for no limit: so their number grows with
        the square root of the history at most. A pack with a `.keep` file stays as it is.

        Raises:
            StateWriteError: as `write`.
            StateReadError: an object in a pack is damaged; nothing was changed.
        """
        sizes = sorted(self._sizes())
        if len(sizes) <= MAX_PACKS:
            return []
        bound = None if limit is None else limit * len(sizes) // MAX_PACKS
        small = _out_of_proportion(sizes, bound)
        if len(small) < 2:
            return []
        try:
            ids = {each for path in small for each in self._ids(path)}
            contents = (raw for path in small for raw in self._contents(path))
            written = self.write(_each_once(contents), len(ids), scratch)
        except StateReadError:
            if all(path.exists() for path in small):
                raise
            return []  # a `git repack` writes them together meanwhile
        # Objects in the same order make a pack of the same name, as after a merge that was killed before it deleted.
        return [path for path in small if path != written]

    def drop(self, paths: Iterable[Path]) -> None:
        """Deletes packs whose objects another, flushed one holds."""
        # A commit-graph or multi-pack-index that names what is gone makes `git fsck` fail (PITFALLS G1).
        for stale in ("info/commit-graph", "pack/multi-pack-index"):
            with contextlib.suppress(OSError):
                files.remove(self._objects / stale)
        for path in paths:
            # Without its index a pack is not looked at, so a crash in between leaves only waste.
            for suffix in (".idx", ".rev", ".bitmap", ".pack"):
                with contextlib.suppress(OSError):
                    files.remove(path.with_suffix(suffix))

    def flush(self) -> None:
        """Makes the packs that are there durable, whoever wrote them.

        Raises:
            OSError: the disk refused.
        """
        for path in self._directory.iterdir():
            with contextlib.suppress(FileNotFoundError):  # a `git repack` took it just now
                files.flush_file(path)
        files.sync_directory(self._directory)

    def sweep(self) -> None:
        """Deletes what a killed process left: its marks, and after an hour packs without an index, which nobody reads.

        One process at a time may write packs and sweep.
        """
        for mark in self._directory.glob("pack-*.keep"):
            with contextlib.suppress(OSError):
                if files.read(mark)[0] == _OUR_MARK:
                    files.remove(mark)
        for path in self._directory.glob("pack-*.pack"):
            with contextlib.suppress(OSError):
                age = time.time() - path.stat().st_mtime
                if age > _ABANDONED_SECONDS and not path.with_suffix(".idx").exists():
                    files.remove(path)

    def problems(self) -> Iterator[str]:
        """One line for each pack with a damaged object."""
        for path in sorted(self._directory.glob("*.idx")):
            try:
                for _ in self._contents(path.with_suffix(".pack")):
                    pass
            except StateReadError as error:
                yield str(error)

    def _sizes(self) -> Iterator[tuple[int, Path]]:
        for path in self._directory.glob("pack-*.pack"):
            if not path.with_suffix(".keep").exists() and path.with_suffix(".idx").exists():
                with contextlib.suppress(FileNotFoundError):  # a `git repack` took it just now
                    yield path.stat().st_size, path

    @contextlib.contextmanager
    def _kept(self, mark: Path) -> Iterator[None]:
        """Has `git repack -d` leave a pack alone that has no index yet: gitrepository-layout(5), `pack-*.keep`."""
        try:
            files.write_new(mark, _OUR_MARK)
        except FileExistsError:
            yield  # it is there already, and somebody wants to keep it
            return
        try:
            yield
        finally:
            files.remove(mark)

    def _contents(self, path: Path) -> Iterator[Raw]:
        with self._opened(path) as pack:
            for raw_id in list(pack):
                found = pack[raw_id]
                raw = Raw(raw_id.decode(), found.type_name, found.as_raw_string())
                if object_id(raw.kind, raw.content) != raw.id:
                    raise ValueError(f"the hash of {raw.id} does not match")
                yield raw

    def _ids(self, path: Path) -> list[str]:
        with self._opened(path) as pack:
            return [raw_id.decode() for raw_id in pack]

    @contextlib.contextmanager
    def _opened(self, path: Path) -> Iterator[Pack]:
        pack = Pack(os.fspath(path.with_suffix("")), object_format=DEFAULT_OBJECT_FORMAT)
        try:
            yield pack
        except Exception as error:  # dulwich raises whatever its parsers trip over (PITFALLS D9)
            # What they were looking at is part of the mapped file, which cannot be closed before they let go.
            traceback.clear_frames(error.__traceback__)
            pack.close()
            raise StateReadError(
                f"a pack is damaged ({type(error).__name__}: {error}): {path}. The state file is untouched. Keep the"
                " file; git verify-pack says more.",
                path=path,
                code="object-damaged",
            ) from error
        except BaseException:
            pack.close()
            raise
        else:
            pack.close()

    def _read_back(self, path: Path, expected: set[str]) -> None:
        cause = None
        found: set[str] = set()
        try:
            found = {raw.id for raw in self._contents(path)}
        except StateReadError as error:
            cause = error
        if found != expected:
            raise StateWriteError(
                f"the disk does not give back what was written: {self._directory}. The history is as it was, and safe in"
                " the journal. Check the disk (dmesg says more).",
                path=self._directory,
                code="pack-damaged",
            ) from cause


def _each_once(raws: Iterable[Raw]) -> Iterator[Raw]:
    seen = set()
    for raw in raws:
        if raw.id not in seen:
            seen.add(raw.id)
            yield raw


def _out_of_proportion(sizes: list[tuple[int, Path]], limit: int | None) -> list[Path]:
    """The packs to write together so that each of the others is at least twice as large as all smaller ones."""
    total, count = 0, 2
    for position, (size, _) in enumerate(sizes, 1):
        if limit is not None and total + size > limit:
            return [path for _, path in sizes[: position - 1]]
        if size < 2 * total:
            count = position
        total += size
    return [path for _, path in sizes[:count]]
