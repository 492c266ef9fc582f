"""Die before every step; lose what was never flushed; be killed at random; find a torn journal. Nothing is lost.

The kill, the power cut and the torn tail are made by hand here; `oracle.judge` says what must hold afterwards.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from oracle import (
    KILLED,
    Ack,
    Call,
    Child,
    Document,
    Tally,
    Tell,
    counted,
    damage_store,
    dying_at,
    dying_before,
    file_calls,
    flushes_journal,
    fork,
    forks,
    fresh,
    in_parallel,
    journal_of,
    judge,
    leave,
    leave_old_layout,
    locks_branch,
    moves_branch,
    places_object,
    repair_store,
    replaces_state,
)

from gitstate import (
    PipelineState,
    StateConflictError,
    StateReadError,
    StateValidationError,
    Version,
    VersionNotFoundError,
    large,
)

pytestmark = forks


class Acks:
    """How a workload tells its parent which versions it has been promised."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def __call__(self, *versions: Version | None) -> None:
        """Tells that the transaction that made `versions` has returned."""
        self._tell({"acks": [(v.id, v.read()) for v in versions if v is not None]})

    def pass_on(self, told: Any) -> None:
        """Tells what a process of our own has told us."""
        self._tell(told)

    def event(self, what: str) -> None:
        """Tells that something else has returned."""
        self._tell({"event": what})


@dataclass(frozen=True)
class Workload:
    """What runs until it dies, and what may be found afterwards.

    Attributes:
        prepare: what happens before, unharmed.
        act: what dies at one file call after the other.
        in_flight: what `act` may have added to the history when it dies, all of it or nothing: alternatives.
        edit: what somebody else saves into the state file in between.
        window: how many versions before the current one are kept, where older ones may be pruned.
        then: what else must hold, given the state file and the events that were told.
        mend: what comes before anybody looks at what must hold.
        stride: it dies at one in so many calls.
    """

    prepare: Callable[[Path, Acks], PipelineState]
    act: Callable[[PipelineState, Acks], None]
    in_flight: list[list[Document]] = field(default_factory=list)
    edit: Document | None = None
    window: int | None = None
    then: Callable[[Path, list[str]], None] = lambda path, events: None
    mend: Callable[[Path], None] = lambda path: None
    stride: int = 1


def _nothing(path: Path, ack: Acks) -> PipelineState:
    return PipelineState(path)


def _three_versions(path: Path, ack: Acks) -> PipelineState:
    state = PipelineState(path)
    for number in (1, 2, 3):
        ack(state.write({"n": number}))
    return state


def _with_an_edit(path: Path, ack: Acks) -> PipelineState:
    state = _three_versions(path, ack)
    _save(path)
    return state


def _save(path: Path) -> None:
    """What an editor does that cares: whether it lasts is not for us to promise."""
    with path.open("w") as file:
        file.write('{"n": 3, "by": "hand"}')
        file.flush()
        os.fsync(file.fileno())


def _with_a_failure(path: Path, ack: Acks) -> PipelineState:
    state = _three_versions(path, ack)
    _roll_back(state, ack)
    return state


def _cold(path: Path, ack: Acks) -> PipelineState:
    leave(_with_a_failure(path, ack))
    return PipelineState(path)


def _many_versions(path: Path, ack: Acks) -> PipelineState:
    state = PipelineState(path)
    for number in range(1, 5):
        ack(state.write({"n": number}))
    return state


def _packed_and_more(path: Path, ack: Acks) -> PipelineState:
    state = PipelineState(path)
    for number in range(1, 7):
        ack(state.write({"n": number}))
        if number in {2, 4}:
            state.checkpoint()
    return state


def _large_objects(path: Path, ack: Acks) -> PipelineState:
    """Every object in a file of its own, for the rest of this process."""
    large.LARGE = 0
    return _three_versions(path, ack)


def _large_objects_and_a_pack(path: Path, ack: Acks) -> PipelineState:
    large.LARGE = 0
    return _packed_and_more(path, ack)


