"""The verb run."""

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from command import COMMAND, environment, is_open, read_until, refused, run, wait_until

from gitstate import PipelineState


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state in which a phase has run before, and failed."""
    with PipelineState(tmp_path / "pipeline.json") as state:
        state.write(
            {
                "phase4": {
                    "metrics": {"kept": 1},
                    "status": "failed",
                    "exit_status": 9,
                    "errors": ["old"],
                },
                "batch_runs": [{"status": "success"}],
            }
        )
    return tmp_path


def state(folder):
    return PipelineState(folder / "pipeline.json")


def test_what_ran_is_recorded_beside_what_is_there(folder):
    script = "read line; echo $line; echo said >&2; cat pipeline.json >during"

    done = run(
        "run", "--under", "/phase4", "-q", "--", "sh", "-c", script, cwd=folder, given="in\n"
    )

    assert (done.out, done.err) == ("in\n", "said\n")
    during = json.loads((folder / "during").read_text())["phase4"]
    assert list(during) == ["metrics", "status", "timestamps"]
    assert (during["status"], list(during["timestamps"])) == ("running", ["start"])
    phase = state(folder).read(validate=True)["phase4"]
    assert (phase["status"], phase["exit_status"]) == ("success", 0)
    assert phase["metrics"] == {"kept": 1}
    assert "errors" not in phase
    times = phase["timestamps"]
    took = datetime.fromisoformat(times["end"]) - datetime.fromisoformat(times["start"])
    assert took.total_seconds() == pytest.approx(times["duration"], abs=0.002)
    end, start, _ = state(folder).log()
    assert start.message == "run sh: running"
    assert end.message.startswith("run sh: success after ")
    assert (start.operation, end.operation) == ("run", "run")
    assert state(folder).get_status_summary()["phases"]["phase4"]["errors"] == 0


def test_a_failure_is_the_commands_own_and_is_recorded_with_an_error(folder):
    command = ["sh", "-c", "exit 3", "--json"]

    done = run("run", "-m", "try", *command, cwd=folder, check=False)

    record = state(folder).read()["runs"]["sh"]
    error = record["errors"][0]
    assert done.status == record["exit_status"] == 3
    assert record["status"] == "failed"
    assert (error["type"], error["message"]) == ("exit", "sh ended with 3")
    assert error["timestamp"] == record["timestamps"]["end"]
    assert done.out == ""
    assert done.err.startswith("version 3 ")  # and no JSON: that option was the command's
    assert "try: ended with 3 after " in done.err


def test_the_command_finds_the_state_and_what_it_writes_there_stays(folder):
    nested = [*COMMAND, "apply", "-", "--json"]
    patch = '{"phase4": {"status": "partial", "metrics": {"new": 2}}}'
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()

    options = ["-C", "../pipeline.json", "--json", "--expect", "1", "--lock-timeout", "0"]
    done = run("run", "--under", "/phase4", *options, "--", *nested, cwd=elsewhere, given=patch)

    assert done.document["version"]["operation"] == "apply"  # its own output
    told = json.loads(done.err.splitlines()[-1])
    assert (told["pointer"], told["version"]["serial"]) == ("/phase4", 4)
    assert told["record"] == state(folder).read()["phase4"]
    assert told["record"]["status"] == "partial"
    assert told["record"]["metrics"] == {"kept": 1, "new": 2}


def test_what_cannot_be_run_ends_as_in_a_shell_and_is_recorded(folder):
    (folder / "text").write_text("no program")

    missing = run("run", "--json", "nonsuch", cwd=folder, check=False)
    refused_ = run("run", "--under", "/batch_runs/-", "./text", cwd=folder, check=False)

    assert (missing.status, missing.error["code"]) == (127, "not-run")
    assert missing.error["message"] == "nonsuch cannot be run: No such file or directory"
    assert refused_.status == 126
    document = state(folder).read()
    assert document["runs"]["nonsuch"]["exit_status"] == 127
    assert document["runs"]["nonsuch"]["status"] == "failed"
    assert [each["status"] for each in document["batch_runs"]] == ["success", "failed"]
    assert document["batch_runs"][1]["exit_status"] == 126


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_reaches_the_command_and_how_that_ended_is_recorded(number, folder):
    command = ["sh", "-c", "echo $$ >pid.new; mv pid.new pid; exec sleep 60"]
    with subprocess.Popen(
        [*COMMAND, "run", "--", *command],
        cwd=folder,
        env=environment(),
        stderr=-1,
        start_new_session=True,
    ) as process:
        wait_until((folder / "pid").exists, process)
        # One that nobody can pass on is sent to the command itself.
        to = int((folder / "pid").read_text()) if number == signal.SIGKILL else process.pid
        os.kill(to, number)
        said = process.communicate(timeout=60)[1]

    assert process.returncode == 128 + number, said
    record = state(folder).read()["runs"]["sh"]
    assert (record["status"], record["exit_status"]) == ("failed", 128 + number)
    assert record["errors"][0]["type"] == ("interrupted" if number == signal.SIGINT else "signal")
    assert number == signal.SIGINT or number.name in record["errors"][0]["message"]


@contextmanager
def on_terminal(folder: Path, *command: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The verb in front of a terminal of its own, and that terminal's other end."""
    master, slave = pty.openpty()
    # The leader of a session takes the first terminal that it opens for its own.
    with subprocess.Popen(
        ["sh", "-c", 'exec "$@" <"$0"', os.ttyname(slave), *COMMAND, "run", *command],
        cwd=folder,
        env=environment(),
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    ) as process:
        os.close(slave)
        yield process, master
    os.close(master)


