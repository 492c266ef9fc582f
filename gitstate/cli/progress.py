"""Progress: a bar on the standard error for what may take long, where there is a terminal to see it."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gitstate import Progress
    from gitstate.cli.options import Options
    from gitstate.cli.session import Session


@contextlib.contextmanager
def progress_bar(session: Session) -> Iterator[Callable[[Progress], None] | None]:
    """What to call with how far it is; None where nobody would see the bar, which is gone behind the block."""
    if not _is_seen(session.options):
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress as Bars, TextColumn  # noqa: PLC0415, I001

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bars(*columns, console=session.output.errors, transient=True) as bars:
        tasks = {}

        def show(progress: Progress) -> None:
            """Moves the bar of that phase, which begins with the first word of it."""
            if progress.phase not in tasks:
                tasks[progress.phase] = bars.add_task(progress.phase, total=progress.total)
            bars.update(tasks[progress.phase], completed=progress.done, total=progress.total)

        yield show


def _is_seen(options: Options) -> bool:
    """Whether somebody sees a bar, which is drawn over and over by codes that a terminal has to know."""
    draws = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and options.color != "never"
    return draws and not (options.quiet or options.json)
