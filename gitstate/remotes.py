"""Remotes: where a state's history is pushed to and pulled from, as it stands in the store's `remotes.json`.

They are not in the hidden repository's own config, which whoever can write there could make run programs (PITFALLS
D25). The format, a part of the store's format 1: an object with a remote under each name::

    {"origin": {"url": "ssh://host/srv/state.git", "push": "manual", "timeout": 30.0}}
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from gitstate import files
from gitstate.errors import StateReadError, StateRemoteError, store_unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE: Final = "remotes.json"
DEFAULT_TIMEOUT: Final = 30.0
ORIGIN: Final = "origin"
"""What a remote is called unless somebody says otherwise."""

_NAME: Final = re.compile(r"(?!.*\.\.)(?!.*\.lock$)[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?<!\.)")

PushMode = Literal["manual", "auto"]


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository that has, or gets, the history.

    Attributes:
        name: what it is called here.
        url: where it is: a folder, or a URL without a password.
        push: `"auto"` for one that gets every version soon after its commit, else `"manual"`.
        timeout: seconds after which a remote that says nothing is given up.
    """

    name: str
    url: str
    push: PushMode = "manual"
    timeout: float = DEFAULT_TIMEOUT


def tracking_ref(name: str) -> str:
    """The ref that says where the branch of the remote `name` is known to be: gitglossary(7), remote-tracking branch."""
    return f"refs/remotes/{name}/main"


def is_name(name: object) -> bool:
    """Whether a remote may be called so: it is a part of a ref's name, and of a file's."""
    return isinstance(name, str) and bool(_NAME.fullmatch(name))


def read(store: Path) -> dict[str, Remote]:
    """The remotes that are stored in `store`, by their names.

    Raises:
        StateReadError: they cannot be read; code `"remotes-damaged"` where the file is none of ours.
    """
    path = store / FILE
    try:
        return decode(files.read(path)[0])
    except FileNotFoundError:
        return {}
    except (IsADirectoryError, ValueError) as error:
        raise StateReadError(
            f"the list of remotes cannot be read ({error}): {path}. The state and its history are untouched; nothing is"
            " pruned meanwhile. Mend that file, or delete it and add the remotes again.",
            path=path,
            code="remotes-damaged",
        ) from error
    except OSError as error:
        raise store_unreadable(store, error) from error


def write(store: Path, remotes: Mapping[str, Remote]) -> None:
    """Stores the remotes in `store`, durably.

    Raises:
        OSError: the disk refused; the old ones are as they were.
    """
    files.replace(store / FILE, encode(remotes))


def called(name: str, remotes: Mapping[str, Remote], state: Path) -> Remote:
    """The one of the `remotes` that is called so.

    Raises:
        StateRemoteError: there is none; code `"no-such-remote"`.
    """
    if name not in remotes:
        raise unknown(name, remotes, state)
    return remotes[name]


def unknown(name: str, remotes: Mapping[str, Remote], state: Path) -> StateRemoteError:
    """What to raise where none of the `remotes` is called so."""
    others = ", ".join(sorted(remotes)) or "none so far"
    return StateRemoteError(
        f"no remote is called {name!r}; there is {others}: {state}. Nothing was changed."
        " state.remotes.add(name, url) adds one.",
        remote=str(name),
        path=state,
        code="no-such-remote",
    )


def encode(remotes: Mapping[str, Remote]) -> bytes:
    """The bytes of the file."""
    rows = {
        each.name: {"url": each.url, "push": each.push, "timeout": each.timeout}
        for each in remotes.values()
    }
    return (json.dumps(rows, indent=2) + "\n").encode()


def decode(content: bytes) -> dict[str, Remote]:
    """The remotes in the bytes of the file, by their names.

    Raises:
        ValueError: they are damaged.
    """
    try:
        rows = json.loads(content)
        return {name: _remote(name, row) for name, row in rows.items()}
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(repr(error)) from error


def is_timeout(seconds: object) -> bool:
    """Whether a remote may be waited for so long."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        return False
    return math.isfinite(seconds) and seconds > 0


def _remote(name: str, row: dict[str, Any]) -> Remote:
    url, push, timeout = row["url"], row["push"], row["timeout"]
    sound = isinstance(url, str) and push in ("manual", "auto")
    if not (sound and is_name(name) and is_timeout(timeout)):
        raise ValueError(f"{name!r} is no remote")
    return Remote(name, url, push, timeout)
