"""Refusals: what an error is called, what this run ends with because of it, and which command comes next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from gitstate.cli.escapes import typed
from gitstate.cli.views.documents import of_holder
from gitstate.errors import (
    StateConflictError,
    StateError,
    StateLockError,
    StateReadError,
    StateRemoteError,
    StateValidationError,
    VersionNotFoundError,
    VersionPrunedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FAILED: Final = 1
USAGE: Final = 2
DIFFERENT: Final = 3
NO_STATE: Final = 10
LOCKED: Final = 11
CONFLICT: Final = 13
SCHEMA: Final = 14
CORRUPT: Final = 15
REMOTE: Final = 16
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

STATUSES: Final = {
    "backup-name": USAGE,
    "naive-datetime": USAGE,
    "no-history": NO_STATE,
    "no-such-place": FAILED,
    "not-a-patch": USAGE,
    # It is not the schema that it is against.
    "patch": FAILED,
    # The system does not let us read it, or it is not for us to judge: nothing says that it is damaged.
    "state-unreadable": FAILED,
    "store-unreadable": FAILED,
    "store-blocked": FAILED,
    "store-untrusted": FAILED,
    "format-newer": FAILED,
    "import-unreadable": FAILED,
    "history-pruned": FAILED,
}
"""Where the code says more than the kind of the error."""

_KINDS: Final = (
    (StateLockError, LOCKED),
    (StateConflictError, CONFLICT),
    (StateValidationError, SCHEMA),
    (StateReadError, CORRUPT),
    (StateRemoteError, REMOTE),
)

_HINTS: Final = {
    "locked": "gitstate lock says who has it; --lock-timeout 60 waits longer",
    "schema": "gitstate get shows what is there; --schema none checks nothing",
    "backup-name": "gitstate backups lists the names that are taken",
    "state-missing": "gitstate restore HEAD",
    "not-json": "gitstate restore HEAD puts the newest version back; the file as it is stays under refs/corrupt/",
    "not-an-object": "gitstate restore HEAD puts the newest version back",
    "duplicate-key": "gitstate restore HEAD puts the newest version back",
    "journal-damaged": "gitstate repair",
    "object-missing": "gitstate verify, then gitstate repair",
    "object-damaged": "gitstate verify, then gitstate repair",
    "repository-missing": "gitstate repair",
    "branch-missing": "gitstate repair",
    "ref-unreadable": "gitstate repair",
    "ref-moved": "gitstate repair",
    "edited": "gitstate status; then run it again",
    "patch-test": "gitstate get shows what is there; make the patch anew",
    "stale": "gitstate log -n 3 shows what came between",
    "version-not-found": "gitstate log lists the versions, gitstate backups the names",
    "version-pruned": "gitstate log lists what is kept, gitstate history what was done",
    "no-such-remote": "gitstate remote lists them, gitstate remote add NAME URL adds one",
    "remote-exists": "gitstate remote lists them, gitstate remote remove NAME takes it away",
    "remote-ahead": "gitstate pull NAME, then gitstate push NAME",
    "remote-moved": "gitstate pull NAME, then gitstate push NAME",
    "remote-diverged": "gitstate remote -v shows both sides; gitstate clone takes theirs into another folder",
    "remote-shallow": "gitstate reroot, if nobody else has the old hashes",
    "clone-exists": "gitstate clone URL FOLDER; or gitstate remote add NAME URL, then gitstate pull NAME",
    "no-history": "gitstate init",
    "history-pruned": "gitstate export --bundle VERSION FILE bundles one version, gitstate export FOLDER writes all",
}
"""The next command, as the messages of the library name the next call; NAME is the remote that an error is about."""

_NAN: Final = "it holds NaN or an infinity, which --allow-nan lets pass"

_SENTENCE: Final = re.compile(r"(?<=\.) (?=\S)")
_CALL: Final = re.compile(r"\w\([^()]*\)|\b(?:validate|schema|timeout|allow_\w+|max_backups)=\w")

_ATTRIBUTES: Final = (
    "path",
    "pointer",
    "problems",
    "holder",
    "name",
    "candidates",
    "nearest",
    "remote",
    "url",
    "ours",
    "theirs",
)


class Refusal(Exception):  # noqa: N818  it is what the user did not get, not what broke
    """What the command line itself refuses; nothing was changed.

    Attributes:
        status: what the run ends with.
        code: stable, as a `StateError`'s.
        hint: the next command, or what was meant; None for none.
    """

    def __init__(
        self, message: str, *, status: int = FAILED, code: str = "failed", hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.hint = hint


def usage(message: str, *, hint: str | None = None) -> Refusal:
    """The refusal of what was typed, and is no use of the command that there is."""
    return Refusal(message, status=USAGE, code="usage", hint=hint)


def status_of(error: StateError | Refusal) -> int:
    """What a run ends with that `error` has ended."""
    if isinstance(error, Refusal):
        return error.status
    by_kind = next((status for kind, status in _KINDS if isinstance(error, kind)), FAILED)
    return STATUSES.get(error.code, by_kind)


def hint_of(error: StateError) -> str | None:
    """The next command, where there is one."""
    if isinstance(error, VersionPrunedError) and error.nearest:
        return f"version {error.nearest} is kept; gitstate history has the line of this one"
    if isinstance(error, VersionNotFoundError) and error.candidates:
        return "give more digits"
    if isinstance(error, StateValidationError) and error.code == "not-json":
        return None  # it is what was to be stored; the state file has nothing to do with it
    if error.code == "not-json" and _holds_nan(error.path):
        return _NAN
    hint = _HINTS.get(error.code)
    if hint and isinstance(error, StateRemoteError) and error.remote:
        return hint.replace("NAME", typed(error.remote))
    return hint


def document_of(error: StateError | Refusal, status: int) -> dict[str, Any]:
    """The error as JSON: its code, its message, and whatever data it carries."""
    found: dict[str, Any] = {"code": error.code, "status": status, "message": str(error)}
    for name in _ATTRIBUTES:
        value = getattr(error, name, None)
        if name == "holder":
            value = of_holder(value)
        if name == "problems" and value:
            value = [asdict(problem) for problem in value]
        if value:
            found[name] = value if isinstance(value, (dict, list, int)) else _text(value)
    hint = error.hint if isinstance(error, Refusal) else hint_of(error)
    return {"error": {**found, **({"hint": hint} if hint else {})}}


def in_brief(message: str) -> str:
    """The message without the sentences that name a call of the library, for whoever is told the command instead."""
    return " ".join(each for each in _SENTENCE.split(message) if not _CALL.search(each)) or message


def meant(wrong: str, there: Mapping[str, str] | Iterable[str]) -> str | None:
    """A hint at what may have been meant by `wrong`, of what is there; None where nothing is like it.

    Of a mapping the keys are compared, and the values are named.
    """
    near = get_close_matches(wrong, list(there), n=3, cutoff=0.6)
    named = [there[each] for each in near] if isinstance(there, Mapping) else near
    return f"did you mean {' or '.join(map(typed, named))}?" if near else None


def _holds_nan(path: Path | None) -> bool:
    """Whether that is all that is wrong with the file at `path`; None of a version, with which nothing else can be."""
    from gitstate import codec  # noqa: PLC0415  --help does without pydantic

    if path is None:
        return True
    with suppress(OSError, StateReadError):
        codec.decode(path.read_bytes(), allow_nan=True)
        return True
    return False


def _text(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else str(value)
