"""The judge of the durability suites, and the processes and file calls that they interfere with.

`judge` opens a state as the first program after a crash would, and holds it against what was acknowledged before.
"""

from __future__ import annotations

import builtins
import gc
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gitstate import PipelineState, Version, VersionPrunedError
from gitstate.draft import FAILURES
from gitstate.journal import read_all
from gitstate.record import effective
from gitstate.registry import forget_store, open_store
from gitstate.repository.refs import Refs
from gitstate.store import KNOWN_REFS

GIT = shutil.which("git")
LINUX = sys.platform.startswith("linux")
KILLED = 137

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here")
needs_git = pytest.mark.skipif(GIT is None, reason="stock git is not installed")

Document = dict[str, Any]
Tally = Callable[[str, int], None]
"""The fixture `tally`: what has been tried, and how often."""

_os_write = os.write
_LEFTOVER = re.compile(r".*\.tmp|.*\.lock|tmp_obj_.*|gitstate-older-.*|tmp.*\.pack")
_SCRATCH = re.compile(r"new\.[0-9a-f]{16}|pack-[0-9a-f]{40}\.(pack|idx)")
_LASTING_LOCKS = {"pipeline.json.lock", "maintenance.lock", "queue.lock", "remote.lock"}


class Ack(NamedTuple):
    """A version whose transaction has returned: it must never be lost."""

    id: str
    document: Document


# -- the judge ---------------------------------------------------------------------------------------------------


def judge(
    path: Path,
    acknowledged: Sequence[Ack],
    in_flight: Sequence[Sequence[Document]] | None = (),
    *,
    edit: Document | None = None,
    window: int | None = None,
    first: str = "read",
    then: str = "recover and commit",
    stock_git: bool = True,
) -> list[Document]:
    """The documents of all versions that are kept, oldest first, once everything holds that was promised.

    Args:
        path: the state file, used by no living process.
        acknowledged: versions whose transaction returned, oldest first.
        in_flight: what the interrupted call may have added, all of it or nothing: each alternative is the documents of
            its versions. None: there were other writers, nobody knows.
        edit: what somebody else saved into the file without a transaction; it must not be lost either.
        window: how many versions before the current one must be there, if older ones may have been pruned; their lines of
            the audit trail must be there all the same. Where nothing but a commit follows, so does a prune, which must be
            able to finish what another one has begun.
        first: the call by which the store is opened: recovery may not depend on it.
        then: what to do with the state afterwards: "recover" it again, which must change nothing, "commit" another
            transaction, which must work without further ado, or both.
        stock_git: whether stock Git has a look too, if it is installed.
    """
    before = _content(path)
    state = fresh(path)
    try:
        found = _opened_by(state, first)
        history = list(state.log())[::-1]
        documents = [version.read() for version in history]
        pruned = _judge_chain(history, window)
        expected = in_flight is not None and documents in _allowed(acknowledged, in_flight)
        extra = first == "backup" and edit and documents[-1:] == [edit] and not expected
        own = history[:-1] if extra else history
        _judge_history(documents[: len(own)], own, acknowledged, in_flight, pruned)
        _judge_trail(state, history, acknowledged)
        _judge_file(before, documents, acknowledged, in_flight, edit)
        if found is not None and found != (documents[-1] if documents else {}) and found != edit:
            raise AssertionError(f"read() gave {found}, the newest version is {documents[-1:]}")

        backup = state.create_backup()  # takes the lock and, if that was still to be done, recovers
        after = list(state.log())[::-1]
        if [v.id for v in after[: len(history)]] != [v.id for v in history]:
            raise AssertionError("recovery has rewritten history")
        if len(after) > len(history) and (edit is None or backup is None or backup.read() != edit):
            raise AssertionError(f"versions out of nothing: {[str(v.read()) for v in after]}")
        documents = [version.read() for version in after]
        _judge_boundary(state, after)
        if after:
            judge_disk(state, stock_git=stock_git)
        if "recover" in then and state.git_dir.is_dir():
            _judge_second_recovery(state)
        if "commit" in then:
            _judge_usable(path, documents, pruned, stock_git=stock_git)
        if then == "commit" and window is not None:
            _judge_prunable(path, window, stock_git=stock_git)
    finally:
        leave(state)
    return documents


