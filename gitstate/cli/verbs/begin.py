"""Beginning: init, import."""

from __future__ import annotations

from dataclasses import asdict
from shlex import quote
from typing import TYPE_CHECKING, Final

import click
from click.core import ParameterSource

from gitstate.cli import options
from gitstate.cli.output import counted
from gitstate.cli.progress import progress_bar
from gitstate.cli.refusal import Refusal, status_of, usage
from gitstate.cli.views import documents
from gitstate.cli.views.entries import called
from gitstate.errors import StateReadError, StateValidationError
from gitstate.layout import DEFAULT_MAX_BACKUPS

if TYPE_CHECKING:
    from pathlib import Path

    from gitstate import ImportReport, PipelineState, Version
    from gitstate.cli.session import Session


_BEGUN: Final = "{} has a history already, nothing was changed"

max_backups = click.option(
    "--max-backups",
    type=options.Count(),
    help="How many earlier versions a new state keeps; 50 unless given.",
)


@options.verb("init")
@click.argument("file", type=click.Path(), required=False)
@max_backups
@options.dry_run
@click.pass_obj
def init(
    session: Session, /, file: str | None, max_backups: options.Bound | None, dry_run: bool
) -> None:
    """Make FILE, a new state, or take in the one that is there as version 1.

    FILE is pipeline.json unless given; a name without a suffix is that of a folder for it. Where there is a history already,
    nothing is changed.
    """
    if file is not None and _is_typed("state"):
        raise usage("FILE and -C both name the state: give one of them")
    state = _made(session, session.place(file), max_backups)
    newest = next(state.log(1), None)
    if newest is not None:
        _refuse_another_window(session, state, max_backups)
        _tell(session, state, newest, _BEGUN.format(state.path), dry_run=dry_run)
        if not state.path.exists():
            session.output.note("the file is gone: gitstate restore HEAD puts it back")
        return
    _refuse_to_import(state)
    there = state.path.exists()
    if there:
        _check(session, state)
    if dry_run:
        would = f"{state.path} would be {'taken in' if there else 'made'}"
        _tell(session, state, None, would, made=True, dry_run=True)
        return
    with (
        state,
        state.transaction(validate=False, operation="init", message="init") as txn,
    ):
        # Under the lock, and the document stays as it is: somebody may have begun it since we looked.
        newest = next(state.log(1), None)
    version = txn.version
    if version is None or version == newest:
        _tell(session, state, version, _BEGUN.format(state.path))
        return
    done = "made" if version.operation == "init" else "took in"
    _tell(session, state, version, f"{done} {state.path}", made=True)
    _say_what_comes_next(session, state, file or session.options.state)


