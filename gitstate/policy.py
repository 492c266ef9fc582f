"""Policy: how one handle writes, as it was asked to when it was made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from gitstate.codec import Document
    from gitstate.layout import Settings


class Unset(Enum):
    """The type of `UNSET`."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
"""An argument that was not given, where None has a meaning of its own."""


class Validator(Protocol):
    """Raises `StateValidationError` for content that is against the schema."""

    def __call__(self, content: bytes, *, part: Document | None = None) -> bool:
        """Checks `content`, of which only `part` need be looked at; all of it for None. False if it gave a warning."""


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
