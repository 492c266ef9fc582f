"""History: the versions of one state, what they are called, what they held, and named backups.

A version is a commit on the branch.
"""

from __future__ import annotations

import contextlib
import re
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from gitstate import pointer as pointers
from gitstate.audit import is_lost
from gitstate.diff import MISSING, diff, find, same
from gitstate.draft import BACKUPS, KEPT, backups_among
from gitstate.errors import StateReadError, VersionNotFoundError, VersionPrunedError
from gitstate.names import HASH, bad_name, check_name, may_be_named
from gitstate.policy import check_count
from gitstate.repository import BRANCH, EMPTY_TREE
from gitstate.trail import AuditTrail
from gitstate.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gitstate.diff import Change
    from gitstate.repository import Commit
    from gitstate.writer import Writer

_HEAD: Final = re.compile(r"HEAD(?:~([0-9]{0,9}))?")


class History:
    """The versions of the state that `writer` writes."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._store = writer.store
        self._trail = AuditTrail(writer.store)

    def log(
        self,
        limit: int | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        operation: str | None = None,
        pointer: str | None = None,
    ) -> Iterator[Version]:
        """Versions newest first: at most `limit`, made at `since` or later, at `until` or earlier, by `operation`.

        With a `pointer` those that changed the value there, for which the order of an object's keys is nothing. Where the
        version before is pruned, one is among them if it has a value there, and changed something below the same top key.

        Raises:
            StateReadError: a commit is missing or damaged; raised when the walk comes to it.
            VersionNotFoundError: a time without a time zone.
            TypeError, ValueError: the pointer, a time or the limit is none.
        """
        limit = check_count(limit, "limit")
        for moment in (since, until):
            check_aware(moment)
        found = self._log(since, until, operation)
        if pointer:
            found = self._changing(found, pointers.split(pointer))
        return islice(found, limit)

    def version(self, name: Version | int | str) -> Version:
        """The version that goes by `name`.

        Raises:
            VersionNotFoundError: there is none, or several begin with that prefix.
        """
        return self.made(self._find(name))

    def current_at(self, moment: datetime) -> Version:
        """The version that was the current one at `moment`.

        Raises:
            VersionNotFoundError: there was none yet, or `moment` has no time zone.
            VersionPrunedError: it is not kept any more.
        """
        check_aware(moment)
        head = self._head()
        found = self._store.chain.current_at(head, moment) if head else None
        if found is not None:
            return self.made(found)
        for line in self._trail.archived(self._store.chain.oldest()):
            if datetime.fromisoformat(line["timestamp"]) <= moment:
                return self.made(self._alone(line, moment.isoformat()))
        raise VersionNotFoundError(
            f"there was no version yet at {moment.isoformat()}. The oldest is the last that log() gives.",
            name=str(moment),
            path=self._store.layout.state,
        )

    def backups(self, limit: int | None, window: int | None) -> list[Version]:
        """Versions before the current one, newest first: `window` of them, then the named ones from beyond."""
        limit = check_count(limit, "limit")
        earlier = islice(self._log(None, None, None), 1, None)
        kept = list(islice(earlier, window if limit is None else min_of(window, limit)))
        seen = {version.id for version in islice(self._log(None, None, None), 1)} | {
            version.id for version in kept
        }
        beyond = sorted(
            {v for v in self.named().values() if v.id not in seen},
            key=lambda v: (v.serial, v.timestamp),
            reverse=True,
        )
        return (kept + beyond)[:limit]

    def named(self) -> dict[str, Version]:
        """The named backups, by their names.

        Raises:
            StateReadError: one is missing or damaged.
        """
        found = {}
        for name, at in self._named().items():
            try:
                found[name] = self.made(self._store.repository.commit(at))
            except StateReadError as error:
                if error.code != "not-a-commit":  # what somebody else put there; verify says so
                    raise
        return found

    def create_backup(self, name: str | None, timeout: float | None) -> Version | None:
        """Commits the state file if it is not the newest version's, and names that version; None without a state.

        Raises:
            StateValidationError: the name cannot be used, or is taken; nothing was changed.
            StateError: as a transaction; nothing was changed.
        """
        if name is not None:
            check_name(name)
        with self._writer.changing("backup", timeout) as found:
            self._writer.document(found)
            draft = self._writer.draft(found)
            self._writer.keep_state(draft, found)
            if draft.head is None:
                return None
            if name is not None:
                if self._store.ref(BACKUPS + name) is not None:
                    raise bad_name(name, "a name that is not taken yet")
                draft.pin(name, draft.head.commit.id)
            self._writer.commit(draft, found)
            return self.made(draft.head.commit)

    def delete_backup(self, name: str, timeout: float | None) -> None:
        """Takes a version's name away.

        Raises:
            VersionNotFoundError: there is no such name; nothing was changed.
            StateError: as a transaction; nothing was changed.
        """
        with self._writer.changing("delete_backup", timeout) as found:
            if not may_be_named(name) or self._store.ref(BACKUPS + name) is None:
                raise self.not_found(name, "The named ones are under refs/backups/")
            draft = self._store.draft(self._writer.policy.author)
            draft.unpin(name)
            self._writer.commit(draft, found)

    def diff(self, a: Version | int | str, b: Version | int | str) -> list[Change]:
        """The changes that lead from version `a` to version `b`."""
        return diff(self.version(a).read(), self.version(b).read())

    def _log(
        self, since: datetime | None, until: datetime | None, operation: str | None
    ) -> Iterator[Version]:
        head = self._head()
        if head is not None and until is not None:
            newest = self._store.chain.current_at(head, until)
            head = newest.id if newest else None
        for commit in self._store.chain.walk(head):
            if since is not None and commit.note.time < since:
                return  # a version is never older than its parent
            if operation is None or commit.note.operation == operation:
                yield self.made(commit)

    def _changing(self, versions: Iterator[Version], parts: list[str]) -> Iterator[Version]:
        """Those that changed the value to which `parts` lead. No state is read where the message tells that one did not."""
        read: tuple[str, object] = "", MISSING
        for version in versions:
            if parts[0] not in version.changed_keys:
                continue
            # The value of the one before is that of the next to be looked at, more often than not.
            try:
                new = read[1] if read[0] == version.id else find(version.read(), parts)
            except VersionPrunedError:
                return  # since we began
            old: object = MISSING
            # Else there is none before, or it is pruned.
            if version.parents and version.serial > self._store.chain.oldest():
                with contextlib.suppress(VersionPrunedError):  # as above
                    before = self.made(self._store.repository.commit(version.parents[0]))
                    old = find(before.read(), parts)
                    read = before.id, old
            if not same(old, new):
                yield version

    def _head(self) -> str | None:
        return self._store.reader.refs().get(BRANCH)

    def made(self, commit: Commit) -> Version:
        """The version that a commit is."""
        return Version.of(commit, self._store, allow_nan=self._writer.policy.allow_nan)

    def _named(self) -> dict[str, str]:
        return backups_among(self._store.reader.refs())

    def _find(self, name: Version | int | str) -> Commit:
        if isinstance(name, Version):
            name = name.id
        if isinstance(name, int) and not isinstance(name, bool):
            return self._by_serial(name)
        if isinstance(name, str):
            named = self._named()
            if name in named:
                return self._store.repository.commit(named[name])
            if match := _HEAD.fullmatch(name):
                steps = 0 if match[1] is None else int(match[1] or 1)
                return self._ancestor(name, steps)
            if HASH.fullmatch(name):
                return self._by_prefix(name)
        raise self.not_found(
            name,
            "A version is named by a Version, a serial (int), a backup's name, HEAD~n, or a hash",
        )

    def _by_serial(self, serial: int) -> Commit:
        head = self._head()
        found = self._store.chain.at(head, serial) if head else None
        if found is None:
            if 0 < serial < self._store.chain.oldest():
                return self._alone(next(self._trail.archived(serial + 1)), serial)
            newest = self._store.repository.commit(head).note.serial if head else 0
            raise self.not_found(serial, f"The serials are 1 to {newest}")
        return found

    def _ancestor(self, name: object, steps: int) -> Commit:
        head = self._head()
        if head is not None:
            newest = self._store.repository.commit(head).note.serial
            found = self._store.chain.at(head, newest - steps)
            if found is not None:
                return found
            if 0 < newest - steps < self._store.chain.oldest():
                return self._alone(next(self._trail.archived(newest - steps + 1)), name)
        raise self.not_found(name, "History does not go back that far")

    def _by_prefix(self, prefix: str) -> Commit:
        prefix = prefix.lower()
        self._store.reader.look()
        found, damage = [], None
        for object_id in self._store.repository.find(prefix):
            try:
                commit = self._store.repository.commit(object_id)
            except StateReadError as error:
                # Else it is a file or a folder of the history, no version.
                if error.code != "not-a-commit":
                    damage = error
                continue
            version = commit.tree != EMPTY_TREE and KEPT not in commit.note.extra
            if version and self._keeps(commit.id, commit.note.serial):
                found.append(commit)
        if len(found) == 1:
            return found[0]
        if found:
            ids = tuple(commit.id for commit in found)
            raise self.not_found(prefix, f"Several versions begin so: {', '.join(ids)}", ids)
        self._refuse_pruned(prefix)  # a power cut may bring back what is left of one
        try:
            if damage is not None:
                raise damage
            raise self.not_found(prefix, "log() lists the versions")
        finally:
            # Else the error and this frame would keep each other, and the files of the store, until a collection.
            del damage

    def kept(self, commit_id: str) -> Commit:
        """The commit of a version that another one names.

        Raises:
            VersionPrunedError: it is not kept any more.
            StateReadError: it is missing or damaged.
        """
        try:
            commit = self._store.repository.commit(commit_id)
        except StateReadError as error:
            if error.code == "object-missing":
                self._refuse_pruned(commit_id)
            raise
        if not self._keeps(commit.id, commit.note.serial):
            self._refuse_pruned(commit_id)
            raise self._store.chain.pruned(commit_id, commit.note.serial)
        return commit

    def _keeps(self, commit_id: str, serial: int) -> bool:
        """Whether a version has not been pruned, though its objects may still be there."""
        return serial >= self._store.chain.oldest() or commit_id in self._named().values()

    def _alone(self, line: dict[str, Any], name: object) -> Commit:
        """The version of a line of the archive, if a name keeps it.

        Raises:
            VersionPrunedError: none does.
            VersionNotFoundError: damage has taken it; code `"version-lost"`.
        """
        if line["commit"] in self._named().values():
            return self._store.repository.commit(line["commit"])
        raise self._gone(line, name)

    def _refuse_pruned(self, prefix: str) -> None:
        for line in self._trail.archived(self._store.chain.oldest()):
            made_id, serial = line["commit"], line["serial"]
            if (made_id or "").startswith(prefix) and not self._keeps(made_id, serial):
                raise self._gone(line, prefix)

    def _gone(self, line: dict[str, Any], name: object) -> VersionNotFoundError:
        chain = self._store.chain
        return (chain.lost if is_lost(line) else chain.pruned)(name, line["serial"])

    def not_found(
        self, name: object, hint: str, candidates: tuple[str, ...] = ()
    ) -> VersionNotFoundError:
        """The error that says so, with a `hint`; `candidates` are the ids of the versions that it could be."""
        what = "an ambiguous version name" if candidates else "no such version"
        return VersionNotFoundError(
            f"{what}: {name!r}: {self._store.layout.state}. Nothing was changed. {hint}.",
            name=str(name),
            candidates=candidates,
            path=self._store.layout.state,
            code="version-ambiguous" if candidates else None,
        )


def check_aware(moment: datetime | None) -> None:
    """Refuses a time that does not say its zone.

    Raises:
        TypeError: it is no datetime.
        VersionNotFoundError: it does not.
    """
    if moment is not None and not isinstance(moment, datetime):
        raise TypeError(f"a moment must be an aware datetime, not {moment!r}")
    if moment is not None and moment.utcoffset() is None:
        raise VersionNotFoundError(
            f"{moment.isoformat()} has no time zone, so it names no moment. Use datetime.now(UTC), or"
            " moment.astimezone().",
            name=str(moment),
            code="naive-datetime",
        )


def min_of(window: int | None, limit: int) -> int:
    """The smaller of a window, None for unlimited, and a limit."""
    return limit if window is None else min(window, limit)
