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

import gitstate
from gitstate import PipelineState

TOP = Path(__file__).resolve().parents[1]
README = (TOP / "README.md").read_text(encoding="utf-8")
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in TOP.glob("gitstate/**/*.py"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


FIRST, BEFORE, AFTER, EVERY_DAY, MENDING = blocks("python")
SECOND_MACHINE = next(block for block in blocks("sh") if "P.clone(" in block)
COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]
GIT_COMMANDS = [line for line in COMMANDS if line.startswith("git ")]
HOOK_COMMANDS = [line for line in COMMANDS if "gitstate.hooks" in line]
SETUP_COMMANDS = [line for line in COMMANDS if line.startswith("python3 ")]
ERROR_ROWS = re.findall(r"^\| *(?:`(State\w+|Version\w+)`)? *\| (`[^|]+) \|", README, re.MULTILINE)
NAMED_CODES = {code for _, cell in ERROR_ROWS for code in re.findall("`([a-z-]+)`", cell)}


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


def test_five_commands_lead_to_a_second_machine(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    run(FIRST, tmp_path)
    commands = [shlex.split(line) for line in SECOND_MACHINE.splitlines()]
    programs = {"git": "git", "python": sys.executable}

    for name, *arguments in commands:
        subprocess.run([programs[name], *arguments], cwd=tmp_path, capture_output=True, check=True)

    here, there = (PipelineState(tmp_path / at / "pipeline.json") for at in (".", "second"))
    assert len(commands) == 5
    assert [each.id for each in there.log()] == [each.id for each in here.log()]
    assert there.read() == here.read()


def test_the_lines_that_install_hooks_do(tmp_path):
    places = {".pipeline": ".pipeline", ".git": ".git", "/srv/git/state.git": "state.git"}
    for line in HOOK_COMMANDS:
        _, option, program = shlex.split(line)
        for named, place in places.items():
            (tmp_path / place).mkdir(exist_ok=True)
            program = program.replace(f'"{named}/', f'"{place}/')
        subprocess.run([sys.executable, option, program], cwd=tmp_path, check=True)

    made = {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("p*-*")}
    names = ("pipeline/hooks/post-commit", "git/hooks/pre-commit")
    assert made == {*(f".{name}" for name in names), "state.git/hooks/pre-receive"}


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
