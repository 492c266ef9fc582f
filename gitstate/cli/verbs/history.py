"""What was done: history, as lines or drawn."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gitstate import files
from gitstate.cli import options, times
from gitstate.cli.drawing import series
from gitstate.cli.escapes import on_a_line
from gitstate.cli.output import counted
from gitstate.cli.refusal import Refusal, usage
from gitstate.cli.views.cells import sized, width_of
from gitstate.errors import StateWriteError
from gitstate.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from gitstate.cli.session import Session

_LINES: Final = 50
_VERSIONS: Final = 100
_SVG: Final = ".svg"


@options.verb("history")
@click.option("-n", "--limit", type=options.Count(1), help="At most so many.")
@click.option("--failures", is_flag=True, help="Only what failed.")
@click.option("--operation", metavar="NAME", help="Only what was done by that operation.")
@click.option(
    "--since", metavar="TIME", type=times.Moment(), help="Nothing before: 2026-11-27, 2h."
)
@click.option("--plot", is_flag=True, help="Draw size and duration of the versions instead.")
@click.option("--svg", metavar="FILE", help="Draw them into an SVG; - for the standard output.")
@click.option("-f", "--force", is_flag=True, help="Replace an SVG that is there.")
@click.pass_obj
def history(
    session: Session,
    /,
    limit: options.Bound | None,
    plot: bool,
    svg: str | None,
    force: bool,
    **which: Any,
) -> None:
    """Show what was done, newest first: each commit, and each failure with its reason.

    Lines of versions that were pruned are there, too. Without -n it gives 50 lines, to a pipe and
    with --json as well.

    --plot and --svg draw, over the last 100 versions unless -n says otherwise, how large the state
    was, and how many seconds each version came after the one before it.

    \b
        gitstate history --failures --since 1d
        gitstate history --svg history.svg -n all
    """  # noqa: D301  click's own mark for lines that stay as they are
    if plot or svg is not None:
        if svg == "-" and session.output.json:
            raise usage(
                "--svg - writes a drawing, --json a document: only one of them can be there"
            )
        if svg is not None:
            _refuse_target(session, svg, force=force)
        _draw(session, _VERSIONS if limit is None else limit.number, svg, **which)
    else:
        _list(session, _LINES if limit is None else limit.number, **which)


# -- lines ---------------------------------------------------------------------------------------------------------------


def _list(
    session: Session,
    limit: int | None,
    *,
    failures: bool,
    operation: str | None,
    since: datetime | None,
) -> None:
    output = session.output
    is_filtered = failures or operation is not None or since is not None
    # One more, to know whether there is one.
    found = session.state.get_transaction_history(
        None if is_filtered or limit is None else limit + 1
    )
    found = [
        line
        for line in found
        if not (failures and line["success"])
        and operation in (None, _operation(line), line["operation"])
        and (since is None or datetime.fromisoformat(line["timestamp"]) >= since)
    ]
    shown = found[:limit]
    if output.json:
        for line in shown:
            output.line(
                {**line, "timestamp": times.exact(datetime.fromisoformat(line["timestamp"]))}
            )
        return
    output.paged(_lines(shown, output.width, exactly=output.exactly))
    if not shown:
        output.note("nothing of that kind was done" if is_filtered else "nothing was done yet")
    elif limit is not None and limit < len(found):
        output.note(f"there is more: -n {limit * 4}, or -n all")


def _lines(lines: list[dict[str, Any]], width: int, *, exactly: bool) -> Iterator[Text]:
    from rich.text import Text  # noqa: PLC0415  JSON output does without it

    moments = [
        times.shown(datetime.fromisoformat(line["timestamp"]), exactly=exactly) for line in lines
    ]
    first = max(map(len, moments), default=0)
    second = min(
        max((width_of(on_a_line(_operation(line))) for line in lines), default=0),
        max(width // 4, 12),
    )
    for moment, line in zip(moments, lines, strict=True):
        text = Text(f"{moment:{first}}  ", style="", no_wrap=not exactly, overflow="ellipsis")
        text.stylize("dim")
        text.append(f"{sized(on_a_line(_operation(line)), second)}  ", style="not dim")
        details = line["details"]
        if line["success"]:
            text.append(f"{(line['commit'] or 'none')[:7]:7}  ", style="not dim green")
            text.append(_on_a_line(", ".join(details.get("changed_keys", ()))), style="not dim")
        else:
            text.append("failed   ", style="not dim red")
            why = f"{details.get('reason', '')}: {details.get('error', '')}"
            text.append(_on_a_line(why), style="not dim red")
        if exactly:
            text.append(f"  pid {line['pid']} on {on_a_line(line['host'])}")
        yield text


def _operation(line: dict[str, Any]) -> str:
    """What was done, without how that went."""
    name: str = line["operation"]
    return name.removesuffix("_commit" if line["success"] else "_rollback")


def _on_a_line(text: str) -> str:
    return on_a_line(" ".join(text.split()))


# -- drawn ---------------------------------------------------------------------------------------------------------------


def _draw(
    session: Session,
    limit: int | None,
    svg: str | None,
    *,
    failures: bool,
    operation: str | None,
    since: datetime | None,
) -> None:
    if failures:
        raise usage(
            "a failure made no version that could be drawn: --failures goes without --plot and --svg"
        )
    output = session.output
    points = series.read(session, limit, operation=operation, since=since)
    if svg is not None:
        _write_svg(session, points, svg)
    elif output.json:
        output.document(series.as_json(points))
    elif points:
        from gitstate.cli.drawing.plot import panels  # noqa: PLC0415  which lines do without

        for line in panels(points, output.width if output.on_terminal else min(output.width, 80)):
            output.print(line)
    if not points:
        output.note("there is no version of that kind to draw")


def _refuse_target(session: Session, svg: str, *, force: bool) -> None:
    """Sees that nothing but a drawing is replaced, and that one only by whoever says so.

    Raises:
        Refusal: it would be.
    """
    if svg == "-":
        return
    if not svg.endswith(_SVG):
        raise usage(f"--svg writes to a file that is called *{_SVG}, or to -, not to {svg!r}")
    if Layout(session.state.path).owns(Path(svg)):
        raise usage(f"cannot draw into a part of the state itself: {svg}")
    if os.path.lexists(svg) and not force:
        raise Refusal(f"{svg} is there already", code="exists", hint="--force replaces it")


def _write_svg(session: Session, points: list[series.Point], target: str) -> None:
    from gitstate.cli.drawing.svg import drawing  # noqa: PLC0415  as above

    text = drawing(points, session.state.path.name)
    if target == "-":
        click.echo(text, nl=False)
        return
    safe = "What was there is as it was."
    with files.Refused(StateWriteError, "cannot write the drawing", Path(target), safe):
        files.replace(Path(target), text.encode())
    if session.options.json:
        session.output.document({"path": target, **series.as_json(points)})
    session.output.note(f"drew {counted(len(points), 'version')}: {target}")
