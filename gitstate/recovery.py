"""Recovery: what every opener does first, under the lock, so that disk and journal agree again.

It never appends to a journal that it found: the records that still count are written to a new generation, and that is
flushed, before the first of them is applied. For they may never have been flushed (PITFALLS O11), and nothing may be
applied that a power cut could still take back (store invariants S1, S4).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gitstate import generations, large
from gitstate.errors import StateReadError, StateWriteError, moved
from gitstate.record import Record, Standing, merge, standing
from gitstate.repository import BRANCH

if TYPE_CHECKING:
    from gitstate.effects import Effects
    from gitstate.layout import Layout, Settings
    from gitstate.ledger import Ledger
    from gitstate.record import GitObject
    from gitstate.repository import Repository

_log = logging.getLogger("gitstate")


class Recovery:
    """Brings the state file and the repository to where the journal's records leave them. Under the lock.

    Attributes:
        done: whether this process has recovered the store, and has missed nothing since.
        settings: what is stored with the store, as it was when it was opened.
        last_objects: those of the last record that should be in place, whoever wrote it; none after a recovery.
    """

    def __init__(
        self, layout: Layout, repository: Repository, ledger: Ledger, effects: Effects
    ) -> None:
        self._layout = layout
        self._repository = repository
        self._ledger = ledger
        self._effects = effects
        self.done = False
        self.settings: Settings | None = None
        self.last_objects: tuple[GitObject, ...] = ()

    def catch_up(self) -> bool:
        """Brings what is known, and what is on disk, up to the last record; whether that took a recovery.

        Raises:
            StateReadError: the store is damaged, or not to be trusted.
            StateWriteError: the disk refused.
            StateConflictError: somebody else moved the branch.
        """
        ledger = self._ledger
        if not self.done or ledger.unknown or not self._layout.exists():
            # The first time, after an interruption, or after somebody deleted the store.
            ledger.reset()
            self.done = False
            self.last_objects = ()
            if self._layout.exists():
                self.attach()
            return self.done
        ledger.unknown = True  # an interrupt on the way leaves it to recovery
        last = ledger.catch_up()
        lost = self._repository.lost or not self._repository.holds(self.last_objects)
        behind = last is not None and self._behind(last)
        # Asked behind that: who has read all of them stands at the first one that is damaged.
        if lost or behind or not ledger.journal.clean_tail():
            self._recover()
            return True
        if last is not None:
            self.last_objects = last.objects
            ledger.pending.clear()  # theirs are in place, so ours before them are too (S7)
            ledger.journal.vouch()
        self._check_branch()
        ledger.unknown = False
        return False

    def _behind(self, last: Record) -> bool:
        """Whether any of the records that others have appended, `last` being the last of them, is not in place.

        Records are put in place in their order. So if the last one is, and all refs that matter are where it says, then
        those before it need not be read. A note may wait in the journal, and so may what Git's locks keep out, several
        of them in a row. Older ones, which were seen in place, have no say: whoever puts their file or their ref back
        means it.
        """
        if self._effects.in_place(last):
            return False
        # Whoever took a record back may have died before the flush of that, and no file shows it (PITFALLS O11).
        if last.aborts is not None:
            return True
        merged = merge(self._ledger.theirs())
        return merged is not None and self._effects.behind(merged)

    def attach(self) -> None:
        """Opens a store and recovers it.

        Raises:
            StateError: as `catch_up`.
        """
        self._layout.check()
        self.settings = self._layout.settings()
        try:
            self._ledger.open()
        except FileNotFoundError:
            # Moved away after damage, as the error advised: begin again from what the repository says.
            refs = self._repository.refs.all("refs/")
            if BRANCH not in refs and self._repository.holds_files():
                raise self._branch_missing() from None
            state = None
            if BRANCH in refs:
                tree = self._repository.commit(refs[BRANCH]).tree
                state = self._repository.file_id(tree, self._layout.file_name)
            # A base may name only what is durable: no record tells what a power cut puts back in its place.
            self._repository.flush_objects()
            self._repository.refs.drop_spares(refs)
            self._repository.refs.flush(refs)
            known = {name: at for name, at in refs.items() if name in self._ledger.follows}
            base = Standing(known, state)
            self._ledger.begin(base, (), 0)
        self._recover()

    def _recover(self) -> None:
        """Makes the disk what the journal says, whoever was interrupted, and wherever (S4)."""
        ledger = self._ledger
        self.done = False  # until the end: what fails on the way must begin again from the disk
        ledger.open()
        old = ledger.journal
        records = old.scan()
        merged = merge(records)
        if merged is not None:
            merged = self._effects.redo(merged._replace(sequence=old.next_sequence - 1))
        if records or not old.clean_rest():
            # Nothing is appended to what was found, and nothing applied that a power cut could still take back: the
            # records may never have been flushed (PITFALLS O11).
            base = Standing(old.base.refs, standing(old.base, records).state)
            kept = () if merged is None else (ledger.complete(merged, base),)
            ledger.begin(base, kept, old.next_sequence - 1 - len(kept))
        else:
            # It may have been left before its name, or the whole new store's, was flushed.
            generations.sync_published(self._layout.store)
            self._layout.flush_place()
        self._effects.sweep(merged, ledger.now.refs.values())
        large.sweep(self._layout.store, merged.objects if merged is not None else ())
        self._repository.lost = False
        self.last_objects = ()
        if merged is not None:
            ledger.pending.append(self._still_to_do(merged))
        self.apply_pending()
        self._check_branch()
        ledger.unknown = False
        self.done = True

    def _still_to_do(self, record: Record) -> Record:
        if record.state is not None:
            self._effects.place(record.state)
        lacking = tuple(self._repository.lacking(record.objects))
        return self._effects.settle_refs(record._replace(state=None, objects=lacking))

    def apply_pending(self) -> None:
        """Puts the pending records in place as far as the disk, and Git's locks, allow.

        Raises:
            StateConflictError: somebody else moved a ref.
        """
        pending = self._ledger.pending
        while pending:
            try:
                self._effects.apply(pending[0])
            except (StateWriteError, StateReadError, OSError) as error:
                _log.warning(
                    "committed, but the Git history follows at the next use: %s", str(error)
                )
                return
            del pending[0]

    def _check_branch(self) -> None:
        """Sees that the branch is where the records left it; puts back one that is absent or names nothing."""
        known = self._ledger.now.refs.get(BRANCH)
        at = self._effects.ref(BRANCH)
        pending = self._ledger.pending
        moving = any(change.name == BRANCH for record in pending for change in record.refs)
        if at == known or moving:
            return
        if known is not None and (at is None or not self._repository.readable(at)):
            self._repository.refs.move(BRANCH, (None, at), known)
            return
        raise moved(self._layout.git_dir, BRANCH, known, at)

    def _branch_missing(self) -> StateReadError:
        return StateReadError(
            f"the branch {BRANCH} is gone, although there are commits: {self._layout.git_dir}. The state file is"
            f" untouched. git --git-dir={self._layout.git_dir} fsck --lost-found finds the newest commit; put the branch"
            " back with git update-ref.",
            path=self._layout.git_dir,
            code="branch-missing",
        )
