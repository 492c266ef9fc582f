"""The processes of the demo: what they run, and how they are started, waited for and given the word."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final
from unittest import mock

from gitstate import PipelineState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGKILL: Final = 9
"""`signal.SIGKILL`, which Windows does not name; there the process ends all the same, with this exit status."""

PATIENCE: Final = 60.0
"""Seconds after which a process that does not end counts as a broken guarantee."""

CHUNKS_EACH: Final = 5
"""Transactions of each process that runs `speak_chunks`."""


def open_state(path: str | os.PathLike[str]) -> PipelineState:
    """A handle that keeps every version and validates nothing."""
    return PipelineState(path, max_backups=None, schema=None)


# -- what they run ------------------------------------------------------------------------------------------------


def finish_phase(path: str, phase: str) -> None:
    """Marks one phase as done, in a transaction."""
    with open_state(path).transaction(operation="finish") as txn:
        txn.data[phase] = {"status": "success", "timestamps": {"end": round(time.time(), 3)}}


def print_phase(path: str, phase: str) -> None:
    """Reads the state and prints one phase of it as JSON."""
    print(json.dumps(open_state(path).read().get(phase)))


def speak_chunks(path: str, worker: str) -> None:
    """Waits for the word, then adds to the one counter that all workers share, a transaction for each chunk."""
    state = open_state(path)
    _wait_for_word()
    for chunk in range(1, CHUNKS_EACH + 1):
        with state.transaction(message=f"speech: chunk {chunk} of worker {worker}") as txn:
            txn.data["phase4"]["metrics"]["spoken"] += 1


def die_in_commit(path: str) -> None:
    """Is killed between the commit point, the journal's flush, and the rename over the state file."""
    replace = os.replace

    def die(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
        """`os.replace`, which the process does not survive for the state file."""
        if os.fspath(target) == path:
            os.kill(os.getpid(), SIGKILL)
        replace(source, target)

    with mock.patch("os.replace", die), open_state(path).transaction(operation="start") as txn:
        txn.data["phase5"] = {"status": "running"}


def hold_lock(path: str) -> None:
    """Keeps a transaction open until it gets the word."""
    with open_state(path).transaction(operation="long-export"):
        _wait_for_word()


def _wait_for_word() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


# -- how they are run ---------------------------------------------------------------------------------------------


def run(function: Callable[..., None], *arguments: object) -> str:
    """What a process prints that runs `function`.

    Raises:
        subprocess.SubprocessError: it failed, or took longer than `PATIENCE` and was killed.
    """
    return output(_command(function, arguments))


def output(command: list[str]) -> str:
    """What a command prints.

    Raises:
        subprocess.SubprocessError: it failed, or took longer than `PATIENCE` and was killed.
    """
    done = subprocess.run(  # noqa: S603  this Python, or git, with arguments of our own
        command,
        stdout=subprocess.PIPE,
        timeout=PATIENCE,
        check=True,
        encoding="utf-8",
        errors="replace",
    )
    return done.stdout


@contextlib.contextmanager
def started(function: Callable[..., None], *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `function`. It does not outlive the block."""
    with subprocess.Popen(  # noqa: S603  this Python with arguments of our own
        _command(function, arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def ready(function: Callable[..., None], *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `function` and waits for the word."""
    with started(function, *arguments) as process:
        if process.stdout is not None:
            process.stdout.readline()
        yield process


def give_word(process: subprocess.Popen[str]) -> None:
    """Lets a process go on that waits for the word."""
    if process.stdin is not None:
        process.stdin.write("go\n")
        process.stdin.flush()


def _command(function: Callable[..., None], arguments: tuple[object, ...]) -> list[str]:
    call = f"import sys; from gitstate.demo import processes; processes.{function.__name__}(*sys.argv[1:])"
    return [sys.executable, "-c", call, *map(str, arguments)]
