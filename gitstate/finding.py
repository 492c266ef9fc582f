"""Finding: a line that says what is wrong with a store, and what it takes to mend that."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Remedy(Enum):
    """What mends it."""

    TRANSACTION = (
        "nothing is damaged: the next transaction makes a version of what somebody has written"
    )
    PUT_IN_PLACE = "the journal and the repository are whole, and only have to be put in place"
    REBUILD = "the repository, or the journal, has to be built anew"


class Finding(NamedTuple):
    """One line."""

    line: str
    remedy: Remedy = Remedy.REBUILD
