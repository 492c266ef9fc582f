"""Random walks through the public API, beside a model that is nothing but lists and dicts.

Two handles work on one file, as two programs would; somebody else edits it in between. After every step both handles,
the file and the whole history must be what the model says.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from oracle import GIT, Ack, Document, Tally, fresh, git_environment, judge, leave

from gitstate import (
    PipelineState,
    StateReadError,
    StateValidationError,
    VersionNotFoundError,
    VersionPrunedError,
)

STEPS_A_WALK = 50
WALKS_A_ROUND = 40
LEAST_STEPS = 5_000
LONG_LEAST_STEPS = 100_000

WINDOW = 5
"""`max_backups` of every handle: small, so that named versions come to lie beyond it."""

HANDLES = st.sampled_from([0, 1])
KEYS = st.sampled_from(["a", "b", "c", "d/e", "é"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.sampled_from([0.5, -1.25]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=3)
NAMES = st.sampled_from(["before-speech", "keep", "überall", "v1.0"])
GARBAGE = st.sampled_from([b"", b"{", b"[1]\n", b'{"a": 1, "a": 2}', b"\xff\xfe", b'{"a": NaN}'])


@dataclass
class Made:
    """A version as the model knows it; what only gitstate can say is taken from the first look at it."""

    operation: str
    content: bytes
    stands_for: int
    id: str = ""
    timestamp: datetime | None = None

    @property
    def document(self) -> Document:
        return json.loads(self.content)


class Walk(RuleBasedStateMachine):
    """One walk from an empty folder on."""

    folder: ClassVar[Path]
    steps: ClassVar[int] = 0
    walks: ClassVar[int] = 0
    judged: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).walks += 1
        self.place = self.folder / f"{self.walks}"
        self.place.mkdir()
        self.path = self.place / "pipeline.json"
        self.handles = [self.opened(), self.opened()]
        self.content: bytes | None = None
        self.versions: list[Made] = []
        self.undone: list[int] = []  # what a redo puts back, the last one first
        self.names: dict[str, int] = {}
        self.pruned = 0  # so many of the oldest versions, but for those that have a name
        self.failures = 0
        self.unversioned = (
            0  # restores of what the newest version holds already, over a broken file
        )

    def opened(self) -> PipelineState:
        return PipelineState(self.path, max_backups=WINDOW)

    # -- what the model makes of a change ----------------------------------------------------------------------------

    @property
    def head(self) -> bytes | None:
        return self.versions[-1].content if self.versions else None

    @property
    def edited(self) -> bool:
        """Whether the file holds what no version does: somebody's edit."""
        return self.content is not None and self.content != self.head

    @property
    def broken(self) -> bool:
        """Whether the file is none, or holds no state."""
        if self.content is None:
            return bool(self.versions)
        return self.content in GARBAGE_BYTES

    @property
    def document(self) -> Document:
        return {} if self.content is None else json.loads(self.content)

    def take_in(self) -> bool:
        """A change first makes a version of an edit; whether there was one."""
        edited = self.edited and not self.broken
        if edited and self.content is not None:
            self.push("external_edit", self.content)
        return edited

    def push(self, operation: str, content: bytes, stands_for: int | None = None) -> None:
        at = len(self.versions) if stands_for is None else stands_for
        self.undone = []
        self.versions.append(Made(operation, content, at))

    def change(self, operation: str, document: Document) -> None:
        """A transaction that leaves `document`; what it does not change keeps its layout."""
        new = encode(document)
        unchanged = encode(self.document) if self.edited else self.content
        self.take_in()
        if new != unchanged:
            self.content = new
            self.push(operation, new)

    def put_back(self, operation: str, at: int, stands_for: int | None = None) -> None:
        """A restore, or an undo, to the bytes of version `at`."""
        self.take_in()
        before, self.content = self.content, self.versions[at].content
        if self.content != self.head:
            self.push(operation, self.content, stands_for)
        else:
            self.unversioned += self.content != before

    def kept(self, at: int) -> bool:
        """Whether a version can be read."""
        return at >= self.pruned or at in self.names.values()

    def shown(self, at: int) -> bool:
        """Whether a version of the window, or an undo or redo among them, has the state of version `at`."""
        return any(version.stands_for == at for version in self.versions[self.pruned :])

    def forget(self) -> None:
        """What a prune does."""
        if len(self.versions) - 1 - WINDOW > self.pruned:
            self.pruned = len(self.versions) - 1 - WINDOW

    # -- rules: changes ----------------------------------------------------------------------------------------------

    @rule(who=HANDLES, key=KEYS, value=VALUES)
    def set_a_key(self, who: int, key: str, value: Any) -> None:
        self.count()
        if self.refused(who):
            return
        with self.handles[who].transaction() as txn:
            assert same(txn.original_data, self.document)
            txn.data[key] = value
        self.change("transaction", {**self.document, key: value})
        self.check_returned(txn.version)

    @precondition(lambda self: not self.broken and self.document)
    @rule(who=HANDLES, data=st.data())
    def remove_a_key(self, who: int, data: st.DataObject) -> None:
        self.count()
        key = data.draw(st.sampled_from(sorted(self.document)))
        with self.handles[who].transaction(operation="tidy") as txn:
            del txn.data[key]
        self.change("tidy", {k: v for k, v in self.document.items() if k != key})
        self.check_returned(txn.version)

    @rule(who=HANDLES)
    def change_nothing(self, who: int) -> None:
        self.count()
        if self.refused(who):
            return
        with self.handles[who].transaction() as txn:
            txn.data.update(txn.original_data)
        self.change("transaction", self.document)
        self.check_returned(txn.version)

    @rule(who=HANDLES, document=DOCUMENTS)
    def write(self, who: int, document: Document) -> None:
        self.count()
        if self.refused(who):
            return
        version = self.handles[who].write(document)
        self.change("write", document)
        self.check_returned(version)

    @rule(who=HANDLES, document=DOCUMENTS)
    def seed(self, who: int, document: Document) -> None:
        self.count()
        if self.refused(who):
            return
        with self.handles[who].transaction(seed_data=document, operation="seeded") as txn:
            assert same(txn.data, document)
        self.change("seeded", document)
        self.check_returned(txn.version)

    @rule(who=HANDLES, key=KEYS, how=st.sampled_from(["raise", "roll back", "schema", "not JSON"]))
    def give_up(self, who: int, key: str, how: str) -> None:
        self.count()
        if self.refused(who):
            return
        state = self.handles[who]
        match how:
            case "raise":
                with pytest.raises(ZeroDivisionError), state.transaction() as txn:
                    txn.data[key] = 1 / 0
            case "roll back":
                with state.transaction() as txn:
                    txn.data[key] = "never"
                    txn.rollback()
            case "schema":
                with pytest.raises(StateValidationError), state.transaction() as txn:
                    txn.data["phase4"] = "done"
            case "not JSON":
                with pytest.raises(StateValidationError), state.transaction() as txn:
                    txn.data[key] = float("nan")
        assert not txn.committed
        self.failures += 1

    @precondition(lambda self: self.versions)
    @rule(who=HANDLES, data=st.data(), by=st.sampled_from(["hash", "prefix", "serial", "HEAD"]))
    def restore(self, who: int, data: st.DataObject, by: str) -> None:
        self.count()
        at = data.draw(st.integers(0, len(self.versions) - 1))
        if not self.kept(at):
            with pytest.raises(VersionPrunedError):
                self.handles[who].restore_backup(self.named(at, by))
            return
        assert self.handles[who].restore_backup(self.named(at, by))
        self.put_back("restore", at)

    @precondition(lambda self: self.names)
    @rule(who=HANDLES, data=st.data())
    def restore_by_name(self, who: int, data: st.DataObject) -> None:
        self.count()
        name = data.draw(st.sampled_from(sorted(self.names)))
        assert self.handles[who].restore_backup(name)
        self.put_back("restore", self.names[name])

    @rule(
        who=HANDLES, name=st.sampled_from(["nothing-of-this-name", "HEAD~9999", 0, 10**6, "0" * 40])
    )
    def restore_what_never_was(self, who: int, name: int | str) -> None:
        self.count()
        with pytest.raises(VersionNotFoundError):
            self.handles[who].restore_backup(name)

    @rule(who=HANDLES)
    def undo(self, who: int) -> None:
        self.count()
        if self.broken and self.versions:
            version = self.handles[who].undo()
            self.put_back("undo", len(self.versions) - 1)
            self.check_returned(version)
            return
        adds_edit = self.edited and not self.broken
        standing = len(self.versions) if adds_edit else len(self.versions) - 1
        undone = standing if adds_edit or standing < 0 else self.versions[standing].stands_for
        if undone < 1:
            with pytest.raises(VersionNotFoundError):
                self.handles[who].undo()
            return
        target = self.versions[undone - 1].stands_for
        try:
            version = self.handles[who].undo()
        except VersionPrunedError:
            assert not self.shown(target)
            return
        again = [*self.undone, undone] if not adds_edit else [undone]
        self.put_back("undo", target, stands_for=target)
        self.undone = again
        self.check_returned(version)

    @rule(who=HANDLES)
    def redo(self, who: int) -> None:
        self.count()
        if (self.edited and not self.broken) or not self.undone:
            with pytest.raises(VersionNotFoundError):
                self.handles[who].redo()
            return
        *left, target = self.undone
        try:
            version = self.handles[who].redo()
        except VersionPrunedError:
            assert not self.shown(target)
            return
        self.put_back("redo", target, stands_for=target)
        self.undone = left
        self.check_returned(version)

    @rule(who=HANDLES, name=NAMES | st.none())
    def back_up(self, who: int, name: str | None) -> None:
        self.count()
        if self.refused(who, "backup"):
            return
        if name in self.names:
            with pytest.raises(StateValidationError):
                self.handles[who].create_backup(name)
            self.failures += 1
            return
        version = self.handles[who].create_backup(name)
        self.take_in()
        self.check_returned(version)
        if name is not None and self.versions:
            self.names[name] = len(self.versions) - 1

    @rule(who=HANDLES, name=NAMES)
    def take_a_name_away(self, who: int, name: str) -> None:
        self.count()
        if name not in self.names:
            with pytest.raises(VersionNotFoundError):
                self.handles[who].delete_backup(name)
            return
        self.handles[who].delete_backup(name)  # an edit, or a broken file, is nothing to it
        del self.names[name]

    # -- rules: somebody else ----------------------------------------------------------------------------------------

    @rule(
        document=DOCUMENTS,
        indent=st.sampled_from([None, 0, 2, 4]),
        ascii_only=st.booleans(),
        aside=st.booleans(),
    )
    def edit(self, document: Document, indent: int | None, ascii_only: bool, aside: bool) -> None:
        self.count()
        text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
        self.save(text.encode(), aside=aside)

    @rule(indent=st.sampled_from([None, 1]))
    @precondition(lambda self: self.content is not None and not self.broken)
    def lay_out_anew(self, indent: int | None) -> None:
        """The same document in other bytes is an edit all the same."""
        self.count()
        self.save(json.dumps(self.document, indent=indent).encode(), aside=False)

    @rule(content=GARBAGE)
    @precondition(lambda self: self.versions)
    def scribble(self, content: bytes) -> None:
        self.count()
        self.save(content, aside=False)

    @rule()
    @precondition(lambda self: self.versions and self.content is not None)
    def delete(self) -> None:
        self.count()
        self.path.unlink()
        self.content = None

    def save(self, content: bytes, *, aside: bool) -> None:
        if aside:
            new = self.place / "editor.new"
            new.write_bytes(content)
            new.replace(self.path)
        else:
            self.path.write_bytes(content)
        self.content = content

    # -- rules: handles ----------------------------------------------------------------------------------------------

    @rule(who=HANDLES)
    def checkpoint(self, who: int) -> None:
        self.count()
        self.handles[who].checkpoint()

    @rule(who=HANDLES)
    def prune(self, who: int) -> None:
        self.count()
        goes = self.handles[who].prune(dry_run=True)
        done = self.handles[who].prune()
        before = self.pruned
        self.forget()
        assert (goes.versions, goes.kept) == (done.versions, done.kept)
        assert len(goes.versions) == self.pruned - before
        assert [*goes.versions] == [*range(before + 1, self.pruned + 1)]

    @rule(who=HANDLES, anew=st.booleans())
    def close(self, who: int, anew: bool) -> None:
        """Closes a handle, which prunes and makes a checkpoint; it, or another, opens again."""
        self.count()
        self.handles[who].close()
        if self.versions and next(self.handles[who].log()).serial > 1 + self.pruned + WINDOW:
            *_, oldest = self.handles[who].log()
            if oldest.serial > 1 + self.pruned:  # else nothing was written since the last time
                self.forget()
        if anew:
            self.handles[who] = self.opened()

    @rule(who=HANDLES)
    def come_as_a_stranger(self, who: int) -> None:
        """A handle with a store of its own, as another process has: the one before is left without a checkpoint."""
        self.count()
        self.handles[who] = fresh(self.path, max_backups=WINDOW)

    # -- rules: looks ------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.versions)
    @rule(who=HANDLES, data=st.data(), by=st.sampled_from(["hash", "prefix", "serial", "HEAD"]))
    def read_at(self, who: int, data: st.DataObject, by: str) -> None:
        self.count()
        at = data.draw(st.integers(0, len(self.versions) - 1))
        if not self.kept(at):
            with pytest.raises(VersionPrunedError):
                self.handles[who].read(at=self.named(at, by))
            return
        assert same(self.handles[who].read(at=self.named(at, by)), self.versions[at].document)

    @precondition(lambda self: self.versions)
    @rule(who=HANDLES, data=st.data())
    def read_at_a_moment(self, who: int, data: st.DataObject) -> None:
        self.count()
        moment = data.draw(st.sampled_from([kept.timestamp for kept in self.versions]))
        assert moment is not None
        then = [kept for kept in self.versions if kept.timestamp and kept.timestamp <= moment]
        if not self.kept(len(then) - 1):
            with pytest.raises(VersionPrunedError):
                self.handles[who].read(at=moment)
            return
        assert same(self.handles[who].read(at=moment), then[-1].document)

    @rule(who=HANDLES, limit=st.none() | st.integers(0, 10))
    def list_backups(self, who: int, limit: int | None) -> None:
        self.count()
        earlier = range(len(self.versions) - 2, -1, -1)
        window = list(earlier[:WINDOW])
        beyond = sorted({at for at in self.names.values() if at in earlier} - {*window})
        expected = [self.versions[at].id for at in (window + beyond[::-1])[:limit]]
        found = self.handles[who].list_backups(limit)
        assert [version.id for version in found] == expected

    @rule(who=HANDLES)
    def look_at_the_audit_trail(self, who: int) -> None:
        self.count()
        trail = self.handles[who].get_transaction_history(None)
        commits = [line["commit"] for line in trail if line["commit"]][::-1]
        assert commits == [kept.id for kept in self.versions]
        assert sum(not line["success"] for line in trail) == self.failures
        assert len(trail) == len(commits) + self.failures + self.unversioned

    @rule(who=HANDLES)
    def verify(self, who: int) -> None:
        self.count()
        problems = self.handles[who].verify().problems
        if self.versions and self.content is None:
            assert len(problems) == 1, problems
            assert "gone" in problems[0], problems
        elif self.versions and self.edited:
            assert len(problems) == 1, problems
            # Whether a state may hold NaN is the handle's to say.
            none = self.broken and b"NaN" not in self.content
            assert ("no state" if none else "edited") in problems[0], problems
        elif self.versions:
            assert not problems

    # -- after every step --------------------------------------------------------------------------------------------

    @invariant()
    def the_history_is_the_models(self) -> None:
        for state in self.handles:
            found = list(state.log())[::-1]
            versions = self.versions[self.pruned :]
            for kept, version in zip(versions, found, strict=False):
                kept.id = kept.id or version.id
                kept.timestamp = kept.timestamp or version.timestamp
            assert [(v.id, v.operation, v.timestamp) for v in found] == [
                (kept.id, kept.operation, kept.timestamp) for kept in versions
            ]
            assert [v.serial for v in found] == [*range(self.pruned + 1, len(self.versions) + 1)]
            assert [v.content() for v in found] == [kept.content for kept in versions]
            # Content that is equal is parsed alike: one version by turns is enough, and in the end all are read.
            for version, kept in list(zip(found, versions, strict=True))[-1 - self.steps % 7 :][:1]:
                assert same(version.read(), kept.document)
        assert len({kept.id for kept in self.versions}) == len(self.versions)

    @invariant()
    def the_file_and_what_is_read_are_the_models(self) -> None:
        found = self.path.read_bytes() if self.path.exists() else None
        assert found == self.content
        for state in self.handles:
            if self.broken:
                with pytest.raises(StateReadError):
                    state.read()
            else:
                assert same(state.read(), self.document)

    # -- at the end --------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self.judge()
        finally:
            for state in self.handles:
                leave(state)
                # So that nothing of this walk is kept open behind the next one.
                state._parts._opened = None
            shutil.rmtree(self.place)

    def judge(self) -> None:
        if self.versions:
            self.handles[0].prune()
            self.forget()
            self.handles[0].close()
            self.let_git_look()
            if self.broken:
                self.handles[1].restore_backup("HEAD")
                self.put_back("restore", len(self.versions) - 1)
                self.the_file_and_what_is_read_are_the_models()
        acks = [Ack(kept.id, kept.document) for kept in self.versions]
        edit = self.document if self.edited else None
        judge(self.path, acks, edit=edit, window=WINDOW, stock_git=False)
        type(self).judged += 1

    def let_git_look(self) -> None:
        if GIT is None:
            return
        for command, expected in [
            (["fsck", "--strict", "--no-progress", "--no-dangling"], ""),
            (["rev-list", "--count", "main"], str(len(self.versions) - self.pruned)),
            (["fsck", "--unreachable", "--no-reflogs", "--no-progress"], ""),
        ]:
            done = subprocess.run(
                [GIT, f"--git-dir={self.handles[0].git_dir}", *command],
                capture_output=True,
                text=True,
                check=False,
                env=git_environment(),
            )
            assert (done.returncode, done.stdout.strip(), done.stderr) == (0, expected, "")

    # -- small things ------------------------------------------------------------------------------------------------

    def count(self) -> None:
        type(self).steps += 1

    def refused(self, who: int, operation: str = "transaction") -> bool:
        """Whether no change can build on the file as it is; sees that it is refused, and by name."""
        if not self.broken:
            return False
        with pytest.raises(StateReadError):
            if operation == "backup":
                self.handles[who].create_backup()
            else:
                self.handles[who].write({"never": True})
        self.failures += operation == "backup"  # a block that does not run is no failed one
        return True

    def check_returned(self, version: Any) -> None:
        """What a change gives is the newest version."""
        if not self.versions:
            assert version is None
            return
        newest = self.versions[-1]
        newest.id = newest.id or version.id
        assert (version.id, version.serial) == (newest.id, len(self.versions))
        assert version.content() == newest.content

    def named(self, at: int, by: str) -> int | str:
        match by:
            case "hash":
                return self.versions[at].id
            case "prefix":
                return self.versions[at].id[:12]
            case "serial":
                return at + 1
            case _:
                return f"HEAD~{len(self.versions) - 1 - at}"


