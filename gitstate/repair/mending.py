"""Mending: one repair, from what `verify` finds to the report."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Final

from gitstate import codec, files, swap
from gitstate.checkpoint import maintaining
from gitstate.draft import Draft
from gitstate.errors import StateReadError, StateWriteError
from gitstate.finding import Remedy
from gitstate.generations import generations, path_of
from gitstate.journal import generation
from gitstate.layout import Settings
from gitstate.record import Record, Standing
from gitstate.repair import RepairReport
from gitstate.repair.plan import Plan
from gitstate.repair.rebuild import PASSING, Rebuild
from gitstate.repair.remains import Remains
from gitstate.repair.wreck import look_at
from gitstate.repository import BRANCH, blob_id, gitlock, make_tree
from gitstate.repository.checkouts import checkouts, named_by
from gitstate.repository.frame import Fault, content_of, is_refusal
from gitstate.repository.listing import list_refs
from gitstate.repository.objects import Raw, unpack_loose
from gitstate.store import KNOWN_REFS
from gitstate.verify import findings, verify

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from gitstate.finding import Finding
    from gitstate.repair.source import Source
    from gitstate.repair.wreck import Wreck
    from gitstate.writer import Writer

_TRIES: Final = 5
_ADVICE: Final = re.compile(r"\. (?=[A-Z])")


class Repair:
    """One repair of the store of `writer`, with the objects of `source`, another repository of the same history."""

    def __init__(self, writer: Writer, source: Source | None) -> None:
        self._writer = writer
        self._store = writer.store
        self._layout = writer.store.layout
        self._source = source
        self._kept: list[str] = []
        self._lost: list[str] = []
        self._quarantine: Path | None = None

    def run(self, timeout: float | None) -> RepairReport:
        """Mends what `verify` finds; what was done.

        Raises:
            StateError: as `PipelineState.repair`.
        """
        layout = self._layout
        safe = "Nothing is lost: the store is as it was, or its repair is finished by the next use of it."
        with files.Refused(StateWriteError, "cannot repair", layout.store, safe):
            lacking = not layout.exists()
            if lacking and not layout.store.is_dir():
                if self._source is None:
                    return RepairReport()
                layout.create(Settings(None))
            layout.check_remains()
            if swap.is_left(layout.store):
                with maintaining(layout, "repair", timeout):
                    pass  # which puts away what one that was interrupted has left
            copied = lacking and self._source is not None
            if not copied and not _are_needed(findings(self._store, timeout)):
                return RepairReport()
            layout.check_writable_place(network=self._writer.policy.allow_network)
            with maintaining(layout, "repair", timeout):
                before = findings(
                    self._store, timeout
                )  # again, as another repair may have been at it
                if copied or _are_needed(before):
                    if copied or not self._is_put_in_place(before, timeout):
                        self._mend(timeout)
                    self._put_state_back(timeout)
            after = verify(self._store, timeout).problems
        mended = (_ADVICE.split(each.line)[0] for each in before if each.line not in after)
        aside = (f"what was there before: {self._quarantine}",) if self._quarantine else ()
        return RepairReport((*mended, *self._kept), aside, (*self._lost, *after))

    def _is_put_in_place(self, found: list[Finding], timeout: float | None) -> bool:
        """Whether no more is wrong than that what the journal holds was to be put in place, which is done then."""
        if any(each.remedy is Remedy.REBUILD for each in found):
            return False
        with self._store.writing("repair", timeout):
            pass
        left = findings(self._store, timeout)
        return all(each.remedy is not Remedy.REBUILD for each in left)

    # -- the store ---------------------------------------------------------------------------------------------------

    def _mend(self, timeout: float | None) -> None:
        """Everything but the state file."""
        layout = self._layout
        faults = list(layout.faults())
        with self._store.repairing(timeout):
            for _ in range(_TRIES):
                if self._exchange(faults):
                    break
            else:
                raise StateWriteError(
                    f"another program changes the repository all the while: {layout.git_dir}. Nothing was changed. Wait"
                    " for the git commands that are at work there to end, and run it again.",
                    path=layout.git_dir,
                    code="ref-locked",
                )
            # It names versions that may be lost, and is made again of the commits, with which a crash before this leaves
            # it at odds. A crash behind it leaves the faults to the next repair.
            _put_aside(layout.serials, self._quarantine)
            for fault in faults:
                _put_aside(fault.path, self._quarantine)
                files.replace(fault.path, fault.content or b"")

    def _exchange(self, faults: list[Fault]) -> bool:
        """Whether a whole store has taken the place of the damaged one, which nobody has changed meanwhile."""
        layout = self._layout
        folder = swap.begin(layout.store)
        try:
            for fault in faults:
                if (content := content_of(fault.path)) is not None:
                    files.write_new(folder / "kept" / fault.path.name, content)
            seen = self._look()
            self._kept, self._lost = [], []
            self._build(folder)
            swap.keep_generations(layout.store, folder)
            swap.flush(folder)
            with self._packed_refs_locked():
                if seen != self._look():
                    return False
                self._quarantine = swap.exchange(layout.store, folder)
            for name in ("repo", "old"):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    gitlock.sweep(self._quarantine / name)
            return True
        finally:
            swap.discard(folder)

    def _packed_refs_locked(self) -> AbstractContextManager[None]:
        """Keeps Git from finishing in the new repository what it has begun to write in the old one."""
        packed = self._layout.git_dir / "packed-refs"
        return gitlock.locked(packed) if packed.parent.is_dir() else contextlib.nullcontext()

    def _look(self) -> list[tuple[str, int, int, int]]:
        """What Git may change meanwhile: the names, and which files they are."""
        found = []
        for folder, _, names in os.walk(self._layout.git_dir):
            for name in names:
                if PASSING.fullmatch(name):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = os.lstat(os.path.join(folder, name))
                    found.append((os.path.join(folder, name), *files.identity_of(status)))
        return sorted(found)

    def _build(self, folder: Path) -> None:
        layout = self._layout
        state = content_of(layout.state) or b""
        wreck = look_at(layout.store)
        rebuild = Rebuild(layout.git_dir, folder / "repo")
        elsewhere = _Elsewhere(rebuild, layout.file_name, state, self._source)
        with contextlib.closing(rebuild.objects):
            rebuild.take_objects(wreck.objects.values(), elsewhere.or_old)
            remains = Remains(rebuild, layout.file_name, elsewhere)
            shallow = (content_of(layout.git_dir / "shallow") or b"").split()
            plan = Plan(remains, self._draft(), shallow, _checked_out(layout.git_dir))
            plan.settle(
                list_refs(layout.git_dir),
                wreck,
                self._store.chain.written(),
                state if codec.is_document(state) else None,
                self._source.refs() if self._source else {},
            )
            rebuild.add(plan.additions)
            rebuild.take_the_rest()
            self._lost += [f"{folder}: what it has checked out" for folder in rebuild.left_out]
            rebuild.publish(plan.refs, plan.symbolic, plan.ends)
            self._write_journal(folder, plan, wreck, remains)
        self._kept += plan.kept
        self._lost += plan.lost

    def _draft(self) -> Draft:
        name, author = self._layout.file_name, self._writer.policy.author
        return Draft(None, file_name=name, author=author, ref=lambda _: None)

    def _write_journal(self, folder: Path, plan: Plan, wreck: Wreck, remains: Remains) -> None:
        """The new generation. What it says the state is, the state file holds, or is to hold, or it is an edit."""
        refs = {name: at for name, at in plan.refs.items() if name in KNOWN_REFS}
        head, now, records = remains.commit(refs.get(BRANCH)), wreck.now, []
        base = Standing(refs, remains.blob_of(head) if head else None)
        if now.state is not None and refs.get(BRANCH) == now.refs.get(BRANCH):
            base = Standing(refs, now.state, now.placed)
            state = wreck.merged.state if wreck.merged else None
            blob = wreck.objects.get(state.blob) if state else None
            if state is not None and (blob is not None or state.content is not None):
                # It may wait for its rename: whoever recovers does that, or sees that it is done.
                record = Record(wreck.sequence + 1, (blob,) if blob else (), state=state)
                records = [record._replace(after=base.after(record, KNOWN_REFS))]
        number = max(generations(self._layout.store), default=0) + 1
        content = generation(base, records, wreck.sequence)
        files.write_new(path_of(folder, number), content)

    # -- the state file ----------------------------------------------------------------------------------------------

    def _put_state_back(self, timeout: float | None) -> None:
        """A state file that is gone, or is no state, is replaced by the newest version's; an edit becomes a version."""
        writer = self._writer
        with writer.writing("repair", timeout) as found:
            head = self._store.head
            if found.content is not None and codec.is_document(found.content):
                draft = writer.draft(found)
            elif head is None:
                return
            else:
                draft = writer.draft_over(found)
                content = self._store.repository.read(head.blob)
                message = "restore: by a repair"
                writer.change(draft, found, content, operation="restore", message=message)
            writer.commit(draft, found)


