"""Listing: the refs as far as they can be read, where `Refs` refuses at the first one that cannot.

Source of the formats: gitrepository-layout(5), git-pack-refs(1).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from dulwich.refs import check_ref_format

from gitstate.repository.frame import content_of
from gitstate.repository.refs import raise_unless_gone

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from pathlib import Path

_ROW: Final = re.compile(rb"([0-9a-f]{40}) (refs/[^\n]+)")
_PEELED: Final = re.compile(rb"\^[0-9a-f]{40}")
_HEADER: Final = re.compile(rb"# pack-refs with:( (peeled|fully-peeled|sorted))* ?")
_ID: Final = re.compile(rb"[0-9a-fA-F]{40}")


@dataclass(slots=True)
class Listing:
    """What was found.

    Attributes:
        ids: of every ref the ids that it may be at, the best first; none where it cannot be read.
        torn: the names of those whose own file holds no id.
        symbolic: what those hold that name another ref.
        strays: lines of the packed refs that say nothing.
    """

    ids: dict[str, list[str]] = field(default_factory=dict)
    torn: list[str] = field(default_factory=list)
    symbolic: dict[str, bytes] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)

    def dangling(self, refs: Container[str]) -> Iterator[tuple[str, str]]:
        """The names of those that lead to none of `refs`, each with what it names."""
        for name in sorted(self.symbolic):
            names = [name]
            while (at := self._target(names[-1])) in self.symbolic and at not in names:
                names.append(at)
            if at not in refs:
                yield name, self._target(name)

    def _target(self, name: str) -> str:
        return os.fsdecode(self.symbolic[name].partition(b":")[2].strip())


def list_refs(git_dir: Path) -> Listing:
    """The refs below `git_dir`.

    Raises:
        OSError: the system does not let us read one.
    """
    found = Listing()
    for folder, _, names in os.walk(git_dir / "refs", onerror=raise_unless_gone):
        for name in names:
            path = os.path.join(folder, name)
            ref = os.path.relpath(path, git_dir).replace(os.sep, "/")
            if not name.endswith(".lock") and (os.path.islink(path) or os.path.exists(path)):
                _read_loose(ref, content_of(path) or b"", found)
    # The packed ones last: `git pack-refs` writes them there before it deletes the files.
    _read_packed(content_of(git_dir / "packed-refs") or b"", found)
    return found


def _read_loose(ref: str, content: bytes, found: Listing) -> None:
    text = content[:64].strip(b" \t\r\n")
    if text.startswith(b"ref:"):
        found.symbolic[ref] = content
        return
    at = text.decode().lower() if _ID.fullmatch(text) else None
    found.ids[ref] = [at] if at and _is_name(os.fsencode(ref)) else []
    if at is None or at.encode() != text:
        found.torn.append(ref)


def _read_packed(content: bytes, found: Listing) -> None:
    lines = content.split(b"\n")
    for number, line in enumerate(lines[:-1]):
        row = _ROW.fullmatch(line)
        if row and _is_name(row[2]):
            found.ids.setdefault(os.fsdecode(row[2]), []).append(row[1].decode())
        elif line and not _PEELED.fullmatch(line) and not (number == 0 and _HEADER.fullmatch(line)):
            found.strays.append(line.decode("utf-8", "replace"))
    if lines[-1]:  # it has no end, so nobody knows of which ref it was to speak
        found.strays.append(lines[-1].decode("utf-8", "replace"))
    names = [row[2] for row in map(_ROW.fullmatch, lines) if row]
    if b" sorted" in lines[0] and any(one >= other for one, other in pairwise(names)):
        found.strays.append("the names are not in their order")


def _is_name(ref: bytes) -> bool:
    return check_ref_format(ref)  # type: ignore[arg-type]  # a name is bytes to dulwich
