"""Status: how things stand with a remote, by what is written down here; no part of what it takes to reach one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitstate import remotes
from gitstate.remotes import tracking_ref
from gitstate.sync.contacts import Activity, Contacts, RemoteStatus, moment
from gitstate.sync.relation import Relation

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitstate.store import Store


def status_of(store: Store, name: str, activity: Callable[[str], Activity]) -> RemoteStatus:
    """How things stand with a remote, as of the last contact with it; of one that is pushed to by itself `activity` tells.

    Raises:
        StateRemoteError: there is no such remote.
        StateReadError: the history, or the list of remotes, is damaged.
    """
    remote = remotes.called(name, store.layout.remotes(), store.layout.state)
    refs = store.reader.refs()
    relation = Relation(store, refs, remote)
    contact = Contacts(store.layout, name).read()
    known = refs.get(tracking_ref(name))
    has = relation.serial_of(known) if known else 0
    # What was seen there may have been pulled since.
    stale = contact.head is None or relation.serial_of(contact.head) > 0
    return RemoteStatus(
        name,
        remote.url,
        ahead=relation.newest() - has,
        behind=0 if stale else contact.behind,
        theirs=contact.head or known,
        diverged=contact.diverged and not stale,
        last_push=moment(contact.pushed),
        last_pull=moment(contact.pulled),
        last_error=contact.error,
        pushing=activity(name) if remote.push == "auto" else "manual",
    )
