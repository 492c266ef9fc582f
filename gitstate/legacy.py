"""Legacy: what the state manager that gitstate replaces has left becomes versions, and lines of the audit trail.

    .pipeline/backups/<stem>_YYYYmmdd_HHMMSS_ffffff.json.bak   the state as it was before a write
    .pipeline/transactions.log                                 a JSON object in each line: timestamp, operation, success,
                                                               pid, details

Times without a zone are local ones. Nothing of it is changed or removed. What has been taken in says so in its commit
message, by the name of the file, or by the hash of the line.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gitstate import codec, files
from gitstate.codec import Encoded
from gitstate.draft import ASIDE, DETAILS, IMPORTED, Origin
from gitstate.errors import StateReadError
from gitstate.repository import BRANCH, blob_id, make_blob

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gitstate.draft import Draft
    from gitstate.statefile import Found
    from gitstate.writer import Writer

_STAMP: Final = "%Y%m%d_%H%M%S_%f"
_SUFFIX: Final = re.compile(r"\.json\.bak$")
_SOURCE: Final = "Imported"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import has taken in.

    Attributes:
        versions: how many backups have become versions.
        audit: how many lines of the log have become lines of the audit trail.
        skipped: what could not be used, and why, a line each; it is still where it was.
    """

    versions: int
    audit: int
    skipped: tuple[str, ...]


class _Backup(NamedTuple):
    time: datetime
    name: str
    content: bytes
    encoded: Encoded


class _Line(NamedTuple):
    time: datetime
    name: str
    entry: dict[str, Any]


