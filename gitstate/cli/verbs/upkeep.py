"""Upkeep: verify, repair, prune, checkpoint."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from gitstate.cli import options, times
from gitstate.cli.escapes import on_a_line
from gitstate.cli.output import counted
from gitstate.cli.progress import progress_bar
from gitstate.cli.refusal import CORRUPT, Refusal, usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from gitstate import PruneReport, RepairReport
    from gitstate.cli.session import Session

_ADVICE: Final = re.compile(r"\. (?=[A-Z])|; (?=the next )")


@options.verb("verify")
@click.pass_obj
def verify(session: Session, /) -> None:
    """Check everything that is on disk: the state file, the journal, every version by its hash.

    Changes nothing. What is not as it should be is a line each, and the status is 15. A state file that somebody has edited
    is no damage, and only told of: the next change makes a version of that.
    """
    state, output = session.state, session.output
    with progress_bar(session) as progress:
        report = state.verify(progress=progress)
    problems = report.damage
    versions = None if problems else sum(1 for _ in state.log())
    if versions == 0:
        state.read()  # there is nothing else that could be wrong
    if output.json:
        found = {"ok": not problems, "edited": report.edit is not None}
        output.document({**found, "versions": versions, "problems": list(problems)})
    elif problems:
        output.print(*_shown(session, problems))
    else:
        output.print(_line(f"ok: {counted(versions or 0, 'version')}, whole", "green"))
    if report.edit:
        output.note(f"{state.path} was edited since: gitstate backup makes a version of that")
    if problems:
        raise Refusal(
            f"{counted(len(problems), 'problem')} in {state.path}",
            status=CORRUPT,
            code="damaged",
            hint="gitstate repair mends what is damaged",
        )


@options.verb("repair")
@click.option(
    "--from",
    "source",
    metavar="REPOSITORY",
    type=click.Path(exists=True, file_okay=False),
    help="A clone, or copy, of this history, to take from what is lost here.",
)
@options.yes
@options.dry_run
@click.pass_obj
def repair(session: Session, /, source: str | None, yes: bool, dry_run: bool) -> None:
    """Mend a damaged store from all that can still be read.

    The old one is put aside, in .pipeline/quarantine/, as it was. Where nothing is damaged, nothing is changed. The lock is
    held all the while. It asks before it does without a clone, as what is lost then is not looked for again, and ends with
    1 where something is lost.
    """
    state, problems = session.here(), None
    if dry_run or source is None:
        with progress_bar(session) as progress:
            problems = state.verify(progress=progress).problems
        if dry_run:
            _show_what_is_wrong(session, problems)
            return
        if problems:
            count = counted(len(problems), "problem")
            session.confirm(f"{count}. Mend that without a clone, which --from names?", yes=yes)
    try:
        with state:
            report = state.repair(source)
    except ValueError as error:
        raise usage(str(error)) from error
    _show_repair(session, problems, report)


@options.verb("prune")
@click.option(
    "--keep",
    metavar="N",
    type=click.IntRange(min=0),
    help="Earlier versions to keep, this time; else as many as the state is to keep.",
)
@options.yes
@options.dry_run
@click.pass_obj
def prune(session: Session, /, keep: int | None, yes: bool, dry_run: bool) -> None:
    """Forget the versions older than the window, for good, and give their space back.

    The window is what the state was told by max_backups, 50 unless it was. Versions that have a name stay, as does what a
    remote has not received yet; and what was done stays in gitstate history.
    """
    state = session.state
    if keep is not None:
        state = session.made(state.path, max_backups=keep)
    report = state.prune(dry_run=True)
    if not dry_run:
        if report.versions:
            session.confirm(f"Forget {_which(report)} for good?", yes=yes)
        with state, progress_bar(session) as progress:
            # Others may have written while the question was open.
            report = state.prune(planned=None if yes else report, progress=progress)
    _show_prune(session, report, dry_run=dry_run)


@options.verb("checkpoint")
@options.dry_run
@click.pass_obj
def checkpoint(session: Session, /, dry_run: bool) -> None:
    """Pack the history, and empty the journal. Changes do that by themselves, when the journal is full."""
    state, output = session.state, session.output
    if not dry_run:
        with state:
            state.checkpoint()
    if output.json:
        output.document({"path": str(state.path), "dry_run": dry_run})
    elif dry_run:
        output.print("the history would be packed, the journal emptied")
    else:
        output.note("the history is packed, the journal empty")


def _shown(session: Session, problems: tuple[str, ...]) -> Iterator[str]:
    """What is wrong; the advice that follows, which is for programs, with -v alone."""
    return (each if session.output.exactly else _ADVICE.split(each)[0] for each in problems)


def _line(text: str, color: str) -> Text:
    from rich.text import Text  # noqa: PLC0415  JSON output does without it

    return Text(on_a_line(text), style=color)


# -- repair ----------------------------------------------------------------------------------------------------------


def _show_what_is_wrong(session: Session, problems: tuple[str, ...]) -> None:
    output = session.output
    if output.json:
        nothing: dict[str, Any] = {"mended": [], "quarantined": [], "lost": []}
        found = {"ok": not problems, "problems": list(problems)}
        output.document({"dry_run": True, **found, **nothing})
        return
    output.print(*_shown(session, problems))
    if problems:
        output.note("gitstate repair would look at that")
    else:
        output.note(f"nothing is wrong with {session.state.path}")


def _show_repair(session: Session, problems: tuple[str, ...] | None, report: RepairReport) -> None:
    """Shows what was done about those problems, None where nobody has looked.

    Raises:
        Refusal: something is lost.
    """
    output = session.output
    if output.json:
        found = {"ok": report.ok, "problems": problems}
        output.document({"dry_run": False, **found, **asdict(report)})
    else:
        output.print(*(_line(f"mended  {each}", "green") for each in report.mended))
        output.print(*(_line(f"kept    {each}", "yellow") for each in report.quarantined))
        output.print(*(_line(f"lost    {each}", "red") for each in report.lost))
    if not report.ok:
        raise Refusal(
            f"{counted(len(report.lost), 'thing')} could not be brought back",
            code="lost",
            hint="if there is a clone of this history: move .pipeline away, then gitstate repair --from CLONE",
        )
    if not (report.mended or report.quarantined):
        output.note(f"nothing is damaged: {session.state.path}")


# -- prune -----------------------------------------------------------------------------------------------------------


def _which(report: PruneReport) -> str:
    numbers = report.versions
    if not numbers:
        return "no version"
    which = (
        f"version {numbers[0]}" if len(numbers) == 1 else f"versions {numbers[0]} to {numbers[-1]}"
    )
    return f"{which}{' but for ' + ', '.join(report.kept) if report.kept else ''}"


def _show_prune(session: Session, report: PruneReport, *, dry_run: bool) -> None:
    output, numbers = session.output, report.versions
    if output.json:
        ends = (
            {"first": numbers[0], "last": numbers[-1]} if numbers else {"first": None, "last": None}
        )
        rest = {"kept": report.kept, "held": report.held, "freed": report.freed}
        output.document({"dry_run": dry_run} | ends | rest)
        return
    if dry_run:
        output.print(f"{_which(report)} would be forgotten")
    elif not (numbers or report.freed):
        output.note("nothing to forget")
    else:
        output.note(f"{_which(report)} forgotten, {times.size(report.freed)} given back")
    for remote in report.held:
        output.note(
            f"{remote} lacks older versions, which stay until it has them: gitstate push {remote}"
        )
