"""Child: a program that runs in the place of this one: it has the terminal, and the signals that we are sent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

NOT_RUNNABLE: Final = 126
NOT_FOUND: Final = 127
_BY_SIGNAL: Final = 128

_FROM_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT)
"""What Ctrl-C and Ctrl-\\ send to everybody in front of the terminal, to the child as well as to us."""

_PASSED_ON: Final = (*_FROM_TERMINAL, signal.SIGTERM, signal.SIGHUP)


class Child:
    """One program; as a context manager it is what keeps the signals from us, until the end of the block.

    Attributes:
        interrupted: whether Ctrl-C was pressed meanwhile.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in _PASSED_ON:
            before = signal.getsignal(number)
            # What is ignored, as SIGHUP behind nohup, the child is to ignore, too: exec resets a handler, and only that.
            if before not in (signal.SIG_IGN, None):
                self._before[number] = before
                signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def run(self, arguments: Sequence[str], **how: Any) -> int:
        """Runs it to its end, with what else `Popen` is told; the status, as a shell gives it: 128 and the number of a signal.

        A signal that has come before it began is its end, too: it does not begin.

        Raises:
            OSError: it cannot be run.
        """
        if self._waiting:
            return _BY_SIGNAL + self._waiting[0]
        # What is run is what the user names, by its words: no shell reads them.
        with subprocess.Popen(arguments, **how) as self._process:  # noqa: S603
            # While it began: one of the terminal it may have already, and twice is better than never.
            for number in self._waiting:
                self._send(number)
            status = self._process.wait()
        return status if status >= 0 else _BY_SIGNAL - status

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        self.interrupted |= number == signal.SIGINT
        if self._process is None:
            self._waiting.append(number)
        elif not (number in _FROM_TERMINAL and _in_front()):  # where it has it already
            self._send(number)

    def _send(self, number: int) -> None:
        # Another user's, as behind sudo, is not ours to end: it is waited for.
        with contextlib.suppress(PermissionError):
            if self._process is not None:
                self._process.send_signal(number)


def status_without(error: OSError) -> int:
    """What a shell ends with where a program cannot be run."""
    return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE


def signal_of(status: int) -> str | None:
    """The name of the signal by which a program with that status was ended, None if it was not."""
    try:
        return signal.Signals(status - _BY_SIGNAL).name
    except ValueError:
        return None


def _in_front() -> bool:
    """Whether this process, and so its child, is what the terminal sends the signals of its keys to."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
