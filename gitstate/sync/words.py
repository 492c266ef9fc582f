"""Words: what somebody else has said, fit to be said again."""

from __future__ import annotations

import re
from typing import Final

_MOST_QUOTED: Final = 400
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")


def quoted(text: str) -> str:
    """What somebody else has said, fit for one line of ours."""
    text = _UNPRINTABLE.sub(" ", text).strip(" .")
    return text if len(text) <= _MOST_QUOTED else text[:_MOST_QUOTED] + "..."