def _more_than_the_window(path: Path, ack: Acks) -> PipelineState:
    """A window of two with a name beyond it, pruned once, and gone on since."""
    state = PipelineState(path, max_backups=2)
    for number in range(1, 9):
        ack(state.write({"n": number}))
        if number == 3:
            state.create_backup("keep")
        if number == 6:
            _roll_back(state, ack)
            state.prune()
    return state


def _damaged(path: Path, ack: Acks) -> PipelineState:
    with PipelineState(path) as state:
        ack(state.write({"n": 1}), state.write({"n": 2}))
    ack(PipelineState(path).write({"n": 3}))
    damage_store(PipelineState(path))
    return fresh(path)


def _write_first(state: PipelineState, ack: Acks) -> None:
    ack(state.write({"n": 1}))


def _transact(state: PipelineState, ack: Acks) -> None:
    with state.transaction() as txn:
        txn.data["n"] = 4
    ack(txn.version)


def _transact_on_an_edit(state: PipelineState, ack: Acks) -> None:
    with state.transaction() as txn:
        txn.data["n"] = 4
    edit, version = reversed(list(state.log(2)))
    assert version == txn.version
    ack(edit, version)


def _roll_back(state: PipelineState, ack: Acks) -> None:
    with pytest.raises(ZeroDivisionError), state.transaction() as txn:
        txn.data["n"] = 4
        _ = 1 / 0


def _fail_validation(state: PipelineState, ack: Acks) -> None:
    with pytest.raises(StateValidationError), state.transaction() as txn:
        txn.data["n"] = float("nan")


def _restore(state: PipelineState, ack: Acks) -> None:
    state.restore_backup(1)
    ack(next(state.log(1)))


def _undo(state: PipelineState, ack: Acks) -> None:
    ack(state.undo())


def _name_backup(state: PipelineState, ack: Acks) -> None:
    state.create_backup("keep")
    ack.event("named")


def _find_backup(path: Path, events: list[str]) -> None:
    state = fresh(path)
    if "named" in events:
        assert state.read(at="keep") == {"n": 3}
    elif any(version.read() == {"n": 3} for version in state.log()):
        state.create_backup(
            "again"
        )  # whatever became of the first name, another one can still be given
    leave(state)


def _still_named(path: Path, events: list[str]) -> None:
    state = fresh(path)
    assert state.read(at="keep") == {"n": 3}
    leave(state)


def _unname(state: PipelineState, ack: Acks) -> None:
    state.delete_backup("keep")
    ack.event("unnamed")


def _named_until_told(path: Path, events: list[str]) -> None:
    if "unnamed" not in events:
        return
    state = fresh(path)
    with pytest.raises(VersionNotFoundError):
        state.read(at="keep")
    leave(state)


def _with_old_backups(path: Path, ack: Acks) -> PipelineState:
    leave_old_layout(path)
    return PipelineState(path)


def _import(state: PipelineState, ack: Acks) -> None:
    state.import_backups()
    ack(*list(state.log())[::-1])
    ack.event("imported")


def _import_the_rest(path: Path, events: list[str]) -> None:
    state = fresh(path)
    rest = state.import_backups()
    if events:
        assert (rest.versions, rest.audit) == (0, 0), rest
    found = [version.read() for version in (*state.log(), *state.list_backups(None))]
    assert {"n": 1} in found
    assert {"n": 2} in found
    lines = [line["operation"] for line in state.get_transaction_history(None)]
    assert lines.count("write_commit") == 1, lines
    assert lines.count("import_commit") <= 2, lines
    leave(state)


def _refuse_an_edit(state: PipelineState, ack: Acks) -> None:
    def save(call: Call) -> None:
        if flushes_journal(call):
            state.path.write_text('{"n": 3, "by": "hand"}')

    # The edit comes between the record and the rename, so that an abort record follows.
    with file_calls(after=save), pytest.raises(StateConflictError), state.transaction() as txn:
        txn.data["n"] = 4


