"""Entries: versions in a list, as `log` and `watch` write them, a line or a JSON document for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gitstate import pointer as pointers
from gitstate.cli.answers.compare import Past
from gitstate.cli.escapes import on_a_line
from gitstate.cli.times import shown
from gitstate.cli.views import changes, documents
from gitstate.cli.views.cells import cut, filled, width_of
from gitstate.diff import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import OverflowMethod
    from rich.text import Text

    from gitstate import Version
    from gitstate.cli.session import Session

_OPERATION: Final = 14
_MOST_KEYS: Final = 30
"""Columns of the changed keys that a long message leaves."""


class Entries:
    """How a run lists versions.

    Attributes:
        parts: the place whose value each version is shown with; none for none.
        patch: whether each is shown with its changes.
        past: what the versions held.
    """

    def __init__(self, session: Session, pointer: str, *, patch: bool) -> None:
        self.parts = pointers.split(pointer)
        self.patch = patch
        self.past = Past(session.state)
        self._session = session
        self._output = session.output
        self.look()

    def look(self, *, mark_newest: bool = True) -> None:
        """Looks which version is the newest, and what they are called."""
        self._newest = next(self._session.state.log(1), None)
        self._names = names_of(self._session)
        self._marked = self._newest if mark_newest else None

    def document(self, version: Version) -> dict[str, Any]:
        """The version as JSON."""
        row = documents.of_version(version) | {"names": self._names.get(version.id, [])}
        if self.parts:
            value = self.past.value(version, self.parts)
            row |= {} if value is MISSING else {"value": value}
        if self.patch:
            found = self.past.changes(version, self.parts)
            row["changes"] = None if found is None else list(map(changes.document_of, found))
        return row

    def texts(self, version: Version, drawn: str = "") -> Iterator[Text]:
        """The line for a version, in it what is `drawn`, and the lines for its value and changes."""
        width = self._output.width
        yield self._line(version, drawn, width)
        if self.parts and not self.patch:
            yield self._value(version, width)
        if self.patch:
            found = self.past.changes(version, self.parts)
            yield from indented(
                [pruned()]
                if found is None
                else changes.lines_of(found, width - 4, whole=self._output.exactly)
            )

    def _line(self, version: Version, drawn: str, width: int) -> Text:
        from rich.text import Text  # noqa: PLC0415  JSON output does without it

        digits = len(str(self._newest.serial if self._newest else version.serial))
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{version.serial:>{digits}} ", style="bold")
        line.append(f"{version.short_id} ", style="yellow")
        line.append(f"{shown(version.timestamp, exactly=self._output.exactly):>10} ", style="dim")
        line.append(drawn, style="cyan")
        line.append(f"{filled(cut(on_a_line(version.operation), _OPERATION), _OPERATION)} ")
        self._append_names(line, version)
        keys = on_a_line(", ".join(version.changed_keys))
        message = said(version)
        others = min(width_of(keys), _MOST_KEYS) + 2 if keys else 0
        line.append(cut(message, max(width - line.cell_len - others, 12)))
        return line.append(f"{'  ' if message else ''}{keys}", style="dim")

    def _append_names(self, line: Text, version: Version) -> None:
        names = [*self._names.get(version.id, [])]
        if self._marked is not None and version.id == self._marked.id:
            names.insert(0, "HEAD")
        for number, name in enumerate(names):
            line.append(", " if number else "(", style="yellow")
            line.append(on_a_line(name), style="bold cyan" if name == "HEAD" else "bold green")
        if names:
            line.append(") ", style="yellow")

    def _value(self, version: Version, width: int) -> Text:
        from rich.text import Text  # noqa: PLC0415

        value = self.past.value(version, self.parts)
        overflow: OverflowMethod = "ignore" if self._output.exactly else "ellipsis"
        line = Text("    ", no_wrap=True, overflow=overflow)
        if value is MISSING:
            return line.append("removed", style="red")
        most = 10**9 if self._output.exactly else min(width, changes.WIDEST_VALUE) - 4
        return line.append(changes.brief(value, most), style="green")


def names_of(session: Session) -> dict[str, list[str]]:
    """The names of backups, by the ids of the versions that they are of."""
    found: dict[str, list[str]] = {}
    for name, version in sorted(session.state.named_backups().items()):
        found.setdefault(version.id, []).append(name)
    return found


def said(version: Version) -> str:
    """The first line of its message, without what is beside it in a list: the operation, and the changed keys."""
    text = version.message.partition("\n")[0]
    if text == version.operation:
        return ""
    text = text.removeprefix(f"{version.operation}: ")
    keys = ", ".join(version.changed_keys)
    cut = text.endswith("...") and keys.startswith(text[:-3])
    return "" if cut or text == keys else on_a_line(text)


def called(version: Version) -> str:
    """What it is called in a sentence."""
    return f"version {version.serial} ({version.short_id})"


def line_of(version: Version) -> str:
    """What is said of a version that was made, or has come."""
    return f"{called(version)} {version.message}"


def pruned() -> Text:
    """What is said in place of changes that nobody can tell."""
    from rich.text import Text  # noqa: PLC0415

    return Text("the version before it is pruned: what it changed cannot be told", style="dim")


def indented(texts: Iterable[Text]) -> Iterator[Text]:
    """The lines, four columns to the right."""
    from rich.text import Text  # noqa: PLC0415

    for text in texts:
        yield Text("    ", no_wrap=text.no_wrap, overflow=text.overflow).append_text(text)
