"""The hook `pre-commit`: a project that keeps a state file among its own takes no commit of one that is none."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gitstate.hooks import install, shipped

TOP = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(
    shutil.which("git") is None or sys.platform == "win32", reason="needs git, and runs a script"
)


class Project:
    """A project of its own with a Git repository."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "-q", "-b", "main")

    def run(self, *command: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        who = {
            f"GIT_{role}_{what}": "somebody@example.org"
            for role in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        alone = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C.UTF-8"}
        # The Python that has gitstate is the first of all, as in an environment that is active.
        first = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        return subprocess.run(
            command,
            cwd=self.path,
            env={**kept, **who, **alone, **first, **more},
            capture_output=True,
            text=True,
            check=False,
        )

    def git(self, *arguments: str | Path) -> str:
        done = self.run("git", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stage(self, content: str | bytes, name: str = "pipeline.json") -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", name)

    def commit(self, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run("git", "commit", "-q", "-m", "a change", **more)

    def versions(self) -> int:
        done = self.run("git", "rev-list", "--count", "HEAD")
        return int(done.stdout) if done.returncode == 0 else 0


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path / "project")
    install("pre-commit", made.path / ".git" / "hooks")
    return made


def test_a_state_is_committed(project):
    project.stage('{"phase4": {"status": "success"}}')

    done = project.commit()

    assert (done.returncode, done.stderr) == (0, "")
    assert project.versions() == 1


@pytest.mark.parametrize(
    ("content", "because"),
    [
        ("", "not strict JSON"),
        ("<<<<<<< HEAD\n{}\n", "not strict JSON"),
        ('{"n": NaN}', "NaN"),
        ('{"n": 1, "n": 2}', "duplicate key 'n'"),
        ("[]", "not an object"),
        ('{"n": 1e999}', "1e999"),
        (b'{"n": "\xff"}', "not UTF-8"),
        ('{"n": "\\ud800"}', "surrogate"),
        ('{"n": ' * 100_000, "too deep"),
        ('{"phase4": "done"}', "/phase4"),
    ],
)
@pytest.mark.parametrize("name", ["pipeline.json", "deep/er \u00e9/pipeline.json"])
def test_what_is_no_state_is_not_committed(content, because, name, project):
    project.stage(content, name)

    done = project.commit()

    assert done.returncode == 1
    assert because in done.stderr
    assert name in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert project.versions() == 0


def test_what_is_staged_is_looked_at_and_not_what_lies_there(project):
    project.stage('{"n": 1}')
    (project.path / "pipeline.json").write_text("half")
    assert project.commit().returncode == 0

    project.stage("half")
    (project.path / "pipeline.json").write_text('{"n": 2}')
    assert project.commit().returncode == 1
    assert project.versions() == 1


def test_other_files_are_none_of_its_concern(project):
    project.stage("half", "notes.json")
    project.stage("half", "not-pipeline.json")
    assert project.commit().returncode == 0

    project.stage("{}")
    assert project.commit().returncode == 0
    project.git("rm", "-q", "pipeline.json")
    assert project.commit().returncode == 0


def test_a_link_is_no_state(project):
    (project.path / "pipeline.json").symlink_to("/etc/passwd")
    project.git("add", "pipeline.json")

    assert "regular file" in project.commit().stderr
    assert project.versions() == 0


def test_the_files_can_be_given(project):
    project.stage("half", "a.json")
    project.stage("half", "b c.json")
    project.stage("{}", "good.json")

    done = project.run(shipped("pre-commit"), "a.json", "b c.json", "good.json", "unknown.json")

    assert done.returncode == 1
    found = [line.split(": ")[0:2] for line in done.stderr.splitlines()]
    assert found == [["gitstate", name] for name in ("a.json", "b c.json", "unknown.json")]


def test_the_files_name_can_be_set(project):
    project.git("config", "gitstate.file", "data.json")
    project.stage("half", "data.json")

    assert project.commit().returncode == 1


def test_a_schema_of_the_teams_own_can_be_set(project, tmp_path):
    (tmp_path / "ours.py").write_text(
        "import pydantic\nclass Ours(pydantic.BaseModel):\n    n: int\n    phase4: str\n"
    )
    project.git("config", "gitstate.schema", "ours:Ours")
    project.stage('{"n": "many", "phase4": "done"}')
    done = project.commit(PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "/n" in done.stderr

    project.stage('{"n": 1, "phase4": "done"}')
    assert project.commit(PYTHONPATH=str(tmp_path)).returncode == 0
    project.stage('{"n": 2, "phase4": "done"}')
    done = project.commit()
    assert done.returncode == 1
    assert "ours" in done.stderr


def test_free_form_states_can_be_asked_for(project):
    project.git("config", "gitstate.schema", "none")
    project.stage('{"phase4": "done"}')

    done = project.commit()

    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_status_is_told_and_let_through(project):
    project.stage('{"phase4": {"status": "sleeping"}}')

    done = project.commit()

    assert done.returncode == 0
    assert "sleeping" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_where_gitstate_is_not_installed_it_says_so_and_checks_the_json(project, tmp_path):
    (tmp_path / "gitstate.py").write_text("raise ImportError('not here')\n")
    missing = {"PYTHONPATH": str(tmp_path)}
    project.stage('{"phase4": "done"}')

    done = project.commit(**missing)

    assert done.returncode == 0
    assert "JSON" in done.stderr
    assert len(done.stderr.splitlines()) == 1

    project.stage("half")
    assert project.commit(**missing).returncode == 1


def test_the_line_for_pre_commit_runs_the_hook(project):
    # As https://pre-commit.com does: the entry, split as a shell does, in an environment with the package.
    lines = (TOP / ".pre-commit-hooks.yaml").read_text().splitlines()
    settings = dict(line.strip(" -").split(": ", 1) for line in lines if ": " in line)
    entry = shlex.split(settings["entry"])
    assert settings["language"] == "python"
    project.stage("half", "bad.json")
    project.stage("{}", "good.json")

    assert project.run(*entry, "good.json").returncode == 0
    done = project.run(*entry, "good.json", "bad.json")
    assert done.returncode == 1
    assert "bad.json" in done.stderr