class Legacy:
    """What is in `folder`, for the state that `writer` writes."""

    def __init__(self, folder: Path, writer: Writer) -> None:
        self._folder = folder
        self._writer = writer
        self._store = writer.store

    def take_in(self, timeout: float | None) -> ImportReport:
        """Commits what has not been taken in yet: below everything in a new store, else aside.

        Raises:
            StateReadError: the system does not let us read a part of it; nothing was changed.
            StateError: as a transaction; nothing was changed.
        """
        skipped: list[str] = []
        found: list[_Backup | _Line] = [*self._backups(skipped), *self._lines(skipped)]
        found.sort(key=lambda each: each.time)
        with self._writer.changing("import", timeout) as state:
            draft = self._store.draft(self._writer.policy.author)
            known = self._known()
            new = list({each.name: each for each in found if each.name not in known}.values())
            if draft.head is None:
                self._add_below(draft, new, state)
            else:
                self._add_aside(draft, new)
            self._writer.commit(draft, state)
        backups = sum(isinstance(each, _Backup) for each in new)
        return ImportReport(backups, len(new) - backups, tuple(skipped))

    def _add_below(self, draft: Draft, new: list[_Backup | _Line], state: Found) -> None:
        """The beginning of the branch; the state as it stands comes on top."""
        before = Encoded(b"{}")
        for each in new:
            if isinstance(each, _Backup):
                keys = each.encoded.difference(before).keys
                blob, before = make_blob(each.content), each.encoded
                extra = {_SOURCE: each.name}
                draft.add_version(blob, "import", keys, extra=extra, origin=_origin(each.time, {}))
            else:
                self._add_line(draft, each)
        if draft.head is None or state.content is None or draft.head.blob == state.blob:
            return
        try:
            document = self._writer.document(state)
        except StateReadError:
            draft.keep_corrupt(state.content)
            return
        now = codec.encoded(document, allow_nan=self._writer.policy.allow_nan)
        operation = "external_edit" if state.foreign else "backup"
        draft.add_version(make_blob(state.content), operation, now.difference(before).keys)

    def _add_aside(self, draft: Draft, new: list[_Backup | _Line]) -> None:
        """Each backup under a name of its own: the branch has begun already."""
        before, parent = Encoded(b"{}"), None
        for each in new:
            if isinstance(each, _Backup):
                keys = each.encoded.difference(before).keys
                blob, before = make_blob(each.content), each.encoded
                name, origin = _SUFFIX.sub("", each.name), _origin(each.time, {})
                extra = {_SOURCE: each.name}
                parent = draft.add_aside(name, blob, keys, parent, extra=extra, origin=origin)
            else:
                self._add_line(draft, each, self._serial_at(each.time))

    def _serial_at(self, moment: datetime) -> int:
        """The number of the version that was current then, 0 before the first."""
        head = self._store.reader.refs().get(BRANCH)
        found = self._store.chain.current_at(head, moment) if head else None
        return found.note.serial if found else 0

    def _add_line(self, draft: Draft, line: _Line, serial: int | None = None) -> None:
        entry = line.entry
        failed = entry.get("success") is False
        suffix = "_rollback" if failed else "_commit"
        extra = {_SOURCE: line.name}
        if (details := entry.get("details")) is not None:
            extra[DETAILS] = json.dumps(details)
        if failed:
            told = details if isinstance(details, dict) else {}
            extra["Error"] = str(told.get("error", ""))
            extra["Reason"] = str(told.get("reason", "")) or "exception"
        operation = str(entry["operation"]).removesuffix(suffix)
        draft.add_event(
            IMPORTED,
            operation,
            (),
            message="",
            extra=extra,
            origin=_origin(line.time, entry, serial),
        )

    def _known(self) -> set[str]:
        """What was taken in before, by its names."""
        refs = self._store.reader.refs()
        chain = self._store.chain
        known = {commit.note.extra.get(_SOURCE, "") for commit in chain.walk(refs.get(IMPORTED))}
        for name, at in refs.items():
            if name.startswith(ASIDE):
                known.add(self._store.repository.commit(at).note.extra.get(_SOURCE, ""))
        head = refs.get(BRANCH)
        for serial in count(1):
            commit = chain.at(head, serial) if head else None
            if commit is None or _SOURCE not in commit.note.extra:
                return known
            known.add(commit.note.extra[_SOURCE])
        return known

    def _backups(self, skipped: list[str]) -> Iterator[_Backup]:
        stem = self._store.layout.state.stem
        pattern = re.compile(rf"{re.escape(stem)}_(\d{{8}}_\d{{6}}_\d{{6}})\.json\.bak")
        allow_nan = self._writer.policy.allow_nan
        folder = self._folder / "backups"
        with _readable(folder):
            names = sorted(os.listdir(folder)) if folder.exists() else []
        for match in filter(None, map(pattern.fullmatch, names)):
            path = folder / match[0]
            with _readable(path):
                content = files.read(path)[0] if path.is_file() else b""
            try:
                time = datetime.strptime(match[1], _STAMP).astimezone(UTC)
                document = codec.decode_foreign(content, allow_nan=allow_nan)
            except (ValueError, OverflowError, OSError, StateReadError) as error:
                skipped.append(f"{path}: {error}")
                continue
            yield _Backup(time, path.name, content, codec.encoded(document, allow_nan=allow_nan))

    def _lines(self, skipped: list[str]) -> Iterator[_Line]:
        path = self._folder / "transactions.log"
        with _readable(path):
            lines = files.read(path)[0].split(b"\n") if path.exists() else []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                time = datetime.fromisoformat(entry["timestamp"]).astimezone(UTC)
                entry["operation"] = str(entry["operation"])
            except (
                ValueError,
                KeyError,
                TypeError,
                OverflowError,
                OSError,
                RecursionError,
            ) as error:
                skipped.append(f"{path}, line {number}: {type(error).__name__}: {error}")
                continue
            yield _Line(time, blob_id(line), entry)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Refuses everything where the system does not let us read a part, which is not to be passed over for damage."""
    try:
        yield
    except OSError as error:
        raise StateReadError(
            f"what is to be imported cannot be read: {error.strerror}: {path}. Nothing was changed. Check its"
            " permissions, and the disk; move it away to import the rest.",
            path=path,
            code="import-unreadable",
        ) from error


def _origin(time: datetime, entry: dict[str, Any], serial: int | None = None) -> Origin:
    pid = entry.get("pid")
    pid = pid if isinstance(pid, int) and pid >= 0 else 0
    return Origin(time, pid, str(entry.get("host", "")), serial)
