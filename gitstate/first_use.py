"""First use: a module that a plain read does not need is imported by whoever needs it first, and no fork comes between.

    with FIRST_USE:
        from gitstate.history import History

Of a module that another thread is importing a forked child has one half, and a lock that nobody will ever open. No module
of the package enters such a block while it is imported itself.
"""

from __future__ import annotations

import logging  # noqa: F401  see below
import os
import sys
import threading
from typing import Final

FIRST_USE: Final = threading.RLock()
"""Held for such an import, and for making what is made but once. Whoever holds it waits for nothing but imports."""


if sys.platform != "win32":
    # The handler that was registered last is the first to run before a fork. That of `logging`, whose lock many an import
    # takes, has to come after this one, or the two threads wait for each other.
    os.register_at_fork(
        before=FIRST_USE.acquire,
        after_in_parent=FIRST_USE.release,
        after_in_child=FIRST_USE.release,
    )
