"""Run: a command, and a record of how it went."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from gitstate import pointer as pointers
from gitstate.cli import options, times
from gitstate.cli.arguments.place import PointerName, parts_of, put_at
from gitstate.cli.process.child import Child, signal_of, status_without
from gitstate.cli.proposal import propose
from gitstate.cli.refusal import Refusal, document_of, status_of, usage
from gitstate.cli.views import documents
from gitstate.cli.views.entries import line_of
from gitstate.errors import StateError

if TYPE_CHECKING:
    from gitstate.cli.session import Session


@options.verb("run", context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--under",
    metavar="POINTER",
    type=PointerName(),
    help="Where it is recorded; /runs/PROGRAM unless given.",
)
@options.message
@options.expect
@options.dry_run
@click.pass_obj
def run(
    session: Session,
    /,
    command: tuple[str, ...],
    under: str | None,
    message: str | None,
    **how: Any,
) -> None:
    """Run COMMAND and record how it went.

    \b
      gitstate run --under /phase4 -- python speak.py
      gitstate run -- make all

    One version says that it is running, another how it ended: status (success or failed), timestamps (start, end, and
    duration in seconds), exit_status, and for a failure an item of errors. What else is there stays. A command that has
    put a status of its own there, and ends well, keeps it. The lock is free while it runs, and GITSTATE_STATE names the
    state for it.

    It ends with the command's own status: 128 + n for signal n, 127 where it is not found, 126 where it cannot be run.
    If the end cannot be recorded, it fails even if the command did not. With --json the record is a line on the
    standard error: the output is the command's.
    """  # noqa: D301  what click has for a paragraph that stays as it is
    # A name of other bytes than UTF-8 is none that a document could hold.
    program = os.fsencode(os.path.basename(command[0])).decode("utf-8", "backslashreplace")
    record = _Record(program, under)
    subject = message or f"run {program}"
    if how["dry_run"]:
        propose(session, record.begin, operation="run", **how)
        return
    with session.changing(how["expect"]) as state:
        with contextlib.ExitStack() as signals:
            with state.transaction(operation="run", message=f"{subject}: running") as txn:
                txn.data = record.begin(txn.data)
                # Before the commit: no signal is to leave a version behind that says "running" of what never ran.
                child = signals.enter_context(Child())
            end = _run(child, command, {"GITSTATE_STATE": os.fspath(state.path)})
        _record(session, record, end, subject)
    if end.kind == "not-run":
        raise Refusal(f"{program} {end.failure}", status=end.exit_status, code="not-run")
    raise click.exceptions.Exit(end.exit_status)


class _End(NamedTuple):
    """How a command ended.

    Attributes:
        start: when it began.
        took: the seconds until then.
        exit_status: as a shell gives it.
        kind: of the failure, `""` where there is none.
        failure: what became of it, to be read behind its name.
    """

    start: datetime
    took: float
    exit_status: int
    kind: str
    failure: str

    def __str__(self) -> str:
        return f"{self.failure or 'success'} after {times.duration(self.took)}"


class _Record:
    """The record of one run, at its place in a document."""

    def __init__(self, program: str, under: str | None) -> None:
        self._program = program
        self._parts = ["runs", program] if under is None else parts_of(under)
        if not self._parts:
            raise usage("a run is recorded in a part of the state")

    @property
    def pointer(self) -> str:
        """Where it is; with the number of the item, once an array has it."""
        return pointers.join(self._parts)

    def begin(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document, in which the command is running, and nothing is left of the run before."""
        record = self._in(document)
        record["status"] = "running"
        record["timestamps"] = {"start": times.exact(datetime.now(UTC))}
        for name in ("exit_status", "errors"):
            record.pop(name, None)
        return document

    def end(self, document: dict[str, Any], end: _End) -> dict[str, Any]:
        """The document, in which the command has ended so."""
        record = self._in(document)
        at = times.exact(end.start + timedelta(seconds=end.took))
        if end.exit_status or record.get("status", "running") == "running":
            record["status"] = "failed" if end.exit_status else "success"
        record["timestamps"] = {
            "start": times.exact(end.start),
            "end": at,
            "duration": round(end.took, 3),
        }
        record["exit_status"] = end.exit_status
        if end.failure:
            errors = record.get("errors")
            error = {"type": end.kind, "message": f"{self._program} {end.failure}", "timestamp": at}
            record["errors"] = [*(errors if isinstance(errors, list) else ()), error]
        return document

    def _in(self, document: dict[str, Any]) -> dict[str, Any]:
        """The record as it is in the document; an empty one, put there, where there is none.

        Raises:
            Refusal: there is something else, or no place for it.
        """
        found = None
        with contextlib.suppress(LookupError):
            found = pointers.get(document, self._parts)
        if found is None:
            found = {}
            put_at(document, self._parts, found, parents=True)
            if self._parts[-1] == "-":
                items = pointers.get(document, self._parts[:-1])
                self._parts[-1] = str(len(items) - 1) if isinstance(items, list) else "-"
        if not isinstance(found, dict):
            raise Refusal(
                f"at {self.pointer} there is no object, which a run could be recorded in",
                code="no-such-place",
                hint="--under POINTER names another place",
            )
        return found


def _run(child: Child, command: tuple[str, ...], variables: dict[str, str]) -> _End:
    """Runs the command to its end."""
    start, clock = datetime.now(UTC), time.monotonic()
    try:
        status = child.run(command, env={**os.environ, **variables})
    except OSError as error:
        took, what = time.monotonic() - clock, f"cannot be run: {error.strerror}"
        return _End(start, took, status_without(error), "not-run", what)
    return _End(start, time.monotonic() - clock, status, *_reason(child, status))


def _reason(child: Child, status: int) -> tuple[str, str]:
    """What kind of failure that status is, and what became of the command; empty for a success."""
    if not status:
        return "", ""
    if child.interrupted:
        return "interrupted", "was interrupted"
    name = signal_of(status)
    return ("exit", f"ended with {status}") if name is None else ("signal", f"was ended by {name}")


def _record(session: Session, record: _Record, end: _End, subject: str) -> None:
    """Records the end.

    Raises:
        StateError, Refusal: that cannot be done, and the command itself has not failed.
        KeyboardInterrupt: it was ended by Ctrl-C, whatever the command has done.
    """
    output = session.output
    txn = session.state.transaction(operation="run", message=f"{subject}: {end}")
    try:
        with session.changing(), txn:
            txn.data = record.end(txn.data, end)
    except (StateError, Refusal, KeyboardInterrupt) as error:
        if not txn.committed:
            status = "failed" if end.exit_status else "success"
            place = shlex.quote(f"{record.pointer}/status")
            output.warn(
                f"the command has ended: {end}; and this is not recorded: {record.pointer} says that it is running."
                f" gitstate set --string {place} {status} puts it right"
            )
        if isinstance(error, KeyboardInterrupt) or not end.exit_status:
            raise
        output.error(document_of(error, status_of(error)))
        return
    if output.json:
        version = None if txn.version is None else documents.of_version(txn.version)
        found = pointers.get(txn.data, parts_of(record.pointer))
        shown = {"pointer": record.pointer, "version": version, "record": found}
        output.beside({"dry_run": False, **shown})
    elif txn.version is not None:
        output.note(line_of(txn.version))
