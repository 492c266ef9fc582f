"""Program: a git or an ssh that is started to speak to a remote, and ends in time, with all that it has started."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import tempfile
from functools import partial
from typing import IO, TYPE_CHECKING, Final

from gitstate.sync.environment import for_git
from gitstate.sync.watch import kill

if TYPE_CHECKING:
    from gitstate.sync.watch import Watch

_ENDING_SECONDS: Final = 5.0
_PIECE: Final = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe which can be written takes at once."""

in_a_child = False
"""Whether this process is one that fetches: then what it starts ends with it, and needs no session of its own."""

_QUIET: Final = {"LC_ALL": "C", "GIT_PROTOCOL": "version=2"}
"""What is complained of is read by us, and `upload-pack` need not list all refs."""


class ProgramError(Exception):
    """A program that it takes cannot be run."""

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(f"{name}: {error.strerror}")


class Program:
    """A program at the other end of two pipes. What it complains of goes to a file, which cannot fill up."""

    def __init__(self, command: list[str], watch: Watch) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  closed with the program
        self._watch = watch
        try:
            # A session of its own, so that it is ended with all that it has started, and cannot ask on a terminal.
            self._process = subprocess.Popen(  # noqa: S603  the user's own git or ssh
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={**for_git(), **_QUIET},
                start_new_session=sys.platform != "win32" and not in_a_child,
                bufsize=0,
            )
        except OSError as error:
            self._stderr.close()
            raise ProgramError(command[0], error) from error
        watch.guard(partial(kill, self._process))
        watch.at_end(self.forget)
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError
        self._in, self._out = self._process.stdin, self._process.stdout

    def read(self, size: int) -> bytes:
        """So many bytes, fewer at the end."""
        pieces = []
        while size > 0 and self._ready(self._out) and (piece := self._out.read(size)):
            self._watch.saw(len(piece))
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def write(self, content: bytes) -> int:
        """Writes all of it."""
        left = memoryview(content)
        while left and self._ready(None, self._in):
            left = left[self._in.write(left[:_PIECE]) or 0 :]
            self._watch.wrote()
        return len(content)

    def _ready(self, source: IO[bytes] | None, target: IO[bytes] | None = None) -> bool:
        """True, once a pipe can be read, or written.

        Raises:
            TimeoutError: that is not within the time.
        """
        if sys.platform != "win32":  # there only sockets can be waited for so
            sources, targets = [source] if source else [], [target] if target else []
            if not any(select.select(sources, targets, [], self._watch.seconds)):
                self._watch.expired = True
                raise TimeoutError("it is silent")
        return True

    def can_read(self) -> bool:
        """Whether something can be read now."""
        return bool(select.select([self._out], [], [], 0)[0])

    def close(self) -> None:
        """Ends it."""
        for pipe in (self._in, self._out):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            # Whoever was interrupted waits for nothing.
            interrupted = isinstance(sys.exc_info()[1], KeyboardInterrupt)
            self._process.wait(0 if interrupted else _ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            kill(self._process)
            self._process.wait()

    def complaints(self) -> list[bytes]:
        """The lines that it has said beside; it is ended for that."""
        self.close()
        self._stderr.seek(0)
        return self._stderr.readlines()

    def forget(self) -> None:
        """Ends it, and lets go of what it has said."""
        self.close()
        self._stderr.close()


class Late:
    """What a program complains of, asked for when it has ended."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def readlines(self) -> list[bytes]:
        """The lines of it."""
        return self._program.complaints()
