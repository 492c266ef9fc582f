"""Compare and swap: a handle that expects a version changes that one, and nothing if the state is another by then."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from oracle import Child, Tell, fork, forks, judge_disk
from wrecks import image

from gitstate import (
    PipelineState,
    StateConflictError,
    StateValidationError,
    VersionNotFoundError,
    VersionPrunedError,
)

Change = Callable[[PipelineState], Any]


def _transaction(state: PipelineState) -> None:
    with state.transaction(operation="swap") as txn:
        txn.data["by"] = "a transaction"


CHANGES: dict[str, Change] = {
    "transaction": _transaction,
    "write": lambda state: state.write({"by": "a write"}),
    "restore": lambda state: state.restore_backup(1),
    "restore a part": lambda state: state.restore_backup(1, pointer="/n"),
    "undo": lambda state: state.undo(),
    "redo": lambda state: state.redo(),
    "create a backup": lambda state: state.create_backup("name"),
    "delete a backup": lambda state: state.delete_backup("first"),
    "import": lambda state: state.import_backups(),
    "reroot": lambda state: state.reroot(),
    "add a remote": lambda state: state.remotes.add("there", "/nowhere"),
}


@pytest.fixture
def three(path: Path) -> PipelineState:
    """A state of which the newest version, 4, is an undo; with a backup, and something to import."""
    state = PipelineState(path, schema=None)
    for number in range(1, 4):
        state.write({"n": number})
    state.create_backup("first")
    state.undo()
    old = path.parent / ".pipeline/backups/pipeline_20250301_120000_000000.json.bak"
    old.parent.mkdir()
    old.write_text("{}")
    return state


def stale(call: Callable[[], Any]) -> str:
    with pytest.raises(StateConflictError) as caught:
        call()
    assert caught.value.code == "stale"
    return str(caught.value)


def refused(state: PipelineState, handle: PipelineState, change: Change) -> str:
    """The message of a refusal that has changed nothing, not even the list of failures."""
    before, trail = image(state.path), state.get_transaction_history(None)
    message = stale(lambda: change(handle))
    assert image(state.path) == before
    assert state.get_transaction_history(None) == trail
    return message


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_is_refused_behind_another_and_names_both_versions(three, change):
    handle = three.expecting("HEAD")
    newest = three.write({"n": "meanwhile"})

    message = refused(three, handle, change)

    assert f"version 4 ({three.version(4)})" in message
    assert f"newest is 5 ({newest})" in message
    judge_disk(three)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_happens_on_the_version_that_is_expected(three, change):
    change(three.expecting("HEAD"))

    judge_disk(three)


def _edit(state: PipelineState) -> None:
    state.path.write_text('{"n": "edited"}')


def _unversioned(state: PipelineState) -> None:
    PipelineState(state.path, backup_before_write=False, schema=None).write({"n": 7})


@pytest.mark.parametrize("change", ["write", "restore", "import"])
@pytest.mark.parametrize(
    "meanwhile",
    [
        _edit,
        _unversioned,
        lambda state: state.path.write_text("damaged"),
        lambda state: state.path.unlink(),
    ],
    ids=["edited", "unversioned", "damaged", "gone"],
)
def test_a_change_is_refused_where_the_file_holds_something_else(three, change, meanwhile):
    handle = three.expecting(4)
    meanwhile(three)

    message = refused(three, handle, CHANGES[change])

    assert refused(three, handle, PipelineState.check_expected) == message
    assert "newest is 4" in message
    assert ("is gone" if not three.path.exists() else "something else") in message


def test_it_can_be_asked_beside_a_writer_whether_a_change_would_be_refused(three):
    handle = three.expecting("HEAD")

    with three.transaction() as txn:
        txn.data["n"] = "meanwhile"
        handle.check_expected()
    refused(three, handle, PipelineState.check_expected)
    three.check_expected()


def test_the_block_of_a_transaction_that_is_refused_does_not_run(three):
    with pytest.raises(StateConflictError), three.expecting(3).transaction():
        raise AssertionError


def test_a_change_is_the_last_that_its_handle_makes(three):
    handle = three.expecting("HEAD")
    version = handle.write({"n": "mine"})

    refused(three, handle, lambda state: state.write({"n": "mine, again"}))

    assert handle.expecting(version).write({"n": "next"}).serial == 6
    assert three.write({"n": "by the handle itself"}).serial == 7


def test_what_fails_for_another_reason_leaves_the_expectation_as_it_is(three):
    handle = PipelineState(three.path).expecting(4)
    with pytest.raises(StateValidationError):
        handle.write({"phases": 1})

    assert handle.write({"n": "valid"}).serial == 5


def test_it_reads_and_keeps_house_whatever_the_state_is(three, path):
    handle = PipelineState(path, max_backups=1, schema=None).expecting(2)

    assert handle.read() == {"n": 2}
    assert handle.undo(dry_run=True).serial == 1
    assert handle.verify().ok
    handle.checkpoint()
    assert handle.prune().versions == range(1, 3)
    path.write_text("damaged")
    assert handle.repair().mended
    assert handle.read() == {"n": 2}
    handle.close()


@pytest.mark.parametrize("name", [9, "no such", "HEAD~9", None])
def test_a_version_that_there_is_not_cannot_be_expected(three, name):
    with pytest.raises(VersionNotFoundError):
        three.expecting(name)


def test_a_version_that_was_pruned_meanwhile_is_stale_for_whoever_holds_it(path):
    state = PipelineState(path, max_backups=0)
    version = state.write({"n": 1})
    state.write({"n": 2})
    state.prune()

    with pytest.raises(VersionPrunedError):
        state.expecting(1)
    refused(state, state.expecting(version), lambda handle: handle.write({"n": 3}))


def test_a_pull_is_a_change(three, git, tmp_path):
    server = tmp_path / "server.git"
    git("init", "-q", "--bare", "-b", "main", server)
    three.remotes.add("origin", server)
    three.push()
    second = PipelineState.clone(server, tmp_path / "second" / "pipeline.json", schema=None)
    second.write({"n": "there"})
    second.push()

    refused(three, three.expecting(3), lambda state: state.pull())
    assert three.expecting(4).pull().versions == 1
    assert three.read() == {"n": "there"}


def _swap(path: Path, name: int, number: int) -> Callable[[Tell], None]:
    def work(tell: Tell) -> None:
        handle = PipelineState(path, timeout=None).expecting(name)
        next(tell.steps())
        try:
            with handle.transaction() as txn:
                txn.data["winner"] = [name, number]
        except StateConflictError as error:
            tell(error.code)
        else:
            tell("won")

    return work


@forks
def test_of_several_processes_that_expect_the_same_exactly_one_wins(path: Path) -> None:
    state = PipelineState(path)
    state.write({"n": 1})

    for round_ in range(1, 4):
        children: list[Child] = [fork(_swap(path, round_, number)) for number in range(5)]
        for child in children:
            child.start()
        said = [child.finish()[0] for child in children]

        assert sorted(said) == ["stale"] * 4 + ["won"]
        assert state.read()["winner"] == [round_, said.index("won")]
        assert state.version("HEAD").serial == round_ + 1
    assert all(line["success"] for line in state.get_transaction_history())
