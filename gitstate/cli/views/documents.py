"""Documents: versions, holders and remotes as JSON, the same ones wherever they are in an output.

What a verb that changes something writes has `dry_run`, whether it only says what it would do; but for that its keys are
the same.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gitstate.cli.times import exact

if TYPE_CHECKING:
    from gitstate import Holder, Remote, RemoteStatus, Version


def of_version(version: Version) -> dict[str, Any]:
    """A version, without the state that it holds."""
    return {
        "id": version.id,
        "serial": version.serial,
        "timestamp": exact(version.timestamp),
        "operation": version.operation,
        "message": version.message,
        "author": version.author,
        "changed_keys": list(version.changed_keys),
        "parents": list(version.parents),
    }


def of_holder(holder: Holder | None) -> dict[str, Any] | None:
    """Who holds a lock; None for nobody."""
    if holder is None:
        return None
    since = holder.since
    with suppress(ValueError, OverflowError):  # whoever wrote that
        since = exact(datetime.fromisoformat(since))
    return asdict(holder) | {"since": since}


def of_remote(status: RemoteStatus) -> dict[str, Any]:
    """How things stand with a remote, as of the last contact with it."""
    return {
        "name": status.name,
        "url": status.url,
        "ahead": status.ahead,
        "behind": status.behind,
        "theirs": status.theirs,
        "diverged": status.diverged,
        "last_push": None if status.last_push is None else exact(status.last_push),
        "last_pull": None if status.last_pull is None else exact(status.last_pull),
        "last_error": status.last_error,
    }


def of_settings(remote: Remote) -> dict[str, Any]:
    """A remote as it was added."""
    return {
        "name": remote.name,
        "url": remote.url,
        "push": remote.push,
        "timeout": remote.timeout,
    }
