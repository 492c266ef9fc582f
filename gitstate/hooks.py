"""Hooks: the programs that are shipped, and the one of a store that is run after each commit.

What a store's own `hooks/post-commit` is told, in its environment: GITSTATE_STATE, GITSTATE_VERSION, GITSTATE_SERIAL,
GITSTATE_OPERATION, GITSTATE_MESSAGE, GITSTATE_TIME, GITSTATE_GIT_DIR, GITSTATE_PYTHON, and GITSTATE_HOOK=1, with which no
other hook is run. Its input is empty; what it says is in the log if it fails.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from gitstate import files, trailers
from gitstate.errors import StateWriteError

if TYPE_CHECKING:
    from gitstate.draft import Head
    from gitstate.layout import Layout

SHIPPED: Final = ("post-commit", "pre-commit", "pre-receive")
"""The names of the hooks that `install` installs."""

Standing = Literal["installed", "missing", "another"]

TIME_LIMIT = 60.0
"""Seconds after which a hook is killed, with what it has started."""

_RUNNING: Final = "GITSTATE_HOOK"
_LOOK_SECONDS: Final = 0.05
"""How long a hook that has ended is not noticed, where something that it has left running keeps its output."""

_KEPT_OUTPUT: Final = 1000
_LONGEST: Final = 20_000
"""Characters of a message or an operation: of a longer string in its environment Linux starts no program, execve(2)."""

_TO_REMOTES: Final = (b"GIT_SSH", b"GIT_SSL", b"GIT_ASKPASS", b"GIT_TERMINAL_PROMPT")
"""How a remote is reached; everything else that begins with GIT_ is about the repository of a git around this process."""

_log = logging.getLogger("gitstate")
_said: set[str] = set()


def shipped(name: str) -> Path:
    """Where the hook of that name is: beside this module as it is installed, or in the clone that it is a part of.

    Raises:
        ValueError: there is none.
    """
    if name not in SHIPPED:
        raise ValueError(f"there is no hook {name!r}; there are {', '.join(SHIPPED)}")
    installed = Path(__file__).with_name("hooks.d")
    return (installed if installed.is_dir() else Path(__file__).parents[1] / "hooks") / name


def install(name: str, target: str | os.PathLike[str], *, dry_run: bool = False) -> Path:
    """The hook of that name in the folder `target`, which is made if it is missing, as a program; its path.

    That folder is `hooks` of a bare repository, `.git/hooks` of a project, or `.pipeline/hooks` of a store. With `dry_run`
    nothing is changed: where it would be is given, or why it would not be is raised.

    Raises:
        ValueError: there is no such hook; nothing was changed.
        StateWriteError: another file goes by its name there, code `"hook-exists"`, or the disk refused; nothing was
            changed.
    """
    content = shipped(name).read_bytes()
    folder = Path(os.path.abspath(target))
    hook = folder / name
    with files.Refused(StateWriteError, "cannot install the hook", hook, "Nothing was changed."):
        if dry_run:
            os.listdir(folder if os.path.lexists(folder) else folder.parent)  # which has to be one
            if standing(name, folder) == "another":
                raise _exists(hook)
            return hook
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o755)
        temporary = folder / f".{name}.{files.token()}.tmp"
        files.write_new(temporary, content, mode=0o755)
        try:
            # Not a rename: that would take the place of whatever is there.
            os.link(temporary, hook)
        except FileExistsError:
            if not _holds(hook, content):
                raise _exists(hook) from None
            os.chmod(hook, 0o755)  # noqa: S103  others may read and run it
        finally:
            files.remove(temporary)
        files.sync_directory(folder)
    return hook


def standing(name: str, target: str | os.PathLike[str]) -> Standing:
    """Whether the hook of that name is `"installed"` in the folder `target`; `"another"` where something else goes by its name.

    Raises:
        ValueError: there is no such hook.
        OSError: the system does not let us look.
    """
    content, hook = shipped(name).read_bytes(), Path(target) / name
    if not os.path.lexists(hook):
        return "missing"
    if not _holds(hook, content):
        return "another"
    return "installed" if os.access(hook, os.X_OK) else "missing"


def run(layout: Layout, head: Head) -> None:
    """Runs the hook of a store, as its owner's own program; whatever goes wrong is a warning in the log.

    Not on Windows, which does not start a script by its first line.
    """
    if sys.platform == "win32" or _RUNNING in os.environ:
        return
    try:
        if why := _distrusted(layout.hook):
            if why not in _said:
                _said.add(why)
                _log.warning("the hook is not run: %s", why)
        elif why := _outcome(layout, head):
            serial = head.commit.note.serial
            _log.warning("the hook after version %d failed, %s: %s", serial, layout.hook, why)
    except Exception as error:  # noqa: BLE001  the commit has happened, and nothing here may fail it
        _log.warning("the hook could not be run, %s: %s", layout.hook, str(error))


def _holds(hook: Path, content: bytes) -> bool:
    return stat.S_ISREG(hook.lstat().st_mode) and files.read(hook)[0] == content


def _exists(hook: Path) -> StateWriteError:
    return StateWriteError(
        f"there is another hook of that name: {hook}. Nothing was changed. Move it away, and run it again; or call the"
        " one from the other.",
        path=hook,
        code="hook-exists",
    )


def _distrusted(hook: str) -> str | None:
    """Why a hook is not to be run, None where it is."""
    for place, is_right, kind in (
        (os.path.dirname(hook), stat.S_ISDIR, "a folder"),
        (hook, stat.S_ISREG, "a file"),
    ):
        status = os.lstat(place)
        if not is_right(status.st_mode):
            return f"it is not {kind}, or behind a symlink: {place}"
        if status.st_uid != os.geteuid():
            return f"it belongs to user {status.st_uid}: {place}"
        if status.st_mode & 0o022:
            return f"other users can write it, chmod go-w: {place}"
    return None if os.access(hook, os.X_OK) else f"it is not executable, chmod +x: {hook}"


def _outcome(layout: Layout, head: Head) -> str | None:
    """What went wrong when the hook was run, None if it went well.

    Raises:
        OSError, ValueError: it cannot be run.
    """
    with subprocess.Popen(  # noqa: S603  the owner's own program: see _distrusted
        [layout.hook],
        cwd=layout.state.parent,
        env=_environment(layout, head),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            said = _listen(process)
        except subprocess.TimeoutExpired:
            return f"it took longer than {TIME_LIMIT:g} s and was killed"
        finally:
            # Also where an interrupt comes, which does not reach it: it is in a session of its own.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    status = process.returncode
    if status == 0:
        return None
    how = f"exit status {status}" if status > 0 else f"killed by signal {-status}"
    text = trailers.clean_message(said.decode(errors="replace"))
    return f"{how}: {trailers.one_line(text)}"


def _listen(process: subprocess.Popen[bytes]) -> bytes:
    """The end of what a process says until it has ended; whatever it has started may go on.

    Raises:
        subprocess.TimeoutExpired: it has not.
    """
    if process.stdout is None:
        raise AssertionError
    end, output, said = time.monotonic() + TIME_LIMIT, process.stdout.fileno(), b""
    waiting = select.poll()
    waiting.register(output)
    while (ended := process.poll()) is None or waiting.poll(0):
        left = end - time.monotonic()
        if left <= 0:
            raise subprocess.TimeoutExpired(process.args, TIME_LIMIT)
        if ended is not None or waiting.poll(1000 * min(left, _LOOK_SECONDS)):
            more = os.read(output, 65536)
            said = (said + more)[-_KEPT_OUTPUT:]
            if not more:
                process.wait(left)
            if not more or ended is not None:  # what it had said before it ended fits into the pipe
                break
    return said


def _environment(layout: Layout, head: Head) -> dict[bytes, bytes]:
    note = head.commit.note
    told = {
        "STATE": os.fsencode(layout.state),
        "GIT_DIR": os.fsencode(layout.git_dir),
        "VERSION": head.commit.id.encode(),
        "SERIAL": b"%d" % note.serial,
        "OPERATION": _cut(note.operation),
        "MESSAGE": _cut(note.message),
        "TIME": note.time.isoformat().encode(),
        "PYTHON": os.fsencode(sys.executable or ""),
    }
    kept = {
        name: value
        for name, value in os.environb.items()
        if not name.startswith(b"GIT_") or name.startswith(_TO_REMOTES)
    }
    own = {f"GITSTATE_{name}".encode(): value for name, value in told.items()}
    return {**kept, **own, _RUNNING.encode(): b"1"}


def _cut(text: str) -> bytes:
    return text[:_LONGEST].encode(errors="backslashreplace").replace(b"\0", b"")
