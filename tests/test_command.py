"""The runs that are forks of a process with the command in it are what a shell would have started."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from command import run

from gitstate import PipelineState

TELLS = """
import atexit, json, os, pathlib, signal, sys, threading
from gitstate import PipelineSchema

def told():
    return {
        "argv": sys.argv,
        "cwd": os.getcwd(),
        "environment": dict(os.environb.items()).__repr__(),
        "path": sys.path,
        "files": {fd: os.path.exists(f"/proc/self/fd/{fd}") for fd in range(64)},
        "kinds": [os.fstat(fd).st_mode >> 12 for fd in (1, 2)],
        "streams": [
            (each.encoding, each.errors, each.line_buffering, each.isatty(), each.fileno())
            for each in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "signals": {number: repr(signal.getsignal(number))[:20] for number in range(1, 32)},
        "main": sys.modules["__main__"].__spec__.name,
        "threads": threading.active_count(),
        "warnings": sys.warnoptions,
        "flags": repr(sys.flags),
        "group": os.getpgrp(),
    }

pathlib.Path("told.json").write_text(json.dumps(told()))
atexit.register(pathlib.Path("ended").touch)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state, the schema of which is a module that tells about the process that it is in."""
    PipelineState(tmp_path / "pipeline.json").write({"phase1": {"status": "success"}})
    (tmp_path / "tells.py").write_text(TELLS)
    return tmp_path


def get(folder: Path, **how):
    """A run with that schema, behind one that was the first of the verb."""
    run("get", cwd=folder)
    return run("--schema", "tells:PipelineSchema", "get", cwd=folder, **how)


def test_a_fork_has_and_does_what_a_start_has_and_does(folder):
    seen = []
    for cold in (True, False):
        done = get(folder, cold=cold, env={"SOME": "thing \udcff", "TZ": "Asia/Tokyo"})
        seen.append((done, json.loads((folder / "told.json").read_text())))
        (folder / "ended").unlink()  # what was to be done at the exit

    assert seen[0] == seen[1]
    assert "thing " in seen[0][1]["environment"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_what_ends_a_fork_is_told_as_of_a_start(number, folder):
    with open(folder / "tells.py", "a") as file:
        file.write(f"os.kill(os.getpid(), {number:d})")

    cold, warm = (get(folder, cold=each, check=False) for each in (True, False))

    assert cold == warm
    assert warm.status == (130 if number == signal.SIGINT else -number)


def test_what_python_reads_when_it_starts_is_read(folder):
    done = get(folder, env={"PYTHONIOENCODING": "ascii"})

    assert done.status == 0
    assert json.loads((folder / "told.json").read_text())["streams"][1][0] == "ascii"


def test_what_is_given_may_be_long_and_so_may_what_is_said(folder):
    text = "x" * 1_000_000

    run("set", "/long", "-", cwd=folder, given=json.dumps(text))
    run("set", "/long", "-", cwd=folder, given=json.dumps(text + "y"))

    assert run("get", "--raw", "/long", cwd=folder).out == f"{text}y\n"
    assert run("get", "--raw", "/long", cwd=folder).out == f"{text}y\n"


def test_a_run_that_does_not_end_is_ended(folder, monkeypatch):
    monkeypatch.setattr("command.PATIENCE_SECONDS", 0.5)
    (folder / "tells.py").write_text(
        "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)"
    )
    began = time.monotonic()

    with pytest.raises(TimeoutError):
        get(folder)

    assert time.monotonic() - began < 30
    assert not os.path.exists(f"/proc/{(folder / 'pid').read_text()}")
