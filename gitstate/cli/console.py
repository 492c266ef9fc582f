"""Console: rich's, which leaves it to us what a run ends with where nobody reads what is written."""

from __future__ import annotations

from typing import NoReturn

from rich.console import Console


class StrictConsole(Console):
    """A console on which a broken pipe is an error like any other."""

    def on_broken_pipe(self) -> NoReturn:
        """Says so; rich itself would end the process, by a status of its own."""
        raise BrokenPipeError