class _Elsewhere:
    """Objects that are not in the new repository."""

    def __init__(
        self, rebuild: Rebuild, file_name: bytes, state: bytes, source: Source | None
    ) -> None:
        self._rebuild = rebuild
        blob = Raw(blob_id(state), b"blob", state)
        tree = unpack_loose(make_tree({file_name: blob.id}))
        self._known = {blob.id: blob, tree.id: tree}
        self._source = source

    def __call__(self, object_id: str) -> Raw | None:
        """The object, None where nobody has it."""
        if object_id in self._known:
            return self._known[object_id]
        return self._source.read(object_id) if self._source else None

    def or_old(self, object_id: str) -> Raw | None:
        """As a call, and looks into what is whole of the old repository first."""
        return self._rebuild.find(object_id) or (self(object_id) if object_id else None)


def _put_aside(path: Path, quarantine: Path | None) -> None:
    """Makes room for a file: what is there is not needed, as a file, or is kept, as a folder."""
    if quarantine is not None and path.is_dir() and not path.is_symlink():
        os.rename(path, quarantine / "kept" / path.name)
    else:
        files.remove(path)


def _checked_out(git_dir: Path) -> set[str]:
    """The ids that checkouts name, as far as these can be read."""
    found: set[str] = set()
    for folder in checkouts(git_dir):
        try:
            found.update(named_by(folder))
        except StateReadError as error:
            if is_refusal(error):
                raise
    return found


def _are_needed(found: list[Finding]) -> bool:
    """Whether any of it is damage."""
    return any(each.remedy is not Remedy.TRANSACTION for each in found)
