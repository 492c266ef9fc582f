"""Contacts: what came of the last pushes and pulls of each remote, as far as anybody has written it down.

A file for each remote, `contacts/<name>.json` in the store, which is never flushed: what is lost with it is told by the
next contact. Nothing that matters rests on it; what a remote has received, a ref says.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from gitstate import files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitstate.errors import StateRemoteError
    from gitstate.layout import Layout

Activity = Literal["manual", "idle", "waiting", "pushing"]


@dataclass(frozen=True, slots=True)
class RemoteStatus:
    """How things stand with a remote, as of the last contact with it: nobody is asked for it.

    Attributes:
        name: what it is called here.
        url: where it is.
        ahead: how many versions it is not known to have.
        behind: how many versions it was seen to have that are not here.
        theirs: the hash of the newest version that it was seen to have, None for none.
        diverged: whether it was seen to have other versions than are here.
        last_push: when the last push went well, None for never.
        last_pull: the same of a pull.
        last_error: what the last contact failed with, None if it did not.
        pushing: `"manual"`, or what the automatic pushing of this process is at: `"idle"`, `"pushing"`, or `"waiting"`, to try
            again what has failed.
    """

    name: str
    url: str
    ahead: int
    behind: int
    theirs: str | None
    diverged: bool
    last_push: datetime | None
    last_pull: datetime | None
    last_error: str | None
    pushing: Activity


@dataclass(frozen=True, slots=True)
class Contact:
    """What is written down of one remote.

    Attributes:
        pushed: when a push went well last, ISO 8601.
        pulled: the same of a pull.
        error: what the last contact failed with.
        head: where the remote's branch was seen.
        behind: how many versions it had then that were not here.
        diverged: whether they were others than those here.
        names: the named backups that it had, and what they named.
    """

    pushed: str | None = None
    pulled: str | None = None
    error: str | None = None
    head: str | None = None
    behind: int = 0
    diverged: bool = False
    names: dict[str, str] = field(default_factory=dict)


class Contacts:
    """The contacts of the state in `layout`, with the remote `name`."""

    def __init__(self, layout: Layout, name: str) -> None:
        self._path = layout.store / "contacts" / f"{name}.json"

    def read(self) -> Contact:
        """What is written down; nothing, where that cannot be read."""
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            return _sound(json.loads(files.read(self._path)[0]))
        return Contact()

    def went_well(self, *, pulled: bool, head: str | None, names: Mapping[str, str]) -> None:
        """Notes a contact that came to its end: both have the same versions, or the remote has fewer."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        known = replace(self.read(), error=None, head=head, behind=0, diverged=False)
        known = replace(known, pulled=now) if pulled else replace(known, pushed=now)
        self._write(replace(known, names=dict(names)))

    def failed(
        self, error: StateRemoteError, *, behind: int | None = None, diverged: bool = False
    ) -> None:
        """Notes a contact that failed; of one that showed how things stand there, that too."""
        known = replace(self.read(), error=str(error))
        if behind is not None:
            known = replace(known, head=error.theirs, behind=behind, diverged=diverged)
        self._write(known)

    def forget(self) -> None:
        """Takes away what is written down."""
        with contextlib.suppress(OSError):
            files.remove(self._path)

    def _write(self, contact: Contact) -> None:
        # A disk that refuses is no reason for a contact to fail.
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            # In the store itself, where a recovery removes what a killed process has left.
            temporary = self._path.parents[1] / f".{self._path.name}.{files.token()}.tmp"
            try:
                with open(temporary, "wb") as file:
                    file.write(json.dumps(asdict(contact), indent=2).encode() + b"\n")
                os.replace(temporary, self._path)
            finally:
                files.remove(temporary)


def moment(text: str | None) -> datetime | None:
    """The time that was written down."""
    with contextlib.suppress(ValueError, TypeError):
        return datetime.fromisoformat(text) if text else None
    return None


def _sound(row: dict[str, Any]) -> Contact:
    texts = [row.get(key) for key in ("pushed", "pulled", "error", "head")]
    sound = all(each is None or isinstance(each, str) for each in texts)
    if not (sound and isinstance(row["behind"], int) and isinstance(row["names"], dict)):
        raise ValueError("not a contact")
    return Contact(**row)
