"""Legacy: what a state manager that keeps copies has left, as it is found. Nothing of it is changed or removed.

    .pipeline/backups/<stem>_YYYYmmdd_HHMMSS_ffffff.json.bak   the state as it was at that time
    .pipeline/transactions.log                                 a JSON object in each line: timestamp, operation, success,
                                                               pid, details

Times without a zone are those of this machine's zone; in the hour that comes twice in autumn, the first of the two. The
log is that of all state files in the folder. Two lines of it that are the same, to the microsecond, are one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gitstate import files
from gitstate.errors import StateReadError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_STAMP: Final = "%Y%m%d_%H%M%S_%f"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OF_THIS_FILE: Final = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT, errno.EINVAL})
"""What the system says about one file that another try would not change; anything else is trouble with the system."""

_NO_NAME: Final = re.compile(r"[~^:?*\[\\%{]")
_MAX_STEM_BYTES: Final = 160
"""With the stamp, and a number behind that, below what a file of Git's refs may be called."""


class Backup(NamedTuple):
    """A copy of the state: when it was made, and what its file is called."""

    time: datetime
    file: str


class Entry(NamedTuple):
    """A line of the log: when that happened, the hash of the line, and what it says, as `get_transaction_history` does.

    `more` is what it says besides, `size` how many bytes it has.
    """

    time: datetime
    hash: str
    size: int
    line: dict[str, Any]
    more: dict[str, Any]


class OldLayout:
    """What is in `folder` for a state file with this `stem`.

    Attributes:
        skipped: what could not be used so far: its path and why, a line each.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder = folder
        self._backups = folder / "backups"
        self._log = folder / "transactions.log"
        self._pattern = re.compile(
            rf"{re.escape(stem)}_([0-9]{{8}}_[0-9]{{6}}_[0-9]{{6}})\.json\.bak"
        )
        self.skipped: list[str] = []

    def refuse_missing(self) -> None:
        """Sees that the folder is there.

        Raises:
            StateReadError: it is not.
        """
        try:
            os.listdir(self._folder)
        except OSError as error:
            raise _unreadable(self._folder, error) from error

    def backups(self) -> list[Backup]:
        """The copies of this state, oldest first.

        Raises:
            StateReadError: the system does not let us look.
        """
        found = []
        try:
            names = os.listdir(self._backups)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unreadable(self._backups, error) from error
        for match in filter(None, map(self._pattern.fullmatch, names)):
            try:
                time = datetime.strptime(match[1], _STAMP).astimezone(UTC)
                if time < _EPOCH:
                    raise ValueError("Git knows no time before 1970")
                found.append(Backup(time, match[0]))
            except (ValueError, OverflowError, OSError) as error:
                self.skip(match[0], f"its name has no time that can be used ({error})")
        return sorted(found)

    def content(self, backup: Backup) -> bytes | None:
        """What a copy holds; None for one that is skipped.

        Raises:
            StateReadError: the system is in trouble, or the disk.
        """
        path = self._backups / backup.file
        try:
            if _is_plain(path):
                return files.read(path)[0]
            self.skip(backup.file, "not a regular file")
        except OSError as error:
            if error.errno not in _OF_THIS_FILE:
                raise _unreadable(path, error) from error
            self.skip(backup.file, f"it cannot be read ({error.strerror})")
        return None

    def skip(self, file: str, why: str) -> None:
        """Says that a copy is left out."""
        self.skipped.append(f"{self._backups / file}: {why}")

    def entries(self, known: set[str]) -> Iterator[Entry]:
        """The lines of the log but for those that are `known`, by their hashes, and become so one after the other.

        Raises:
            StateReadError: the system is in trouble, or the disk.
        """
        try:
            if not _is_plain(self._log):
                self.skipped.append(f"{self._log}: not a regular file")
                return
            with open(self._log, "rb") as file:
                for number, line in enumerate(file, 1):
                    text = line.strip()
                    made_hash = hashlib.sha1(text, usedforsecurity=False).hexdigest()
                    if text and made_hash not in known:
                        known.add(made_hash)
                        if entry := self._entry(number, text, made_hash):
                            yield entry
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in _OF_THIS_FILE:
                raise _unreadable(self._log, error) from error
            self.skipped.append(f"{self._log}: it cannot be read ({error.strerror})")

    def _entry(self, number: int, text: bytes, made_hash: str) -> Entry | None:
        try:
            # What is not JSON becomes text: the audit trail is for other programs too.
            said = json.loads(text, parse_constant=str)
            if not isinstance(said, dict):
                raise TypeError("not a JSON object")
            time = datetime.fromisoformat(said.pop("timestamp")).astimezone(UTC)
            entry = Entry(time, made_hash, len(text), _line(time, said), said)
            json.dumps(entry[3:], allow_nan=False)
        except KeyError as error:
            why = f"it has no {error.args[0]}"
        except (ValueError, TypeError, OverflowError, OSError, RecursionError) as error:
            why = str(error)
        else:
            return entry
        self.skipped.append(f"{self._log}, line {number}: {why}")
        return None


def ref_name(file: str) -> str:
    """What a copy is called as a named backup: as its file, `%20` and the like for what Git does not allow there.

    A name that would be too long is cut, and ends in a hash of itself.

    Source: git-check-ref-format(1).
    """
    # At the end are a stamp and `.json.bak`, so that only the stem in front can be wrong.
    name = file.removesuffix(".json.bak")
    stem, stamp = name[:-22], name[-22:]
    safe = ""
    for character in stem:
        dots = character == "." and (not safe or safe.endswith("."))
        dash = character == "-" and not safe
        bad = character == " " or not character.isprintable() or _NO_NAME.match(character)
        escaped = "".join(f"%{byte:02X}" for byte in os.fsencode(character))
        safe += escaped if bad or dots or dash else character
    content = safe.encode()
    if len(content) > _MAX_STEM_BYTES:
        digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()[:16]
        cut = content[: _MAX_STEM_BYTES - 17].decode(errors="ignore")
        safe = f"{cut.rstrip('.')}-{digest}"
    return safe + stamp


def _line(time: datetime, said: dict[str, Any]) -> dict[str, Any]:
    """A line of the audit trail; what it has of that is taken out of `said`."""
    operation = said.pop("operation")
    if not isinstance(operation, str) or not operation:
        raise TypeError("operation is not a text")
    success = said.pop("success", not operation.endswith("_rollback"))
    if not isinstance(success, bool):
        raise TypeError("success is neither true nor false")
    if not operation.endswith(("_commit", "_rollback")):
        operation += "_commit" if success else "_rollback"
    number = isinstance(said.get("pid"), int) and not isinstance(said.get("pid"), bool)
    return {
        "timestamp": time.isoformat(timespec="microseconds"),
        "operation": operation,
        "success": success,
        "pid": said.pop("pid") if number else 0,
        "host": said.pop("host") if isinstance(said.get("host"), str) else "",
        "commit": None,
        "details": said.pop("details", {}),
    }


def _is_plain(path: Path) -> bool:
    """Whether it is a file by itself: a link may lead to what is none of ours."""
    return stat.S_ISREG(os.lstat(path).st_mode)


def _unreadable(path: Path, error: OSError) -> StateReadError:
    return StateReadError(
        f"what is to be imported cannot be read: {error.strerror}: {path}. The state is untouched, and what was imported"
        " before stays. Check permissions and disk, and run it again; moved away, it is left out.",
        path=path,
        code="import-unreadable",
    )