NOT_IN_PLACE = "records that are not in place"
GARBAGE_BYTES = {b"", b"{", b"[1]\n", b'{"a": 1, "a": 2}', b"\xff\xfe", b'{"a": NaN}'}


def encode(document: Document) -> bytes:
    """The file as it is promised: two spaces, UTF-8, keys in their order, a newline."""
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def same(found: Document, expected: Document) -> bool:
    """Whether two documents are equal with the order of their keys, and True is not 1."""
    return json.dumps(found) == json.dumps(expected)


def test_whatever_is_done_the_state_is_what_the_model_says(
    memory: Path, seed: str, scale: Callable[[int, int], int], tally: Tally
) -> None:
    class SeededWalk(Walk):
        folder = memory

    chosen = settings(
        max_examples=WALKS_A_ROUND,
        stateful_step_count=STEPS_A_WALK,
        derandomize=False,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    least = scale(LEAST_STEPS, LONG_LEAST_STEPS)
    # How long a walk gets is up to chance, so walks are added until the figure is reached.
    for number in range(least):
        if SeededWalk.steps >= least:
            break
        run_state_machine_as_test(hypothesis.seed(f"{seed} {number}")(SeededWalk), settings=chosen)

    tally("random steps", SeededWalk.steps)
    tally("random walks", SeededWalk.walks)
    assert SeededWalk.steps >= least
    assert SeededWalk.judged == SeededWalk.walks


@pytest.mark.parametrize("edited", [False, True])
def test_verify_finds_nothing_wrong_after_a_rollback(edited: bool, state: PipelineState) -> None:
    state.write({"a": 1})
    state.close()
    if edited:
        state.path.write_text('{"a": 2}')
    with pytest.raises(ZeroDivisionError), state.transaction():
        1 / 0  # noqa: B018
    list(state.log())

    problems = state.verify().problems

    # The record of the failure waits in the journal, as it may: the store is whole, and an edit is still to be told.
    assert [line for line in problems if NOT_IN_PLACE in line] == []
    assert len(problems) == edited
