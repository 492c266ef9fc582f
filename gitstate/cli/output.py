"""Output: data to the standard output, everything else to the other one; for people, or as JSON for programs."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TextIO

from gitstate.cli.escapes import as_json, on_a_line, printable
from gitstate.cli.pager import page
from gitstate.cli.refusal import in_brief

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console, RenderableType
    from rich.table import Table

    from gitstate.cli.options import Options

_UNBOUNDED: Final = 100_000
"""Columns of an output that is no terminal: nothing is cut off, or wrapped, for whoever reads it."""

_NARROWEST: Final = 20
"""Columns, with fewer of which COLUMNS counts as not set: by some it is set to 0."""


class UnwritableError(Exception):
    """The standard output takes nothing: the disk behind it is full, say."""


class _Stderr(io.TextIOWrapper):
    """The standard error, which is not for data: what it does not take fails nothing that was done."""

    def write(self, text: str) -> int:
        """Writes as any stream, as far as somebody takes it."""
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes as any stream, as far as somebody takes it."""
        with contextlib.suppress(OSError):
            super().flush()


class _Stdout(io.TextIOWrapper):
    """The standard output, whose errors are told from those of other files."""

    def write(self, text: str) -> int:
        """Writes as any stream."""
        with _telling():
            return super().write(text)

    def flush(self) -> None:
        """Flushes as any stream."""
        with _telling():
            super().flush()


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnwritableError(f"the output cannot be written: {error.strerror or error}") from error


