"""Console: rich's, which leaves it to us what a run ends with, and what it leaves of the terminal."""

from __future__ import annotations

from typing import NoReturn

from rich.console import Console


class StrictConsole(Console):
    """A console on which a broken pipe is an error like any other."""

    def on_broken_pipe(self) -> NoReturn:
        """Says so; rich itself would end the process, by a status of its own."""
        raise BrokenPipeError

    def show_cursor(self, show: bool = True) -> bool:
        """Leaves it as it is: who is ended by a signal while there is a bar could not show it again."""
        return False
