"""restore, undo, redo: what they show, what they make current, and what they refuse."""

from pathlib import Path

import pytest
from command import refused, run
from oracle import forks
from races import run_behind

from gitstate import PipelineState

DONE = {"phase1": {"files": {"a": {}}, "status": "success"}, "phase2": {"status": "running"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state of three versions, the first of which is called `first`."""
    with PipelineState(tmp_path / "pipeline.json") as state:
        state.write({"phase1": {"files": {}}})
        state.create_backup("first")
        state.write({"phase1": {"files": {"a": {}}, "status": "running"}})
        state.write(DONE)
    return tmp_path


def held(folder: Path) -> dict:
    """The state, and the number of its newest version."""
    with PipelineState(folder / "pipeline.json") as state:
        return state.read() | {"serial": state.version("HEAD").serial}


def test_a_restore_shows_what_it_changes_and_a_dry_run_changes_nothing(folder):
    tried = run("restore", "first", "--dry-run", cwd=folder)
    assert tried.out.splitlines() == [
        '- /phase2          {"status": "running"}',
        '- /phase1/status   "success"',
        "- /phase1/files/a  {}",
    ]
    assert tried.err == ""
    assert held(folder) == DONE | {"serial": 3}

    done = run("restore", "first", "--expect", "HEAD", cwd=folder)
    assert done.out == ""
    assert done.err.startswith(tried.out)
    assert "version 4 (" in done.err
    assert held(folder) == {"phase1": {"files": {}}, "serial": 4}


def test_a_part_is_restored_and_nothing_else_and_json_says_how(folder):
    done = run("restore", "2", "/phase1/status", "--json", cwd=folder).document

    assert done["version"]["serial"] == 4
    assert done["version"]["operation"] == "restore"
    assert done["changes"] == [
        {"op": "replace", "pointer": "/phase1/status", "old": "success", "new": "running"}
    ]
    assert held(folder)["phase2"] == {"status": "running"}

    gone = run("restore", "first", "/phase1/status", "--dry-run", cwd=folder).out
    assert gone == '- /phase1/status  "running"\n'


def test_what_is_current_already_is_not_restored_again(folder):
    file = folder / "pipeline.json"
    with PipelineState(file) as state:
        state.restore_backup("first")
        state.write(DONE)
    assert run("restore", "HEAD", "--json", cwd=folder).document["version"] is None
    assert held(folder)["serial"] == 5

    file.write_text(file.read_text().replace("running", "failed"))
    before = file.read_bytes()
    assert run("restore", "HEAD", "/phase1", cwd=folder).err == "nothing to change\n"
    assert file.read_bytes() == before  # of an edit elsewhere nothing is said


def test_a_state_file_that_is_gone_or_damaged_is_put_back(folder):
    file = folder / "pipeline.json"
    before = file.read_bytes()
    file.unlink()
    tried = run("restore", "HEAD", "--dry-run", cwd=folder)
    assert tried.out.startswith("+ (everything)")
    assert "would be put back" in tried.err
    assert not file.exists()

    file.write_bytes(b"{")
    assert run("restore", "HEAD", cwd=folder).err.startswith(tried.out)
    assert file.read_bytes() == before


@forks
@pytest.mark.parametrize("verb", [["restore", "first"], ["undo"]])
def test_what_came_between_and_goes_as_well_is_shown(folder, verb):
    file = folder / "pipeline.json"
    theirs = DONE | {"phase3": {"status": "success"}}

    done = run_behind(lambda: PipelineState(file).write(theirs), "-C", file, *verb)

    assert done["version"]["serial"] == 5
    gone = {"op": "remove", "pointer": "/phase3", "old": {"status": "success"}}
    assert gone in done["changes"]
    assert "phase3" not in held(folder)


@forks
def test_what_somebody_has_restored_just_then_is_no_change(folder):
    file = folder / "pipeline.json"

    done = run_behind(
        lambda: PipelineState(file).restore_backup("first"), "-C", file, "restore", "first"
    )

    assert (done["version"], done["changes"]) == (None, [])
    assert held(folder)["serial"] == 4


def test_what_cannot_be_restored_says_why_and_changes_nothing(folder):
    before = (folder / "pipeline.json").read_bytes()

    assert "did you mean first?" in refused(1, "restore", "frist", cwd=folder)
    assert "did you mean /phase1/status?" in refused(1, "restore", "2", "/phase1/statu", cwd=folder)
    assert "expected" in refused(13, "restore", "first", "--expect", "2", "--dry-run", cwd=folder)
    assert (folder / "pipeline.json").read_bytes() == before


def test_a_part_goes_only_where_there_is_a_place_for_it(folder):
    PipelineState(folder / "pipeline.json").write({"phase2": {}})

    said = refused(14, "restore", "2", "/phase1/status", cwd=folder)
    assert "is not there any more" in said
    assert "gitstate restore" in said
    assert "phase1" not in held(folder)


def test_an_undo_and_a_redo_show_what_they_change(folder):
    tried = run("undo", "--dry-run", "--json", cwd=folder).document
    assert tried["version"] is None
    assert held(folder) == DONE | {"serial": 3}

    undone = run("undo", "--json", cwd=folder).document
    assert undone["changes"] == tried["changes"]
    assert undone["version"]["operation"] == "undo"
    redone = run("redo", "--expect", "4", cwd=folder).err.splitlines()
    assert '~ /phase1/status  "running" -> "success"' in redone
    assert redone[-1].startswith("version 5 (")
    assert held(folder) == DONE | {"serial": 5}

    assert refused(1, "redo", cwd=folder).startswith("error: there is nothing left to redo\n")
    assert held(folder)["serial"] == 5


def test_an_undo_puts_a_damaged_file_back_before_it_takes_a_change_back(folder):
    (folder / "pipeline.json").write_text('{"phase1": {')

    tried = run("undo", "--dry-run", "--json", cwd=folder).document
    assert [change["pointer"] for change in tried["changes"]] == [""]
    done = run("undo", "--json", cwd=folder).document
    assert (done["version"], done["changes"]) == (None, tried["changes"])
    assert held(folder) == DONE | {"serial": 3}
    assert list((folder / ".pipeline" / "repo" / "refs" / "corrupt").iterdir())
    assert "undo" in run("history", "-n", "1", cwd=folder).out

    assert run("undo", "--json", cwd=folder).document["version"]["serial"] == 4


def test_of_a_change_to_much_the_first_lines_are_shown(folder):
    PipelineState(folder / "pipeline.json").write(DONE | {f"key{n}": n for n in range(25)})

    lines = run("undo", cwd=folder).err.splitlines()

    assert [line[:5] for line in lines[:20]] == ["- /ke"] * 20
    assert lines[20] == "and 5 more: gitstate show 5"
    assert lines[21].startswith("version 5 (")