def take_output() -> None:
    """Has the standard output tell its errors, and the other one none; both are buffered even with PYTHONUNBUFFERED.

    With that a write to a pipe may be cut short, without a word.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        on_terminal = sys.stdout.isatty()
        sys.stdout = _Stdout(*_detached(sys.stdout), line_buffering=on_terminal)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _Stderr(*_detached(sys.stderr), "backslashreplace", line_buffering=True)


def _detached(stream: io.TextIOWrapper) -> tuple[Any, str]:
    """The bytes below a stream, buffered, and its encoding."""
    encoding, buffer = stream.encoding, stream.detach()
    is_raw = isinstance(buffer, io.RawIOBase)
    return io.BufferedWriter(buffer) if is_raw else buffer, encoding


class Output:
    """Where a run writes, as its options say."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._hears = False
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a terminal of few characters

    @property
    def json(self) -> bool:
        """Whether the output is for programs."""
        return self._options.json

    @property
    def exactly(self) -> bool:
        """Whether times are to be exact, and values whole."""
        return self._options.verbose > 0

    @property
    def on_terminal(self) -> bool:
        """Whether data goes to a terminal that can do more than print."""
        return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"

    @cached_property
    def console(self) -> Console:
        """What data for people is written with."""
        return self._console(error=False)

    @cached_property
    def errors(self) -> Console:
        """What everything else is written with."""
        return self._console(error=True)

    @property
    def width(self) -> int:
        """Columns that there are for a line of data."""
        return self.console.width

    # -- data ----------------------------------------------------------------------------------------------------

    def document(self, value: Any) -> None:
        """Writes the one JSON document of this run."""
        self._write(as_json(value, indent=2))

    def line(self, value: Any) -> None:
        """Writes a JSON document of several, on a line of its own, at once."""
        self._write(as_json(value))
        sys.stdout.flush()

    def print(self, *renderables: RenderableType) -> None:
        """Writes data for people; a string on a line, its control characters escaped."""
        for each in renderables:
            write(self.console, on_a_line(each) if isinstance(each, str) else each)

    def paged(self, renderables: Iterable[RenderableType]) -> None:
        """As `print`, each as soon as it is there, through a pager where there is a terminal."""
        if self._wants_pager():
            page(self._rendered(renderables), color=self.console.is_terminal)
            return
        for each in renderables:
            self.print(each)

    def text(self, text: str) -> None:
        """Writes a text that is printable as it is, no line of it cut or wrapped; through a pager as `paged`."""
        if self._wants_pager():
            page([f"{text}\n"], color=self.console.is_terminal)
        else:
            self._write(text)

    def raw(self, text: str) -> None:
        """Writes a text as it is; to a terminal as `printable`."""
        self._write(printable(text) if sys.stdout.isatty() else text)

    # -- everything else -----------------------------------------------------------------------------------------

    def beside(self, value: Any) -> None:
        """Writes a JSON document, on a line of its own, where what is no data goes."""
        sys.stderr.write(json.dumps(value) + "\n")

    def note(self, text: str) -> None:
        """Says what is no data: what was done, and what comes next."""
        if not (self._options.quiet or self.json):
            self.errors.print(on_a_line(text))

    def warn(self, text: str) -> None:
        """Says what is odd, though it went on."""
        if self.json:
            self.beside({"warning": text})
        else:
            self.errors.print(f"warning: {on_a_line(text)}", style="yellow")

    def error(self, document: dict[str, Any]) -> None:
        """Says what a run has failed with: see `refusal.document_of`."""
        if self.json:
            self.beside(document)
            return
        error = document["error"]
        message, hint = error["message"], error.get("hint")
        if hint and not self.exactly:
            message = in_brief(message)
        self.errors.print(f"error: {on_a_line(message)}", style="red")
        if hint:
            self.errors.print(f"hint: {on_a_line(hint)}", style="cyan")

    def hear_warnings(self) -> None:
        """From now on what the library warns of, in its log or as Python does, is said here."""
        if self._hears:
            return
        self._hears = True
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: self.warn(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("gitstate").addHandler(handler)
        warnings.showwarning = lambda message, *_, **__: self.warn(str(message))

    # ------------------------------------------------------------------------------------------------------------

    def _write(self, text: str) -> None:
        sys.stdout.write(text + "\n")

    def _wants_pager(self) -> bool:
        return self.on_terminal and sys.stdin.isatty() and not self._options.no_pager

    def _rendered(self, renderables: Iterable[RenderableType]) -> Iterator[str]:
        for each in renderables:
            with self.console.capture() as captured:
                self.print(each)
            yield captured.get()

    def _console(self, *, error: bool) -> Console:
        from gitstate.cli.console import StrictConsole  # noqa: PLC0415  JSON output does without it

        stream = sys.stderr if error else sys.stdout
        colored = self._options.color == "always" or (
            self._options.color == "auto"
            and stream.isatty()
            and os.environ.get("TERM") != "dumb"
            and not os.environ.get("NO_COLOR")
        )
        return StrictConsole(
            file=stream,
            stderr=error,
            force_terminal=colored or None,
            color_system="standard" if colored else None,
            width=_width(stream),
            # rich else asks the system for it at each line.
            height=None if stream.isatty() else 1,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=error,
        )


def write(console: Console, renderable: RenderableType) -> None:
    """Writes it: a string as it is, to be copied; of a text as much as fits, all where nothing of it is to be cut off."""
    # rich forgets of a text alone that it is not to be wrapped.
    overflow, no_wrap = getattr(renderable, "overflow", None), getattr(renderable, "no_wrap", None)
    plain = getattr(renderable, "plain", None)
    if plain is not None and no_wrap and _takes_as_it_is(console, plain):
        # A tenth of what rich takes for it, which counts for 100,000 lines.
        console.file.write(f"{plain}\n")
        console.file.flush()  # as rich does: the other stream may lead to the same place
        return
    console.print(
        renderable,
        no_wrap=no_wrap,
        overflow=overflow,
        soft_wrap=console.soft_wrap or overflow == "ignore" or isinstance(renderable, str),
    )


def _takes_as_it_is(console: Console, line: str) -> bool:
    """Whether nothing is to be made of the line: no colours, no page, no end that does not fit."""
    from rich.cells import cell_len  # noqa: PLC0415  as `table`

    if console.is_terminal or console.file.isatty() or "\t" in line or "\n" in line:
        return False
    return cell_len(line) <= console.width


def agreed(question: str, *, default: bool = False) -> bool:
    """Whether the answer is yes; the end of the input is a no.

    Raises:
        KeyboardInterrupt: the answer is Ctrl-C.
    """
    import click  # noqa: PLC0415  what is never asked needs no prompt

    try:
        return click.confirm(on_a_line(question), default=default, err=True)
    except click.Abort as abort:
        sys.stderr.write("\n")
        if isinstance(abort.__context__, EOFError):
            return False
        raise KeyboardInterrupt from abort


def counted(number: int, what: str) -> str:
    """`1 version`, `2,571 versions`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def table(*columns: str, right: Iterable[str] = ()) -> Table:
    """An empty table without lines; the columns of `right` are numbers."""
    from rich.table import Table  # noqa: PLC0415  JSON output does without it

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="ellipsis")
    return made


def _width(stream: TextIO) -> int | None:
    """How many columns there are for what is written there; None where a terminal knows, or COLUMNS says so."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told) >= _NARROWEST:
        return int(told)
    if not stream.isatty():
        return _UNBOUNDED
    # rich would take any number there for the width.
    return os.get_terminal_size(stream.fileno()).columns or 80 if told else None
