"""Policy: how one handle writes, as it was asked to when it was made."""

from __future__ import annotations

import getpass
import math
import os
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gitstate import trailers
from gitstate.errors import StateReadError
from gitstate.first_use import FIRST_USE
from gitstate.lock import host

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

    from gitstate.codec import Document
    from gitstate.layout import Settings


class Unset(Enum):
    """The type of `UNSET`."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
"""An argument that was not given, where None has a meaning of its own."""


class Validator:
    """Checks contents against `schema`, which is the default one for `UNSET`."""

    def __init__(self, schema: type[BaseModel] | Unset) -> None:
        self._schema = schema

    def __call__(self, content: bytes, *, part: Document | None = None) -> bool:
        """Checks `content`, of which only `part` need be looked at; all of it for None. False if it gave a warning.

        Raises:
            StateValidationError: it is against the schema.
        """
        validate, schema = self._imported()
        return validate(content, schema, part=part)

    def prepare(self) -> None:
        """Imports what a check takes."""
        self._imported()

    def _imported(self) -> tuple[Callable[..., bool], type[BaseModel]]:
        with FIRST_USE:
            from gitstate.schema import PipelineSchema, validate  # noqa: PLC0415  see gitstate.first_use
        return validate, PipelineSchema if isinstance(self._schema, Unset) else self._schema


@dataclass(frozen=True, slots=True)
class Policy:
    """How a handle reads and writes.

    Attributes:
        author: name and address of the versions it makes.
        timeout: seconds to wait for the lock, None for ever.
        validate: checks a content against the schema; None without a schema.
        versioned: whether a transaction makes a version.
        allow_nan: whether NaN and infinities pass.
        allow_network: whether a network filesystem will do.
        settings: what to store with the store, None to leave it.
    """

    author: str
    timeout: float | None
    validate: Validator | None
    versioned: bool
    allow_nan: bool
    allow_network: bool
    settings: Settings | None

    def prepare(self) -> None:
        """Imports what it takes to validate, which under the state's lock would keep the others waiting."""
        if self.validate is not None:
            self.validate.prepare()


def check_path(path: str | os.PathLike[str]) -> Path:
    """The state file that `path` leads to.

    Raises:
        TypeError, ValueError: it cannot be one.
        StateReadError: the system does not say where it leads.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"path must be a str or a path of str, not {path!r}")
    if not text or "\0" in text:
        raise ValueError(f"path must name a file, not {text!r}")
    try:
        resolved = Path(os.path.realpath(text))
    except OSError as error:
        raise StateReadError(
            f"the path cannot be resolved: {error.strerror}: {text}. Nothing was changed. The current directory may be"
            " gone: give an absolute path."
        ) from error
    # What Git refuses, or reads a meaning into, as a file's name in a tree: gitrepository-layout(5), gitattributes(5).
    name = resolved.name.lower()
    if name.startswith((".git", "git~")) or name in {"", ".pipeline"}:
        raise ValueError(
            f"a state file cannot be called {resolved.name!r}: Git, or gitstate, gives that name a meaning"
        )
    return resolved


def check_schema(schema: object) -> None:
    """Refuses what is no pydantic model, None or `UNSET`.

    Raises:
        TypeError: it is none.
    """
    if schema is None or schema is UNSET:
        return
    with FIRST_USE:
        from pydantic import BaseModel  # noqa: PLC0415  see gitstate.first_use
    if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        raise TypeError(f"schema must be a pydantic model class or None, not {schema!r}")


def check_timeout(seconds: float | None) -> float | None:
    """`seconds` to wait for a lock.

    Raises:
        ValueError: it is neither 0 or more, nor None.
    """
    if seconds is not None and not (seconds >= 0 and math.isfinite(seconds)):
        raise ValueError(
            f"timeout must be 0 or more seconds, or None to wait for ever, not {seconds!r}"
        )
    return seconds


def check_count(count: int | None, name: str) -> int | None:
    """`count`, of versions or of lines, None for all, as far as Python can count; `name` is the argument's.

    Raises:
        ValueError: it is neither 0 or more, nor None.
    """
    integer = isinstance(count, int) and not isinstance(count, bool)
    if count is None:
        return None
    if not integer or count < 0:
        raise ValueError(f"{name} must be 0 or more, or None for all, not {count!r}")
    return min(count, sys.maxsize)


def identity(author: str | None) -> str:
    """`author` as Git writes it, name and address; login and host for None.

    Raises:
        TypeError: it is no text.
    """
    if author is not None and not isinstance(author, str):
        raise TypeError(f"author must be a str or None, not {author!r}")
    if author is None:
        try:
            login = getpass.getuser()
        except (KeyError, OSError):  # no such user in this container
            login = str(os.getuid())
        name, address = login, f"{login}@{host()}"
    else:
        name, _, rest = author.partition("<")
        address = rest.partition(">")[0]
        if not address:
            address = f"{trailers.clean_identity(name).replace(' ', '.')}@{host()}"
    return f"{trailers.clean_identity(name)} <{trailers.clean_identity(address)}>"
