"""gitstate: a pipeline's state in one JSON file, every transaction a Git commit.

    >>> from gitstate import PipelineState
    >>> state = PipelineState("pipeline.json")
    >>> with state.transaction() as txn:
    ...     txn.data["phase1"] = {"status": "success"}
    >>> state.read()
    {'phase1': {'status': 'success'}}
    >>> txn.version.serial
    1

Glossary: a *document* is the state as a dict, *content* its bytes in the file. A *record* is one entry of the redo
*journal*; appending it commits a transaction. A *version* is a commit of the hidden repository as users see it, *head*
the newest one, its *serial* 1, 2, 3 ... along the branch. An *edit* is what somebody else wrote into the state file. A
*checkpoint* packs what the journal holds and begins a new *generation* of it. A *prune* forgets the versions from beyond
the *window*, whose lines of the audit trail go into the *archive*.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

from gitstate.first_use import FIRST_USE

if TYPE_CHECKING:
    from gitstate.diff import MISSING, Change
    from gitstate.errors import (
        Holder,
        Problem,
        StateConflictError,
        StateError,
        StateLockError,
        StateReadError,
        StateRemoteError,
        StateTransactionError,
        StateValidationError,
        StateWriteError,
        VersionNotFoundError,
        VersionPrunedError,
    )
    from gitstate.importer import ImportReport
    from gitstate.progress import Progress
    from gitstate.remotes import Remote
    from gitstate.repair import RepairReport
    from gitstate.retention import PruneReport
    from gitstate.schema import PipelineSchema
    from gitstate.state import PipelineState
    from gitstate.sync.contacts import RemoteStatus
    from gitstate.sync.report import PullResult, PushResult, RefUpdate
    from gitstate.sync.reroot import RerootReport
    from gitstate.transaction import StateTransaction
    from gitstate.verify import VerifyReport
    from gitstate.version import Version

__all__ = [
    "MISSING",
    "Change",
    "Holder",
    "ImportReport",
    "PipelineSchema",
    "PipelineState",
    "Problem",
    "Progress",
    "PruneReport",
    "PullResult",
    "PushResult",
    "RefUpdate",
    "Remote",
    "RemoteStatus",
    "RepairReport",
    "RerootReport",
    "StateConflictError",
    "StateError",
    "StateLockError",
    "StateReadError",
    "StateRemoteError",
    "StateTransaction",
    "StateTransactionError",
    "StateValidationError",
    "StateWriteError",
    "VerifyReport",
    "Version",
    "VersionNotFoundError",
    "VersionPrunedError",
]

_HOMES: Final = {
    "MISSING": "diff",
    "Change": "diff",
    "Holder": "errors",
    "ImportReport": "importer",
    "PipelineSchema": "schema",
    "PipelineState": "state",
    "Problem": "errors",
    "Progress": "progress",
    "PruneReport": "retention",
    "PullResult": "sync.report",
    "PushResult": "sync.report",
    "RefUpdate": "sync.report",
    "Remote": "remotes",
    "RemoteStatus": "sync.contacts",
    "RepairReport": "repair",
    "RerootReport": "sync.reroot",
    "StateConflictError": "errors",
    "StateError": "errors",
    "StateLockError": "errors",
    "StateReadError": "errors",
    "StateRemoteError": "errors",
    "StateTransaction": "transaction",
    "StateTransactionError": "errors",
    "StateValidationError": "errors",
    "StateWriteError": "errors",
    "VerifyReport": "verify",
    "Version": "version",
    "VersionNotFoundError": "errors",
    "VersionPrunedError": "errors",
}
"""Where the names are: they are imported when they are asked for, so that nobody waits for what is not used."""


if not TYPE_CHECKING:  # type checkers would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            with FIRST_USE:
                value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
            globals()[name] = value
            return value
        # `import gitstate` is enough for gitstate.diff.to_json_patch, too.
        module = f"{__name__}.{name}"
        if not name.startswith("_"):
            try:
                return import_module(module)
            except ModuleNotFoundError as error:
                if error.name != module:
                    raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
