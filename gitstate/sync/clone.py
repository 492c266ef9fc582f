"""Clone: a state and its history, taken up from a remote on another machine."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from typing import TYPE_CHECKING, Final

from gitstate import files
from gitstate.errors import StateRemoteError, StateWriteError
from gitstate.progress import Telling
from gitstate.remotes import ORIGIN, Remote, is_timeout
from gitstate.repository import BRANCH
from gitstate.sync.address import parse
from gitstate.sync.fetch import Request, fetch
from gitstate.sync.pull import Pull
from gitstate.sync.watch import LONGEST_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gitstate.progress import Progress
    from gitstate.writer import Writer

_QUARANTINE: Final = "clone"
_ABANDONED_SECONDS: Final = 2 * LONGEST_SECONDS


def clone(
    writer: Writer,
    url: str | os.PathLike[str],
    timeout: float,
    progress: Callable[[Progress], None] | None,
) -> None:
    """Makes the state that `writer` writes, which is not there yet, the one whose history is at `url`.

    Raises:
        StateRemoteError: it cannot be had; or there is a state, or a history, here already. Nothing was changed.
        StateError: as a transaction; nothing was changed, or the next clone goes on.
        ValueError: the timeout makes no sense; nothing was changed.
    """
    if not is_timeout(timeout):
        raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
    remote = Remote(ORIGIN, parse(url).url, timeout=float(timeout))
    layout = writer.store.layout
    _refuse_what_is_here(writer, remote)
    refused = files.Refused(StateWriteError, "cannot clone", layout.state, "Nothing was changed.")
    with Telling(progress) as tell, refused, _beside(layout.state) as place:
        request = Request(None, layout.state.name, archive=True, allow_nan=writer.policy.allow_nan)
        fetched = fetch(remote, request, place, tell)
        if fetched.history.head is None:
            raise _refusal(
                remote,
                layout.state,
                f"there is no history of a state yet at {remote.url}. Nothing was changed. Push one to it first.",
                code="remote-empty",
            )
        Pull(writer, remote, fetched, adds=True).run()


def _refuse_what_is_here(writer: Writer, remote: Remote) -> None:
    """Sees that there is neither a state, nor a history, nor another remote of that name."""
    layout = writer.store.layout
    if os.path.lexists(layout.state) or BRANCH in writer.store.reader.refs():
        raise _refusal(
            remote,
            layout.state,
            f"there is a state already: {layout.state}. Nothing was changed. Clone to another place; or, where it has the"
            " same history, state.remotes.add() and state.pull().",
            code="clone-exists",
        )
    configured = layout.remotes().get(ORIGIN)
    if configured is not None and configured.url != remote.url:
        raise _refusal(
            remote,
            layout.state,
            f"a remote is called {ORIGIN!r} here already, at {configured.url}: {layout.state}. Nothing was changed. Remove it"
            " first, or clone to another place.",
            code="clone-exists",
        )


def _refusal(remote: Remote, state: Path, why: str, *, code: str) -> StateRemoteError:
    return StateRemoteError(why, remote=remote.name, url=remote.url, path=state, code=code)


@contextlib.contextmanager
def _beside(state: Path) -> Iterator[Path]:
    """A quarantine beside a state file that has no store yet, gone behind the block, and those of killed clones with it."""
    ours = re.compile(rf"\.{re.escape(state.name)}\.[0-9a-f]{{16}}\.{_QUARANTINE}")
    with files.Refused(StateWriteError, "cannot clone", state, "Nothing was changed."):
        files.make_directories(state.parent)
        for name in os.listdir(state.parent):
            # Somebody may be at it just now.
            if ours.fullmatch(name) and _age(state.parent / name) > _ABANDONED_SECONDS:
                shutil.rmtree(state.parent / name, ignore_errors=True)
        place = state.parent / f".{state.name}.{files.token()}.{_QUARANTINE}"
        (place / "objects" / "pack").mkdir(parents=True, mode=0o700)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _age(path: Path) -> float:
    """Seconds since anything in a folder was made."""
    with contextlib.suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime
    return 0.0
