"""A small audiobook pipeline that shows what each guarantee looks like, and checks it.

    python -m gitstate.demo [--state FILE] [--keep]

It works in a temporary folder and with real processes. Exit status: 0 when every guarantee holds, 1 when one does not,
2 when the command line makes no sense. The states are not validated, so that any file will do for `--state`; only the
section about the schema uses one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from gitstate import (
    PipelineState,
    StateConflictError,
    StateLockError,
    StateReadError,
    StateValidationError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gitstate import Version

_WIDTH: Final = 80
_INDENT: Final = "          "
_SIGKILL: Final = 9
"""`signal.SIGKILL`, which Windows does not name; there the process ends all the same, with this exit status."""

_PATIENCE: Final = 60.0
"""Seconds after which a process that does not end counts as a broken guarantee."""

_WORKERS: Final = 5
_CHUNKS_EACH: Final = 5


class Report:
    """Prints what happens, in 80 columns, and counts the guarantees that do not hold."""

    def __init__(self) -> None:
        self.failures = 0
        self._sections = 0

    def section(self, title: str) -> None:
        """Begins a section."""
        self._sections += 1
        print(f"\n{self._sections}. {title}")

    def show(self, line: str) -> None:
        """One line of what can be seen, cut at the edge."""
        room = _WIDTH - len(_INDENT)
        print(_INDENT + (line if len(line) <= room else line[: room - 3] + "..."))

    def quote(self, text: str) -> None:
        """A message, over as many lines as it takes."""
        indent = _INDENT + "| "
        print(
            textwrap.fill(
                text,
                _WIDTH,
                initial_indent=indent,
                subsequent_indent=indent,
                break_on_hyphens=False,
            )
        )

    def check(self, guarantee: str, holds: object) -> None:
        """Says whether a guarantee holds."""
        self.failures += not holds
        print(f"  {'ok' if holds else 'FAILED':<{len(_INDENT) - 2}}{guarantee}")


# -- what the processes run ---------------------------------------------------------------------------------------


def finish_phase(path: str, phase: str) -> None:
    """Marks one phase as done, in a transaction."""
    with _open(path).transaction(operation="finish") as txn:
        txn.data[phase] = {"status": "success", "timestamps": {"end": round(time.time(), 3)}}


def print_phase(path: str, phase: str) -> None:
    """Reads the state and prints one phase of it as JSON."""
    print(json.dumps(_open(path).read().get(phase)))


def speak_chunks(path: str, worker: str) -> None:
    """Waits for the word, then adds to the one counter that all workers share, a transaction for each chunk."""
    state = _open(path)
    _wait_for_word()
    for chunk in range(1, _CHUNKS_EACH + 1):
        with state.transaction(message=f"speech: chunk {chunk} of worker {worker}") as txn:
            txn.data["phase4"]["metrics"]["spoken"] += 1


def die_in_commit(path: str) -> None:
    """Is killed between the commit point, the journal's flush, and the rename over the state file."""
    replace = os.replace

    def die(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
        if os.fspath(target) == path:
            os.kill(os.getpid(), _SIGKILL)
        replace(source, target)

    with mock.patch("os.replace", die), _open(path).transaction(operation="start") as txn:
        txn.data["phase5"] = {"status": "running"}


def hold_lock(path: str) -> None:
    """Keeps a transaction open until it gets the word."""
    with _open(path).transaction(operation="long-export"):
        _wait_for_word()


def _wait_for_word() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


# -- the sections -------------------------------------------------------------------------------------------------


def commit_and_rollback(state: PipelineState, report: Report) -> None:
    """Three phases that succeed, each in a process of its own, and one that fails."""
    phases = ["phase1", "phase2", "phase3"]
    for phase in phases:
        _run(finish_phase, state.path, phase)
    made = list(state.log(len(phases)))[::-1]
    for version in made:
        report.show(_row(version))
    report.check(
        "each transaction is a version, a Git commit",
        [version.changed_keys for version in made] == [(phase,) for phase in phases],
    )
    before, newest = state.path.read_bytes(), _newest(state)
    with contextlib.suppress(MemoryError), state.transaction(operation="speech") as txn:
        txn.data["phase4"] = {"status": "running"}
        raise MemoryError("the voice model does not fit")
    report.check("after an exception the file is as before", state.path.read_bytes() == before)
    report.check("and so are the versions", _newest(state) == newest)
    last = state.get_transaction_history(1)[0]
    report.show(f"{last['operation']}: {last['details'].get('error')}")
    report.check("the failure is in the history", not last["success"])


def isolation(state: PipelineState, report: Report) -> None:
    """A reader beside an open transaction."""
    speech = {"status": "running", "metrics": {"spoken": 0}}
    before = state.read().get("phase4")
    with state.transaction(operation="start") as txn:
        txn.data["phase4"] = speech
        during = json.loads(_run(print_phase, state.path, "phase4"))
        report.show(f"phase4 in the block   {json.dumps(txn.data['phase4'])}")
        report.show(f"read beside it        {json.dumps(during)}")
    after = json.loads(_run(print_phase, state.path, "phase4"))
    report.show(f"read after it         {json.dumps(after)}")
    report.check("a reader waits for no writer, and sees no half of it", during == before)
    report.check("once the block has ended it sees the whole", after == speech)


def versions_and_restore(state: PipelineState, report: Report) -> None:
    """Earlier versions, one of them restored by its hash, and the restore undone."""
    backups, newest, before = state.list_backups(4), _newest(state), state.read()
    for version in backups:
        report.show(_row(version))
    wanted = backups[1]
    report.show(f'restore_backup("{wanted.short_id}")')
    state.restore_backup(wanted.short_id)
    report.check("the state is that version's again", state.read() == wanted.read())
    report.check("committed on top: nothing was rewound", _newest(state).parents == (newest.id,))
    state.undo()
    report.check("a restore can itself be undone", state.read() == before)


def concurrent_processes(state: PipelineState, report: Report) -> None:
    """Five processes that add to one counter at the same time."""
    expected = _WORKERS * _CHUNKS_EACH
    serial = _newest(state).serial
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(_ready(speak_chunks, state.path, number))
            for number in range(1, _WORKERS + 1)
        ]
        for worker in workers:
            _give_word(worker)
        done = [worker.wait(_PATIENCE) == 0 for worker in workers]
    total = state.read()["phase4"]["metrics"]["spoken"]
    made = Counter(line["pid"] for line in state.get_transaction_history(expected))
    for worker in workers:
        report.show(f"process {worker.pid:<8} {made[worker.pid]} versions")
    report.show(f"total            {total} of {expected}")
    report.check("every process has come to its end", all(done))
    report.check("no update is lost", total == expected)
    report.check("each is a version", _newest(state).serial == serial + expected)


