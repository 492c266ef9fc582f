"""Standing: how a state stands, as far as that can be told: what is damaged keeps nobody from seeing the rest."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gitstate.cli.views import documents
from gitstate.diff import MISSING, same
from gitstate.errors import StateError
from gitstate.schema import summarize

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitstate import PipelineState

_Result = TypeVar("_Result")

_UNUSABLE: Final = {
    "state-missing": "gone",
    "state-unreadable": "unreadable",
    "not-json": "damaged",
    "not-an-object": "damaged",
    "duplicate-key": "damaged",
}


class Standing:
    """How `state` stands at this moment; nothing is changed, nobody waited for or asked.

    Attributes:
        path: the state file.
        begun: whether gitstate has ever written there.
        troubles: why something could not be told; what is in the way of the state itself comes first.
        untold: what that is: `"state"`, `"head"`, `"lock"`, `"remotes"`.
        summary: its phases and the like, as `summarize` has them; None where the file cannot be used.
        keys: its top-level keys.
        head: the newest version, None where there is none, or the history is damaged.
        changed: the top-level keys that have other values in the file than in the newest version.
        file: how the file stands to that: `"clean"`, `"edited"`, `"gone"`, `"damaged"`, `"unreadable"`; `"new"` where there
            is no version, `"unknown"` where that cannot be told.
        holder: who holds the lock, None for nobody.
        remotes: how things stand with each remote.
    """

    def __init__(self, state: PipelineState) -> None:
        self.troubles: list[StateError] = []
        self.untold: list[str] = []
        self.path = state.path
        self.begun = os.path.exists(state.git_dir)  # False where nobody lets us look
        document = self._told("state", state.read)
        self.summary = None if document is None else summarize(document)
        self.keys = list(document or ())
        self.head = self._told("head", lambda: next(state.log(1), None))
        before = None if self.head is None else self._told("head", self.head.read)
        self.changed = _changed(before, document)
        self.file = self._file_against(before)
        self.holder = self._told("lock", state.lock_holder)
        names = [each.name for each in self._told("remotes", state.remotes.list) or ()]
        found = [self._told("remotes", partial(state.remote_status, name)) for name in names]
        self.remotes = [each for each in found if each is not None]

    def as_json(self) -> dict[str, Any]:
        """All of it; `untold` says of what it does not."""
        return {
            "path": str(self.path),
            **(self.summary or {**summarize({}), "phases": None, "runs": None}),
            "keys": self.keys,
            "head": None if self.head is None else documents.of_version(self.head),
            "file": {"status": self.file, "changed_keys": self.changed},
            "lock": documents.of_holder(self.holder),
            "remotes": [documents.of_remote(each) for each in self.remotes],
            "untold": self.untold,
        }

    def _file_against(self, before: dict[str, Any] | None) -> str:
        if self.summary is None:
            return _UNUSABLE.get(self.troubles[0].code, "unknown")
        if self.troubles:
            return "unknown"
        if before is None:
            return "new"
        return "edited" if self.changed else "clean"

    def _told(self, what: str, ask: Callable[[], _Result]) -> _Result | None:
        try:
            return ask()
        except StateError as error:
            self.troubles.append(error)
            self.untold = list(dict.fromkeys([*self.untold, what]))
            return None


def _changed(before: dict[str, Any] | None, now: dict[str, Any] | None) -> list[str]:
    if before is None or now is None:
        return []
    keys = dict.fromkeys([*now, *before])
    return [key for key in keys if not same(before.get(key, MISSING), now.get(key, MISSING))]
