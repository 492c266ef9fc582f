"""Remotes: remote, push, pull, clone, reroot."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gitstate.cli import options
from gitstate.cli.arguments.place import Offered
from gitstate.cli.escapes import typed
from gitstate.cli.progress import progress_bar
from gitstate.cli.refusal import REMOTE, Refusal
from gitstate.cli.views import documents, traffic
from gitstate.cli.views.entries import line_of

if TYPE_CHECKING:
    from gitstate import PipelineState
    from gitstate.cli.session import Session

_ORIGIN: Final = "origin"


class RemoteName(Offered):
    """The name of a remote."""

    name = "name"

    def offered(self, state: PipelineState, incomplete: str) -> dict[str, str | None]:
        """The remotes, each with its URL."""
        return {remote.name: remote.url for remote in state.remotes.list()}


def _finite(context: click.Context, parameter: click.Parameter, value: float | None) -> Any:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("expected a number of seconds", context, parameter)
    return value


_timeout = click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    callback=_finite,
    help="Give a remote up that says nothing for so long; 30 unless given.",
)


# -- which there are -------------------------------------------------------------------------------------------------


@options.verb("list")
@click.pass_obj
def list_remotes(session: Session, /) -> None:
    """List the remotes, as of the last contact with each."""
    _list(session)


@options.verb("add")
@click.argument("name")
@click.argument("url")
@click.option(
    "--push",
    type=click.Choice(["auto", "manual"]),
    default="manual",
    help="auto: it gets each version soon after its commit.",
)
@_timeout
@options.expect
@options.dry_run
@click.pass_obj
def add(
    session: Session, /, name: str, url: str, timeout: float | None, push: Any, **how: Any
) -> None:
    r"""Add the Git repository at URL, which is to get the history, or has it, as NAME.

    URL is a folder, or ssh://, host:path, https://, git://. What it has not received is not pruned from then on.

    \b
    gitstate remote add origin user@host:state.git --push auto
    """
    given: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
    expect, dry_run = how["expect"], how["dry_run"]
    if dry_run:
        session.refuse_stale(expect)
        added = session.state.remotes.add(name, url, push=push, dry_run=True, **given)
    else:
        with session.changing(expect) as state:
            added = state.remotes.add(name, url, push=push, **given)
    output = session.output
    if output.json:
        output.document({"dry_run": dry_run, "remote": documents.of_settings(added)})
        return
    if dry_run:
        output.print(f"{added.name} would be added, at {added.url}")
        return
    output.note(f"{added.name} is added, at {added.url}; nothing that it lacks is pruned")
    automatic = "it gets each version by itself, soon after its commit"
    output.note(automatic if push == "auto" else f"gitstate push {added.name} sends it all")


@options.verb("remove")
@click.argument("name", type=RemoteName())
@options.expect
@options.dry_run
@click.pass_obj
def remove(session: Session, /, name: str, expect: str | None, dry_run: bool) -> None:
    """Forget the remote NAME. Over there nothing is changed.

    Versions that it lacks are not kept for it any longer: those older than the window go with the next prune.
    """
    status = session.state.remote_status(name)
    if dry_run:
        session.refuse_stale(expect)
    else:
        with session.changing(expect) as state:
            state.remotes.remove(name)
    output = session.output
    if output.json:
        output.document({"dry_run": dry_run, "remote": documents.of_remote(status)})
        return
    what = (
        f"{name} {'would be' if dry_run else 'is'} forgotten, and nothing changed at {status.url}"
    )
    tell = output.print if dry_run else output.note
    tell(what)
    if status.ahead:
        tell(f"the {traffic.versions(status.ahead)} that it lacks may be pruned from then on")


@options.verbs("remote", commands=[list_remotes, add, remove])
@click.pass_context
def remote(context: click.Context) -> None:
    """List the remotes, as of the last contact with each; add one, or remove one.

    Nobody is asked how things stand now. -v shows both sides, and the last error.
    """
    if context.invoked_subcommand is None:
        _list(context.obj)


# -- to them, and from them ------------------------------------------------------------------------------------------


@options.verb("push")
@click.argument("name", type=RemoteName(), default=_ORIGIN)
@options.dry_run
@click.pass_obj
def push(session: Session, /, name: str, dry_run: bool) -> None:
    """Send the remote NAME, origin unless given, the versions, names and history that it lacks.

    Nothing that it has is overwritten. A dry run asks nobody: it goes by the last contact.
    """
    if dry_run:
        traffic.would_push(session, session.state.remote_status(name))
        return
    with progress_bar(session) as progress:
        result = session.state.push(name, progress=progress)
    traffic.show_push(session, result)


@options.verb("pull")
@click.argument("name", type=RemoteName(), default=_ORIGIN)
@options.expect
@options.dry_run
@click.pass_obj
def pull(session: Session, /, name: str, expect: str | None, dry_run: bool) -> None:
    """Take what the remote NAME, origin unless given, has and is not here.

    It has to go on top of what is here, and all of it is checked first. A dry run asks nobody: it goes by the last
    contact.
    """
    if dry_run:
        session.refuse_stale(expect)
        traffic.would_pull(session, session.state.remote_status(name))
        return
    with session.changing(expect) as state, progress_bar(session) as progress:
        result = state.pull(name, progress=progress)
    traffic.show_pull(session, result)


@options.verb("clone")
@click.argument("url")
@click.argument("file", type=click.Path(), required=False)
@_timeout
@options.dry_run
@click.pass_obj
def clone(
    session: Session, /, url: str, file: str | None, timeout: float | None, dry_run: bool
) -> None:
    """Make a state of the history at URL, which is its remote origin from then on.

    FILE is where it is to be, called as it is there: pipeline.json here unless given. A folder will do; so is taken
    what has no ending. A dry run fetches and checks everything, and keeps nothing.
    """
    place = session.place(file)
    given: dict[str, Any] = {} if timeout is None else {"remote_timeout": timeout}
    if not dry_run:
        _clone(session, url, place, place, **given)
        return
    if os.path.lexists(place):
        raise Refusal(
            f"there is a state already: {place}. Nothing was changed.",
            status=REMOTE,
            code="clone-exists",
            hint=f"gitstate clone {typed(url)} FOLDER",
        )
    with tempfile.TemporaryDirectory(prefix="gitstate-clone-") as folder:
        _clone(session, url, Path(folder) / place.name, place, **given)


@options.verb("reroot")
@options.expect
@options.dry_run
@options.yes
@click.pass_obj
def reroot(session: Session, /, expect: str | None, dry_run: bool, yes: bool) -> None:
    """Give the versions that are kept new hashes, so that any server takes them.

    For a history of which versions were pruned, and a server that takes none without them. Remotes with the old
    hashes take no push any more, and clones of them no pull.
    """
    output = session.output
    if dry_run:
        session.refuse_stale(expect)
    ids = session.state.reroot(dry_run=True).ids
    if ids and not dry_run:
        session.confirm(
            f"{traffic.versions(len(ids))} would get new hashes, for good; whoever has the old ones has to clone anew. Go on?",
            yes=yes,
        )
        with session.changing(expect) as state:
            ids = state.reroot().ids
    if output.json:
        output.document({"dry_run": dry_run, "ids": dict(ids)})
        return
    if not ids:
        output.note("nothing was pruned: every server takes this history as it is")
        return
    tell = output.print if dry_run else output.note
    if output.exactly:
        for old, new in ids.items():
            tell(f"{old} -> {new}")
    tell(f"{traffic.versions(len(ids))} {'would get' if dry_run else 'got'} new hashes")


# --------------------------------------------------------------------------------------------------------------------


def _list(session: Session) -> None:
    state, output = session.state, session.output
    rows = [(each, state.remote_status(each.name)) for each in state.remotes.list()]
    newest = next(state.log(1), None)
    ours = None if newest is None else newest.id
    if output.json:
        found = [
            {**documents.of_remote(status), **documents.of_settings(each)} for each, status in rows
        ]
        output.document({"ours": ours, "remotes": found})
    elif not rows:
        output.note("no remotes; gitstate remote add NAME URL adds one")
    elif output.exactly:
        for each, status in rows:
            output.print(traffic.whole(each, status, ours))
    else:
        output.print(traffic.table_of(rows))


def _clone(session: Session, url: str, path: Path, place: Path, **given: Any) -> None:
    from gitstate import PipelineState  # noqa: PLC0415  which --help does without

    session.made(path)
    with progress_bar(session) as progress:
        state = PipelineState.clone(url, path, progress=progress, **session.settings(), **given)
    with state:
        version, status = state.version("HEAD"), state.remote_status()
    output, dry_run = session.output, path != place
    if output.json:
        rows = {"dry_run": dry_run, "path": str(place), "remote": documents.of_remote(status)}
        output.document({**rows, "version": documents.of_version(version)})
    elif not dry_run:
        output.note(f"cloned to {place}; {status.url} is its remote {status.name}")
        output.note(line_of(version))
    else:
        output.print(f"{status.url} would be cloned to {place}", line_of(version))
