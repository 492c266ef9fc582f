"""The command line as a whole: what it finds, what it says and where, what it ends with."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import COMMAND, environment, is_open, refused, run, wait_until

from gitstate import PipelineState
from gitstate.cli.app import APP, VERBS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state of three versions, the phase of which went from nothing to running to success."""
    with PipelineState(tmp_path / "pipeline.json") as state:
        state.write({"phase1": {"files": {}}})
        state.write({"phase1": {"files": {}, "status": "running"}})
        state.write({"phase1": {"files": {}, "status": "success"}})
    return tmp_path


def test_the_help_names_every_verb_and_imports_nothing_of_the_library(tmp_path):
    code = """
        import sys
        from gitstate.cli.app import run
        run(["--help"])
        print(*sys.modules, sep="\\n", file=sys.stderr)
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line.strip() for line in code.splitlines())],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
        cwd=tmp_path,
    )

    loaded = set(done.stderr.split())
    assert all(f"\n  {name} " in done.stdout for verbs in VERBS.values() for name in verbs)
    assert not loaded & {
        "gitstate.state",
        "dulwich",
        "pydantic",
        "pydantic_core",
        "rich",
        "filelock",
    }


@pytest.mark.parametrize("name", [name for verbs in VERBS.values() for name in verbs])
def test_every_verb_is_there_and_says_what_it_does(name):
    context = APP.make_context("gitstate", [], resilient_parsing=True)
    command = APP.get_command(context, name)

    assert command.help
    assert command.help.splitlines()[0].rstrip().endswith((".", ":"))
    for each in (command, *getattr(command, "commands", {}).values()):
        shown = each.get_help(each.make_context(name, [], resilient_parsing=True))
        assert "--json" in shown


def test_a_state_is_found_from_a_folder_below_it(folder):
    below = folder / "a" / "b"
    below.mkdir(parents=True)

    assert run("get", "/phase1/status", cwd=below).out == '"success"\n'


@pytest.mark.parametrize("how", ["before", "behind", "folder", "environment"])
def test_a_state_is_named(how, folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    file = folder / "pipeline.json"
    arguments = {
        "before": ["-C", file, "get", "/phase1/status"],
        "behind": ["get", "/phase1/status", "--state", file],
        "folder": ["-C", folder, "get", "/phase1/status"],
        "environment": ["get", "/phase1/status"],
    }
    variables = {"GITSTATE_STATE": str(file)} if how == "environment" else {}

    assert run(*arguments[how], cwd=elsewhere, env=variables).out == '"success"\n'


def test_where_there_is_no_state_it_says_how_to_make_one(tmp_path):
    assert "gitstate init" in refused(10, "get", cwd=tmp_path)
    assert "-C other.json init" in refused(10, "-C", "other.json", "get", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_options_stand_before_the_verb_and_behind_it_and_add_up(folder):
    assert run("--json", "get", "/phase1", cwd=folder).document["status"] == "success"
    assert run("get", "/phase1", "--json", cwd=folder).document["status"] == "success"
    done = subprocess.run(
        [*COMMAND, "-v", "get", "/nothing", "-v"],
        check=False,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert "Traceback" in done.stderr


def test_an_error_is_a_line_and_with_json_a_document_and_data_is_neither(folder):
    said = refused(1, "get", "/phase1/statsu", cwd=folder)
    assert said.splitlines() == [
        "error: there is no /phase1/statsu",
        "hint: did you mean /phase1/status?",
    ]

    done = run("--json", "get", "/phase1/statsu", cwd=folder, check=False)
    assert done.out == ""
    assert done.error["code"] == "no-such-place"
    assert done.error["status"] == done.status == 1


def test_wrong_usage_is_status_2_and_with_json_a_document(folder):
    assert "did you mean set" in refused(2, "sett", "/a", "1", cwd=folder)
    assert "gitstate get --help" in refused(2, "get", "--nonsense", cwd=folder)
    assert run("get", "--nonsense", "--json", cwd=folder, check=False).error["code"] == "usage"
    assert run(cwd=folder, check=False).status == 2


def test_a_traceback_is_for_those_who_ask_for_it(folder):
    done = run("-vv", "get", "/nothing", cwd=folder, check=False)

    assert done.status == 1
    assert "Traceback" in done.err


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"{", 15), (b"[]", 15), (b'{"a": 1, "a": 2}', 15), (None, 15)],
)
def test_a_damaged_state_is_status_15_and_says_how_to_put_it_back(content, status, folder):
    file = folder / "pipeline.json"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)

    assert "gitstate restore HEAD" in refused(status, "get", cwd=folder)


def test_a_change_against_the_schema_is_status_14_and_names_the_place(folder):
    before = (folder / "pipeline.json").read_bytes()

    assert "/phase1" in refused(14, "set", "/phase1", '"done"', cwd=folder)
    error = run("--json", "set", "/phase1", '"done"', cwd=folder, check=False).error
    assert error["pointer"] == "/phase1"
    assert error["problems"][0]["pointer"] == "/phase1"
    assert (folder / "pipeline.json").read_bytes() == before
    run("--schema", "none", "set", "/phase1", '"done"', cwd=folder)


def test_a_lock_that_somebody_holds_is_status_11_and_names_them(folder):
    with PipelineState(folder / "pipeline.json").transaction(operation="long work"):
        said = refused(11, "--lock-timeout", "0", "set", "/a", "1", cwd=folder)
        error = run(
            "--json", "--lock-timeout", "0", "set", "/a", "1", cwd=folder, check=False
        ).error

    assert "long work" in said
    assert error["holder"]["pid"] == os.getpid()


def test_who_reads_no_further_is_status_141(folder):
    PipelineState(folder / "pipeline.json").write({"phase1": {"long": "x" * 300_000}})

    with subprocess.Popen(
        [*COMMAND, "get"], cwd=folder, env=environment(), stdout=-1, stderr=-1
    ) as process:
        assert process.stdout.read(10)
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(60) == 141
    assert said == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_an_output_that_cannot_be_written_is_told(folder):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "get"],
            check=False,
            cwd=folder,
            env=environment(),
            stdout=full,
            stderr=-1,
            text=True,
        )

    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written: No space left on device\n"


def test_ctrl_c_while_it_waits_for_the_lock_is_status_130_and_changes_nothing(folder):
    before = (folder / "pipeline.json").read_bytes()
    with PipelineState(folder / "pipeline.json").transaction():
        process = subprocess.Popen(
            [*COMMAND, "--lock-timeout", "60", "set", "/a", "1"],
            cwd=folder,
            env=environment(),
            stderr=-1,
            text=True,
        )
        wait_until(lambda: is_open(folder / ".pipeline" / "queue.lock"), process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        said = process.stderr.read()
        process.stderr.close()

    assert said == "interrupted\n"
    assert (folder / "pipeline.json").read_bytes() == before


def test_nothing_of_a_state_takes_hold_of_the_terminal(folder):
    hostile = "\x1b[2J\x9b31m\u202etxt"
    PipelineState(folder / "pipeline.json").write(
        {"phase1": {"errors": [hostile]}, hostile: 1}, message="\x1b]0;owned\x07"
    )

    for verb in ("get", "show", "log", "history", "status", "blame"):
        assert not set("\x1b\x07\x9b\u202e") & set(run(verb, cwd=folder).out)
    assert run("get", "--raw", "/phase1/errors/0", cwd=folder).out == f"{hostile}\n"


def test_what_python_warns_of_is_a_line_as_any_other(folder):
    settings = {"PYTHONWARNINGS": "default"}
    done = run("set", "/phase1/status", '"odd"', "-n", cwd=folder, env=settings)

    assert done.err.startswith("warning: unknown status 'odd' at /phase1/status")
    assert len(done.err.splitlines()) == 1


def test_colours_are_for_terminals_and_for_those_who_ask(folder):
    plain = run("set", "/phase1/status", '"failed"', "-n", cwd=folder).out
    colored = run("--color", "always", "set", "/phase1/status", '"failed"', "-n", cwd=folder).out

    assert "\x1b[" not in plain
    assert "\x1b[" in colored
    assert "\x1b[" not in run("--color=always", "--json", "get", cwd=folder).out


def test_without_the_extra_it_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['rich'] = None; import importlib.util as u; f = u.find_spec;"
        "import gitstate.cli as c; c.find_spec = lambda n: None if n == 'rich' else f(n); c.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        env=environment(),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert done.returncode == 1
    assert done.stderr == ("gitstate: the command line needs rich: pip install 'gitstate[cli]'\n")
