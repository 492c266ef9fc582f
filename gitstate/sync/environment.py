"""Environment: what a Git that is started for a remote is told, and what it is not."""

from __future__ import annotations

import os
from typing import Final

USER: Final = "GITSTATE_REMOTE_USER"
PASSWORD: Final = "GITSTATE_REMOTE_PASSWORD"  # noqa: S105  the variable's name
"""Who we are to a server that asks; nobody's hook gets them."""

_OF_ANOTHER: Final = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)
"""What a Git that we run under, in a hook of it, says of its own repository: git-rev-parse(1), --local-env-vars."""

_LEFT_OUT: Final = frozenset({*_OF_ANOTHER, USER, PASSWORD})


def for_git() -> dict[str, str]:
    """Our own environment, without what is none of its business; nobody is there to be asked."""
    kept = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
    return {**kept, "GIT_TERMINAL_PROMPT": "0"}
