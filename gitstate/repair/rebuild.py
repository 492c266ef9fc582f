"""Rebuild: a new repository beside a damaged one, with all that can be read there. The old one is only read.

Git may be at work in the old one meanwhile. What it writes there by name, or deletes, once the new one has the name,
finds nothing in that: no pack has the name of an old one, and no ref a file of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from stat import S_IMODE
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.errors import StateReadError
from gitstate.record import GitObject
from gitstate.repository import Repository
from gitstate.repository.checkouts import checkouts, named_by
from gitstate.repository.frame import content_of, faults, is_refusal
from gitstate.repository.objects import Raw, checked_loose
from gitstate.repository.packfile import PackFile
from gitstate.repository.packs import Packs
from gitstate.repository.salvage import SalvagedPack

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
    from pathlib import Path

_MADE_ANEW: Final = {"HEAD", "config", "objects", "refs", "packed-refs", "shallow"}
PASSING: Final = re.compile(r"gitstate-.*|.*\.lock|gc\.(pid|log)|packed-refs\.new")
"""The files in a repository of whoever is at work there just now."""

_ANY: Final = re.compile(".*", re.DOTALL)
_PACK: Final = re.compile(r".*\.pack")
_FOLDER: Final = re.compile("[0-9a-f]{2}")
_NAME: Final = re.compile("[0-9a-f]{38}")
_ID: Final = re.compile(rb"[0-9a-f]{40}")
_NOBODY: Final = b"0" * 40


class Rebuild:
    """The new repository at `new` of what is in `old`.

    Attributes:
        objects: a look at those that it has.
        left_out: checkouts that name something that is lost.
    """

    def __init__(self, old: Path, new: Path) -> None:
        self._old = old
        self._new = new
        self._scratch = new.parent
        Repository.create(new)
        self._packs = Packs(new / "objects")
        self.objects = Repository(new, tuple)
        self.left_out: list[Path] = []

    def take_objects(
        self, more: Iterable[GitObject], elsewhere: Callable[[str], Raw | None]
    ) -> None:
        """Takes every object of the old one that is as its hash says, and `more`. Packs that are whole as they are.

        Raises:
            StateWriteError: the disk refused.
            OSError: the system does not let us read something.
        """
        known: set[bytes] = set()
        damaged = []
        for path in _in_folder(self._old / "objects" / "pack", _PACK):
            names = _names_in(path)
            if names is None:
                damaged.append(path)
            else:
                known.update(names)
                self._link(path)
        self.add(raw for raw in self._rest(damaged, more, elsewhere, known))

    def add(self, raws: Iterable[Raw]) -> None:
        """Adds objects, as one pack.

        Raises:
            StateWriteError: the disk refused.
        """
        self._packs.write((), raws, self._scratch, ())
        self._packs.release()
        self.objects.forget()

    def raws(self) -> Iterator[Raw]:
        """Every object that the new one has."""
        return self._packs.raws()

    def find(self, object_id: str) -> Raw | None:
        """An object that is whole somewhere in the old one, or in the packs of the new one."""
        if not object_id:
            return None
        if self.objects.contains(object_id):
            return self.objects.raw(object_id)
        content = content_of(self._old / "objects" / object_id[:2] / object_id[2:])
        return checked_loose(GitObject(object_id, content)) if content is not None else None

    def take_the_rest(self) -> None:
        """Takes the config, HEAD, hooks, work trees and whatever else is not made anew.

        Raises:
            OSError: the disk refused, or does not let us read something.
        """
        faulty = {fault.path.name for fault in faults(self._old)}
        lost = {folder for folder in checkouts(self._old) if self._names_lost(folder)}
        self.left_out += sorted(lost)
        if self._old in lost:
            faulty |= {"HEAD", "index"}
        for name in (path.name for path in _in_folder(self._old)):
            if name in {"HEAD", "config"} - faulty:
                files.remove(self._new / name)
                self._copy(self._old / name, self._new / name)
            elif name not in {*_MADE_ANEW, *faulty} and not PASSING.fullmatch(name):
                self._copy(self._old / name, self._new / name, lost)

    def publish(
        self, refs: Mapping[str, str], symbolic: Mapping[str, bytes], ends: Collection[str]
    ) -> None:
        """Writes the refs, and where history ends.

        Raises:
            OSError: the disk refused.
        """
        # All packed: a `git pack-refs` that has begun in the old one deletes loose files by their names. Without a
        # header, so that Git believes nothing about their order, nor about what tags lead to.
        rows = "".join(f"{at} {name}\n" for name, at in sorted(refs.items()))
        content = rows.encode("utf-8", "surrogateescape")
        files.write_new(self._new / "packed-refs", content, mode=0o644)
        for name, content in symbolic.items():
            (self._new / name).parent.mkdir(parents=True, exist_ok=True)
            files.write_new(self._new / name, content, mode=0o644)
        if ends:
            lines = "".join(f"{each}\n" for each in sorted(ends))
            files.write_new(self._new / "shallow", lines.encode(), mode=0o644)

    def _rest(
        self,
        damaged: Iterable[Path],
        more: Iterable[GitObject],
        elsewhere: Callable[[str], Raw | None],
        known: set[bytes],
    ) -> Iterator[Raw]:
        for raw in self._outside(damaged, more, elsewhere):
            if bytes.fromhex(raw.id) not in known:
                yield raw

    def _outside(
        self,
        damaged: Iterable[Path],
        more: Iterable[GitObject],
        elsewhere: Callable[[str], Raw | None],
    ) -> Iterator[Raw]:
        """The objects that are in no pack that is whole, in about the order in which they were made."""
        for path in damaged:
            if path.is_file():
                with contextlib.closing(SalvagedPack(path, elsewhere)) as pack:
                    yield from pack.readable()
        for folder in _in_folder(self._old / "objects", _FOLDER):
            for path in _in_folder(folder, _NAME):
                if (content := content_of(path)) is not None:
                    made = GitObject(folder.name + path.name, content)
                    yield from filter(None, [checked_loose(made)])
        yield from filter(None, map(checked_loose, more))

    def _link(self, path: Path) -> None:
        """Takes a pack over under another name, as a `git repack` under way deletes the old ones by theirs."""
        target = self._new / "objects" / "pack" / f"pack-{secrets.token_hex(20)}"
        for suffix in (".pack", ".idx", ".keep"):
            source, made = path.with_suffix(suffix), target.with_suffix(suffix)
            if not source.exists():
                continue
            try:
                if source.is_symlink():
                    raise OSError("a link to a link leads wherever that does")
                os.link(source, made)
            except OSError:
                self._copy(source.resolve(), made)

    def _copy(self, source: Path, target: Path, but: Container[Path] = ()) -> None:
        if source in but:
            return
        if source.is_symlink():
            os.symlink(os.readlink(source), target)
        elif source.is_dir():
            target.mkdir(mode=0o700)
            for name in sorted(os.listdir(source)):
                self._copy(source / name, target / name, but)
            shutil.copymode(source, target)
        elif source.is_file():
            content, status = files.read(source)
            if "logs" in source.parts[len(self._old.parts) :]:
                content = self._readable_lines(content)
            files.write_new(target, content, mode=S_IMODE(status.st_mode))

    def _names_lost(self, checkout: Path) -> bool:
        """Whether a checkout names something that is lost: Git refuses all upkeep of a repository with such a one."""
        try:
            return not all(self._has(at.encode()) for at in named_by(checkout, logs=False))
        except StateReadError as error:
            if is_refusal(error):
                raise
            return False

    def _readable_lines(self, log: bytes) -> bytes:
        """The lines of a log of refs that name nothing that is lost: Git calls such a log damaged."""
        lines = log.splitlines(keepends=True)
        return b"".join(line for line in lines if all(map(self._has, _ID.findall(line[:81]))))

    def _has(self, name: bytes) -> bool:
        return name == _NOBODY or self.objects.contains(name.decode())


def _in_folder(folder: Path, names: re.Pattern[str] = _ANY) -> Iterator[Path]:
    """What is in a folder under such names; nothing where there is no such folder.

    Raises:
        OSError: the system does not let us look.
    """
    try:
        found = sorted(os.listdir(folder))
    except OSError as error:
        if not files.is_damage(error):
            raise
        return
    yield from (folder / name for name in found if names.fullmatch(name))


def _names_in(path: Path) -> Collection[bytes] | None:
    """The ids of the objects in a pack of which every byte is as it should be; None for a damaged one."""
    try:
        with contextlib.closing(PackFile(path)) as pack:
            pack.check()
            pack.index.check()
            for _ in pack.objects():
                pass
            return pack.index.names
    except OSError as error:
        if not files.is_damage(error):
            raise
    except Exception:  # noqa: BLE001  zlib and dulwich raise whatever they trip over (PITFALLS D9)
        return None
    return None