def judge_disk(state: PipelineState, *, stock_git: bool = True) -> None:
    """The files of an idle state that has history are as gitstate and stock Git expect them."""
    report = state.verify()
    assert report.ok, f"verify: {report.problems}"
    assert leftovers(state.path) == [], f"left behind: {leftovers(state.path)}"
    _judge_journal(state)
    if GIT and stock_git:
        shown = git(state, "show", f"HEAD:{state.path.name}")
        assert shown == state.path.read_bytes(), "the state file is not what HEAD holds"
        fsck = git(state, "fsck", "--strict", "--no-progress", "--no-dangling", "--no-reflogs")
        assert not fsck.strip(), f"git fsck says {fsck!r}"


def _judge_journal(state: PipelineState) -> None:
    """Whoever goes by the last record alone knows what all of them say, and what is on the disk."""
    base, records, _ = read_all(state.git_dir.parent)
    for record in effective(records):
        base = base.after(record, KNOWN_REFS)
    now = records[-1].after if records else base
    assert now == base, f"the last record says {now}, all of them say {base}"
    held = {made.held for record in records for made in record.objects}
    beside = set(state.git_dir.parent.glob("journal-*.object"))
    assert beside <= held, f"no record names {beside - held}"
    on_disk = Refs(state.git_dir)
    noted = {change.new for record in records for change in record.refs}
    for name, at in now.refs.items():
        there = on_disk.read(name)
        # The note of a failure may wait for the next commit.
        assert there == at or (name == FAILURES and at in noted), f"{name} is at {there}, not {at}"


def leftovers(path: Path) -> list[str]:
    """Lock files and temporary files that no living process can own, beside the state file and in its store."""
    names = [
        name
        for name in os.listdir(path.parent)
        if name.endswith(".tmp") and name.startswith(f".{path.name}.")
    ]
    names += [
        str(each.relative_to(path.parent))
        for each in files_of_store(path)
        if _LEFTOVER.fullmatch(each.name) and each.name not in _LASTING_LOCKS
    ]
    return sorted(names)


def files_of_store(path: Path) -> list[Path]:
    """Everything in the store of a state file but what a repair has put aside, other state files' stores left out."""
    stores = path.parent / ".pipeline"
    if path.name != "pipeline.json":
        return list((stores / f"{path.name}.d").rglob("*"))
    own = [e for e in stores.glob("*") if e.suffix != ".d" and e.name != "quarantine"]
    return own + [below for each in own for below in each.rglob("*")]


def rubble(path: Path) -> list[Path]:
    """What killed checkpoints leave to the next one: folders to build in, one half of a pack."""
    other = {".pack": ".idx", ".idx": ".pack"}
    return [
        each
        for each in files_of_store(path)
        if _SCRATCH.fullmatch(each.name)
        and not (each.suffix in other and each.with_suffix(other[each.suffix]).exists())
    ]


def fresh(path: Path, **options: Any) -> PipelineState:
    """A handle that knows nothing of what this process has seen of the state before."""
    forget_store(open_store(Path(os.path.realpath(path))))
    return PipelineState(path, **options)


def leave(state: PipelineState) -> None:
    """Lets go of a handle without the checkpoint that `close` makes."""
    forget_store(open_store(state.path))


def git(state: PipelineState | Path, *arguments: str, check: bool = True, **options: Any) -> bytes:
    """What stock Git prints about the repository of `state`."""
    git_dir = state.git_dir if isinstance(state, PipelineState) else state
    command = [GIT or "git", f"--git-dir={git_dir}", *arguments]
    done = subprocess.run(
        command, capture_output=True, check=False, env=git_environment(), **options
    )
    if check and done.returncode:
        raise AssertionError(
            f"{' '.join(arguments)}: exit {done.returncode}: {done.stderr.decode()}"
        )
    return done.stdout


def git_environment() -> dict[str, str]:
    """Git as it comes: no configuration of this machine's, a name to commit under."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    who = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "somebody"), ("EMAIL", "somebody@example.org"))
    }
    return {**kept, **who, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}


def _content(path: Path) -> Document | None:
    """The state file as `cat` shows it, None if there is none; half a file is a failure."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        document = json.loads(content)
    except ValueError:
        raise AssertionError(f"half a file: {content!r}") from None
    assert isinstance(document, dict), content
    return document


