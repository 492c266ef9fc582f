"""The commit message: a subject for people, and fields for programs as the last block of Git trailers.

    transaction: phase1, phase2

    Operation: transaction
    Serial: 41
    Time: 2026-03-01T09:30:00.123456+00:00
    Changed-Keys: ["phase1", "phase2"]
    Pid: 4711
    Host: worker-3

`git log --format='%(trailers)'` and `git interpret-trailers --parse` read them. Text that a user gives can neither end
in a field nor hide one: it stands in paragraphs above the block, and a line of dashes, at which Git would stop reading,
is moved in by a space (PITFALLS D24). `Changed-Keys` is a JSON array, since a key may hold commas and newlines.

Source: git-interpret-trailers(1).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii
from typing import Final

_MAX_SERIAL: Final = 2**48
_SUBJECT_LENGTH: Final = 72
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_SPACES: Final = re.compile(r"[\x00-\x20\x7f\x85\u2028\u2029]+")
_FIELD: Final = re.compile(r"([A-Z][A-Za-z-]*): (.*)")


@dataclass(frozen=True, slots=True)
class Note:
    """What a commit message says, as fields.

    Attributes:
        operation: what was done, one line.
        serial: the version's number; of a failure, the number of the version it happened on; 0 before the first.
        time: aware, microseconds.
        pid: process id of whoever did it.
        host: and their machine.
        changed_keys: top-level keys whose values changed.
        message: the user's own message, `""` for none.
        extra: further fields, one line each.
    """

    operation: str
    serial: int
    time: datetime
    pid: int
    host: str
    changed_keys: tuple[str, ...] = ()
    message: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """The first line of the commit message."""
        if self.message:
            return self.message.partition("\n")[0]
        what = self.extra.get("Error") or ", ".join(map(one_line, self.changed_keys))
        operation = clean_message(self.operation)
        subject = f"{operation}: {what}" if what else operation
        return (
            subject if len(subject) <= _SUBJECT_LENGTH else subject[: _SUBJECT_LENGTH - 3] + "..."
        )


def encode(note: Note) -> bytes:
    """The commit message of `note`."""
    fields = {
        "Operation": note.operation,
        "Serial": str(note.serial),
        "Time": note.time.isoformat(timespec="microseconds"),
        # What json.dumps writes, without the 10 us that it takes to begin.
        "Changed-Keys": f"[{', '.join(map(encode_basestring_ascii, note.changed_keys))}]",
        "Pid": str(note.pid),
        "Host": one_line(note.host),
        **{name: one_line(value) for name, value in note.extra.items()},
    }
    block = "\n".join(f"{name}: {value}" for name, value in fields.items())
    return f"{note.message or note.subject}\n\n{block}\n".encode(errors="backslashreplace")


def decode(content: bytes) -> Note:
    """The note that a commit message holds.

    Raises:
        ValueError: the message is not one that `encode` makes.
    """
    body, _, block = content.decode(errors="replace").rstrip("\n").rpartition("\n\n")
    matches = filter(None, map(_FIELD.fullmatch, block.split("\n")))
    fields: dict[str, str] = {match[1]: match[2] for match in matches}
    try:
        operation, serial = fields.pop("Operation"), int(fields.pop("Serial"))
        time = datetime.fromisoformat(fields.pop("Time"))
        keys = tuple(str(key) for key in json.loads(fields.pop("Changed-Keys")))
        pid, host = int(fields.pop("Pid")), fields.pop("Host")
        aware, utc = time.tzinfo is not None, time.astimezone(UTC)
    except (KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a commit message of gitstate: {error!r}") from error
    if not aware or not 0 <= serial < _MAX_SERIAL:
        raise ValueError("not a commit message of gitstate: no time zone, or a serial out of range")
    return Note(operation, serial, utc, pid, host, keys, body, fields)


def one_line(text: str) -> str:
    """`text` without line breaks and control characters, fit for a field."""
    return _SPACES.sub(" ", text).strip()


def clean_message(text: str) -> str:
    """A user's message, fit to stand above the fields: no control characters, no line that Git takes for a divider."""
    lines = _CONTROL.sub("", text.replace("\r\n", "\n")).strip().split("\n")
    return "\n".join(" " + line if line.startswith("---") else line.rstrip() for line in lines)


def clean_identity(text: str) -> str:
    """A name that Git can parse back: no `<`, `>`, line break or NUL (PITFALLS D24)."""
    return one_line(re.sub(r"[<>]", "", text)).strip(" .,:;\"'") or "unknown"
