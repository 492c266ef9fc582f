"""Bundle: refs, and objects that they lead to, as one file that Git can clone.

Source of the format: gitformat-bundle(5), version 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitstate.repository.frame import BRANCH
from gitstate.repository.objects import unpack_loose
from gitstate.repository.packing import Packing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import BinaryIO

    from gitstate.record import GitObject


def write_header(refs: Mapping[str, str], file: BinaryIO) -> None:
    """Writes what stands before the pack: `refs`, and a HEAD that is at the branch."""
    head = {"HEAD": refs[BRANCH]} if BRANCH in refs else {}
    lines = [f"{at} {name}\n" for name, at in {**head, **refs}.items()]
    file.write("".join(("# v2 git bundle\n", *lines, "\n")).encode("utf-8", "surrogateescape"))


def write_bundle(refs: Mapping[str, str], objects: Iterable[GitObject], file: BinaryIO) -> None:
    """Writes a bundle of `refs` and of `objects`, which are all that they lead to. Not flushed.

    Raises:
        OSError: the disk refused.
    """
    write_header(refs, file)
    packing = Packing([], {}, set())
    packing.add(map(unpack_loose, objects))
    packing.write(file)