def _opened_by(state: PipelineState, first: str) -> Document | None:
    match first:
        case "read":
            return state.read()
        case "log":
            for version in state.log():
                version.read()
        case "backup":
            state.create_backup()
        case "verify":
            state.verify()  # may find something: it only looks
        case _:
            raise ValueError(first)
    return None


def _judge_chain(history: Sequence[Version], window: int | None) -> int:
    """How many versions have been pruned: all that are older than the oldest."""
    pruned = history[0].serial - 1 if history else 0
    assert not pruned or (window is not None and len(history) > window), f"{pruned} pruned"
    serials = [version.serial for version in history]
    assert serials == list(range(pruned + 1, pruned + len(history) + 1)), f"serials {serials}"
    parents = [version.parents for version in history]
    first = parents[0] if pruned else ()
    assert parents == [first, *((version.id,) for version in history[:-1])][: len(history)]
    assert len(first) == bool(pruned), "parents"
    return pruned


def _judge_boundary(state: PipelineState, history: Sequence[Version]) -> None:
    """Git may not believe that history ends before it does: a `git gc` would take what is behind that."""
    shallow = state.git_dir / "shallow"
    ends = shallow.read_text().split() if shallow.exists() else []
    inside = {version.id for version in history[1:]}
    assert inside.isdisjoint(ends), f"Git believes that history ends at {inside.intersection(ends)}"


def _judge_history(
    documents: list[Document],
    history: Sequence[Version],
    acknowledged: Sequence[Ack],
    in_flight: Sequence[Sequence[Document]] | None,
    pruned: int,
) -> None:
    known = {version.id: document for version, document in zip(history, documents, strict=True)}
    gone = [ack for ack in acknowledged if ack.id not in known]
    assert len(gone) <= pruned, f"lost: the acknowledged versions {gone}"
    for ack in acknowledged:
        if ack not in gone:
            assert known[ack.id] == ack.document, f"{ack.id}: {known[ack.id]} is not {ack.document}"
    if in_flight is not None:
        allowed = [all_of_it[pruned:] for all_of_it in _allowed(acknowledged, in_flight)]
        assert documents in allowed, f"the history is {documents}, not one of {allowed}"


def _judge_trail(
    state: PipelineState, history: Sequence[Version], acknowledged: Sequence[Ack]
) -> None:
    """Versions may be forgotten on purpose, and not a line of the audit trail."""
    trail = [line for line in state.get_transaction_history(None) if line["commit"]]
    ids = [line["commit"] for line in trail][::-1]
    pruned = history[0].serial - 1 if history else 0
    assert ids[pruned:] == [version.id for version in history], "the audit trail's newest versions"
    assert len(set(ids)) == len(ids), "versions are twice in the audit trail"
    assert all(line["success"] for line in trail), "a version is no failure"
    lost = [ack.id for ack in acknowledged if ack.id not in ids]
    assert not lost, f"{lost} are not in the audit trail"
    named = {version.id for version in state.list_backups(None)} if pruned else set()
    # The others that are kept are read by now: of these one by its id.
    for ack in (each for each in acknowledged if each.id in ids[: pruned + 1]):
        try:
            assert state.read(at=ack.id) == ack.document
        except VersionPrunedError:  # one that had a name may wait for the next prune
            assert ack.id in ids[:pruned], f"{ack.id} is not pruned"
            assert ack.id not in named, f"{ack.id} has a name"


def _judge_file(
    content: Document | None,
    documents: list[Document],
    acknowledged: Sequence[Ack],
    in_flight: Sequence[Sequence[Document]] | None,
    edit: Document | None,
) -> None:
    """What the file held before anybody recovered: the bytes of one committed version, or the edit."""
    if content is None:
        assert not acknowledged, "the state file is gone"
    elif in_flight is not None and content != edit:
        assert any(content in history for history in _allowed(acknowledged, in_flight)), content
    elif in_flight is None:
        assert content in documents, content


