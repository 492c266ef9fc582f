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

from gitstate.diff import MISSING, Change
from gitstate.errors import (
    Holder,
    Problem,
    StateConflictError,
    StateError,
    StateLockError,
    StateReadError,
    StateTransactionError,
    StateValidationError,
    StateWriteError,
    VersionNotFoundError,
    VersionPrunedError,
)
from gitstate.importer import ImportReport
from gitstate.repair import RepairReport
from gitstate.retention import PruneReport
from gitstate.schema import PipelineSchema
from gitstate.state import PipelineState
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
    "PruneReport",
    "RepairReport",
    "StateConflictError",
    "StateError",
    "StateLockError",
    "StateReadError",
    "StateTransaction",
    "StateTransactionError",
    "StateValidationError",
    "StateWriteError",
    "VerifyReport",
    "Version",
    "VersionNotFoundError",
    "VersionPrunedError",
]
