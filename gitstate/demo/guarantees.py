"""The sections of the demo: each shows one guarantee at work, and checks it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from gitstate import PipelineState, StateConflictError, StateLockError, StateValidationError
from gitstate.demo.processes import (
    CHUNKS_EACH,
    PATIENCE,
    SIGKILL,
    die_in_commit,
    finish_phase,
    give_word,
    hold_lock,
    output,
    print_phase,
    ready,
    run,
    speak_chunks,
    started,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitstate import Version
    from gitstate.demo.report import Report

_WORKERS: Final = 5


def commit_and_rollback(state: PipelineState, report: Report) -> None:
    """Three phases that succeed, each in a process of its own, and one that fails."""
    phases = ["phase1", "phase2", "phase3"]
    for phase in phases:
        run(finish_phase, state.path, phase)
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
        during = json.loads(run(print_phase, state.path, "phase4"))
        report.show(f"phase4 in the block   {json.dumps(txn.data['phase4'])}")
        report.show(f"read beside it        {json.dumps(during)}")
    after = json.loads(run(print_phase, state.path, "phase4"))
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
    expected = _WORKERS * CHUNKS_EACH
    serial = _newest(state).serial
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(ready(speak_chunks, state.path, number))
            for number in range(1, _WORKERS + 1)
        ]
        for worker in workers:
            give_word(worker)
        done = [worker.wait(PATIENCE) == 0 for worker in workers]
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
    with started(die_in_commit, state.path) as process:
        status = process.wait(PATIENCE)
    report.show(f"process {process.pid} ended with status {status}")
    report.check("killed behind the journal's flush, before the rename", abs(status) == SIGKILL)
    report.show(f"left behind: {', '.join(_temporaries(state)) or 'nothing'}")
    report.check("the file is whole: the version before", state.path.read_bytes() == before)
    seen = json.loads(run(print_phase, state.path, "phase5"))
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
    with ready(hold_lock, state.path) as process:
        try:
            with state.transaction(timeout=0.1):
                pass
        except StateLockError as error:
            holder = error.holder
            report.quote(str(error))
        give_word(process)
        status = process.wait(PATIENCE)
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
        lines = output([*command, "log", "--oneline", "--no-decorate"]).splitlines()
        for line in lines:
            report.show(line)
        report.check("Git has every version", len(lines) == len(versions))
        report.check(
            "git fsck --strict is content",
            not output([*command, "fsck", "--strict", "--no-progress"]),
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


def demonstrate(state: PipelineState, report: Report) -> None:
    """Every section in turn, of which none stops the others."""
    for title, section in _SECTIONS:
        report.section(title)
        try:
            section(state, report)
        except Exception as error:  # noqa: BLE001  whatever it is, a guarantee does not hold; the others are still shown
            report.quote(f"{type(error).__name__}: {error}")
            report.check("the section comes to its end", False)


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
