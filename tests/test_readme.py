"""README.md says what is so: its programs run, its git commands work, its error codes exist."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import recorded
from command import environment, installed

import gitstate
from gitstate import PipelineState
from gitstate.cli import refusal
from gitstate.cli.app import APP, VERBS
from gitstate.cli.session import Session

TOP = Path(__file__).resolve().parents[1]
README = (TOP / "README.md").read_text(encoding="utf-8")
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in TOP.glob("gitstate/**/*.py"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


FIRST, BEFORE, AFTER, EVERY_DAY, MENDING = blocks("python")
SECOND_MACHINE = next(block for block in blocks("sh") if "gitstate clone" in block)
VERBS_AT_WORK = next(block for block in blocks("sh") if "gitstate apply" in block)
COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]
GIT_COMMANDS = [line for line in COMMANDS if line.startswith("git ")]
HOOK_COMMANDS = [line for line in COMMANDS if "hooks install" in line]
SETUP_COMMANDS = [line for line in COMMANDS if line.startswith("python3 ")]
ERROR_ROWS = re.findall(r"^\| *(?:`(State\w+|Version\w+)`)? *\| (`[^|]+) \|", README, re.MULTILINE)
STATUS_ROWS = re.findall(r"^\| \d+ \| (`[^|]+) \|", README, re.MULTILINE)
NAMED_CODES = {
    code
    for cell in [*(cell for _, cell in ERROR_ROWS), *STATUS_ROWS]
    for code in re.findall("`([a-z-]+)`", cell)
}


def run(program: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_first_program_does_what_its_comments_say(tmp_path):
    *versions, last = run(FIRST, tmp_path)[1:]

    assert run("import json; print(json.load(open('pipeline.json')))", tmp_path) == [
        "{'phase1': {'status': 'success', 'metrics': {'total_files': 1}}}"
    ]
    assert [line.split(" ", 2)[::2] for line in versions] == [
        ["2", "chunking begins"],
        ["1", "transaction: phase1"],
    ]
    assert last == "success 3"


def test_the_first_program_prints_the_pointer_of_what_was_refused(tmp_path):
    assert run(FIRST, tmp_path)[0] == "/phase4"


def test_the_first_program_is_about_fifteen_lines():
    assert 12 <= len(FIRST.splitlines()) <= 18


def test_before_and_after_write_the_same_state(tmp_path):
    found = []
    for name, program in (("before", BEFORE), ("after", AFTER)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "pipeline.json").write_text('{"phase1": {"status": "success"}}')
        run(program, folder)
        found.append(json.loads((folder / "pipeline.json").read_text()))

    assert found[0] == found[1] == {f"phase{n}": {"status": "success"} for n in (1, 2)}


def test_the_first_transaction_keeps_an_existing_file_as_version_1(tmp_path):
    (tmp_path / "pipeline.json").write_text('{"phase1": {"status": "success"}}')

    run(AFTER, tmp_path)

    versions = list(PipelineState(tmp_path / "pipeline.json").log())
    assert [v.operation for v in versions] == ["transaction", "external_edit"]
    assert versions[-1].read() == {"phase1": {"status": "success"}}


def test_the_everyday_program_runs(tmp_path):
    run(FIRST, tmp_path)

    lines = run(EVERY_DAY, tmp_path)

    assert lines[0].endswith(" 4")
    assert json.loads(lines[2])[:3] == [6, 5, 4]
    assert lines[3] == "range(1, 1)"
    assert "redo_commit True" in "\n".join(lines[4:])
    assert lines[-1].startswith("True {")


def test_the_mending_program_mends_what_is_damaged(tmp_path):
    run(FIRST, tmp_path)
    (tmp_path / ".pipeline/repo/HEAD").unlink()

    lines = run(MENDING, tmp_path)

    assert "HEAD" in lines[0]
    assert ".pipeline/quarantine/" in lines[1]
    assert run(MENDING, tmp_path) == []


@pytest.fixture
def folder(tmp_path):
    """A folder in which the programs of README have run."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    run(FIRST, tmp_path)
    run(EVERY_DAY, tmp_path)
    PipelineState(tmp_path / "pipeline.json", max_backups=3).prune()  # so that there is an archive
    return tmp_path


def git(command: str, folder: Path) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    done = subprocess.run(
        shlex.split(command), cwd=folder, env=environment, capture_output=True, check=True
    )
    return done.stdout.decode()


def test_every_git_command_works(folder):
    state = PipelineState(folder / "pipeline.json")
    oldest = list(state.log())[-1]
    printed = {line: git(line.replace("3f2a91c", oldest.short_id), folder) for line in GIT_COMMANDS}

    assert len(printed) == len(GIT_COMMANDS) >= 9
    silent = [line for line, text in printed.items() if not text]
    assert [line.split()[2] for line in silent] == ["fsck", "gc", ".pipeline/repo", "--work-tree=."]
    assert state.read() == oldest.read()
    with state.transaction():
        pass
    assert next(state.log()).operation == "external_edit"
    assert state.verify().ok


