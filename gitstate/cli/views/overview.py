"""Overview: how a state stands, for people."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from gitstate.cli import times
from gitstate.cli.escapes import on_a_line
from gitstate.cli.output import table
from gitstate.cli.views.cells import width_of
from gitstate.cli.views.changes import brief
from gitstate.cli.views.traffic import standing_with

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from gitstate import Holder, RemoteStatus, Version
    from gitstate.cli.answers.standing import Standing
    from gitstate.cli.output import Output

_COLORS: Final = {
    "success": "green",
    "running": "yellow",
    "partial": "yellow",
    "partial_success": "yellow",
    "failed": "red",
    "error": "red",
    "pending": "dim",
    "skipped": "dim",
    "unknown": "dim",
}
_FILES: Final = {
    "clean": ("as in that version", "green"),
    "edited": ("differs from that version in", "yellow"),
    "new": ("in no version yet", "yellow"),
    "gone": ("gone", "red"),
    "damaged": ("damaged", "red"),
    "unreadable": ("cannot be read", "red"),
    "unknown": ("cannot be compared with its versions", "red"),
}
_COLUMN: Final = 9
_LONGEST_DURATION: Final = 1e12


def overview(standing: Standing, output: Output) -> Iterator[RenderableType]:
    """What there is to show, from the state's file to its remotes."""
    yield _title(standing)
    version = _row("version", _version(standing.head, standing, exactly=output.exactly))
    version.no_wrap, version.overflow = True, "ignore" if output.exactly else "ellipsis"
    yield version
    yield _row("file", _file(standing, output.width))
    yield _row("lock", _lock(standing, exactly=output.exactly))
    if standing.summary is not None:
        phases = standing.summary["phases"]
        if phases:
            yield ""
            yield _phases("phase", phases)
        else:
            keys = _list_of(standing.keys, output.width - _COLUMN) or "none: the state is empty"
            yield _row("keys", Text(keys, style="" if standing.keys else "dim"))
        if runs := standing.summary["runs"]:
            yield ""
            yield _phases("run", runs)
    if standing.remotes:
        yield ""
        yield _remotes(standing.remotes, exactly=output.exactly)
        yield from _errors(standing.remotes, whole=output.exactly)


def holder_text(holder: Holder | None, *, exactly: bool) -> Text:
    """Who holds the lock, and for how long; `exactly` since when."""
    if holder is None:
        return Text("free", style="green")
    if not holder.pid:
        return Text("held by somebody whom it does not name", style="yellow")
    text = Text("held", style="yellow")
    text.append(f" by pid {holder.pid} on {on_a_line(holder.host)}: {on_a_line(holder.operation)}")
    try:
        since = datetime.fromisoformat(holder.since).astimezone()
    except (ValueError, OverflowError):  # whoever wrote that
        return text
    text.append(f", for {times.duration(max(0, (datetime.now(UTC) - since).total_seconds()))}")
    if exactly:
        text.append(f", since {times.shown(since, exactly=True)}", style="dim")
    return text


def _title(standing: Standing) -> Text:
    # Not wrapped: it is there to be copied.
    text = Text(on_a_line(str(standing.path)), style="bold", no_wrap=True, overflow="ignore")
    for name, key in (("pipeline", "pipeline_version"), ("file", "file_id")):
        if standing.summary is not None and standing.summary[key] is not None:
            text.append(f"  {name} {_plain(standing.summary[key])}", style="not bold dim")
    return text


def _version(version: Version | None, standing: Standing, *, exactly: bool) -> Text:
    if version is not None:
        text = Text(f"{version.serial} ({version.short_id})", style="")
        text.append(f", {times.shown(version.timestamp, exactly=exactly)}", style="dim")
        return text.append(f": {_first_line(version.message)}")
    if "head" in standing.untold:
        return Text("cannot be told", style="red")
    return Text(
        "none yet" if standing.begun else "none yet: gitstate has not written here", style="yellow"
    )


def _file(standing: Standing, width: int) -> Text:
    what, color = _FILES[standing.file]
    text = Text(what, style=color)
    if standing.changed:
        text.append(f": {_list_of(standing.changed, width - _COLUMN - len(what) - 2)}", style="")
    return text


def _lock(standing: Standing, *, exactly: bool) -> Text:
    if "lock" in standing.untold:
        return Text("cannot be told", style="red")
    return holder_text(standing.holder, exactly=exactly)


def _phases(what: str, phases: dict[str, dict[str, Any]]) -> Table:
    found = table(what, "status", "duration", "errors", right=("duration", "errors"))
    for name, phase in phases.items():
        status = _plain(phase["status"])
        errors = phase["errors"]
        found.add_row(
            Text(on_a_line(name)),
            Text(status, style=_COLORS.get(status, "")),
            Text(_duration(phase["duration"])),
            Text(str(errors), style="red" if errors else "dim"),
        )
    return found


def _remotes(remotes: Sequence[RemoteStatus], *, exactly: bool) -> Table:
    found = table("remote", "stands", "last push", "where")
    for each in remotes:
        push = each.last_push
        found.add_row(
            Text(each.name),
            Text(*standing_with(each)),
            Text("never" if push is None else times.shown(push, exactly=exactly), style="dim"),
            Text(on_a_line(each.url), style="dim"),
        )
    return found


def _errors(remotes: Sequence[RemoteStatus], *, whole: bool) -> Iterator[Text]:
    """What the last contacts have failed with: a line each, or all of it."""
    for each in remotes:
        if each.last_error is not None:
            text = on_a_line(each.last_error)
            named = text if text.startswith(f"{each.name} ") else f"{each.name}: {text}"
            yield Text(named, style="red", no_wrap=not whole, overflow="ellipsis")


def _row(name: str, text: Text) -> Text:
    return Text.assemble((f"{name:{_COLUMN}}", "bold"), text)


def _list_of(keys: Sequence[str], width: int) -> str:
    """The keys, as many as there is room for, and how many more there are."""
    text = ""
    for count, key in enumerate(keys):
        more = f", and {len(keys) - count} more" if text else f"{len(keys)} keys"
        longer = f"{text}, {on_a_line(key)}" if text else on_a_line(key)
        is_last = count == len(keys) - 1
        if width_of(longer) + (0 if is_last else len(more)) > width:
            return text + more
        text = longer
    return text


def _duration(value: Any) -> str:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and 0 <= value < _LONGEST_DURATION and math.isfinite(value):
        return times.duration(value)
    return "" if value is None else _plain(value)


def _plain(value: Any) -> str:
    return on_a_line(value) if isinstance(value, str) else brief(value, 24)


def _first_line(text: str) -> str:
    return on_a_line(text.partition("\n")[0])
