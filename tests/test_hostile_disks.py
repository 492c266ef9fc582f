"""Disks that are full to the last page, read-only, short of breath; clocks that jump. Nothing is lost, nothing untyped.

`test_faults.py` lets single calls fail; here the system itself refuses, in its own order, over and over.
"""

from __future__ import annotations

import gc
import itertools
import json
import logging
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import pytest
from oracle import (
    KILLED,
    Ack,
    Call,
    Document,
    Tally,
    Tell,
    counted,
    dying_before,
    files_of_store,
    flushes_journal,
    fork,
    forks,
    fresh,
    judge,
    leave,
    leftovers,
    moves_branch,
    places_object,
    replaces_state,
)

from gitstate import PipelineState, StateError, StateLockError, StateWriteError, Version

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
MEGABYTE = 1024 * 1024


def _run(*command: str | os.PathLike[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def _mounted(place: Path, *options: str) -> Iterator[Path]:
    """A filesystem at `place`, made with these options of mount(8); skips where that is not allowed."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may mount a filesystem")
    place.mkdir()
    try:
        _run("mount", *options, place)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or b""
        pytest.skip(f"nothing can be mounted here: {error} {said.decode().strip()}")
    try:
        yield place
    finally:
        # Lazily: a failed test's traceback keeps handles alive, and their files open.
        _run("umount", "--lazy", place)


def _text(number: int) -> str:
    """Some 20 KB that no compression makes small."""
    return random.Random(number).randbytes(10_000).hex()


def _document(number: int) -> Document:
    return {"n": number, "text": _text(number)}


# -- a full disk ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ballast:
    """Files that take up what a filesystem has, but for a little."""

    folder: Path
    of: Literal["pages", "inodes"]

    def leave(self, free: int) -> None:
        """Leaves exactly that many pages, or inodes."""
        self.folder.mkdir()
        first = self.folder / "0"
        first.touch()
        surplus = self._free() - free
        assert surplus >= 0, f"{self._free()} {self.of} are less than {free}"
        if self.of == "pages":
            with first.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, surplus * PAGE) if surplus else None
        else:
            for number in range(1, surplus + 1):
                (self.folder / str(number)).touch()
        assert self._free() == free

    def throw_off(self) -> None:
        """Gives everything back."""
        shutil.rmtree(self.folder)

    def _free(self) -> int:
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_bsize // PAGE if self.of == "pages" else status.f_favail


@dataclass(frozen=True)
class Attempt:
    """What is tried on a full disk: what comes before, and the number of the version that it makes, None for none."""

    prepare: Callable[[Path], PipelineState]
    act: Callable[[PipelineState], object]
    makes: int | None


def _two_versions(path: Path) -> PipelineState:
    state = PipelineState(path)
    for number in (1, 2):
        state.write(_document(number))
    return state


def _two_versions_of_another_process(path: Path) -> PipelineState:
    leave(_two_versions(path))
    return fresh(path)


def _packed(path: Path) -> PipelineState:
    _two_versions(path).close()
    return fresh(path)


def _grown(path: Path) -> PipelineState:
    """A journal with less than a record of this size left of what was allocated: the next one has to grow it."""
    state = PipelineState(path)
    for number in range(1, 40):
        state.write(_document(number))
        (journal,) = path.parent.glob(".pipeline/journal.0*")
        content = journal.read_bytes()
        if number > 2 and len(content) - len(content.rstrip(b"\0")) < 4 * PAGE:
            return state
    raise AssertionError("it never grows")


def _third(state: PipelineState) -> None:
    with state.transaction() as txn:
        txn.data = _document(99)


ATTEMPTS = {
    "first write": Attempt(PipelineState, _third, 99),
    "transaction": Attempt(_two_versions, _third, 99),
    "transaction on a full journal": Attempt(_grown, _third, 99),
    "transaction of another process": Attempt(_two_versions_of_another_process, _third, 99),
    "transaction on a packed history": Attempt(_packed, _third, 99),
    "checkpoint": Attempt(_two_versions, PipelineState.checkpoint, None),
}
ENOUGH = 4
"""So many attempts in a row must have passed without a complaint before more room is no use any more."""


@pytest.mark.parametrize("of", ["pages", "inodes"])
@pytest.mark.parametrize("name", ATTEMPTS)
def test_on_a_disk_full_to_the_last_page_it_happens_or_is_refused_and_nothing_is_lost(
    name: str,
    of: Literal["pages", "inodes"],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    tally: Tally,
) -> None:
    outcomes: list[bool] = []
    with _mounted(
        tmp_path / "disk", "-t", "tmpfs", "-o", "size=8m,nr_inodes=600,huge=never", "tmpfs"
    ) as disk:
        enough = 0
        for free in itertools.count():
            caplog.clear()
            try:
                happened = _attempt(
                    ATTEMPTS[name], disk / str(free), Ballast(disk / "ballast", of), free
                )
            except Exception as error:
                raise AssertionError(f"{name} with {free} {of} free: {error}") from error
            outcomes.append(happened)
            complaints = [each for each in caplog.records if each.levelno >= logging.WARNING]
            enough = enough + 1 if happened and not complaints else 0
            if enough == ENOUGH:
                break
            assert free < 300, "it never passes"

    refused = outcomes.count(False)
    tally("attempts on a full disk", len(outcomes))
    assert refused > 0 or name == "checkpoint"


def _attempt(attempt: Attempt, folder: Path, ballast: Ballast, free: int) -> bool:
    """Whether it happened, with so much free; everything else is judged."""
    folder.mkdir()
    path = folder / "pipeline.json"
    state = attempt.prepare(path)
    before = [Ack(version.id, version.read()) for version in state.log()][::-1]
    content = path.read_bytes() if before else None
    state.read()
    (folder / "pipeline.json.lock").touch()  # else the first thing refused is always the lock
    makes = [] if attempt.makes is None else [_document(attempt.makes)]
    newest = before[-1].document if before else {}

    ballast.leave(free)
    refusal = _refusal(attempt.act, state)
    happened = refusal is None
    assert happened or (refusal == "write"), refusal
    if happened and makes:
        newest = makes[0]
    elif not happened:
        assert (path.read_bytes() if before else path.exists()) == (content or False)
        assert _beside(path) == [], "left behind by a refusal"
    # While there is still no room: whoever reads now, we or another process, reads what was acknowledged.
    assert state.read() == newest
    leave(state)
    state = fresh(path)
    assert state.read() == newest
    leave(state)
    ballast.throw_off()

    documents = judge(
        path, before, [makes] if happened and makes else (), then="commit", stock_git=False
    )
    expected = [*(ack.document for ack in before), *(makes if happened else [])]
    assert counted(documents) == counted(expected)
    assert documents == expected
    assert _beside(path) == [], "left behind in the end"
    del state
    gc.collect()
    shutil.rmtree(folder)
    return happened


def _refusal(act: Callable[[PipelineState], object], state: PipelineState) -> str | None:
    """The code of the error that a disk's refusal becomes, None where there is none."""
    try:
        act(state)
    except StateWriteError as error:
        return error.code if str(state.path.parent) in str(error) else f"without a path: {error}"
    return None


def _beside(path: Path) -> list[str]:
    """Temporary files, and halves of a store."""
    halves = [str(each) for each in files_of_store(path) if each.name.startswith("new.")]
    strangers = set(os.listdir(path.parent)) - {path.name, f"{path.name}.lock", ".pipeline"}
    return [*leftovers(path), *halves, *sorted(strangers)]


# -- a read-only disk ----------------------------------------------------------------------------------------------


@contextmanager
def _disk(kind: str, folder: Path) -> Iterator[Path]:
    if kind == "tmpfs":
        with _mounted(folder / "disk", "-t", "tmpfs", "-o", "size=16m", "tmpfs") as disk:
            yield disk
        return
    if not shutil.which("mkfs.ext4"):
        pytest.skip("there is no mkfs.ext4")
    image = folder / "image"
    image.touch()
    os.truncate(image, 32 * MEGABYTE)
    _run("mkfs.ext4", "-q", "-F", image)
    with _mounted(folder / "disk", "-o", "loop", os.fspath(image)) as disk:
        yield disk


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A mounted filesystem of either kind."""
    with _disk(request.param, tmp_path) as mounted:
        yield mounted


def _judged(disk: Path) -> list[int]:
    """The `n` of each version on a disk that no living process uses."""

    def work(tell: Tell) -> None:
        tell(counted(judge(disk / "pipeline.json", [], None)))

    return fork(work).finish()[-1]


def _image(folder: Path) -> dict[str, Any]:
    """Every file below: its inode, its times, its bytes."""
    image = {}
    for file in sorted(folder.rglob("*")):
        status = file.stat()
        content = file.read_bytes() if file.is_file() else None
        image[str(file)] = status.st_ino, status.st_mtime_ns, status.st_ctime_ns, content
    return image


def _three(path: Path) -> PipelineState:
    state = PipelineState(path)
    for number in (1, 2, 3):
        state.write({"n": number})
    state.create_backup("kept")
    return state


LIVES: dict[str, tuple[Callable[[Call], bool] | None, bool, int]] = {
    # What the process died before, whether it had closed the state first, and the newest version that is to be read.
    "closed": (None, True, 4),
    "not closed": (None, False, 4),
    "died before the rename": (replaces_state, False, 4),
    "died before an object": (places_object, False, 4),
    "died before the branch": (moves_branch, False, 4),
    "closed, then died before the rename": (replaces_state, True, 4),
}


@forks
@pytest.mark.parametrize("life", LIVES)
def test_on_a_read_only_disk_everything_can_be_read_and_writing_is_refused_by_name(
    life: str, disk: Path
) -> None:
    death, closed, newest = LIVES[life]

    def live(tell: Tell) -> None:
        state = _three(disk / "pipeline.json")
        if closed:
            state.close()
        with dying_before(death or (lambda call: False)):
            state.write({"n": 4})
        if closed:
            state.close()

    def look(tell: Tell) -> None:
        before = _image(disk)
        path = disk / "pipeline.json"
        for first in ("read", "log", "read at", "verify", "write"):
            _judge_read_only(path, first, newest, whole=death is None)
        assert _image(disk) == before, "something was written"

    # In processes of their own: what they leave open for writing would keep the disk from being remounted.
    assert fork(live).wait() == (KILLED if death else 0)
    _run("mount", "-o", "remount,ro", disk)
    fork(look).finish()
    _run("mount", "-o", "remount,rw", disk)
    assert _judged(disk) == [1, 2, 3, 4]


def _judge_read_only(path: Path, first: str, newest: int, *, whole: bool) -> None:
    """Everything that only looks, by a new handle whose first call is `first`; then everything that does not."""
    state = fresh(path)
    expected = list(range(newest, 0, -1))
    match first:
        case "read":
            assert state.read() == {"n": newest}
        case "log":
            assert counted(version.read() for version in state.log()) == expected
        case "read at":
            assert state.read(at=2) == {"n": 2}
        case "verify":
            state.verify()
        case "write":
            _refused(path, lambda: state.write({"n": 5}))
    assert state.read() == {"n": newest}
    assert [v.serial for v in state.list_backups()] == expected[1:]
    assert counted(version.read() for version in state.log()) == expected
    for serial in expected:
        assert state.read(at=serial) == {"n": serial}
    assert state.read(at="kept") == {"n": 3}
    assert state.read(at="HEAD~1") == {"n": newest - 1}
    assert [change.new for change in state.diff(1, newest)] == [newest]
    lines = state.get_transaction_history()
    assert [line["success"] for line in lines] == [True] * newest
    report = state.verify()
    assert report.ok == whole, report.problems
    if not whole:
        assert all("not in place" in problem for problem in report.problems), report.problems

    writes: list[Callable[[], object]] = [
        lambda: state.write({"n": 5}),
        lambda: _third(state),
        lambda: state.restore_backup(1),
        lambda: state.create_backup("another"),
        state.undo,
        state.checkpoint,
    ]
    for write in writes:
        _refused(path, write)
        assert state.read() == {"n": newest}
    leave(state)


def _refused(path: Path, write: Callable[[], object]) -> None:
    with pytest.raises(StateWriteError) as caught:
        write()
    assert caught.value.code == "write"
    assert caught.value.path is not None
    assert str(path.parent) in str(caught.value)
    assert "read-only" in str(caught.value).lower()


@forks
def test_on_a_read_only_disk_without_a_store_reading_gives_nothing_and_writing_is_refused(
    disk: Path,
) -> None:
    def look(tell: Tell) -> None:
        path = disk / "pipeline.json"
        state = PipelineState(path)
        assert state.read() == {}
        assert list(state.log()) == []
        assert state.list_backups() == []
        assert state.verify().ok
        _refused(path, lambda: state.write({"n": 1}))
        assert state.read() == {}
        state.close()

    _run("mount", "-o", "remount,ro", disk)
    before = _image(disk)
    fork(look).finish()
    assert _image(disk) == before


@forks
def test_a_disk_that_is_read_only_for_a_while_refuses_and_goes_on_later(disk: Path) -> None:
    def live(tell: Tell) -> None:
        state = _three(disk / "pipeline.json")
        state.close()
        for _ in tell.steps():
            number = state.read()["n"] + 1
            refusal = _refusal(lambda state, number=number: state.write({"n": number}), state)
            # Whoever has a file open for writing keeps the disk from being remounted.
            state.close()
            tell(refusal or number)

    child = fork(live)
    told = [child.go_on()]
    for mode in ("ro", "rw", "ro", "rw"):
        _run("mount", "-o", f"remount,{mode}", disk)
        told.append(child.go_on())
    child.finish()
    assert told == [4, "write", 5, "write", 6]
    assert _judged(disk) == [1, 2, 3, 4, 5, 6]


@forks
@pytest.mark.parametrize("checkpoints", [False, True])
def test_a_disk_that_turns_read_only_under_an_open_handle_keeps_what_was_acknowledged(
    checkpoints: bool, tmp_path: Path
) -> None:
    def live(tell: Tell) -> None:
        state = _three(disk / "pipeline.json")
        if checkpoints:
            state.checkpoint()
        tell([(version.id, version.read()) for version in state.log()][::-1])
        for _ in tell.steps():
            before = state.read()
            refusal = _refusal(lambda state: state.write({"n": 4}), state)
            assert state.read() == before == {"n": 3}
            assert counted(version.read() for version in state.log()) == [3, 2, 1]
            assert fresh(state.path).read() == {"n": 3}
            state.close()
            tell(refusal)

    with _disk("ext4", tmp_path) as disk:
        child = fork(live)
        (made,) = child.await_line()
        # What ext4 does when its own disk fails: read-only at once, whoever has files open.
        subprocess.run(["mount", "-o", "remount,abort", disk], check=False, capture_output=True)
        try:
            (disk / "probe").touch()
        except OSError:
            pass
        else:
            pytest.skip("this ext4 does not know the option `abort`")
        assert child.go_on() in {"write", "flush-failed"}
        assert child.go_on() in {"write", "flush-failed"}
        child.finish()

    repaired = subprocess.run(
        ["e2fsck", "-fy", tmp_path / "image"], check=False, capture_output=True
    )
    assert repaired.returncode < 4, repaired.stdout

    def check(tell: Tell) -> None:
        judge(disk / "pipeline.json", [Ack(*each) for each in made], [[{"n": 4}]])

    (tmp_path / "disk").rmdir()
    with _mounted(tmp_path / "disk", "-o", "loop", os.fspath(tmp_path / "image")) as disk:
        fork(check).finish()


# -- clocks that jump ----------------------------------------------------------------------------------------------

NOW = time.time()
YEAR = 365.25 * 86_400
JUMPS = {
    "back by years": NOW - 10 * YEAR,
    "to the epoch": 0.0,
    "just behind the epoch": 0.25,
    "forward by years": NOW + 20 * YEAR,
    "beyond 32 bits": 2.0**32 + 86_400,
    "back again": NOW,
    "back by an hour": NOW - 3_600,
    "forward by an hour": NOW + 3_600,
}


@contextmanager
def _clock_at(moment: float) -> Iterator[None]:
    """For the block every clock that gitstate reads stands there, and goes on from there."""
    began = time.perf_counter()

    def now() -> float:
        return moment + time.perf_counter() - began

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Self:
            return cls.fromtimestamp(now(), tz)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", now)
        patch.setattr(time, "time_ns", lambda: int(now() * 1e9))
        for module in ("gitstate.draft.datetime", "gitstate.lock.datetime"):
            patch.setattr(module, Clock)
        yield


def _edit(path: Path, how: str, number: int) -> Document:
    """What somebody else saves into the state file, and what its mtime is then."""
    status = path.stat()
    document = {"n": number, "by": "hand"}
    content = json.dumps(document)
    if how == "same mtime, same size":
        content = path.read_text().translate(str.maketrans("0123456789", "1234567890"))
        document = json.loads(content)
        assert len(content) == status.st_size
    path.write_text(content)
    match how:
        case "old mtime":
            os.utime(
                path, (number, number)
            )  # no two the same: a recovery knows a file by its mtime, too
        case "mtime to come":
            os.utime(path, (NOW + 10 * YEAR + number, NOW + 10 * YEAR + number))
        case "same mtime, same size" | "same mtime":
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return document


EDITS = ["old mtime", "mtime to come", "same mtime", "same mtime, same size"]


def _judge_order(state: PipelineState, documents: list[Document]) -> None:
    """Serials go on, and versions are listed in their order, whatever the clock said."""
    history: list[Version] = list(state.log())
    assert [version.serial for version in history] == list(range(len(documents), 0, -1))
    assert [version.read() for version in history][::-1] == documents
    times = [version.timestamp for version in history]
    assert times == sorted(times, reverse=True), "a version is older than its parent"
    assert [v.serial for v in state.list_backups(None)] == [v.serial for v in history[1:]]
    lines = state.get_transaction_history(None)
    assert [line["commit"] for line in lines if line["success"]] == [v.id for v in history]


@pytest.mark.parametrize("seconds", JUMPS)
@pytest.mark.parametrize("how", EDITS)
def test_a_clock_that_jumps_neither_loses_nor_reorders_anything(
    how: str, seconds: str, path: Path
) -> None:
    state = PipelineState(path, max_backups=None)
    documents: list[Document] = []

    def commit(state: PipelineState) -> None:
        with state.transaction() as txn:
            txn.data["n"] = 100 + len(documents)
            document = dict(txn.data)
        assert txn.version is not None
        documents.append(document)
        assert txn.version.serial == len(documents)

    for jump in (NOW, JUMPS[seconds], NOW):
        with _clock_at(jump):
            commit(state)
            documents.append(_edit(path, how, 10 + len(documents)))
            commit(state)
            with pytest.raises(ZeroDivisionError), state.transaction() as txn:
                txn.data["n"] = 1 / 0
            state.checkpoint()
            commit(state)
            _judge_order(state, documents)
            leave(state)
            state = fresh(path, max_backups=None)
            assert state.read() == documents[-1]
            documents.append(_edit(path, how, 10 + len(documents)))
            commit(state)
            state.close()
            _judge_order(state, documents)

    assert judge(path, [], None) == documents


@pytest.mark.parametrize("sequence", range(4))
def test_a_clock_at_random_for_each_transaction_keeps_the_order(
    sequence: int, path: Path, seed: str
) -> None:
    chance = random.Random(f"{seed} {sequence}")
    state = PipelineState(path, max_backups=None)
    documents: list[Document] = []
    latest = 0.0
    for number in range(25):
        moment = chance.choice([*JUMPS.values(), chance.uniform(0, NOW + 30 * YEAR)])
        latest = max(latest, moment)
        with _clock_at(moment):
            if number and chance.random() < 0.3:
                documents.append(_edit(path, chance.choice(EDITS), 1000 + number))
            if chance.random() < 0.2:
                leave(state)
                state = fresh(path, max_backups=None)
            with state.transaction() as txn:
                # In steps that no edit makes: a transaction that changes nothing makes no version.
                txn.data["n"] = 500 + 7 * number
            documents.append(state.read())
            if chance.random() < 0.2:
                state.checkpoint()
        assert txn.version is not None
        # The clock is really believed as far as it can be: else nothing was tried here.
        assert abs(txn.version.timestamp.timestamp() - latest) < 60
    _judge_order(state, documents)
    moment = datetime.fromtimestamp(2.0**33, UTC)
    assert state.read(at=moment) == documents[-1]
    state.close()

    assert judge(path, [], None) == documents


@pytest.mark.parametrize("seconds", JUMPS)
@pytest.mark.parametrize("how", ["old mtime", "mtime to come", "same mtime"])
def test_an_edit_with_a_forged_mtime_while_a_block_runs_is_noticed_whatever_the_clock_says(
    how: str, seconds: str, path: Path
) -> None:
    state = PipelineState(path)
    for number in (1, 2):
        state.write({"n": number})
    with _clock_at(JUMPS[seconds]):
        with pytest.raises(StateError) as caught, state.transaction() as txn:
            txn.data["n"] = 3
            edit = _edit(path, how, 7)
        assert caught.value.code == "edited"
        assert state.read() == edit
        state.write({"n": 4})

    assert judge(path, [], None) == [{"n": 1}, {"n": 2}, edit, {"n": 4}]


@forks
@pytest.mark.parametrize("seconds", ["back by years", "to the epoch", "forward by years"])
@pytest.mark.parametrize("how", ["old mtime", "mtime to come", "same mtime"])
def test_an_edit_with_a_forged_mtime_after_a_crash_is_not_overwritten_by_the_recovery(
    how: str, seconds: str, path: Path
) -> None:
    def live(tell: Tell) -> None:
        state = PipelineState(path)
        for number in (1, 2):
            version = state.write({"n": number})
            assert version is not None
            tell((version.id, version.read()))
        with _clock_at(JUMPS[seconds]), dying_before(replaces_state):
            state.write({"n": 3})

    child = fork(live)
    assert child.wait() == KILLED, child.told()
    edit = _edit(path, how, 7)

    with _clock_at(JUMPS[seconds]):
        documents = judge(path, [Ack(*told) for told in child.told()], [[{"n": 3}]], edit=edit)
    assert documents == [{"n": 1}, {"n": 2}, {"n": 3}, edit]


@forks
@pytest.mark.parametrize("seconds", JUMPS)
def test_a_process_that_dies_under_a_wrong_clock_is_recovered_under_a_right_one(
    seconds: str, path: Path
) -> None:
    for number, death in enumerate((flushes_journal, replaces_state, places_object, moves_branch)):

        def live(tell: Tell, death: Callable[[Call], bool] = death, number: int = number) -> None:
            state = PipelineState(path)
            with _clock_at(JUMPS[seconds]):
                state.write({"n": 2 * number})
                with dying_before(death):
                    state.write({"n": 2 * number + 1})

        child = fork(live)
        assert child.wait() == KILLED, child.told()

    documents = judge(path, [], None)
    assert [n for n in counted(documents) if n % 2 == 0] == [0, 2, 4, 6]
    assert {3, 5, 7} <= set(counted(documents)), "a flushed record is lost"


# -- short writes --------------------------------------------------------------------------------------------------


@contextmanager
def _short_writes(length: Callable[[int], int]) -> Iterator[list[int]]:
    """For the block no call writes more than `length(asked)` bytes; how many were asked for, call by call."""
    asked: list[int] = []

    def short(original: Callable[..., int]) -> Callable[..., int]:
        def write(descriptor: int, content: Any, *rest: Any) -> int:
            wanted = len(memoryview(content).cast("B"))
            asked.append(wanted)
            given = min(wanted, max(1, length(wanted)))
            return original(descriptor, bytes(memoryview(content).cast("B")[:given]), *rest)

        return write

    with pytest.MonkeyPatch.context() as patch:
        for name in ("write", "pwrite"):
            if hasattr(os, name):
                patch.setattr(os, name, short(getattr(os, name)))
        yield asked


def _lengths(how: str, seed: str) -> Callable[[int], int]:
    chance = random.Random(seed)
    lengths: dict[str, Callable[[int], int]] = {
        "one byte": lambda wanted: 1,
        "half": lambda wanted: wanted // 2,
        "at random": lambda wanted: chance.choice([1, chance.randint(1, max(1, wanted // 2))]),
    }
    return lengths[how]


@pytest.mark.parametrize("how", ["one byte", "half", "at random"])
def test_writes_that_are_short_every_time_change_nothing(
    how: str, memory: Path, seed: str, tally: Tally
) -> None:
    path = memory / "pipeline.json"
    with _short_writes(_lengths(how, seed)) as asked:
        state = PipelineState(path)
        acks = []
        for number in (1, 2, 3):
            version = state.write(_document(number))
            assert version is not None
            acks.append(Ack(version.id, _document(number)))
        with pytest.raises(ZeroDivisionError), state.transaction():
            _ = 1 / 0
        state.checkpoint()
        with state.transaction() as txn:
            txn.data = _document(4)
        assert txn.version is not None
        acks.append(Ack(txn.version.id, _document(4)))
        leave(state)
        state = fresh(path)
        state.create_backup("kept")
        assert state.restore_backup(2)
        newest = next(state.log(1))
        acks.append(Ack(newest.id, _document(2)))
        state.close()
        leave(state)

    tally("short writes", len(asked))
    assert len(asked) > 100
    assert judge(path, acks, []) == [ack.document for ack in acks]


@forks
@pytest.mark.parametrize("how", ["half", "at random"])
def test_a_recovery_whose_writes_are_short_is_as_good(how: str, memory: Path, seed: str) -> None:
    path = memory / "pipeline.json"
    for death in (replaces_state, places_object, moves_branch):
        path.unlink(missing_ok=True)
        shutil.rmtree(memory / ".pipeline", ignore_errors=True)

        def live(tell: Tell, death: Callable[[Call], bool] = death) -> None:
            with _short_writes(_lengths(how, seed)):
                state = PipelineState(path)
                state.write(_document(1))
                with dying_before(death):
                    state.write(_document(2))

        child = fork(live)
        assert child.wait() == KILLED, child.told()
        with _short_writes(_lengths(how, seed)):
            state = fresh(path)
            assert state.read() == _document(2)
            state.create_backup()
            leave(state)

        assert judge(path, [], None) == [_document(1), _document(2)]


@pytest.mark.parametrize("how", ["one byte", "half"])
def test_the_holder_of_a_lock_is_named_though_writes_are_short(how: str, path: Path) -> None:
    state = PipelineState(path)
    state.write({"n": 1})
    caught: list[StateLockError] = []

    def wait() -> None:
        try:
            PipelineState(path, timeout=0).write({"n": 2})
        except StateLockError as error:
            caught.append(error)

    with _short_writes(_lengths(how, "")), state.transaction(operation="at work"):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()

    (error,) = caught
    assert error.holder is not None
    assert (error.holder.pid, error.holder.operation) == (os.getpid(), "at work")
