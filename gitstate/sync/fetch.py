"""Fetch: what a remote has comes into a quarantine, by a child process that can take only so much (PITFALLS D23).

The child reads what the remote sends, checks all of it, and says what it is; see child.py. Until the caller takes it in,
nothing of it can be found in the repository.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gitstate import files
from gitstate.errors import StateRemoteError, StateWriteError
from gitstate.sync.fetched import History
from gitstate.sync.watch import LONGEST_SECONDS, kill
from gitstate.sync.words import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gitstate.progress import ProgressCallback
    from gitstate.remotes import Remote

_START_SECONDS: Final = 5.0
"""What the child takes, beyond the remote, until it is told what that has: it has to start."""

_CHECK_SECONDS: Final = 120.0
"""How long it may be silent while it checks: the largest states take a minute."""

_QUARANTINE: Final = "fetch."


class Request(NamedTuple):
    """What the child is asked for.

    Attributes:
        state: the state file, whose history is gone on with; None for a clone.
        file_name: what the file is called in the remote's trees.
        haves: commits that are here, the newest first.
        shallow: where the history that is here ends.
        archive: whether the lines of pruned versions are wanted, too.
        allow_nan: whether NaN and infinities pass.
    """

    state: str | None
    file_name: str
    haves: tuple[str, ...] = ()
    shallow: tuple[str, ...] = ()
    archive: bool = False
    allow_nan: bool = False


class Arrived(NamedTuple):
    """What was fetched, its pack in the quarantine, None where nothing was lacking, and where that is."""

    history: History
    pack: Path | None
    place: Path


@contextlib.contextmanager
def quarantine(folder: Path) -> Iterator[Path]:
    """A new folder in `folder`, gone behind the block. Who is alone there removes what killed processes left.

    Raises:
        StateWriteError: the disk refused.
    """
    safe = "Nothing was changed."
    with files.Refused(StateWriteError, "cannot fetch", folder, safe):
        for name in os.listdir(folder):
            if name.startswith(_QUARANTINE):
                shutil.rmtree(folder / name, ignore_errors=True)
        place = folder / f"{_QUARANTINE}{files.token()}"
        (place / "objects" / "pack").mkdir(parents=True, mode=0o700)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def fetch(remote: Remote, request: Request, place: Path, progress: ProgressCallback) -> Arrived:
    """Fetches what `remote` has into the quarantine `place`, and has it checked.

    Raises:
        StateRemoteError: it cannot be had, or is not to be had; nothing was changed.
    """
    order = {
        "remote": asdict(remote),
        "request": request._asdict(),
        "place": os.fspath(place),
        "python_path": os.environ.get("PYTHONPATH"),
    }
    with _child() as child:
        lines = _lines(child)
        if child.stdin is None:
            raise AssertionError
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(order).encode() + b"\n")
            child.stdin.flush()
        end = time.monotonic() + LONGEST_SECONDS
        patience = remote.timeout + _START_SECONDS
        while True:
            wait = min(patience, end - time.monotonic())
            try:
                line = lines.get(timeout=max(wait, 0.0))
            except queue.Empty:
                raise _error(remote, "it does not answer in time", code="remote-timeout") from None
            if line is None:
                raise _ended(remote, child.wait())
            try:
                fetched = _understood(line, remote, place, progress)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                why = f"the process that looked into it is not understood ({line[:100]!r})"
                raise _error(remote, why, code="remote-invalid") from error
            if fetched is not None:
                return fetched
            patience = remote.timeout + _CHECK_SECONDS


def _understood(
    line: bytes, remote: Remote, place: Path, progress: ProgressCallback
) -> Arrived | None:
    """What the child says at the end; None for how far it is.

    Raises:
        StateRemoteError: it says that it failed.
    """
    said: dict[str, Any] = json.loads(line)
    if "progress" in said:
        progress(*said["progress"])
        return None
    if "error" in said:
        raise StateRemoteError(said["error"], remote=remote.name, url=remote.url, code=said["code"])
    pack = place / "objects" / "pack" / said["pack"] if said["pack"] else None
    return Arrived(History.from_json(said["history"]), pack, place)


@contextlib.contextmanager
def _child() -> Iterator[subprocess.Popen[bytes]]:
    # What can be imported here can be there. Its own session: it is ended with whatever it has started.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", "-m", "gitstate.sync.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=sys.platform != "win32",
    )
    try:
        yield child
    finally:
        kill(child)
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        child.wait()


def _lines(child: subprocess.Popen[bytes]) -> queue.Queue[bytes | None]:
    """What the child says, line by line; None when it has ended."""
    lines: queue.Queue[bytes | None] = queue.Queue()

    def read() -> None:
        """Until the end."""
        with contextlib.suppress(OSError, ValueError):
            for line in child.stdout or ():
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, name="gitstate-fetch", daemon=True).start()
    return lines


def _ended(remote: Remote, status: int) -> StateRemoteError:
    """The error that the child has ended without a word."""
    why = f"the process that looked into it ended with {status}"
    if status < 0:
        why = f"what it sends takes more memory or time than a history of states can ({why})"
    return _error(remote, why, code="remote-invalid")


def _error(remote: Remote, why: str, *, code: str) -> StateRemoteError:
    return StateRemoteError(
        f"what {remote.name} has was not taken: {quoted(why)}: {remote.url}. Nothing was changed.",
        remote=remote.name,
        url=remote.url,
        code=code,
    )
