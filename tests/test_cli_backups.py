"""backup, backups: names that keep versions, and the list of what can be restored."""

import re
from pathlib import Path

import pytest
from command import refused, run
from oracle import forks
from races import run_behind

from gitstate import PipelineState


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state of six versions, of which 4 to 6 are kept, and 1, called `first`."""
    with PipelineState(tmp_path / "pipeline.json", max_backups=2) as state:
        for number in range(6):
            state.write({"number": number}, message=f"the {number}.\nand more")
            if not number:
                state.create_backup("first")
    return tmp_path


def names(folder: Path) -> dict[str, int]:
    """The named backups, and the numbers of their versions."""
    state = PipelineState(folder / "pipeline.json")
    return {name: version.serial for name, version in state.named_backups().items()}


def test_backups_lists_what_can_be_restored_and_what_it_is_called(folder):
    rows = run("backups", cwd=folder).out.splitlines()
    found = run("backups", "--limit", "3", "--json", cwd=folder).document["backups"]

    assert rows[0].split() == ["version", "hash", "when", "name", "message"]
    assert [row.split()[0] for row in rows[1:]] == ["5", "4", "1"]
    assert re.search(r" first +the 0\.$", rows[-1].rstrip())
    assert [(row["serial"], row["names"]) for row in found] == [(5, []), (4, []), (1, ["first"])]
    assert found[0]["timestamp"].endswith("Z")


def test_a_backup_keeps_the_newest_version_by_a_name(folder):
    file = folder / "pipeline.json"
    tried = run("backup", "before-speech", "--dry-run", "--json", cwd=folder).document
    assert tried["made"] is False
    assert names(folder) == {"first": 1}

    assert "version 6 (" in run("backup", "before-speech", "--expect", "6", cwd=folder).err
    assert names(folder) == {"first": 1, "before-speech": 6}

    file.write_text('{"number": 7}')
    edited = run("backup", "edited", "--json", cwd=folder).document
    assert edited["made"] is True
    assert edited["version"]["operation"] == "external_edit"
    assert names(folder)["edited"] == 7


def test_a_name_that_is_taken_is_refused_by_a_dry_run_too(folder):
    assert "first" in refused(2, "backup", "first", "--dry-run", cwd=folder)
    assert names(folder) == {"first": 1}


def test_a_name_is_taken_away_and_asks_where_the_version_goes_with_it(folder):
    assert "did you mean first?" in refused(1, "backup", "--delete", "frist", cwd=folder)
    assert "--yes" in refused(2, "backup", "--delete", "first", cwd=folder)
    assert names(folder) == {"first": 1}

    done = run("backup", "--delete", "first", "--yes", "--json", cwd=folder).document
    assert (done["deleted"], done["version"]["serial"], done["forgotten"]) == ("first", 1, True)
    assert names(folder) == {}
    PipelineState(folder / "pipeline.json").create_backup("newest")
    assert "stays" in run("backup", "--delete", "newest", cwd=folder).err


def test_it_asks_where_the_version_is_listed_still_and_would_go_with_the_next_prune(tmp_path):
    with PipelineState(tmp_path / "pipeline.json", max_backups=1) as state:
        state.write({"number": 0})
        state.create_backup("first")
        state.remotes.add("origin", tmp_path / "nowhere.git")
        for number in range(1, 4):
            state.write({"number": number})
    state.remotes.remove("origin")
    assert [version.serial for version in state.log()] == [4, 3, 2, 1]

    assert "--yes" in refused(2, "backup", "--delete", "first", cwd=tmp_path)
    tried = run("backup", "--delete", "first", "--dry-run", "--json", cwd=tmp_path).document
    assert tried["forgotten"] is True
    assert "goes with it" in run("backup", "--delete", "first", "--yes", cwd=tmp_path).err
    assert [version.serial for version in state.log()] == [4, 3]


@pytest.mark.parametrize("how", [[], ["--dry-run"], ["--json"]])
def test_where_there_is_nothing_to_keep_nothing_is_said_to_be_kept(tmp_path, how):
    (tmp_path / "pipeline.json").symlink_to("elsewhere.json")

    done = run("backup", "before-speech", *how, cwd=tmp_path, check=False)

    assert done.status == 10
    assert "nothing to keep" in done.err
    assert not done.out


@forks
def test_a_version_that_came_between_is_kept_and_not_said_to_be_made_for_that(folder):
    file = folder / "pipeline.json"

    done = run_behind(lambda: PipelineState(file).write({"n": 7}), "-C", file, "backup", "theirs")

    assert done["made"] is False
    assert names(folder)["theirs"] == done["version"]["serial"] == 7
