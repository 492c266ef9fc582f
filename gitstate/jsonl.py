"""JSON Lines: an object of the repository with a JSON object in each line, as the audit trail keeps its own.

Source of the format: https://jsonlines.org.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gitstate.errors import StateReadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitstate.repository import Repository


def read_lines(
    repository: Repository, object_id: str, where: str, sound: Callable[[dict[str, Any]], bool]
) -> list[dict[str, Any]]:
    """The lines of an object, at least one, each of them `sound`; `where` is what people call it.

    Raises:
        StateReadError: it is missing, or not what it should be; code `"object-damaged"`.
    """
    content = repository.read(object_id)
    try:
        lines = [json.loads(line) for line in content.splitlines()]
        if lines and all(map(sound, lines)):
            return lines
        raise ValueError("a line lacks a field")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StateReadError(
            f"{where} cannot be used: {error}: {repository.git_dir}. The state file and the versions are untouched.",
            path=repository.git_dir,
            code="object-damaged",
        ) from error