def _allowed(
    acknowledged: Sequence[Ack], in_flight: Sequence[Sequence[Document]]
) -> list[list[Document]]:
    done = [ack.document for ack in acknowledged]
    return [done, *(done + list(more) for more in in_flight)]


def _judge_second_recovery(state: PipelineState) -> None:
    once = _image(state)
    again = fresh(state.path)
    again.read()
    again.create_backup()
    twice = _image(again)
    leave(again)
    assert once == twice, f"a second recovery changed {set(once.items()) ^ set(twice.items())}"


def _judge_usable(path: Path, documents: list[Document], pruned: int, *, stock_git: bool) -> None:
    state = fresh(path)
    with state.transaction() as txn:
        txn.data["probe"] = len(documents)
    assert txn.version is not None
    assert txn.version.serial == pruned + len(documents) + 1
    assert leftovers(path) == [], f"left behind: {leftovers(path)}"
    newest = [version.read() for version in state.log(2)]
    assert newest == [{**(documents or [{}])[-1], "probe": len(documents)}, *documents[-1:]]
    if GIT and stock_git:
        assert git(state, "show", f"HEAD:{path.name}") == path.read_bytes()
    if rubble(path):
        for pack in rubble(path):
            os.utime(pack, (0, 0))  # a young one might be Git's, which is about to add the index
        state.checkpoint()
        assert rubble(path) == [], f"left behind by a checkpoint: {rubble(path)}"
        judge_disk(state, stock_git=stock_git)
    leave(state)


def _judge_prunable(path: Path, window: int, *, stock_git: bool) -> None:
    """Whatever was interrupted, the next prune leaves the window, and nothing that nobody needs."""
    state = fresh(path, max_backups=window)
    newest = [version.id for version in state.log(window + 1)]
    trail = state.get_transaction_history(None)
    for loose in loose_objects(path):
        os.utime(loose, (0, 0))  # a young one might be somebody's who has not named it yet
    state.prune()
    assert [version.id for version in state.log()] == newest
    assert state.get_transaction_history(None) == trail
    kept = {*newest, *(version.id for version in state.list_backups(None))}
    for gone in {line["commit"] for line in trail} - {None, *kept}:
        with pytest.raises(VersionPrunedError):
            state.read(at=gone)
    if rubble(path) == []:
        judge_disk(state, stock_git=stock_git)
    if GIT and stock_git:
        useless = git(state, "fsck", "--unreachable", "--no-reflogs", "--no-progress")
        assert not useless.strip(), f"not given back: {useless!r}"
    leave(state)


def _image(state: PipelineState) -> dict[str, Any]:
    """Everything that lasts, but for the journal and the files to reuse, which every recovery writes anew."""
    path, repository = state.path, state.git_dir
    status = path.stat() if path.exists() else None
    image: dict[str, Any] = {"state": status and (status.st_ino, path.read_bytes())}
    for folder, _, names in os.walk(repository):
        for name in names:
            if name.startswith("gitstate-spare-"):
                continue
            file = Path(folder) / name
            image[str(file.relative_to(repository))] = file.read_bytes()
    return image


# -- processes ---------------------------------------------------------------------------------------------------


