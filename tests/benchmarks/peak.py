"""The most memory that a process has had, for programs that begin in this folder."""

from __future__ import annotations

import re
import resource
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
"""Where `python -c` has to begin to find this module."""


def peak_kilobytes() -> int:
    """The peak of this process so far."""
    status = Path("/proc/self/status")
    # What the system counts as the most so far includes the process that started this one.
    own = re.search("VmHWM:[^0-9]*([0-9]+)", status.read_text()) if status.exists() else None
    return int(own[1]) if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