def shell(line: str, folder: Path) -> str:
    """What a line says to a shell that has `gitstate`."""
    path = os.pathsep.join([os.fspath(installed(folder.parent)), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euc", line],
        cwd=folder,
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout


def test_five_commands_lead_to_a_second_machine(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path / "first"
    folder.mkdir()
    run(FIRST, folder)

    for line in SECOND_MACHINE.splitlines():
        shell(line, folder)

    here, there = (PipelineState(folder / at / "pipeline.json") for at in (".", "second"))
    assert len(SECOND_MACHINE.splitlines()) == 5
    assert [each.id for each in there.log()] == [each.id for each in here.log()]
    assert there.read() == here.read()


def test_the_lines_that_install_hooks_do(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path / "project"
    folder.mkdir()
    run(FIRST, folder)
    git("git init -q", folder)
    git("git init -q --bare ../state.git", folder)

    for line in HOOK_COMMANDS:
        shell(line.replace("/srv/git/", "../"), folder)

    made = {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("p*-*") if each.suffix == ""}
    names = ("pipeline/hooks/post-commit", "git/hooks/pre-commit")
    assert made == {*(f"project/.{name}" for name in names), "state.git/hooks/pre-receive"}


def test_a_terminal_says_what_is_recorded_of_it(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path / "hour"
    folder.mkdir()
    shown = [recorded.masked(block) for block in recorded.blocks()]

    played = [recorded.masked(block) for block in recorded.play(folder)]

    assert played == shown  # python tests/recorded.py writes down what it says now
    assert sum(len(recorded.commands(block)) for block in recorded.blocks()) > 15


def test_the_verbs_at_work_do_what_they_are_shown_to(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    run(FIRST, folder)

    said = {line: shell(line, folder) for line in VERBS_AT_WORK.splitlines()}

    assert json.loads(said["gitstate get /phase2 --json"]) == {"status": "running"}
    assert (
        "~ /phase2" in said["gitstate apply change.json --dry-run"]
        or "+ /phase2" in said["gitstate apply change.json --dry-run"]
    )
    assert json.loads((folder / "speech.json").read_text()) == PipelineState(
        folder / "pipeline.json"
    ).read(at="before-speech")


def test_every_command_that_is_named_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = set(re.findall(r"`(gitstate [^`|]+)`", README)) | {
        line for line in COMMANDS if line.startswith("gitstate ")
    }
    context = APP.make_context("gitstate", [], resilient_parsing=True, obj=Session())
    known = APP.list_commands(context)

    for line in named:
        words = shlex.split(line)[1:]
        if words[0] == "-C":
            del words[:2]
        if words[0] in {"VERB", "--help"}:
            continue
        assert words[0] in known, line
        if len(words) > 1 and "--help" not in words:  # else the verb alone is meant
            command = APP.get_command(context, words[0])
            command.make_context(words[0], words[1:], parent=context).close()
    assert len(named) > 20


def test_the_table_of_verbs_names_each_once():
    table = re.search(r"^\| to \| verbs \|\n.*?\n\n", README, re.MULTILINE | re.DOTALL)[0]

    named = re.findall(r"`([a-z]+)`", table)

    assert sorted(named) == sorted(name for verbs in VERBS.values() for name in verbs)


def test_the_table_of_statuses_has_what_the_command_ends_with():
    rows = dict(re.findall(r"^\| (\d+) \| ((?:`[a-z-]+`(?:, )?)*) ?\|", README, re.MULTILINE))
    known = {
        value for name, value in vars(refusal).items() if name.isupper() and isinstance(value, int)
    }

    assert {int(status) for status in rows} == known | {0}


def test_every_error_and_code_exists():
    errors = [error for error, _ in ERROR_ROWS if error]
    known = set(re.findall(r'code(?:: str)? ?= ?"([a-z-]+)"', SOURCES))

    assert len(errors) == 9
    assert set(errors) <= set(gitstate.__all__)
    assert len(NAMED_CODES) > 30
    assert known >= NAMED_CODES


def test_every_code_that_is_raised_is_in_the_table():
    assert set(re.findall(r'\bcode="([a-z-]+)"', SOURCES)) <= NAMED_CODES


def test_the_two_setup_lines_are_the_ones_that_ci_runs():
    script = (TOP / ".ci" / "run").read_text(encoding="utf-8")
    patterns = re.findall(r"grep -x '([^']+)' README\.md", script)

    found = [line for pattern in patterns for line in COMMANDS if re.fullmatch(pattern, line)]

    assert len(patterns) == 2
    assert found == SETUP_COMMANDS
