"""The command line and hooks: which there are, where they belong, what is there already."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from command import refused, run
from oracle import git_environment, needs_git

from gitstate import PipelineState
from gitstate.cli.verbs import hooks as verbs
from gitstate.hooks import SHIPPED, standing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state, below the top of a Git project whose hooks are in a folder of their own."""
    project = tmp_path / "project"
    place = project / "runs"
    place.mkdir(parents=True)
    for command in (["init", "-q"], ["config", "core.hooksPath", "tools/hooks"]):
        subprocess.run(["git", *command], cwd=project, env=git_environment(), check=True)
    (project / "tools").mkdir()
    PipelineState(place / "other.json").write({"phase1": {}})
    return place


def test_every_hook_that_is_shipped_is_described():
    assert tuple(verbs._HOOKS) == tuple(verbs._NEXT) == SHIPPED


@needs_git
def test_a_hook_is_installed_where_it_belongs(folder):
    store = folder / ".pipeline" / "other.json.d" / "hooks"
    project = folder.parent / "tools" / "hooks"

    planned = run("-C", "other.json", "hooks", "install", "post-commit", "--dry-run", cwd=folder)
    assert planned.out == f"post-commit would be installed: {store / 'post-commit'}\n"
    assert not store.exists()
    done = run("-C", "other.json", "hooks", "install", "post-commit", cwd=folder)
    assert done.out == ""
    assert "GITSTATE_WEBHOOK" in done.err
    assert standing("post-commit", store) == "installed"
    done = run("hooks", "install", "pre-commit", "--json", cwd=folder).document
    assert Path(done["path"]).resolve() == project / "pre-commit"
    assert (done["hook"], done["dry_run"]) == ("pre-commit", False)

    (project / "pre-commit").write_text("#!/bin/sh\n")
    listed = run("hooks", "-C", "other.json", "--json", cwd=folder).document["hooks"]
    assert [row["standing"] for row in listed] == ["installed", "another", None]
    assert listed[0]["folder"] == str(store)
    shown = run("hooks", "list", cwd=folder).out.splitlines()
    assert [line.split()[:2] for line in shown[1:]] == [
        ["post-commit", "-"],
        ["pre-commit", "another"],
        ["pre-receive", "-"],
    ]
    for how in ([], ["--dry-run"]):
        assert "another hook" in refused(1, "hooks", "install", "pre-commit", *how, cwd=folder)
    assert (project / "pre-commit").read_text() == "#!/bin/sh\n"


def test_where_nobody_knows_where_it_belongs_it_is_to_be_named(tmp_path):
    (tmp_path / "pipeline.json").write_text("{}")
    (tmp_path / "HEAD").write_text("ref: refs/heads/main\n")

    assert "state.git/hooks" in refused(2, "hooks", "install", "pre-receive", cwd=tmp_path)
    assert "hooks?" in refused(2, "hooks", "install", "pre-receive", ".", cwd=tmp_path)
    assert "FOLDER" in refused(
        1,
        "hooks",
        "install",
        "pre-commit",
        cwd=tmp_path,
        GIT_CEILING_DIRECTORIES=str(tmp_path.parent),
    )
    assert "gitstate init" in refused(10, "hooks", "install", "post-commit", cwd=tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["HEAD", "pipeline.json"]
