"""The command `gitstate` as a shell runs it: a process of its own, in a folder of its own, without the user's settings.

`run` starts the first run of each verb, and whatever wants another Python, with a Python of its own; the others are forks
of one that has imported the command already: `warm.py`.
"""

import atexit
import contextlib
import functools
import json
import os
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from gitstate.cli.app import VERBS

PACKAGE = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "gitstate"]
PATIENCE_SECONDS = 60

_NAMES = {name for verbs in VERBS.values() for name in verbs}
_READ_AT_THE_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_")
"""What the variables begin with that a Python reads when it starts, and never again."""


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
    cold: bool = False,
) -> Done:
    """Runs the command in the folder `cwd`; unless `check` is False it must come to a good end.

    It is a process of its own in any case: with `cold` one that has imported nothing, even where a fork would do.
    """
    words, variables = [os.fspath(each) for each in arguments], environment(**(env or {}))
    if cold or not _warm().will_do(words, variables):
        done = _start(words, cwd, given, variables)
    else:
        done = _warm().run(words, cwd, given, variables)
    assert not check or done.status == 0, done.err
    assert "Traceback" not in done.err or "-vv" in arguments, done.err
    return done


def wait_until(so: Callable[[], bool], process: subprocess.Popen[Any] | None = None) -> None:
    """Waits for what a process, which must not end before, is about to do."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not so():
        assert process is None or process.poll() is None, process
        assert time.monotonic() < until, f"not in {PATIENCE_SECONDS} s"
        time.sleep(0.01)


def read_until(wanted: bytes, descriptor: int) -> bytes:
    """What comes by that descriptor until `wanted` is in it."""
    said = b""
    until = time.monotonic() + PATIENCE_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while wanted not in said:
            assert selector.select(until - time.monotonic()), (
                f"not in {PATIENCE_SECONDS} s: {said!r}"
            )
            more = os.read(descriptor, 1000)
            assert more, said
            said += more
    return said


def is_open(path: Path) -> bool:
    """Whether another process has that file open."""
    links = (
        link for link in Path("/proc").glob("[0-9]*/fd/*") if link.parts[2] != str(os.getpid())
    )
    for link in links:
        with contextlib.suppress(OSError):
            if link.readlink() == path:
                return True
    return False


def refused(status: int, *arguments: str | Path, cwd: Path, given: str = "", **env: str) -> str:
    """Runs what must end with that status and no data; what it says, first a line that says what failed."""
    done = run(*arguments, cwd=cwd, given=given, check=False, env=env)
    assert done.status == status, done
    assert not done.out
    assert done.err.startswith("error: "), done.err
    return done.err


def _start(words: list[str], cwd: Path, given: str, variables: dict[str, str]) -> Done:
    done = subprocess.run(
        [*COMMAND, *words],
        cwd=cwd,
        env=variables,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    return Done(done.returncode, done.stdout, done.stderr)


class _Warm:
    """The process that has imported the command."""

    def __init__(self) -> None:
        self._variables = environment()
        self._started: set[str] = set()
        self._socket, theirs = socket.socketpair()
        with theirs:
            # Pipes, as a run has: how a stream is buffered Python decides when it starts.
            self._process = subprocess.Popen(
                [sys.executable, PACKAGE / "tests" / "warm.py"],
                cwd="/",
                env=self._variables,
                stdin=theirs,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        self._answers = self._socket.makefile("rb")

    def will_do(self, words: list[str], variables: dict[str, str]) -> bool:
        """Whether a fork does what a start would: not for the first run of a verb, nor with other settings of Python."""
        verb = next(filter(_NAMES.__contains__, words), "")
        is_first = verb not in self._started
        self._started.add(verb)
        return not is_first and _of_the_start(variables) == _of_the_start(self._variables)

    def run(self, words: list[str], cwd: Path, given: str, variables: dict[str, str]) -> Done:
        """Runs the command as a fork of it."""
        asked = {"arguments": words, "cwd": os.fspath(cwd), "environment": variables}
        (out, to_out), (err, to_err) = os.pipe(), os.pipe()
        with tempfile.TemporaryFile() as stdin:
            stdin.write(given.encode())
            stdin.seek(0)
            socket.send_fds(self._socket, [b"."], [stdin.fileno(), to_out, to_err])
        os.close(to_out)
        os.close(to_err)
        self._socket.sendall(json.dumps(asked).encode() + b"\n")
        pid = int(self._answers.readline())
        try:
            said = _read(out, err)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise
        finally:
            status = int(self._answers.readline())
        return Done(status, *said)

    def end(self) -> None:
        """Has nobody ask any more, and waits for its end."""
        self._answers.close()
        self._socket.close()
        self._process.communicate()


@functools.cache
def _warm() -> _Warm:
    warm = _Warm()
    atexit.register(warm.end)
    return warm


def _of_the_start(variables: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name.startswith(_READ_AT_THE_START)}


def _read(*ends: int) -> list[str]:
    """What comes by each of these pipes, until they are closed.

    Raises:
        TimeoutError: that takes too long.
    """
    contents = dict.fromkeys(ends, b"")
    until = time.monotonic() + PATIENCE_SECONDS
    with selectors.DefaultSelector() as selector:
        for end in ends:
            selector.register(end, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(until - time.monotonic())
            if not ready:
                raise TimeoutError(f"no end in {PATIENCE_SECONDS} s: {contents}")
            for key, _ in ready:
                more = os.read(key.fd, 1 << 16)
                contents[key.fd] += more
                if not more:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return [content.decode() for content in contents.values()]