class Child:
    """A forked process that tells its parent things, one JSON value a line, and can be told to go on."""

    def __init__(self, pid: int, ear: int, mouth: int) -> None:
        self.pid = pid
        self.status: int | None = None
        self._ear = ear
        self._mouth = mouth
        self._received = b""

    def drain(self, seconds: float | None = 0) -> bool:
        """Takes in what has been told so far; whether more may come."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._ear, selectors.EVENT_READ)
            while selector.select(seconds):
                if not (more := os.read(self._ear, 1 << 16)):
                    return False
                self._received += more
        return True

    def told(self) -> list[Any]:
        """What it has told so far, in order; half a line of a killed process is left out."""
        return [json.loads(line) for line in self._received.split(b"\n")[:-1]]

    def start(self) -> None:
        """Lets it take another step."""
        _os_write(self._mouth, b".")

    def go_on(self) -> Any:
        """Lets it take another step, and gives what it tells then."""
        count = len(self.told())
        self.start()
        return self.await_line(count + 1)[-1]

    def await_line(self, count: int = 1, seconds: float = 60) -> list[Any]:
        """Blocks until it has told `count` things."""
        while self._received.count(b"\n") < count:
            with selectors.DefaultSelector() as selector:
                selector.register(self._ear, selectors.EVENT_READ)
                assert selector.select(seconds), f"nothing from {self.pid} in {seconds} s"
            more = os.read(self._ear, 1 << 16)
            assert more, f"{self.pid} ended early: {self.told()}"
            self._received += more
        return self.told()

    def wait(self) -> int:
        """Its exit status, negative for a signal. It is told nothing any more."""
        if self._mouth >= 0:
            _close(self._mouth)
            self._mouth = -1
        while self.status is None and self.drain(None):
            pass
        if self.status is None:
            _, status = os.waitpid(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(status)
            _close(self._ear)
        return self.status

    def kill(self) -> None:
        """SIGKILL, and waits for its end."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def finish(self) -> list[Any]:
        """What it told, once it has ended well."""
        status = self.wait()
        told = self.told()
        assert status == 0, f"exit {status}: {_last_words(told)}"
        return told


class Tell:
    """How a forked process speaks to its parent: `tell(value)`; `tell.steps()` waits to be told to go on."""

    def __init__(self, mouth: int, ear: int) -> None:
        self._mouth = mouth
        self._ear = ear

    def __call__(self, value: Any) -> None:
        """Tells `value`, which JSON can hold."""
        line = json.dumps(value).encode() + b"\n"
        while line:
            line = line[_os_write(self._mouth, line) :]

    def steps(self) -> Iterator[None]:
        """A step for each time that the parent says so, until it says no more."""
        while os.read(self._ear, 1):
            yield


def fork(work: Callable[[Tell], None]) -> Child:
    """`work(tell)` in a process of its own, which ends with it: with 0, or with 1 after an exception."""
    (ear, child_mouth), (child_ear, mouth) = os.pipe(), os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of threads; those of the test runner hold nothing that the child needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        os.close(child_mouth)
        os.close(child_ear)
        _parents_ends.update((ear, mouth))
        return Child(pid, ear, mouth)

    tell = Tell(child_mouth, child_ear)
    status = 1
    try:
        gc.freeze()  # what the parent has made is not for this process to collect
        # A brother that keeps these open would not be noticed to end, or would not notice that he should.
        for descriptor in (ear, mouth, *_parents_ends):
            os.close(descriptor)
        _parents_ends.clear()
        work(tell)
        status = 0
    except BaseException:
        tell({"traceback": traceback.format_exc()})
    finally:
        os._exit(status)


@contextmanager
def outlived_lock(path: Path) -> Iterator[int]:
    """The id of a process that has died in a transaction `outlived`, and left a program that keeps the lock."""
    lock = path.with_name(f"{path.name}.lock").resolve()

    def work(tell: Tell) -> None:
        with PipelineState(path).transaction(operation="outlived") as txn:
            txn.data["n"] = "never committed"
            numbers = map(int, os.listdir("/proc/self/fd"))
            held = [each for each in numbers if Path(f"/proc/self/fd/{each}").resolve() == lock]
            tell(subprocess.Popen(["sleep", "60"], pass_fds=held).pid)
            os._exit(0)

    child = fork(work)
    (program,) = child.finish()
    try:
        yield child.pid
        os.kill(program, 0)  # it has had the lock all the while
    finally:
        os.kill(program, signal.SIGKILL)


_parents_ends: set[int] = set()


def _close(descriptor: int) -> None:
    _parents_ends.discard(descriptor)
    os.close(descriptor)


def in_parallel(explore: Callable[[int, int], int]) -> int:
    """The sum of what `explore(first, step)` gives in one process per processor, each for every `step`-th case.

    A file that is left open for the collector to find, or any other exception that nobody sees, is a failure.
    """
    step = max(2, min(4, os.cpu_count() or 2))

    def work(tell: Tell, first: int) -> None:
        # What a kill leaves is in the page cache, and what a power cut would leave is computed: no flush changes either.
        os.fsync = os.fdatasync = lambda descriptor: None
        unseen: list[str] = []
        sys.unraisablehook = lambda what: unseen.append(f"{what.exc_value!r} in {what.object!r}")
        found = explore(first, step)
        gc.collect()
        if unseen:
            raise AssertionError("\n".join(unseen))
        tell(found)

    workers = [fork(partial(work, first=n)) for n in range(step)]
    outcomes = [worker.wait() or worker.told()[-1] for worker in workers]
    failures = [_last_words(worker.told()) for worker in workers if worker.status]
    assert not failures, "\n".join(failures)
    return sum(outcomes)


