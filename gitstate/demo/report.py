"""What the demo prints, and its count of the guarantees that do not hold."""

from __future__ import annotations

import textwrap
from typing import Final

_WIDTH: Final = 80
_INDENT: Final = "          "


class Report:
    """Prints what happens, in 80 columns, and counts the guarantees that do not hold."""

    def __init__(self) -> None:
        self.failures = 0
        self._sections = 0

    def section(self, title: str) -> None:
        """Begins a section."""
        self._sections += 1
        print(f"\n{self._sections}. {title}")

    def show(self, line: str) -> None:
        """One line of what can be seen, cut at the edge."""
        room = _WIDTH - len(_INDENT)
        print(_INDENT + (line if len(line) <= room else line[: room - 3] + "..."))

    def quote(self, text: str) -> None:
        """A message, over as many lines as it takes."""
        indent = _INDENT + "| "
        print(
            textwrap.fill(
                text,
                _WIDTH,
                initial_indent=indent,
                subsequent_indent=indent,
                break_on_hyphens=False,
            )
        )

    def check(self, guarantee: str, holds: object) -> None:
        """Says whether a guarantee holds."""
        self.failures += not holds
        print(f"  {'ok' if holds else 'FAILED':<{len(_INDENT) - 2}}{guarantee}")
