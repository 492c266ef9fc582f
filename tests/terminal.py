"""A terminal of 80 columns and 24 lines, by tmux: what is typed into it, and what stands on it."""

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import installed

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
PATIENCE_SECONDS = 30


class Terminal:
    """A shell in a terminal of its own."""

    def __init__(self, socket: Path) -> None:
        self._runs = 0
        self._tmux = ["tmux", "-S", os.fspath(socket), "-f", os.devnull]

    def tmux(self, *arguments: str) -> str:
        """Runs a command of tmux."""
        done = subprocess.run(
            [*self._tmux, *arguments], capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout

    def type(self, line: str) -> None:
        """Types a line."""
        self.tmux("send-keys", "-l", line)
        self.press("Enter")

    def press(self, *keys: str) -> None:
        """Presses keys, by tmux's names: C-c, Tab."""
        self.tmux("send-keys", *keys)

    def screen(self, *, colored: bool = False) -> str:
        """What stands on it."""
        return self.tmux("capture-pane", "-p", *(["-e"] if colored else [])).rstrip()

    def wait(self, wanted: str | Callable[[str], bool]) -> str:
        """The screen, as soon as that is on it."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            screen = self.screen()
            if wanted(screen) if callable(wanted) else wanted in screen:
                return screen
            time.sleep(0.05)
        raise AssertionError(f"{wanted!r} is not on the screen:\n{screen}")

    def run(self, line: str) -> tuple[int, str]:
        """Runs a line on an empty screen; its status, and what it left there."""
        self._runs += 1
        end = re.compile(
            rf"=(\d+)=\n{self._runs}\n\$$"
        )  # of this run: the one before may still stand there
        self.type(f'clear; {line}; echo "=$?="; echo {self._runs}')
        screen = self.wait(lambda text: end.search(text) is not None)
        match = end.search(screen)
        assert match is not None
        return int(match[1]), screen[: match.start()].rstrip()


@contextmanager
def terminal(folder: Path, **variables: str) -> Iterator[Terminal]:
    """A bash in that folder, whose `gitstate` is the one under test, and whose prompt is `$`."""
    programs = installed(folder)
    made = Terminal(folder / ".tmux")
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "HOME": os.fspath(folder),
        "LANG": "C.UTF-8",
        "TERM": "screen",
        "PS1": "$ ",
        **variables,
    }
    sets = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    # Not by tmux's own -e: the shell in between would set some of them anew.
    shell = f"exec env -u NO_COLOR -u PYTHONDONTWRITEBYTECODE {sets} bash --norc --noprofile"
    made.tmux("new-session", "-d", "-x", "80", "-y", "24", "-c", os.fspath(folder), shell)
    try:
        made.wait("$")
        yield made
    finally:
        made.tmux("kill-server")