def _last_words(told: list[Any]) -> str:
    words = told[-1] if told else "it said nothing"
    return words["traceback"] if isinstance(words, dict) and "traceback" in words else str(words)


# -- file calls --------------------------------------------------------------------------------------------------

WRITING = [
    "open",
    "write",
    "pwrite",
    "rename",
    "replace",
    "link",
    "symlink",
    "unlink",
    "remove",
    "mkdir",
    "rmdir",
    "fsync",
    "fdatasync",
    "ftruncate",
    "posix_fallocate",
]
READING = ("pread", "read", "lseek", "listdir", "scandir", "stat", "fstat", "fchmod", "fchown")
_TWO_PATHS = {"rename", "replace", "link", "symlink"}


class Call(NamedTuple):
    """One file call: its number, counted from 1, its name, and the path that it makes, changes or reads."""

    number: int
    name: str
    target: str
    arguments: tuple[Any, ...]

    @property
    def file(self) -> str:
        """The last part of the path."""
        return os.path.basename(self.target)

    def __str__(self) -> str:
        return f"call {self.number}: {self.name} {self.target}"


Hook = Callable[[Call], None]


@contextmanager
def file_calls(
    before: Hook | None = None, after: Hook | None = None, *, reading: bool = False
) -> Iterator[None]:
    """Runs `before` and `after` at each call of this process that changes a file, or reads one too.

    A hook that raises makes the call fail, or be interrupted. What a hook does itself is not counted.
    """
    count = 0
    busy = False
    originals: dict[str, Any] = {}
    builtin_open = builtins.open

    def wrap(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            nonlocal count, busy
            reads = name == "open" and not _writes(arguments, options)
            if busy or (reads and not reading):
                return original(*arguments, **options)
            count += 1
            call = Call(count, name, _target(name, arguments), arguments)
            busy = True
            try:
                if before is not None:
                    before(call)
            finally:
                busy = False
            result = original(*arguments, **options)
            busy = True
            try:
                if after is not None:
                    after(call)
            finally:
                busy = False
            return result

        return wrapper

    for name in (*WRITING, *(READING if reading else ())):
        if hasattr(os, name):
            originals[name] = getattr(os, name)
    try:
        for name, original in originals.items():
            setattr(os, name, wrap(name, original))
        builtins.open = wrap("open", builtin_open)
        yield
    finally:
        for name, original in originals.items():
            setattr(os, name, original)
        builtins.open = builtin_open


def recorded_calls() -> tuple[list[Call], Any]:
    """A list that fills with the calls of the block that the other part is the context manager of."""
    calls: list[Call] = []
    return calls, file_calls(calls.append)


def dying_at(number: int, tell: Tell, *, torn: bool = False) -> Any:
    """The process tells which call this is, and dies before it, or, `torn`, with a write half done.

    Flushes are not counted: a process killed before one leaves exactly what one killed after it leaves.
    """
    count = 0

    def before(call: Call) -> None:
        nonlocal count
        count += call.name not in {"fsync", "fdatasync"}
        if count == number:
            tell({"died": str(call), "tearable": call.name in {"write", "pwrite"}})
            if torn:
                _write_half(call)
            os._exit(KILLED)

    return file_calls(before)


def dying_before(*wanted: Callable[[Call], bool]) -> Any:
    """The process dies before the first call that one of `wanted` accepts."""

    def before(call: Call) -> None:
        if any(accepts(call) for accepts in wanted):
            os._exit(KILLED)

    return file_calls(before)


def _write_half(call: Call) -> None:
    if call.name in {"write", "pwrite"} and len(call.arguments[1]) > 1:
        descriptor, content, *offset = call.arguments
        half = bytes(content)[: len(content) // 2]
        if offset:
            os.lseek(descriptor, offset[0], os.SEEK_SET)
        _os_write(descriptor, half)


def _writes(arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Whether arguments of `os.open`, or of `open`, ask for a file to write into."""
    how = options.get("mode", arguments[1] if len(arguments) > 1 else "r")
    if isinstance(how, int):
        return bool(how & (os.O_WRONLY | os.O_RDWR))
    return isinstance(arguments[0], str | os.PathLike) and any(letter in how for letter in "wxa+")


def _target(name: str, arguments: tuple[Any, ...]) -> str:
    subject = arguments[1] if name in _TWO_PATHS else (arguments[0] if arguments else ".")
    if isinstance(subject, int):
        for root in ("/proc/self/fd", "/dev/fd"):
            try:
                return os.readlink(f"{root}/{subject}")
            except OSError:
                continue
        return ""
    return os.fsdecode(subject)


def replaces_state(call: Call) -> bool:
    """Whether a new state file is renamed into place."""
    return call.name in {"replace", "rename"} and call.file == "pipeline.json"


def flushes_journal(call: Call) -> bool:
    """Whether a record is flushed: the commit point."""
    return (
        call.name in {"fdatasync", "fsync"} and re.fullmatch(r"journal\.\d+", call.file) is not None
    )


def places_object(call: Call) -> bool:
    """Whether a loose object gets its name."""
    return (
        call.name in {"replace", "rename", "link"}
        and re.fullmatch("[0-9a-f]{38}", call.file) is not None
    )


def locks_branch(call: Call) -> bool:
    """Whether Git's lock of the branch is taken."""
    return call.name in {"link", "rename", "replace", "open"} and call.file == "main.lock"


def moves_branch(call: Call) -> bool:
    """Whether the branch gets another id."""
    return call.name in {"replace", "rename"} and call.file == "main"


def loose_objects(path: Path) -> list[Path]:
    """The loose objects of the repository, oldest first."""
    found = (path.parent / ".pipeline" / "repo" / "objects").glob("[0-9a-f][0-9a-f]/*")
    return sorted(found, key=lambda file: file.stat().st_mtime_ns)


def journal_of(path: Path) -> Path:
    """The journal that counts."""
    return max((path.parent / ".pipeline").glob("journal.[0-9]*"))


def damage_store(state: PipelineState) -> None:
    """Damages several files of a store, of which nothing is lost: an index can be made again, a record has an object."""
    index = next(state.git_dir.glob("objects/pack/*.idx"))
    index.chmod(0o600)
    index.write_bytes(index.read_bytes()[:-1])
    (state.git_dir / "HEAD").unlink()
    (state.git_dir / "refs/heads/other").write_text("12" * 20 + "\n")
    loose = loose_objects(state.path)[-1]
    loose.chmod(0o600)
    loose.write_bytes(b"")
    leave(state)


def repair_store(path: Path, *, twice: bool = True) -> None:
    """Repairs what `damage_store` has damaged, and what has repaired it in part; nothing is left to be repaired then.

    Without `twice` nobody looks whether that is so.
    """
    state = fresh(path)
    state.read()
    report = state.repair()
    assert all(line.startswith("refs/heads/other") for line in report.lost), report
    if twice:
        again = fresh(path).repair()
        assert (again.mended, again.quarantined, again.lost) == ((), (), ()), again
    leave(state)


def leave_old_layout(path: Path) -> None:
    """What a state manager that keeps copies has left; the state is what its newest backup holds."""
    folder = path.parent / ".pipeline" / "backups"
    folder.mkdir(parents=True, mode=0o700)
    for number in (1, 2):
        name = f"{path.stem}_2025030{number}_120000_000000.json.bak"
        (folder / name).write_text(json.dumps({"n": number}))
    line = {"timestamp": "2025-03-01T12:00:01", "operation": "write_commit", "success": True}
    (folder.parent / "transactions.log").write_text(json.dumps(line) + "\n")
    path.write_text(json.dumps({"n": 2}))


def counted(documents: Iterable[Document]) -> list[int]:
    """The `n` of each document: most suites count in that field."""
    return [document["n"] for document in documents]