def test_ctrl_c_on_a_terminal_is_the_commands_who_may_go_on(folder):
    script = (
        """trap 'echo hit; gone=1' INT; trap 'echo passed' TERM; echo ready;"""
        """while test -z "$gone"; do sleep 0.05; done; exit 0"""
    )
    with on_terminal(folder, "sh", "-c", script) as (process, master):
        read_until(b"ready", master)
        os.kill(process.pid, signal.SIGTERM)
        read_until(b"passed", master)  # so it knows that the command has begun
        os.kill(process.pid, signal.SIGINT)  # the terminal would have sent it to the command, too
        os.kill(process.pid, signal.SIGTERM)  # both sides take that behind the other
        assert b"hit" not in read_until(b"passed", master)
        os.write(master, b"\x03")
        read_until(b"version 3", master)
        assert process.wait(60) == 0

    assert state(folder).read()["runs"]["sh"]["status"] == "success"


def test_ctrl_c_while_the_beginning_is_recorded_is_the_end_of_what_has_not_begun(folder):
    hook = folder / ".pipeline" / "hooks" / "post-commit"
    hook.parent.mkdir(mode=0o755)
    hook.write_text("#!/bin/sh\ntouch hooked; while ! test -e go; do sleep 0.05; done\n")
    hook.chmod(0o755)

    with on_terminal(folder, "touch", "ran") as (process, master):
        wait_until((folder / "hooked").exists, process)
        os.write(master, b"\x03")
        read_until(b"^C", master)  # it is shown when it has been sent
        (folder / "go").touch()
        read_until(b"was interrupted", master)
        assert process.wait(60) == 130

    assert not (folder / "ran").exists()
    record = state(folder).read()["runs"]["touch"]
    assert (record["status"], record["exit_status"]) == ("failed", 130)
    assert record["errors"][0]["type"] == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_waits_to_record_an_end(number, folder):
    command = ["sh", "-c", "touch ready; while ! test -e go; do sleep 0.05; done"]
    with subprocess.Popen(
        [*COMMAND, "--lock-timeout", "60", "run", *command],
        cwd=folder,
        env=environment(),
        stderr=-1,
        text=True,
    ) as process:
        wait_until((folder / "ready").exists, process)
        with state(folder).transaction():
            (folder / "go").touch()
            wait_until(lambda: is_open(folder / ".pipeline" / "queue.lock"), process)
            process.send_signal(number)
            said = process.communicate(timeout=30)[1]

    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "warning: the command has ended: success after " in said
        assert "gitstate set --string /runs/sh/status success" in said
        assert said.splitlines()[-1].startswith("interrupted; version 2 (")
    else:
        assert process.returncode == -number
    assert state(folder).read()["runs"]["sh"]["status"] == "running"


def test_a_program_may_be_called_whatever_the_system_lets_it(folder):
    program = folder / os.fsdecode(b"caf\xe9")
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)

    done = run("run", f"./{program.name}", cwd=folder, check=False)

    assert done.status == 3
    record = state(folder).read()["runs"]["caf\\xe9"]
    assert record["errors"][0]["message"] == "caf\\xe9 ended with 3"


@pytest.mark.parametrize(("script", "status"), [("exit 0", 11), ("exit 3", 3)])
def test_an_end_that_cannot_be_recorded_is_told_loudly(script, status, folder):
    command = ["sh", "-c", f"touch ready; while ! test -e go; do sleep 0.05; done; {script}"]
    with subprocess.Popen(
        [*COMMAND, "--lock-timeout", "0", "run", "--under", "/a b", *command],
        cwd=folder,
        env=environment(),
        stderr=-1,
        text=True,
    ) as process:
        wait_until((folder / "ready").exists, process)
        with state(folder).transaction(operation="long work"):
            (folder / "go").touch()
            said = process.communicate(timeout=60)[1]

    assert process.returncode == status
    assert "warning: the command has ended" in said
    assert f"gitstate set --string '/a b/status' {'failed' if status == 3 else 'success'}" in said
    assert "error: " in said
    assert "long work" in said
    assert state(folder).read()["a b"]["status"] == "running"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--under", "/phase4/status"], 1, "there is no object"),
        (["--under", ""], 2, "in a part of the state"),
        (["--under", "/phase4", "--expect", "0"], 1, "no such version: 0"),
        (["--under", "/phase5_5/metrics/coverage/x"], 14, "/phase5_5/metrics/coverage"),
    ],
)
def test_what_cannot_be_recorded_is_not_run(arguments, status, said, folder):
    assert said in refused(status, "run", *arguments, "--", "touch", "ran", cwd=folder)

    assert not (folder / "ran").exists()
    assert len(list(state(folder).log())) == 1


def test_a_dry_run_shows_the_record_and_runs_nothing(folder):
    out = run("run", "--dry-run", "--under", "/phase4", "touch", "ran", cwd=folder).out

    assert '~ /phase4/status       "failed" -> "running"' in out
    assert not (folder / "ran").exists()
    assert len(list(state(folder).log())) == 1
