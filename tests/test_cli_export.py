"""export: versions as files, and nothing that is there replaced unasked."""

import json
import subprocess
from pathlib import Path

import pytest
from command import refused, run

from gitstate import PipelineState

STATES = [{"phase1": {}}, {"phase1": {"status": "running"}}, {"phase1": {"status": "success"}}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state of three versions."""
    with PipelineState(tmp_path / "pipeline.json") as state:
        for document in STATES:
            state.write(document)
    return tmp_path


def test_a_version_is_a_file_and_what_is_there_is_kept(folder):
    file = folder / "out.json"

    assert run("export", "2", "out.json", cwd=folder).out == "out.json\n"
    assert json.loads(file.read_text()) == STATES[1]
    assert "--force" in refused(1, "export", "3", "out.json", cwd=folder)
    found = run("export", "HEAD", "out.json", "--force", "--json", cwd=folder).document
    assert found == {"files": [str(file)]}
    assert json.loads(file.read_text()) == STATES[2]


def test_all_versions_are_files_in_a_folder(folder):
    (folder / "all").mkdir()
    (folder / "all" / "mine.txt").touch()

    names = run("export", "all", cwd=folder).out.splitlines()

    assert [json.loads((folder / name).read_text()) for name in names] == STATES
    assert [Path(name).name[:15] for name in names] == [f"pipeline_00000{n}" for n in (1, 2, 3)]


def test_a_version_that_is_in_the_folder_already_is_replaced_by_whoever_says_so(folder):
    (edited, *_) = run("export", "all", cwd=folder).out.splitlines()
    (folder / edited).write_text("mine")

    assert "3 versions of this state" in refused(1, "export", "all", cwd=folder)
    assert (folder / edited).read_text() == "mine"
    run("export", "all", "--force", cwd=folder)
    assert json.loads((folder / edited).read_text()) == STATES[0]


def test_a_bundle_is_what_git_clones(folder, git):
    run("export", "--bundle", "history.bundle", cwd=folder)

    subprocess.run(["git", "clone", "-q", "history.bundle", "copy"], cwd=folder, check=True)
    assert json.loads((folder / "copy" / "pipeline.json").read_text()) == STATES[2]


def test_a_target_that_cannot_be_meant_is_refused(folder):
    before = set(folder.rglob("*"))

    assert "gitstate export HEAD x.json" in refused(2, "export", "x.json", cwd=folder)
    assert "or is it ./2?" in refused(2, "export", "2", cwd=folder)
    assert "itself" in refused(2, "export", "2", "pipeline.json", "-f", cwd=folder)
    assert set(folder.rglob("*")) == before
