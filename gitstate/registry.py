"""One `Store` for each state file and process, however many handles there are.

The last few stay open without a user: code that makes a new handle for every transaction need not recover each time.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from gitstate.layout import Layout
from gitstate.store import Store

if TYPE_CHECKING:
    from pathlib import Path

_MAX_RECENT: Final = 16


class _Registry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stores: weakref.WeakValueDictionary[str, Store] = weakref.WeakValueDictionary()
        self.recent: OrderedDict[str, Store] = OrderedDict()
        # Those that were forgotten too, while somebody still holds them.
        self.made: weakref.WeakSet[Store] = weakref.WeakSet()


_registry = _Registry()
_inherited: list[_Registry] = []


def open_store(state: Path) -> Store:
    """The store of the state file `state` (resolved), the same one for all its users in this process."""
    key = os.fspath(state)
    with _registry.lock:
        store = _registry.stores.get(key)
        if store is None:
            _registry.stores[key] = store = Store(Layout(state))
            _registry.made.add(store)
        _registry.recent[key] = store
        _registry.recent.move_to_end(key)
        while len(_registry.recent) > _MAX_RECENT:
            _registry.recent.popitem(last=False)
    return store


def forget_store(store: Store) -> None:
    """Lets go of `store`: it is closed when nobody uses it any more, and the next user opens the state anew."""
    with _registry.lock:
        for register in (_registry.stores, _registry.recent):
            for key in [key for key, known in register.items() if known is store]:
                del register[key]


def _start_anew_in_child() -> None:
    # A store's threads and locks do not exist in the child. The parent's are kept, unused: destroying them could wait
    # for a mutex that no thread will ever release.
    global _registry  # noqa: PLW0603
    _inherited.append(_registry)
    _registry = _Registry()


@atexit.register
def _release_all() -> None:
    # dulwich's packs must not be left to the interpreter's last moments (PITFALLS D15).
    for store in list(_registry.made):
        store.release()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_start_anew_in_child)
