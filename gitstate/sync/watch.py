"""Watch: sees that a contact with a remote comes to an end, whatever the remote does (PITFALLS D22, D23)."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

MOST_SAID: Final = 64 * 1024 * 1024
"""Bytes that a remote may say before there is a pack: some hundred thousand refs."""

LONGEST_SECONDS: Final = 3600.0
"""How long a contact may take in all, however lively."""


class TooMuchError(Exception):
    """The remote says more, or for longer, than makes sense."""


class Watch:
    """One contact: the remote tells within `seconds` what it has, in a bounded number of bytes, and is silent no longer.

    Attributes:
        expired: whether it was ended, as it was silent.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.expired = False
        self._left = MOST_SAID
        self._last = time.monotonic()
        # However lively: a byte a second is no answer.
        self._end = self._last + seconds
        self._done = threading.Event()
        self._endings: list[Callable[[], None]] = []

    def reading(self, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
        """`read`, watched."""

        def watched(size: int = -1) -> bytes:
            """As it would read by itself."""
            content = read(size)
            self.saw(len(content))
            return content

        return watched

    def writing(self, write: Callable[[bytes], int | None]) -> Callable[[bytes], int | None]:
        """`write`, watched."""

        def watched(content: bytes) -> int | None:
            """As it would write by itself."""
            written = write(content)
            self.wrote()
            return written

        return watched

    def answered(self, most: int = MOST_SAID) -> None:
        """Notes that the remote has told what it has. What comes behind that may take longer, and `most` bytes.

        Until something is written it is our turn, whose time is nobody's silence.
        """
        self._left = most
        self._end = time.monotonic() + LONGEST_SECONDS
        self._last = math.inf

    def wrote(self) -> None:
        """Notes that the remote has taken something, and is to answer."""
        self._last = time.monotonic()

    def saw(self, count: int) -> None:
        """Notes that the remote has said so many bytes.

        Raises:
            TooMuchError: those are too many.
            TimeoutError: it takes too long.
        """
        self._last = time.monotonic()
        self._left -= count
        if self._left < 0:
            raise TooMuchError("it says more than a history of states can take")
        if self._last > self._end:
            self.expired = True
            raise TimeoutError("it takes too long")

    def guard(self, end: Callable[[], None]) -> None:
        """Has `end` called, from another thread, if the remote is silent; it ends what waits for it."""

        def wait() -> None:
            """Until it is done, or too late."""
            while not self._done.wait(min(0.2, self.seconds)):
                now = time.monotonic()
                if now - self._last > self.seconds or now > self._end:
                    self.expired = True
                    with contextlib.suppress(OSError):
                        end()
                    return

        # While the interpreter ends there are no more threads: then each single wait has its limit, and not their sum.
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=wait, name="gitstate-watch", daemon=True).start()

    def at_end(self, ending: Callable[[], None]) -> None:
        """Has `ending` called when the contact is over, which lets go of what it took."""
        self._endings.append(ending)

    def over(self) -> None:
        """Ends it."""
        self._done.set()
        while self._endings:
            with contextlib.suppress(OSError):
                self._endings.pop()()


def kill(program: subprocess.Popen[Any]) -> None:
    """Ends a program, and if it has a session of its own what it has started, too."""
    with contextlib.suppress(OSError):
        if sys.platform != "win32" and os.getpgid(program.pid) == program.pid:
            os.killpg(program.pid, signal.SIGKILL)
        else:
            program.kill()
