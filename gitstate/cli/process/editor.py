"""Editor: a text that somebody edits in a program of theirs, and that is not lost, whatever comes of it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from gitstate.cli.process.child import Child
from gitstate.cli.refusal import Refusal, usage

if TYPE_CHECKING:
    from types import TracebackType

    from gitstate.cli.output import Output

_VARIABLES: Final = ("GITSTATE_EDITOR", "VISUAL", "EDITOR")
_INTERRUPTED: Final = 130
_SECONDS_OF_A_LOOK: Final = 1.0
"""Nobody opens a text, reads it, and closes it, in less."""


class Editing:
    """The block in which a text is edited: in a file of its own, in a folder that nobody else can look into.

    The file goes with the end of the block. If that ends by an error, and something was written, it stays, and is named.
    """

    def __init__(self, text: str, output: Output) -> None:
        self._text = text.encode("utf-8")
        self._output = output
        self._editor = _editor()

    def __enter__(self) -> Self:
        # A folder, not only a file: editors put copies beside what they edit.
        self._folder = Path(tempfile.mkdtemp(prefix="gitstate-"))
        self._file = self._folder / "edited.json"
        try:
            with open(
                os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            ) as file:
                file.write(self._text)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and self._may_be_written():
            self._output.warn(f"what you wrote is kept in {self._file}")
        else:
            shutil.rmtree(self._folder, ignore_errors=True)

    def edited(self) -> bytes | None:
        """What the file holds once the editor is closed, opened as it was left the last time; None for nothing else than at first.

        Raises:
            Refusal: the editor cannot be run, or has failed.
            KeyboardInterrupt: it was ended by Ctrl-C.
        """
        # What it prints is no data of ours.
        stdout = None if sys.stdout.isatty() else sys.stderr.fileno()
        began, before = time.monotonic(), self._stamp()
        with Child() as child:
            try:
                status = child.run([*self._editor, os.fspath(self._file)], stdout=stdout)
            except OSError as error:
                raise Refusal(
                    f"the editor {self._editor[0]!r} cannot be run: {error.strerror}", hint=_HINT
                ) from error
        if status == _INTERRUPTED:
            raise KeyboardInterrupt
        if status:
            raise Refusal(
                f"the editor {self._editor[0]!r} ended with {status}; nothing was changed"
            )
        if before == self._stamp() and time.monotonic() - began < _SECONDS_OF_A_LOOK:
            self._output.warn(
                f"the editor {self._editor[0]!r} ended at once: one that opens a window has to wait until that is closed, as"
                " EDITOR='code --wait' does"
            )
        return self._written()

    def _stamp(self) -> tuple[int, int] | None:
        """What changes with whatever writes the file; None where it is gone."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _may_be_written(self) -> bool:
        try:
            return self._written() is not None
        except OSError:
            return True

    def _written(self) -> bytes | None:
        try:
            content = self._file.read_bytes()
        except FileNotFoundError:
            return None
        return content if content.strip() and content != self._text else None


_HINT: Final = f"{', '.join(_VARIABLES)} name it, with its options: EDITOR='code --wait'"


def _editor() -> list[str]:
    """The words of the command that was chosen; vi where there is none, and a terminal for it.

    Raises:
        Refusal: there is no terminal, or the command is not quoted as a shell wants it.
    """
    chosen = next(filter(str.strip, (os.environ.get(name, "") for name in _VARIABLES)), "")
    try:
        words = shlex.split(chosen)
    except ValueError as error:
        raise usage(
            f"the editor {chosen!r} cannot be understood: {error}",
            hint=_HINT,
        ) from error
    if words:
        return words
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or os.environ.get("TERM") == "dumb":
        raise usage(
            "no editor is chosen, and there is no terminal for vi",
            hint=f"{_HINT}; gitstate set and gitstate apply need none",
        )
    return ["vi"]
