"""Errors: one tree, stable codes, data as attributes that cross process boundaries."""

import pickle
from pathlib import Path

import pytest

import gitstate
from gitstate import (
    Holder,
    PipelineState,
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

PATH = Path("/somewhere/pipeline.json")
HOLDER = Holder(4711, "worker-3", "transaction", "2026-03-01T09:30:00.123+00:00")
PROBLEM = Problem("/phase1", "an object", "'done' (string)")

CODES = {
    StateError: "state",
    StateReadError: "state-unreadable",
    StateValidationError: "invalid",
    StateLockError: "locked",
    StateTransactionError: "transaction",
    StateWriteError: "write",
    StateConflictError: "conflict",
    VersionNotFoundError: "version-not-found",
    VersionPrunedError: "version-pruned",
}
"""Programs compare these: a code never changes."""

EVERY = [
    StateError("m", path=PATH, code="special"),
    StateError("m"),
    StateReadError("m", path=PATH),
    StateValidationError("m", problems=(PROBLEM, PROBLEM), path=PATH, code="schema"),
    StateLockError("m", holder=HOLDER, path=PATH),
    StateTransactionError("m", path=PATH, code="nested"),
    StateWriteError("m", path=PATH, code="flush-failed"),
    StateConflictError("m", path=PATH),
    VersionNotFoundError("m", name="abcd", candidates=("abcd1", "abcd2"), path=PATH, code="x"),
    VersionPrunedError("m", name="41", nearest=50, path=PATH),
]


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (StateReadError, StateError),
        (StateValidationError, StateError),
        (StateLockError, StateError),
        (StateLockError, TimeoutError),
        (StateTransactionError, StateError),
        (StateWriteError, StateTransactionError),
        (StateConflictError, StateTransactionError),
        (VersionNotFoundError, StateError),
        (VersionNotFoundError, LookupError),
        (VersionPrunedError, VersionNotFoundError),
        (StateError, Exception),
    ],
)
def test_the_tree_is_as_promised(error, base):
    assert issubclass(error, base)


@pytest.mark.parametrize("error", [StateReadError, StateValidationError, StateTransactionError])
def test_only_what_is_promised_is_an_error_of_another_kind(error):
    assert not issubclass(error, OSError | LookupError | ValueError)


def test_every_public_error_has_the_one_root():
    public = [getattr(gitstate, name) for name in gitstate.__all__]
    errors = [kind for kind in public if isinstance(kind, type) and issubclass(kind, BaseException)]

    assert set(errors) >= set(CODES)
    assert all(issubclass(kind, StateError) for kind in errors)


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_every_error_has_a_stable_code(kind, code):
    assert kind.code == code
    assert kind("m").code == code
    if kind is not VersionPrunedError:  # it says one thing only
        assert kind("m", code="special").code == "special"
    assert kind.code == code


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_an_error_crosses_process_boundaries_with_its_data(error):
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(error, protocol))

        assert type(copy) is type(error)
        assert str(copy) == "m"
        assert vars(copy) == vars(error)
        assert copy.code == error.code
        assert copy.path == error.path


def test_the_message_is_the_text_of_the_error():
    for error in EVERY:
        assert str(error) == "m"


def test_a_validation_error_points_to_its_first_problem():
    other = Problem("", "something else", "1 (int)")

    assert StateValidationError("m", problems=(PROBLEM, other)).pointer == "/phase1"
    assert StateValidationError("m").pointer == ""
    assert str(PROBLEM) == "at /phase1: an object, got 'done' (string)"
    assert str(other) == "at the top level: something else, got 1 (int)"


def test_a_holder_reads_as_who_where_what_and_since_when():
    assert str(HOLDER) == "pid 4711 on worker-3 (transaction, since 2026-03-01T09:30:00.123+00:00)"
    assert str(Holder(0, "", "", "")) == "a process that the lock file does not name"


def test_errors_of_the_library_itself_can_be_pickled(state: PipelineState, path: Path):
    path.write_text("not json")
    raised: list[Exception] = []
    for attempt in (
        state.read,
        lambda: state.write({"a": {1}}),
        lambda: state.restore_backup("nothing"),
        lambda: PipelineState(path).write({"phase1": 1}),
    ):
        with pytest.raises(StateError) as caught:
            attempt()
        raised.append(caught.value)

    for error in raised:
        copy = pickle.loads(pickle.dumps(error))
        assert (str(copy), vars(copy)) == (str(error), vars(error))