def refused_schema(state: PipelineState, report: Report) -> None:
    """A state that does not fit the schema."""
    before = state.path.read_bytes()
    refusal = None
    try:
        with PipelineState(state.path).transaction(operation="finish") as txn:
            txn.data["phase5"] = "done"
    except StateValidationError as error:
        refusal = error
        report.quote(str(error))
    places = [problem.pointer for problem in refusal.problems] if refusal else []
    report.check("what does not fit the schema is refused, and named", "/phase5" in places)
    report.check("and the file is as before", state.path.read_bytes() == before)


def killed_process(state: PipelineState, report: Report) -> None:
    """A process that dies in the middle of its commit, and the read that comes next."""
    before, newest = state.path.read_bytes(), _newest(state)
    with _started(die_in_commit, state.path) as process:
        status = process.wait(_PATIENCE)
    report.show(f"process {process.pid} ended with status {status}")
    report.check("killed behind the journal's flush, before the rename", abs(status) == _SIGKILL)
    report.show(f"left behind: {', '.join(_temporaries(state)) or 'nothing'}")
    report.check("the file is whole: the version before", state.path.read_bytes() == before)
    seen = json.loads(_run(print_phase, state.path, "phase5"))
    report.show(f"the next process that reads sees phase5 as {json.dumps(seen)}")
    report.check("it finished the commit", seen == {"status": "running"})
    report.check("the file has it, and nothing is left behind", _has(state, "phase5", seen))
    report.check("as one version", _newest(state).parents == (newest.id,))
    report.check("verify() finds nothing wrong", state.verify().ok)


def external_edit(state: PipelineState, report: Report) -> None:
    """Somebody's editor, between two transactions and during one."""
    edited = state.read() | {"tts_voice": "typed in by hand"}
    _edit(state, edited)
    with state.transaction(operation="finish") as txn:
        txn.data["phase5"] = {"status": "success"}
    edit, ours = reversed(list(state.log(2)))
    report.show(_row(edit))
    report.show(_row(ours))
    kept = edit.operation == "external_edit" and edit.read() == edited
    report.check("an edit becomes a version of its own", kept)
    report.check("the transaction builds on it", ours.read()["tts_voice"] == edited["tts_voice"])
    edited = state.read() | {"tts_voice": "typed in meanwhile"}
    refused = False
    try:
        with state.transaction(operation="finish") as txn:
            txn.data["phase6"] = {"status": "success"}
            _edit(state, edited)
    except StateConflictError as error:
        refused = True
        report.quote(str(error))
    report.check("an edit during a block is noticed, and stays", refused and state.read() == edited)
    with state.transaction(operation="finish") as txn:
        txn.data["phase6"] = {"status": "success"}
    both = edited | {"phase6": {"status": "success"}}
    report.check("run again, the block starts from the edit", state.read() == both)


def lock_holder(state: PipelineState, report: Report) -> None:
    """A transaction that finds the lock held."""
    holder = None
    with _ready(hold_lock, state.path) as process:
        try:
            with state.transaction(timeout=0.1):
                pass
        except StateLockError as error:
            holder = error.holder
            report.quote(str(error))
        _give_word(process)
        status = process.wait(_PATIENCE)
    known = holder is not None and holder.pid == process.pid and holder.operation == "long-export"
    report.check("who waits in vain is told who holds the lock", known and status == 0)


