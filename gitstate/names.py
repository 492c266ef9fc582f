"""Names: what a backup may be called, so that Git takes it for the name of a ref, and nobody for another version."""

from __future__ import annotations

import re
from typing import Final

from gitstate.draft import ASIDE, BACKUPS
from gitstate.errors import Problem, StateValidationError

HASH: Final = re.compile(r"[0-9a-fA-F]{4,40}")
"""What reads as a hash, or the beginning of one."""

# What git-check-ref-format(1) allows, without slashes: one name must not be another's folder.
_BACKUP_NAME: Final = re.compile(
    r"(?![.-])(?!.*\.\.)(?!.*\.lock$)(?!.*@\{)(?!@$)[^\x00-\x20\x7f~^:?*\[\\/]+(?<!\.)"
)

_MAX_NAME_BYTES: Final = 200
"""A file name's 255, less what Git adds to it for its locks."""


def may_be_named(name: object) -> bool:
    """Whether a backup may have that name, or an imported one."""
    return isinstance(name, str) and all(map(_BACKUP_NAME.fullmatch, name.split("/")))


def check_name(name: object) -> None:
    """Refuses what a backup cannot be called.

    Raises:
        StateValidationError: it is that; code `"backup-name"`.
    """
    if not isinstance(name, str) or not _BACKUP_NAME.fullmatch(name):
        raise bad_name(
            name, "a name without spaces, slashes, '..' and ~^:?*[\\ and control characters"
        )
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise bad_name(name, "a name without lone surrogates") from None
    if length > _MAX_NAME_BYTES:
        raise bad_name(f"{name[:20]}...", f"at most {_MAX_NAME_BYTES} bytes")
    if BACKUPS + name + "/" == ASIDE:
        raise bad_name(name, "another name: below that one are backups that were imported")
    if HASH.fullmatch(name) or name.isdecimal() or name.upper().startswith("HEAD"):
        raise bad_name(name, "a name that does not read as a hash, a serial or HEAD")


def bad_name(name: object, expected: str) -> StateValidationError:
    """The error that a backup cannot be called so."""
    return StateValidationError(
        f"a backup cannot be called {name!r}: expected {expected}. Nothing was changed.",
        problems=(Problem("", expected, repr(name)),),
        code="backup-name",
    )
