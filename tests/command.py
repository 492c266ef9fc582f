"""The command `gitstate` as a shell runs it: a process of its own, in a folder of its own, without the user's settings."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "gitstate"]


class Done(NamedTuple):
    """What came of a run."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document on the standard output."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON documents on the standard output, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        """The JSON document on the other one."""
        return json.loads(self.err.splitlines()[-1])["error"]


def environment(**extra: str) -> dict[str, str]:
    """What a newcomer's shell has: no options, no colours, no editor; a package that is found from every folder."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GITSTATE_", "_GITSTATE"))
        and name not in {"NO_COLOR", "COLUMNS", "LINES", "EDITOR", "VISUAL", "PAGER", "LESS"}
    }
    return {**ours, "PYTHONPATH": os.fspath(PACKAGE), "PYTHONWARNINGS": "error", **extra}


def installed(folder: Path) -> Path:
    """A folder for PATH, made in `folder`, in which `gitstate` and `python` are those under test."""
    programs = folder / ".bin"
    programs.mkdir(exist_ok=True)
    for name, more in (("gitstate", " -m gitstate"), ("python", "")):
        program = programs / name
        program.write_text(
            f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(os.fspath(PACKAGE))}\n"
            f'exec {shlex.quote(sys.executable)}{more} "$@"\n'
        )
        program.chmod(0o755)
    return programs


def run(
    *arguments: str | Path,
    cwd: Path,
    given: str = "",
    check: bool = True,
    env: dict[str, str] | None = None,
) -> Done:
    """Runs the command in the folder `cwd`; unless `check` is False it must come to a good end."""
    done = subprocess.run(
        [*COMMAND, *map(os.fspath, arguments)],
        cwd=cwd,
        env=environment(**(env or {})),
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert not check or done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr or "-vv" in arguments, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def refused(status: int, *arguments: str | Path, cwd: Path, given: str = "", **env: str) -> str:
    """Runs what must end with that status and no data; what it says, first a line that says what failed."""
    done = run(*arguments, cwd=cwd, given=given, check=False, env=env)
    assert done.status == status, done
    assert not done.out
    assert done.err.startswith("error: "), done.err
    return done.err
