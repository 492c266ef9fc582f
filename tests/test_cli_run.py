"""The verb run."""

import json
import os
import pty
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest
from command import COMMAND, environment, refused, run

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
        while not (folder / "pid").exists():
            assert process.poll() is None
        # One that nobody can pass on is sent to the command itself.
        to = int((folder / "pid").read_text()) if number == signal.SIGKILL else process.pid
        os.kill(to, number)
        said = process.communicate(timeout=60)[1]

    assert process.returncode == 128 + number, said
    record = state(folder).read()["runs"]["sh"]
    assert (record["status"], record["exit_status"]) == ("failed", 128 + number)
    assert record["errors"][0]["type"] == ("interrupted" if number == signal.SIGINT else "signal")
    assert number == signal.SIGINT or number.name in record["errors"][0]["message"]


def test_ctrl_c_on_a_terminal_is_the_commands_who_may_go_on(folder):
    master, slave = pty.openpty()
    script = (
        """trap 'echo x >>hits' INT; echo ready; while ! test -e hits; do sleep 0.1; done; exit 0"""
    )
    # The leader of a session takes the first terminal that it opens for its own.
    with subprocess.Popen(
        ["sh", "-c", 'exec "$@" <"$0"', os.ttyname(slave), *COMMAND, "run", "sh", "-c", script],
        cwd=folder,
        env=environment(),
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    ) as process:
        os.close(slave)
        said = b""
        while b"ready" not in said:
            said += os.read(master, 1000)
        os.kill(process.pid, signal.SIGINT)  # the terminal would have sent it to the command, too
        time.sleep(0.5)
        assert not (folder / "hits").exists()
        os.write(master, b"\x03")
        while b"version 3" not in said:
            said += os.read(master, 1000)
        assert process.wait(60) == 0
    os.close(master)

    assert (folder / "hits").read_text() == "x\n"
    assert state(folder).read()["runs"]["sh"]["status"] == "success"


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
        while not (folder / "ready").exists():
            assert process.poll() is None
            time.sleep(0.01)
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
        (["--under", "/phase4", "--expect", "0"], 1, "0"),
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
