"""What the demo shows, and which of the guarantees hold."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_WIDTH: Final = 80
_INDENT: Final = "          "


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the demo.

    Attributes:
        title: what it is about.
        checks: each guarantee of it, and whether it holds.
    """

    title: str
    checks: list[tuple[str, bool]] = field(default_factory=list)


class Report:
    """Shows what happens, in 80 columns, and keeps which guarantees hold.

    Attributes:
        say: writes a line.
        sections: the sections so far.
    """

    def __init__(self, say: Callable[[str], None] = print) -> None:
        self.say = say
        self.sections: list[Section] = []

    @property
    def failures(self) -> int:
        """How many guarantees do not hold."""
        return sum(not holds for section in self.sections for _, holds in section.checks)

    def section(self, title: str) -> None:
        """Begins a section."""
        self.sections.append(Section(title))
        self.say(f"\n{len(self.sections)}. {title}")

    def show(self, line: str) -> None:
        """One line of what can be seen, cut at the edge."""
        room = _WIDTH - len(_INDENT)
        self.say(_INDENT + (line if len(line) <= room else line[: room - 3] + "..."))

    def quote(self, text: str) -> None:
        """A message, over as many lines as it takes."""
        indent = _INDENT + "| "
        self.say(
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
        self.sections[-1].checks.append((guarantee, bool(holds)))
        self.say(f"  {'ok' if holds else 'FAILED':<{len(_INDENT) - 2}}{guarantee}")
