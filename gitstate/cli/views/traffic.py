"""Traffic: how things stand with a remote, and what a push or a pull has moved, as it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gitstate.cli.escapes import on_a_line
from gitstate.cli.output import table
from gitstate.cli.times import duration, shown
from gitstate.cli.views import documents
from gitstate.cli.views.entries import line_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from gitstate import PullResult, PushResult, RefUpdate, Remote, RemoteStatus
    from gitstate.cli.session import Session

_SHORT = 7


def versions(count: int) -> str:
    """`1 version`, `2 versions`."""
    return f"{count} version{'' if count == 1 else 's'}"


def standing_with(status: RemoteStatus) -> tuple[str, str]:
    """How things stand with a remote, in a few words, and their colour."""
    words = [f"{status.ahead} ahead"] if status.ahead else []
    words += [f"{status.behind} behind"] if status.behind else []
    if status.diverged:
        words.insert(0, "diverged")
    color = "red" if status.diverged else "yellow" if words else "green"
    if status.last_error is not None and not status.diverged:
        words, color = [*words, "failed"], "red"
    return ", ".join(words) or "up to date", color


def table_of(rows: Iterable[tuple[Remote, RemoteStatus]]) -> Table:
    """A line for each remote."""
    from rich.text import Text  # noqa: PLC0415  JSON output does without it

    made = table("name", "push", "stands", "last push", "url")
    for remote, status in rows:
        last = shown(status.last_push, exactly=False) if status.last_push else "never"
        cells = (Text(*standing_with(status)), Text(last, style="dim"), on_a_line(remote.url))
        made.add_row(remote.name, remote.push, *cells)
    return made


def whole(remote: Remote, status: RemoteStatus, ours: str | None) -> Table:
    """All that is known of a remote; `ours` is the newest version here."""
    from rich.table import Table  # noqa: PLC0415  JSON output does without it
    from rich.text import Text  # noqa: PLC0415

    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    made.add_row(remote.name, Text(*standing_with(status)))
    rows = {
        "url": remote.url,
        "here": ours or "nothing",
        "there": status.theirs or "nothing that we know of",
        "push": f"{remote.push}; given up after {duration(remote.timeout)} of silence",
        "last push": shown(status.last_push, exactly=True) if status.last_push else "never",
        "last pull": shown(status.last_pull, exactly=True) if status.last_pull else "never",
        "error": status.last_error,
    }
    for what, text in rows.items():
        if text is not None:
            made.add_row(Text(f"  {what}", style="dim"), on_a_line(text))
    return made


def show_push(session: Session, result: PushResult) -> None:
    """Shows what a push has moved."""
    if session.output.json:
        session.output.document(_document(session, result))
    else:
        _say(session, result, "sent to", "has everything already")


def show_pull(session: Session, result: PullResult) -> None:
    """Shows what a pull has moved, and where that has led to."""
    version = result.version
    if session.output.json:
        made = None if version is None else documents.of_version(version)
        session.output.document(_document(session, result) | {"version": made})
        return
    _say(session, result, "taken from", "has nothing new")
    if version is not None:
        session.output.note(line_of(version))


def would_push(session: Session, status: RemoteStatus) -> None:
    """Shows what a push would move, as far as is known."""
    if session.output.json:
        session.output.document(_plan(status, status.ahead))
    else:
        _say_plan(session, status, f"{versions(status.ahead)} would be sent to {status.name}")


def would_pull(session: Session, status: RemoteStatus) -> None:
    """Shows what a pull would move, as far as is known."""
    if session.output.json:
        session.output.document(_plan(status, status.behind) | {"version": None})
    else:
        _say_plan(session, status, f"{versions(status.behind)} would be taken from {status.name}")


def _document(session: Session, result: PushResult | PullResult) -> dict[str, Any]:
    return {
        "dry_run": False,
        "remote": documents.of_remote(session.state.remote_status(result.remote)),
        "versions": result.versions,
        "updates": [update._asdict() for update in result.updates],
        "notes": list(result.notes),
    }


def _plan(status: RemoteStatus, count: int) -> dict[str, Any]:
    """The same of what has not been done; which refs would be moved, the remote alone knows."""
    remote = documents.of_remote(status)
    return {"dry_run": True, "remote": remote, "versions": count, "updates": [], "notes": []}


def _say(session: Session, result: PushResult | PullResult, done: str, nothing: str) -> None:
    """Says what was moved: `done` is what was done with the versions, `nothing` what is said of the remote else."""
    for update in result.updates:
        session.output.note(_moved(update))
    for note in result.notes:
        session.output.note(f"note: {note}")
    if result.up_to_date:
        session.output.note(f"{result.remote} {nothing}")
    else:
        session.output.note(f"{versions(result.versions)} {done} {result.remote}")


def _say_plan(session: Session, status: RemoteStatus, what: str) -> None:
    session.output.print(what)
    session.output.note("as of the last contact, nobody was asked")
    if status.diverged:
        session.output.note(f"{status.name} has diverged: neither push nor pull would go on top")


def _moved(update: RefUpdate) -> str:
    """`main  3f2a91c..5b6c7d8`, as git says it."""
    name = update.name.removeprefix("refs/").removeprefix("heads/")
    if update.new is None:
        return f"  {name}  deleted"
    new = update.new[:_SHORT]
    return f"  {name}  {update.old[:_SHORT]}..{new}" if update.old else f"  {name}  new, {new}"