def the_log(state: PipelineState, report: Report) -> None:
    """All of it, as stock Git shows it."""
    versions = list(state.log())
    git = shutil.which("git")
    if git is None:
        report.show("git is not installed; state.log() gives:")
        for version in versions:
            report.show(_row(version))
    else:
        command = [git, f"--git-dir={state.git_dir}"]
        report.show("git --git-dir=.pipeline/repo log --oneline")
        lines = _output([*command, "log", "--oneline", "--no-decorate"]).splitlines()
        for line in lines:
            report.show(line)
        report.check("Git has every version", len(lines) == len(versions))
        report.check(
            "git fsck --strict is content",
            not _output([*command, "fsck", "--strict", "--no-progress"]),
        )
    report.check("verify() finds nothing wrong", state.verify().ok)


_SECTIONS: Final[tuple[tuple[str, Callable[[PipelineState, Report], None]], ...]] = (
    ("Commit and rollback", commit_and_rollback),
    ("Isolation: a reader beside an open transaction", isolation),
    ("Earlier versions, and restore by hash", versions_and_restore),
    ("Five processes, one counter", concurrent_processes),
    ("A state against the schema", refused_schema),
    ("A process killed in the middle of a commit", killed_process),
    ("An edit by somebody else", external_edit),
    ("A lock that somebody holds", lock_holder),
    ("The log of it all", the_log),
)


# -- the frame ----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo and gives its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m gitstate.demo", description="Shows what gitstate guarantees, and checks it."
    )
    parser.add_argument("--state", type=Path, metavar="FILE", help="use a copy of this state file")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="gitstate-demo-"))
        stack.callback(_leave, folder, keep=options.keep)
        state = stack.enter_context(_open(folder / "pipeline.json"))
        try:
            original = options.state and options.state.read_bytes()
            if original is not None:
                state.path.write_bytes(original)
                state.read()
        except (OSError, StateReadError) as error:
            why = error.strerror if isinstance(error, OSError) else error.__cause__
            parser.error(f"cannot use {options.state}: {why or error}")
        report = Report()
        print(f"gitstate at work in {folder}")
        _demonstrate(state, report)
        if original is not None:
            report.section("The file that was copied")
            report.show(os.fspath(options.state))
            report.check("it is as it was", options.state.read_bytes() == original)
        print(f"\n{_verdict(report)}")
        return 1 if report.failures else 0


def _leave(folder: Path, *, keep: bool) -> None:
    if keep:
        print(f"kept: {folder}")
    else:
        shutil.rmtree(folder)


def _demonstrate(state: PipelineState, report: Report) -> None:
    for title, section in _SECTIONS:
        report.section(title)
        try:
            section(state, report)
        except Exception as error:  # noqa: BLE001  whatever it is, a guarantee does not hold; the others are still shown
            report.quote(f"{type(error).__name__}: {error}")
            report.check("the section comes to its end", False)


def _verdict(report: Report) -> str:
    if report.failures:
        return f"FAILED: {report.failures} of the guarantees above"
    return "ok: every guarantee above holds"


def _open(path: str | os.PathLike[str]) -> PipelineState:
    return PipelineState(path, max_backups=None, schema=None)


def _newest(state: PipelineState) -> Version:
    return next(state.log(1))


def _edit(state: PipelineState, document: dict[str, Any]) -> None:
    state.path.write_text(json.dumps(document, indent=4), encoding="utf-8")


def _row(version: Version) -> str:
    return f"{version.serial:>4}  {version.short_id}  {version.message.splitlines()[0]}"


def _temporaries(state: PipelineState) -> list[str]:
    return [path.name for path in state.path.parent.iterdir() if path.suffix == ".tmp"]


def _has(state: PipelineState, key: str, value: Any) -> bool:
    document = json.loads(state.path.read_text(encoding="utf-8"))
    return bool(document.get(key) == value) and not _temporaries(state)


def _command(function: Callable[..., None], arguments: tuple[object, ...]) -> list[str]:
    call = f"import sys; from gitstate import demo; demo.{function.__name__}(*sys.argv[1:])"
    return [sys.executable, "-c", call, *map(str, arguments)]


def _run(function: Callable[..., None], *arguments: object) -> str:
    """What a process prints that runs `function`."""
    return _output(_command(function, arguments))


def _output(command: list[str]) -> str:
    done = subprocess.run(  # noqa: S603  this Python, or git, with arguments of our own
        command,
        stdout=subprocess.PIPE,
        timeout=_PATIENCE,
        check=True,
        encoding="utf-8",
        errors="replace",
    )
    return done.stdout


@contextlib.contextmanager
def _started(function: Callable[..., None], *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `function`. It does not outlive the block."""
    with subprocess.Popen(  # noqa: S603  this Python with arguments of our own
        _command(function, arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def _ready(function: Callable[..., None], *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `function` and waits for the word."""
    with _started(function, *arguments) as process:
        if process.stdout is not None:
            process.stdout.readline()
        yield process


def _give_word(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        process.stdin.write("go\n")
        process.stdin.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (
        BrokenPipeError
    ):  # who reads it, `head` say, has seen enough; nothing is left to write to at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
