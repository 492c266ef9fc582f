"""Repair: what can still be read of a damaged store becomes a whole one; the old one is kept beside it, as it was.

Nothing is mended in place. A new repository and a new generation of the journal are built beside the old ones, flushed,
and exchanged with them: see swap.py. So whatever interrupts a repair leaves the old store or the new one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What was done, a line for each; no lines where nothing was wrong.

    Attributes:
        mended: what was wrong and is not any more, and what got a name.
        quarantined: where the damaged files are now.
        lost: what could not be brought back, or mended.
    """

    mended: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is lost."""
        return not self.lost
