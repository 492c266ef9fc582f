"""Reroot: the versions that are kept get new hashes, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from machines import commit, judge_whole, value
from oracle import git, needs_git

from gitstate import PipelineState, RerootReport, VersionPrunedError

pytestmark = needs_git


def pruned(path: Path) -> PipelineState:
    """A state with versions 1 to 9, of which 6 to 9 are kept, and 3 by its name."""
    state = PipelineState(path / "pipeline.json", max_backups=3)
    for number in range(1, 10):
        commit(state, number)
        if number == 3:
            state.create_backup("three")
    state.prune()
    return state


def test_states_numbers_times_and_names_stay_and_hashes_do_not(tmp_path: Path) -> None:
    state = pruned(tmp_path)
    before = list(state.log())
    content = state.path.read_bytes()

    report = state.reroot()

    after = list(state.log())
    assert [(v.serial, v.timestamp, v.message, v.author, v.read()) for v in after] == [
        (v.serial, v.timestamp, v.message, v.author, v.read()) for v in before
    ]
    assert {report.ids[old.id] for old in before} == {new.id for new in after}
    assert after[-1].parents == ()
    assert state.read(at="three")["phase1"]["metrics"]["value"] == 3
    assert state.path.read_bytes() == content
    assert not (state.git_dir / "shallow").exists()
    judge_whole(state)
    git(state, "gc", "--prune=now")
    judge_whole(state)


def test_the_audit_trail_says_which_hash_a_version_had(tmp_path: Path) -> None:
    state = pruned(tmp_path)
    before = state.get_transaction_history(None)

    state.reroot()

    after = state.get_transaction_history(None)
    kept = [line for line in after if "rerooted_from" in line["details"]]
    assert len(after) == len(before) == 9
    assert [line["details"]["rerooted_from"] for line in kept] == [
        line["commit"] for line in before[:4]
    ]
    assert after[4:] == before[4:]


def test_what_was_undone_can_be_redone_behind_it(tmp_path: Path) -> None:
    state = pruned(tmp_path)
    state.undo()

    state.reroot()

    state.redo()
    assert value(state) == 9
    state.undo()
    state.undo()
    assert value(state) == 7


def test_where_nothing_was_pruned_nothing_is_changed(tmp_path: Path) -> None:
    state = PipelineState(tmp_path / "pipeline.json")
    assert state.reroot() == RerootReport()
    commit(state, 1)
    head = next(state.log()).id

    assert state.reroot() == RerootReport()

    assert next(state.log()).id == head


def test_a_dry_run_says_which_hashes_there_would_be_and_changes_nothing(tmp_path: Path) -> None:
    state = pruned(tmp_path)
    before = git(state, "for-each-ref"), sorted(tmp_path.rglob("*"))

    planned = state.reroot(dry_run=True)

    assert (git(state, "for-each-ref"), sorted(tmp_path.rglob("*"))) == before
    assert len(planned.ids) == 5
    assert state.reroot() == planned


def test_a_dry_run_waits_for_nobody(tmp_path: Path) -> None:
    state = pruned(tmp_path)

    with PipelineState(state.path).transaction():
        planned = PipelineState(state.path, timeout=0).reroot(dry_run=True)

    assert state.reroot() == planned


def test_a_second_time_nothing_is_left_to_do(tmp_path: Path) -> None:
    state = pruned(tmp_path)
    state.reroot()
    head = next(state.log()).id

    assert state.reroot() == RerootReport()

    assert next(state.log()).id == head


def test_it_goes_on_as_before(tmp_path: Path) -> None:
    state = pruned(tmp_path)
    state.reroot()
    for number in range(10, 14):
        commit(state, number)

    state.close()

    with pytest.raises(VersionPrunedError):
        state.read(at=6)
    assert [version.serial for version in state.log()] == [13, 12, 11, 10]
    assert [version.serial for version in state.list_backups()] == [12, 11, 10, 3]
    judge_whole(state)
    state.reroot()
    judge_whole(state)


def test_a_repair_behind_it_keeps_the_new_hashes(tmp_path: Path) -> None:
    state = pruned(tmp_path)
    state.reroot()
    before = [version.id for version in state.log()]
    state.close()
    (state.git_dir / "HEAD").unlink()
    (state.git_dir / "refs/heads/main").write_text("12" * 20 + "\n")

    state.repair()

    assert [version.id for version in state.log()] == before
    assert state.read(at="three")["phase1"]["metrics"]["value"] == 3
    judge_whole(state)


def test_an_edit_stays_and_becomes_a_version_behind_it(tmp_path: Path) -> None:
    state = pruned(tmp_path)
    state.path.write_text('{"phase1": {"status": "by hand"}}')

    state.reroot()

    assert state.read() == {"phase1": {"status": "by hand"}}
    commit(state, 10)
    assert [version.operation for version in state.log(2)] == ["transaction", "external_edit"]
    judge_whole(state)