WORKLOADS = {
    "first write": Workload(_nothing, _write_first, [[{"n": 1}]]),
    "transaction": Workload(_three_versions, _transact, [[{"n": 4}]]),
    "transaction of another process": Workload(_cold, _transact, [[{"n": 4}]]),
    "transaction after a failure": Workload(_with_a_failure, _transact, [[{"n": 4}]]),
    "rollback": Workload(_three_versions, _roll_back),
    "failed validation": Workload(_three_versions, _fail_validation),
    "edit and transaction": Workload(
        _with_an_edit,
        _transact_on_an_edit,
        [[{"n": 3, "by": "hand"}, {"n": 4, "by": "hand"}]],
        edit={"n": 3, "by": "hand"},
    ),
    "edit while committing": Workload(
        _three_versions, _refuse_an_edit, [[{"n": 4}]], edit={"n": 3, "by": "hand"}
    ),
    "restore": Workload(_three_versions, _restore, [[{"n": 1}]]),
    "undo": Workload(_three_versions, _undo, [[{"n": 2}]]),
    "import": Workload(
        _with_old_backups,
        _import,
        [[{"n": 1}, {"n": 2}]],
        edit={"n": 2},
        then=_import_the_rest,
    ),
    "named backup": Workload(_three_versions, _name_backup, then=_find_backup),
    "checkpoint": Workload(_packed_and_more, lambda state, ack: state.checkpoint()),
    "close": Workload(_many_versions, lambda state, ack: state.close()),
    "large objects": Workload(_large_objects, _transact, [[{"n": 4}]]),
    "checkpoint of large objects": Workload(
        _large_objects_and_a_pack, lambda state, ack: state.checkpoint(), stride=3
    ),
    "prune": Workload(
        _more_than_the_window,
        lambda state, ack: state.prune(),
        window=2,
        then=_still_named,
        stride=3,
    ),
    "prune and close": Workload(
        _more_than_the_window,
        lambda state, ack: state.close(),
        window=2,
        then=_still_named,
        stride=3,
    ),
    "repair": Workload(_damaged, lambda state, ack: state.repair(), mend=repair_store, stride=3),
    "name taken away": Workload(_more_than_the_window, _unname, window=2, then=_named_until_told),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_kill_at_any_file_call_loses_nothing_and_invents_nothing(
    name: str, memory: Path, scale: Callable[[int, int], int], tally: Tally
) -> None:
    stride = scale(WORKLOADS[name].stride, 1)
    explored = _kill_everywhere(WORKLOADS[name], memory, stride, scale(STOCK_GIT_EVERY, 1))
    tally("kills at file calls", explored)
    assert explored >= 3


STOCK_GIT_EVERY = 5
"""Judging with git takes four times as long; no stride shares a factor with this, so that it comes round everywhere."""


def _kill_everywhere(workload: Workload, directory: Path, stride: int, git_every: int) -> int:
    """The number of kills that were judged: at every file call, or one in a `stride`, and in the middle of every write."""

    def explore(first: int, step: int) -> int:
        explored = 0
        for number in itertools.count(first * stride + 1, step * stride):
            folder, stock_git = directory / str(number), number % git_every == 0
            died = _kill_at(workload, folder, number, stock_git=stock_git)
            if died is None:
                return explored
            explored += 1
            if died["tearable"]:
                _kill_at(workload, folder, number, stock_git=stock_git, torn=True)
                explored += 1
        raise AssertionError

    return in_parallel(explore)


def _kill_at(
    workload: Workload, directory: Path, number: int, *, stock_git: bool, torn: bool = False
) -> dict[str, Any] | None:
    """The call with that number, at which the workload died and was judged; None if it makes fewer calls."""
    directory.mkdir()
    path = directory / "pipeline.json"

    def work(tell: Tell) -> None:
        acks = Acks(tell)
        state = workload.prepare(path, acks)
        with dying_at(number, tell, torn=torn):
            workload.act(state, acks)

    child = fork(work)
    status = child.wait()
    told = child.told()
    assert status in {0, KILLED}, told
    died = told[-1] if status == KILLED else None
    acknowledged = _acknowledged(told)
    events = [each["event"] for each in told if "event" in each]
    try:
        workload.mend(path)
        judge(
            path,
            acknowledged,
            workload.in_flight if died else (),
            edit=workload.edit,
            window=workload.window,
            first=("read", "log", "backup", "verify")[number % 4],
            then=("recover", "commit")[number % 2],
            stock_git=stock_git,
        )
        workload.then(path, events)
    except Exception as error:
        raise AssertionError(f"{died} {'torn' * torn}") from error
    shutil.rmtree(directory)
    return died


# -- recovery dies too ---------------------------------------------------------------------------------------------

DEATHS = {
    "before the journal's flush": flushes_journal,
    "before the rename": replaces_state,
    "before an object": places_object,
    "before the branch's lock": locks_branch,
    "before the branch": moves_branch,
}


@pytest.mark.parametrize(
    "death",
    ["before the journal's flush", "before the rename", "before an object", "before the branch"],
)
def test_a_kill_at_any_file_call_of_a_recovery_is_recovered_from(
    death: str, memory: Path, scale: Callable[[int, int], int], tally: Tally
) -> None:
    def half_a_transaction(path: Path, ack: Acks) -> PipelineState:
        _die_in_transaction(path, ack, DEATHS[death])
        return fresh(path)

    def recover(state: PipelineState, ack: Acks) -> None:
        if state.read() == {"n": 4}:
            ack(next(state.log(1)))  # what has been read must not go away again
        state.create_backup()

    workload = Workload(half_a_transaction, recover, [[{"n": 4}]])
    explored = _kill_everywhere(workload, memory, 1, scale(STOCK_GIT_EVERY, 1))
    tally("kills at file calls", explored)
    assert explored >= 20


def _die_in_transaction(path: Path, ack: Acks, death: Callable[[Call], bool]) -> None:
    def work(tell: Tell) -> None:
        acks = Acks(tell)
        state = _three_versions(path, acks)
        with dying_before(death):
            _transact(state, acks)

    child = fork(work)
    assert child.wait() == KILLED, child.told()
    for told in child.told():
        ack.pass_on(told)


@pytest.mark.parametrize("first", ["read", "log", "backup"])
def test_an_edit_made_between_a_crash_and_the_recovery_is_kept(first: str, path: Path) -> None:
    def work(tell: Tell) -> None:
        state = _three_versions(path, Acks(tell))
        with dying_before(replaces_state):
            _transact(state, Acks(tell))

    child = fork(work)
    assert child.wait() == KILLED
    path.write_text('{"n": 3, "by": "hand"}')

    documents = judge(
        path, _acknowledged(child.told()), [[{"n": 4}]], edit={"n": 3, "by": "hand"}, first=first
    )

    assert documents[-1] == {"n": 3, "by": "hand"}
    assert {"n": 4} in documents  # its record was in the journal


def test_a_file_deleted_between_a_crash_and_the_recovery_is_not_put_back_unasked(
    path: Path,
) -> None:
    def work(tell: Tell) -> None:
        state = _three_versions(path, Acks(tell))
        with dying_before(replaces_state):
            _transact(state, Acks(tell))

    assert fork(work).wait() == KILLED
    path.unlink()

    state = fresh(path)
    with pytest.raises(StateReadError) as caught:
        state.read()
    assert caught.value.code == "state-missing"
    assert state.restore_backup("HEAD")
    assert state.read() == {"n": 4}
    assert counted(version.read() for version in state.log()) == [4, 3, 2, 1]


# -- power cuts ----------------------------------------------------------------------------------------------------


class Disk:
    """What a power cut would leave of the files in one folder.

    While `watched`, every flush of a file, every change of a name and every flush of a directory is noted. After the cut
    a change of a name that was not flushed has happened or not, a rename as a whole, and none that builds on a lost one;
    a file holds what was flushed last (nothing, if it never was), what was there, or a mixture by blocks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "disk"
        self._aside = folder / "aside"
        self._log = folder / "events"
        for each in (self.folder, self._aside):
            each.mkdir(parents=True)
        self._number = 0

    @property
    def path(self) -> Path:
        """The state file."""
        return self.folder / "pipeline.json"

    def watched(self) -> Any:
        """For the block, notes what this process does to the folder."""
        self._number = len(os.listdir(self._aside))
        return file_calls(self._before, self._after)

    def cut(self, choose: Callable[[list[Any]], Any]) -> None:
        """Loses what was not flushed: `choose` picks among what may be left, the most durable first."""
        changes: list[dict[str, Any]] = []
        flushed: dict[int, tuple[str, int]] = {}
        for line in self._log.read_text().splitlines():
            event = json.loads(line)
            match event.pop("what"):
                case "change":
                    changes.append({"names": event["names"], "durable": False})
                case "moved":
                    for change in changes:
                        change["names"] = {
                            _moved(name, **event): now for name, now in change["names"].items()
                        }
                case "directory":
                    for change in changes:
                        if event["path"] in map(os.path.dirname, change["names"]):
                            change["durable"] = True
                case "file":
                    flushed[event["inode"]] = event["copy"], event["mtime"]
        for name, entry in self._left(changes, choose).items():
            self._put(Path(name), entry)
        for file in [f for f in self.folder.rglob("*") if f.is_file()]:
            self._spoil(file, flushed.get(file.stat().st_ino), choose)

    def _left(
        self, changes: list[dict[str, Any]], choose: Callable[[list[Any]], Any]
    ) -> dict[str, Any]:
        left: dict[str, Any] = {}
        needed: set[str] = set()
        for change in reversed(changes):
            change["durable"] |= not needed.isdisjoint(change["names"])
            if change["durable"]:
                needed.update(change["names"])
        lost: set[str] = set()
        for change in changes:
            if not lost.isdisjoint(change["names"]) or not (
                change["durable"] or choose([False, True])
            ):
                lost.update(change["names"])
                for name in change["names"]:
                    left.setdefault(name, None)
            else:
                left.update(change["names"])
        return dict(sorted(left.items()))

    def _put(self, path: Path, entry: Any) -> None:
        if entry == "directory":
            if path.parent.is_dir():
                path.mkdir(exist_ok=True)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
            if entry is not None and path.parent.is_dir():
                os.link(self._aside / entry, path)

    def _spoil(
        self, file: Path, copy: tuple[str, int] | None, choose: Callable[[list[Any]], Any]
    ) -> None:
        now = file.read_bytes()
        durable, mtime = ((self._aside / copy[0]).read_bytes(), copy[1]) if copy else (b"", 0)
        if now == durable:
            return
        mixed = bytearray(durable[: len(now)].ljust(len(now), b"\0"))
        for start in range(0, len(now), 4096):
            mixed[start : start + 4096] = choose([mixed, now])[start : start + 4096]
        left = choose([durable, bytes(mixed), now])
        if file.suffix == ".lock" and not left:
            left = bytes(mixed)  # Git holds empty locks: such a one stays for an hour (PITFALLS D4)
        if left != now:
            with file.open("r+b") as opened:
                opened.truncate(0)
                opened.write(left)
            if left == durable:
                os.utime(file, ns=(mtime, mtime))

    def _before(self, call: Call) -> None:
        if call.name in {"replace", "rename"} and os.path.isdir(call.arguments[0]):
            self._note("moved", old=os.fspath(call.arguments[0]), new=call.target)

    def _after(self, call: Call) -> None:
        match call.name:
            case "fsync" | "fdatasync":
                self._flushed(call.arguments[0], call.target)
            case "replace" | "rename":
                self._changed(os.fspath(call.arguments[0]), call.target)
            case "open" | "link" | "unlink" | "remove" | "mkdir" | "rmdir":
                self._changed(call.target)

    def _flushed(self, descriptor: int, path: str) -> None:
        if os.path.isdir(path):
            self._note("directory", path=path)
            return
        copy, status = self._new_name(), os.fstat(descriptor)
        shutil.copyfile(f"/proc/self/fd/{descriptor}", self._aside / copy)
        self._note("file", inode=status.st_ino, copy=copy, mtime=status.st_mtime_ns)

    def _changed(self, *paths: str) -> None:
        names = {path: self._entry(path) for path in paths if path.startswith(str(self.folder))}
        if names:
            self._note("change", names=names)

    def _entry(self, path: str) -> str | None:
        if os.path.isdir(path):
            return "directory"
        if not os.path.exists(path):
            return None
        aside = self._new_name()
        os.link(path, self._aside / aside)
        return aside

    def _new_name(self) -> str:
        self._number += 1
        return str(self._number)

    def _note(self, what: str, **fields: Any) -> None:
        with self._log.open("a") as log:
            log.write(json.dumps({"what": what, **fields}) + "\n")


def _moved(name: str, *, old: str, new: str) -> str:
    return new + name[len(old) :] if name.startswith(old + "/") else name


def _everything_lost(choices: list[Any]) -> Any:
    return choices[0]


def _data_lost(choices: list[Any]) -> Any:
    """All names are there, and nothing is in the files that was not flushed: ext4 and XFS after dulwich (D2)."""
    return choices[choices == [False, True]]


def _objects_lost(choices: list[Any]) -> Any:
    """The same, but for the refs: a rename over a file makes ext4 write the new one out."""
    a_ref = isinstance(choices[-1], bytes) and len(choices[-1]) == 41
    return choices[-1] if a_ref else _data_lost(choices)


LOSSES = [
    (_everything_lost, "read"),
    (_data_lost, "log"),
    (_objects_lost, "log"),
    (_objects_lost, "backup"),
    (None, "read"),
    (None, "log"),
    (None, "backup"),
    (None, "read"),
]


@dataclass(frozen=True)
class Cut:
    """A power cut: what ran before, one process after the other, and what may have been under way."""

    lives: list[Callable[[Path, Acks], Any]]
    in_flight: list[list[Document]] = field(default_factory=list)
    edit: Document | None = None


def _life(
    workload: str, death: Callable[[Call], bool] | None = None
) -> Callable[[Path, Acks], Any]:
    """A process that prepares a workload, and dies where told while it acts."""

    def live(path: Path, ack: Acks) -> None:
        state = WORKLOADS[workload].prepare(path, ack)
        with dying_before(death or (lambda call: False)):
            WORKLOADS[workload].act(state, ack)
        assert death is None, "it did not die"
        leave(state)

    return live


def _reader(path: Path, ack: Acks) -> None:
    if PipelineState(path).read() == {"n": 4}:
        ack(next(PipelineState(path).log(1)))


def _writer(*numbers: int) -> Callable[[Path, Acks], None]:
    def live(path: Path, ack: Acks) -> None:
        state = PipelineState(path)
        for number in numbers:
            ack(state.write({"n": number}))

    return live


def _checkpointer(path: Path, ack: Acks) -> None:
    PipelineState(path).checkpoint()


def _restorer(path: Path, ack: Acks) -> None:
    _restore(PipelineState(path), ack)


def _indexes_pack(call: Call) -> bool:
    return call.name == "replace" and call.file.endswith(".idx")


def _flushes_packs(call: Call) -> bool:
    return call.name == "fsync" and call.target.endswith("objects/pack")


def _begins_generation(call: Call) -> bool:
    return call.name in {"rename", "replace"} and call.file.startswith("journal.0")


def _deletes_object(call: Call) -> bool:
    return call.name in {"unlink", "remove"} and "/objects/" in call.target and len(call.file) == 38


CUTS = {
    "idle": Cut([_life("transaction")]),
    **{
        f"died {name}": Cut([_life("transaction", death)], [[{"n": 4}]])
        for name, death in DEATHS.items()
    },
    "first write": Cut([_life("first write")]),
    "first write, died before the rename": Cut(
        [_life("first write", replaces_state)], [[{"n": 1}]]
    ),
    "first write, died before an object": Cut([_life("first write", places_object)], [[{"n": 1}]]),
    "died before the flush, and somebody read": Cut(
        [_life("transaction", flushes_journal), _reader], [[{"n": 4}]]
    ),
    "died before the rename, and somebody read": Cut(
        [_life("transaction", replaces_state), _reader], [[{"n": 4}]]
    ),
    "died before an object, and somebody wrote": Cut(
        [_life("transaction", places_object), _reader, _writer(5, 6)], [[{"n": 4}]]
    ),
    "a failure, then a transaction": Cut([_life("transaction after a failure")]),
    "edit and transaction": Cut([_life("edit and transaction")]),
    "restore": Cut([_life("restore")]),
    "checkpoint": Cut([_life("checkpoint")]),
    "checkpoint, died before the pack": Cut([_life("checkpoint", _indexes_pack)]),
    "checkpoint, died before the pack's flush": Cut([_life("checkpoint", _flushes_packs)]),
    "checkpoint, died before the new journal": Cut([_life("checkpoint", _begins_generation)]),
    "checkpoint, died before the deletions": Cut([_life("checkpoint", _deletes_object)]),
    "checkpoint, then more": Cut([_life("checkpoint"), _writer(7, 8)]),
    "checkpoint, then restored": Cut([_life("checkpoint"), _restorer]),
    "two processes, two checkpoints": Cut(
        [_life("transaction"), _checkpointer, _writer(5, 6), _checkpointer]
    ),
}


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="files are found by /proc/self/fd")
def test_a_power_cut_takes_nothing_that_was_acknowledged(
    name: str, memory: Path, tally: Tally
) -> None:
    def explore(first: int, step: int) -> int:
        for number in range(first, len(LOSSES), step):
            choose, call = LOSSES[number]
            chance = random.Random(f"{name} {number}").choice
            _cut_power(CUTS[name], Disk(memory / str(number)), choose or chance, call)
        return len(range(first, len(LOSSES), step))

    tally("power cuts of a simulated disk", in_parallel(explore))


def _cut_power(cut: Cut, disk: Disk, choose: Callable[[list[Any]], Any], first: str) -> None:
    told: list[Any] = []
    for live in cut.lives:

        def work(tell: Tell, live: Callable[[Path, Acks], Any] = live) -> None:
            with disk.watched():
                live(disk.path, Acks(tell))

        child = fork(work)
        status = child.wait()
        assert status in {0, KILLED}, child.told()
        told += child.told()
    in_flight = cut.in_flight
    if in_flight and in_flight[0] in [[ack.document] for ack in _acknowledged(told)]:
        in_flight = []
    disk.cut(choose)
    try:
        judge(
            disk.path,
            _acknowledged(told),
            in_flight,
            edit=cut.edit,
            first=first,
        )
    except Exception as error:
        raise AssertionError(f"power cut, then {first}: {disk.folder}") from error


# -- SIGKILL -------------------------------------------------------------------------------------------------------


def test_writers_killed_at_random_lose_nothing_that_they_were_promised(
    path: Path, seed: str, tally: Tally
) -> None:
    kills, writers = 200, 4
    chance = random.Random(seed)
    acks: list[tuple[int, int, str]] = []

    def count(number: int) -> Callable[[Tell], None]:
        def work(tell: Tell) -> None:
            state = PipelineState(path, max_backups=None, timeout=None)
            while True:
                with state.transaction() as txn:
                    mine = txn.data.get(f"writer {number}", 0) + 1
                    txn.data[f"writer {number}"] = mine
                assert txn.version is not None
                tell((number, mine, txn.version.id))

        return work

    children = [fork(count(number)) for number in range(writers)]
    for _ in range(kills):
        time.sleep(chance.uniform(0.002, 0.08))
        victim = chance.randrange(writers)
        acks += _killed(children[victim])
        children[victim] = fork(count(victim))
    for child in children:
        acks += _killed(child)

    documents = judge(path, [], None)
    state = fresh(path)
    versions = {version.id: version for version in state.log()}
    final = documents[-1]
    promised = dict.fromkeys(range(writers), 0)
    for number, value, version in acks:
        promised[number] = max(promised[number], value)
        assert version in versions, f"seed {seed}: version {version} is lost"
        assert versions[version].read()[f"writer {number}"] == value
    tally("SIGKILLs", kills)
    tally("transactions acknowledged before a SIGKILL", len(acks))
    for number, value in promised.items():
        # A kill between the commit and its acknowledgement leaves one more.
        assert value <= final[f"writer {number}"], f"seed {seed}"
    assert sum(final.values()) == len(documents), f"seed {seed}: not one version for each increment"
    assert len(acks) > kills // 10  # a busy machine commits little between two kills


def _killed(child: Child) -> list[tuple[int, int, str]]:
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, child.told()
    return [tuple(told) for told in child.told()]


# -- torn journals -------------------------------------------------------------------------------------------------

BLOCK = 4096


def _records(path: Path) -> list[tuple[int, int]]:
    """Where each record of the journal begins and ends, the base left out; the format is in journal.py."""
    content = journal_of(path).read_bytes()
    found = []
    for start in range(BLOCK, len(content), BLOCK):
        if content[start : start + 8] == b"gsrec001":
            (length,) = (int.from_bytes(content[start + 40 : start + 48], "little"),)
            found.append((start, start + 64 + length))
    return found


def _torn(path: Path, how: str, record: int) -> None:
    start, end = _records(path)[record]
    file = journal_of(path)
    with file.open("r+b") as journal:
        match how:
            case "cut":
                journal.truncate((start + end) // 2)
            case "cut to the header":
                journal.truncate(start + 16)
            case "zeroed":
                journal.seek((start + end) // 2)
                journal.write(bytes(end - (start + end) // 2))
            case "zeroed from the start":
                journal.seek(start)
                journal.write(bytes((end - start) // 2))
            case "flipped":
                journal.seek((start + end) // 2)
                byte = journal.read(1)
                journal.seek(-1, os.SEEK_CUR)
                journal.write(bytes([byte[0] ^ 0x10]))
            case "length flipped":
                journal.seek(start + 44)
                journal.write(b"\xff")
            case _:
                raise ValueError(how)


TEARS = ["cut", "cut to the header", "zeroed", "zeroed from the start", "flipped", "length flipped"]


@pytest.mark.parametrize("how", TEARS)
@pytest.mark.parametrize("size", [1, 20_000])
def test_a_torn_last_record_is_as_if_it_had_never_been(how: str, size: int, path: Path) -> None:
    def work(tell: Tell) -> None:
        state = _three_versions(path, Acks(tell))
        big = random.Random(size).randbytes(size).hex()
        with dying_before(flushes_journal):
            state.write({"n": 4, "big": big})

    child = fork(work)
    assert child.wait() == KILLED, child.told()
    _torn(path, how, -1)

    documents = judge(path, _acknowledged(child.told()), [])

    assert counted(documents[:3]) == [1, 2, 3]


@pytest.mark.parametrize("how", ["zeroed", "flipped", "length flipped", "zeroed from the start"])
@pytest.mark.parametrize("call", ["read", "write", "log", "close and open"])
def test_damage_before_a_durable_record_is_an_error_and_the_state_file_stays_readable(
    how: str, call: str, path: Path
) -> None:
    def work(tell: Tell) -> None:
        _three_versions(path, Acks(tell))

    fork(work).finish()
    content = path.read_bytes()
    _torn(path, how, 1)
    damaged = journal_of(path).read_bytes()

    state = fresh(path)
    with pytest.raises(StateReadError) as caught:
        match call:
            case "read":
                state.read()
            case "write":
                state.write({"n": 5})
            case "log":
                list(state.log())
            case _:
                state.close()
                state.write({"n": 5})

    assert caught.value.code == "journal-damaged"
    assert str(journal_of(path)) in str(caught.value)
    assert path.read_bytes() == content  # `cat` still works
    assert json.loads(content) == {"n": 3}
    assert journal_of(path).read_bytes() == damaged  # evidence is not touched
    assert not fresh(path).verify().ok


def test_a_damaged_journal_moved_away_as_advised_leaves_a_usable_state(path: Path) -> None:
    def work(tell: Tell) -> None:
        _three_versions(path, Acks(tell))

    child = fork(work)
    acks = _acknowledged(child.finish())
    _torn(path, "flipped", 1)
    journal_of(path).rename(path.parent / "journal.kept")

    assert counted(judge(path, acks, [])) == [1, 2, 3]


def _acknowledged(told: list[Any]) -> list[Ack]:
    return [Ack(*made) for each in told if "acks" in each for made in each["acks"]]
