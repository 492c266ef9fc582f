"""Due: whether the journal is so full that a checkpoint should be made, by whoever has written last."""

from __future__ import annotations

from typing import Final

JOURNAL_LIMIT: Final = 256 * 1024
"""Bytes of journal after which a checkpoint is due."""

RECOVERED_LIMIT: Final = JOURNAL_LIMIT // 4
"""The same after a recovery: what is still live is read and copied by the next one."""

_MIN_RECORDS: Final = 8
"""Records that a checkpoint must find, lest large documents mean a pack for every transaction."""


class Due:
    """When a checkpoint of one store is due; weights are in bytes, of the journal and of what it names."""

    def __init__(self) -> None:
        self._now = False
        # One that was refused is tried again when the journal has grown.
        self._next_try = 0

    def appended(self, weight: int, records: int) -> None:
        """The journal weighs so much now, with so many records."""
        full = weight >= max(JOURNAL_LIMIT, self._next_try)
        self._now |= full and records >= _MIN_RECORDS

    def recovered(self, weight: int) -> None:
        """A recovery has left so much."""
        self._now = weight >= RECOVERED_LIMIT

    def made(self) -> None:
        """There was one."""
        self._next_try = 0

    def refused(self, weight: int) -> None:
        """One was refused, when the journal weighed so much."""
        self._next_try = weight + RECOVERED_LIMIT

    def take(self) -> bool:
        """Whether one is due; whoever is told so makes it."""
        now, self._now = self._now, False
        return now
