"""Backups: the versions that can be restored, and the names that keep them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from gitstate.cli import options, times
from gitstate.cli.escapes import on_a_line
from gitstate.cli.output import table
from gitstate.cli.refusal import NO_STATE, USAGE, Refusal, meant, usage
from gitstate.cli.views import documents
from gitstate.cli.views.cells import width_of
from gitstate.cli.views.entries import called, names_of
from gitstate.names import check_name

if TYPE_CHECKING:
    from rich.table import Table

    from gitstate import PipelineState, Version
    from gitstate.cli.output import Output
    from gitstate.cli.session import Session

_MADE: Final = frozenset({"external_edit", "backup"})
"""The operations of versions that a backup makes: of an edit, and of a state without a version."""


@options.verb("backup")
@click.argument("name", required=False)
@click.option("--delete", metavar="NAME", help="Take this name away from its version.")
@options.yes
@options.expect
@options.dry_run
@click.pass_obj
def backup(
    session: Session, /, name: str | None, delete: str | None, yes: bool, **how: Any
) -> None:
    """Keep the state as it is, however old it gets, by the name NAME.

    Without a name it only makes a version of an edit of the state file, if there is one.
    """
    if delete is None:
        _keep(session, name, **how)
    elif name is None:
        _delete(session, delete, yes=yes, **how)
    else:
        raise usage("NAME and --delete are two runs")


@options.verb("backups")
@click.option("-n", "--limit", metavar="N", type=click.IntRange(min=0), help="At most so many.")
@click.pass_obj
def backups(session: Session, /, limit: int | None) -> None:
    """List the versions before the current one that can be restored, and the names of those that have one.

    Newest first; after them come older ones that only their names keep.
    """
    state, output = session.state, session.output
    names, found = names_of(session), state.list_backups(limit)
    if output.json:
        rows = [documents.of_version(v) | {"names": names.get(v.id, [])} for v in found]
        output.document({"backups": rows})
        return
    if not found:
        output.note("there is no version before the current one")
        return
    output.paged([_rows(found, names, output)])


def _rows(found: list[Version], names: dict[str, list[str]], output: Output) -> Table:
    from rich.text import Text  # noqa: PLC0415  JSON output does without it

    made = [times.shown(version.timestamp, exactly=output.exactly) for version in found]
    called = [on_a_line(", ".join(names.get(version.id, []))) for version in found]
    # rich would make all columns narrower for the sake of the last one.
    others = sum(max(map(width_of, each)) + 2 for each in (made, ["name", *called]))
    room = output.width - others - 18
    rows = table("version", "hash", "when", "name", "message", right=["version"])
    for version, when, name in zip(found, made, called, strict=True):
        message = Text(on_a_line(version.message.partition("\n")[0] or version.operation))
        message.truncate(max(room, 12), overflow="ellipsis")
        serial, short_id = str(version.serial or "-"), Text(version.short_id, style="dim")
        rows.add_row(serial, short_id, when, Text(name, style="green"), message)
    return rows


def _keep(session: Session, name: str | None, expect: str | None, dry_run: bool) -> None:
    """Gives the newest version a name, behind a version of what somebody has edited."""
    newest = next(session.state.log(1), None)
    if dry_run:
        session.refuse_stale(expect)
        session.state.read()
        if name is not None:
            check_name(name)
            _refuse_taken(session, name)
        if newest is None and not session.state.path.exists():
            raise _nothing(session)
        edited = newest is None or newest.content() != session.state.path.read_bytes()
        _tell(session, name, None if edited else newest, made=edited, dry_run=True)
        return
    with session.changing(expect) as state:
        version = state.create_backup(name)
        if version is None:
            raise _nothing(session)
        # One that came between is a version as well, and has to be of an edit to be this run's.
        made = version != newest and version.operation in _MADE
        _tell(session, name, version, made=made)


def _nothing(session: Session) -> Refusal:
    return Refusal(
        f"there is nothing to keep yet at {session.state.path}. Nothing was changed",
        status=NO_STATE,
        code="no-history",
        hint="gitstate init makes a state",
    )


def _tell(
    session: Session,
    name: str | None,
    version: Version | None,
    *,
    made: bool,
    dry_run: bool = False,
) -> None:
    """Says which version it is, None for one that would be made; whether it is `made` for this, and what it is called."""
    output = session.output
    if output.json:
        of = None if version is None else documents.of_version(version)
        output.document({"dry_run": dry_run, "name": name, "version": of, "made": made})
        return
    which = "a version of the state file as it is" if version is None else called(version)
    if name is not None:
        output.note(f"{which} {'would be' if dry_run else 'is'} kept as {name}")
    elif made:
        output.note(f"{which} {'would be' if dry_run else 'was'} made")
    else:
        output.note(f"nothing to change: the state is {which}")


def _refuse_taken(session: Session, name: str) -> None:
    if name in session.state.named_backups():
        raise Refusal(
            f"a backup is called {name!r} already",
            status=USAGE,
            code="backup-name",
            hint="gitstate backups lists the names that are taken",
        )


def _is_young(state: PipelineState, version: Version) -> bool:
    """Whether it stays without a name: beside what is pruned that is what the next prune would forget."""
    is_listed = any(each.id == version.id for each in state.log())
    return is_listed and version.serial not in state.prune(dry_run=True).versions


def _delete(session: Session, name: str, *, yes: bool, expect: str | None, dry_run: bool) -> None:
    """Takes a name away; asks where that is all that keeps the version."""
    named = session.state.named_backups()
    if name not in named:
        raise Refusal(
            f"no backup is called {name!r}",
            code="version-not-found",
            hint=meant(name, list(named)) or "gitstate backups lists them",
        )
    version = named[name]
    others = any(each.id == version.id for other, each in named.items() if other != name)
    goes = not others and not _is_young(session.state, version)
    if dry_run:
        session.refuse_stale(expect)
    else:
        if goes:
            session.confirm(f"Only the name {name!r} keeps its version. Forget it?", yes=yes)
        with session.changing(expect) as state:
            state.delete_backup(name)
    if session.output.json:
        document = {"deleted": name, "version": documents.of_version(version), "forgotten": goes}
        session.output.document({"dry_run": dry_run} | document)
        return
    what = "goes with it" if goes else "stays as long as it is young enough, or has another name"
    session.output.note(
        f"{name}: the name {'would go' if dry_run else 'is gone'}; its version {what}"
    )