@options.verb("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False), required=False)
@max_backups
@options.expect
@options.dry_run
@click.pass_obj
def import_backups(
    session: Session,
    /,
    folder: str | None,
    max_backups: options.Bound | None,
    expect: str | None,
    dry_run: bool,
) -> None:
    """Take in the backups that another state manager has left in FOLDER.

    \b
        backups/pipeline_20250301_120000_000000.json.bak   a version each
        transactions.log                                   lines of gitstate history

    FOLDER is .pipeline, beside the state, unless given. Where there is no history yet, the versions are its beginning; else
    they stand beside it, by names such as import/pipeline_20250301_120000_000000. The files stay, and nothing is taken in
    twice.
    """  # noqa: D301  click's own mark for lines that stay as they are
    state = _made(session, session.here().path, max_backups)
    if next(state.log(1), None) is not None:
        _refuse_another_window(session, state, max_backups)
    elif max_backups is None:
        _refuse_to_forget(state, folder)
    state = session.expecting(state, expect)
    if dry_run:
        state.check_expected()
    with state, progress_bar(session) as progress:
        report = state.import_backups(folder, dry_run=dry_run, progress=progress)
    output = session.output
    if output.json:
        output.document({"dry_run": dry_run} | asdict(report))
    else:
        for line in report.skipped:
            output.warn(f"left out: {line}")
        for name in report.names:
            output.print(name)
    if not (report.versions or report.audit or report.unchanged):
        output.note(f"nothing new to take in for {session.state.path}")
        return
    _say_what_came(session, report, would="would be " if dry_run else "")
    if not (dry_run or state.path.exists()):
        output.note("gitstate restore HEAD puts the newest of them into the state file")


def _made(session: Session, path: Path, max_backups: options.Bound | None) -> PipelineState:
    return session.made(
        path, **({} if max_backups is None else {"max_backups": max_backups.number})
    )


def _refuse_another_window(
    session: Session, state: PipelineState, max_backups: options.Bound | None
) -> None:
    """Leaves a history that there is its window, as nobody was asked about the versions that another one would forget.

    Raises:
        Refusal: it has another one.
    """
    kept = session.made(state.path).max_backups
    if max_backups is not None and max_backups.number != kept:
        raise usage(
            f"{state.path} has a history already, and keeps {'all' if kept is None else kept} earlier versions. Nothing"
            " was changed",
            hint="gitstate prune --keep N forgets older ones; PipelineState(path, max_backups=N), in Python, is for good",
        )


# -- init ------------------------------------------------------------------------------------------------------------


def _is_typed(name: str) -> bool:
    """Whether the common option of that name was typed, on either side of the verb, and is not of the environment."""
    context: click.Context | None = click.get_current_context()
    while context is not None:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            return True
        context = context.parent
    return False


def _refuse_to_import(state: PipelineState) -> None:
    """Leaves it to `import` to begin a history that is to have older versions, as nothing comes before a first one."""
    if copies := state.import_backups(dry_run=True).versions:
        raise Refusal(
            f"another state manager has left {counted(copies, 'backup')} here, which can only come before everything"
            " else. Nothing was changed",
            code="import-first",
            hint="gitstate import begins it with them; where they are moved away, they are left out",
        )


def _check(session: Session, state: PipelineState) -> None:
    """Warns of a state that is against the schema.

    Raises:
        Refusal: there is none in the file.
    """
    try:
        state.validate(state.read())
    except StateValidationError as error:
        session.output.warn(
            "it is against the schema, and changes are refused until that is mended (--schema none takes any):"
            f" {'; '.join(map(str, error.problems[:3]))}"
        )
    except StateReadError as error:
        raise Refusal(
            f"{state.path} holds no state: {error.__cause__ or error}. Nothing was changed",
            status=status_of(error),
            code=error.code,
            hint="mend it by hand, or move it away; it has no history yet",
        ) from error


def _tell(
    session: Session,
    state: PipelineState,
    version: Version | None,
    what: str,
    *,
    made: bool = False,
    dry_run: bool = False,
) -> None:
    """Says what became of a state, and which version of it that is; or, in a dry run, what would."""
    if session.output.json:
        of = None if version is None else documents.of_version(version)
        document = {"path": str(state.path), "made": made, "version": of}
        session.output.document({"dry_run": dry_run} | document)
        return
    which = "" if version is None else f": {called(version)}"
    session.output.note(f"{what}{which}")


def _say_what_comes_next(session: Session, state: PipelineState, told: str | None) -> None:
    path, note = state.path, session.output.note
    git = next((folder for folder in path.parents if (folder / ".git").exists()), None)
    if git is not None:
        note(
            f"{git} is a Git repository, which does not see the history in .pipeline/: commit {path.name} there, or"
            f" ignore it, as you like; ignore {path.name}.lock"
        )
    command = "gitstate" if told is None else f"gitstate -C {quote(told)}"
    note(f"{command} set -p /phase1/status '\"running\"' changes it, {command} status shows it")


# -- import ----------------------------------------------------------------------------------------------------------


def _refuse_to_forget(state: PipelineState, folder: str | None) -> None:
    """Sees that not most of what is to be the beginning of a history is forgotten at once, being older than the window.

    Raises:
        Refusal: it would be, and nobody has said how many versions are to be kept.
    """
    copies = state.import_backups(folder, dry_run=True).versions
    if copies > DEFAULT_MAX_BACKUPS + 1:
        raise usage(
            f"these are {copies} versions, and a new state keeps {DEFAULT_MAX_BACKUPS} before the newest. Nothing was"
            " changed",
            hint=f"--max-backups all keeps all of them, --max-backups {DEFAULT_MAX_BACKUPS} those",
        )


def _say_what_came(session: Session, report: ImportReport, *, would: str) -> None:
    came = f"{counted(report.versions, 'version')} and {counted(report.audit, 'line')} of the audit trail"
    session.output.note(f"{came} {would or 'were '}taken in")
    if report.names:
        session.output.note(f"{counted(len(report.names), 'version')} beside the history, by name")
    if report.unchanged:
        session.output.note(f"{counted(report.unchanged, 'backup')} like the one before it")
