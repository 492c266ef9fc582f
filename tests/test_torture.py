"""Many processes, killed at random; stock Git in a loop beside them. What was acknowledged is there, whatever happens.

`test_crash.py` kills four writers, `test_git.py` lets Git interfere at single file calls. Here there are more of
everything at once: eight writers, a checkpointer, recoveries that die too, and Git at work all the time.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from oracle import (
    GIT,
    Call,
    Child,
    Document,
    Tally,
    Tell,
    file_calls,
    fork,
    forks,
    fresh,
    git,
    git_environment,
    in_parallel,
    judge,
    leave,
    needs_git,
)

from gitstate import PipelineState

pytestmark = forks

WRITERS = 8
KILLS, LONG_KILLS = 300, 10_000
KILLS_OF_ONE_ROUND = 25
ROUNDS_OF_ONE_STORE = 12
"""Each judgement reads the whole history, so a long run begins anew from time to time."""


def _key(writer: int) -> str:
    return f"writer {writer}"


def _fail(state: PipelineState, reason: str) -> None:
    with contextlib.suppress(KeyError), state.transaction():
        raise KeyError(reason)


def _failures(state: PipelineState) -> set[str]:
    """The reasons that `_fail` was given, as the history has them."""
    history = state.get_transaction_history(None)
    errors = (each["details"]["error"] for each in history if not each["success"])
    return {error.removeprefix("KeyError: ").strip("'") for error in errors}


def _increments(path: Path, writer: int) -> Iterator[tuple[int | None, str]]:
    """Increments without end: what the writer's own counter is then, and the version that holds it.

    In between, now and then, some that fail: None, and the reason.
    """
    state = PipelineState(path, max_backups=None, timeout=None, schema=None)
    chance = random.Random(os.getpid())
    for number in itertools.count():
        for again in range(chance.choice((0, 0, 0, 0, 1, 3))):
            reason = f"{os.getpid()} {number} {again}"
            _fail(state, reason)
            yield None, reason
        with state.transaction() as txn:
            txn.data[_key(writer)] = mine = txn.data.get(_key(writer), 0) + 1
            txn.data["all"] = txn.data.get("all", 0) + 1
        assert txn.version is not None
        yield mine, txn.version.id


def _checkpoints(path: Path) -> Callable[[Tell], None]:
    def work(tell: Tell) -> None:
        while True:
            with PipelineState(path, timeout=None, schema=None) as state:
                state.checkpoint()

    return work


def _judge_counts(documents: list[Document]) -> None:
    """Every version is the one before and one increment: no update is lost, none is there twice."""
    before: Document = {}
    for number, document in enumerate(documents, 1):
        changed = {key for key in document if document[key] != before.get(key)}
        assert len(changed - {"all"}) == 1, f"version {number} changes {changed}"
        (key,) = changed - {"all"}
        assert document == {**before, key: before.get(key, 0) + 1, "all": number}, f"at {number}"
        before = document


@contextmanager
def _all_gone() -> Iterator[list[Child]]:
    """A list for processes; those that still run when the block ends are killed."""
    children: list[Child] = []
    try:
        yield children
    finally:
        for child in children:
            if child.status is None:
                child.kill()


# -- SIGKILL -------------------------------------------------------------------------------------------------------


@dataclass
class Promises:
    """What the writers of one store were promised.

    Attributes:
        acknowledged: the counter's value that each version was acknowledged with, by its id.
        counters: the highest value that each writer was acknowledged.
        in_flight: how many processes of each writer have died since: each may have committed once more.
        failures: the reasons of the transactions that were seen to fail.
    """

    acknowledged: dict[str, tuple[int, int]] = field(default_factory=dict)
    counters: Counter[int] = field(default_factory=Counter)
    in_flight: Counter[int] = field(default_factory=Counter)
    failures: set[str] = field(default_factory=set)

    def take(self, writer: int, child: Child) -> None:
        """Takes in what a writer said before it was killed."""
        for value, named in child.told():
            if value is None:
                self.failures.add(named)
            else:
                self.acknowledged[named] = writer, value
                self.counters[writer], self.in_flight[writer] = value, 0
        self.in_flight[writer] += 1

    def hold(self, documents: list[Document], ids: list[str]) -> None:
        """Sees that nothing of it is missing, and that there is nothing that nobody was about to commit."""
        found = dict(zip(ids, documents, strict=True))
        for version, (writer, value) in self.acknowledged.items():
            assert version in found, f"lost: version {version} of writer {writer}"
            assert found[version][_key(writer)] == value
        final = documents[-1] if documents else {}
        for writer in range(WRITERS):
            least, recovered = self.counters[writer], final.get(_key(writer), 0)
            most = least + self.in_flight[writer]
            assert least <= recovered <= most, f"writer {writer}: {least} <= {recovered} <= {most}"


def test_eight_writers_and_a_checkpointer_killed_at_random_lose_nothing(
    tmp_path: Path, seed: str, scale: Callable[[int, int], int], tally: Tally
) -> None:
    chance = random.Random(seed)
    rounds = scale(KILLS, LONG_KILLS) // KILLS_OF_ONE_ROUND
    kills = acknowledged = versions = 0
    for number in range(rounds):
        if number % ROUNDS_OF_ONE_STORE == 0:
            path = tmp_path / str(number) / "pipeline.json"
            path.parent.mkdir()
            promises = Promises()
        last = (number + 1) % ROUNDS_OF_ONE_STORE == 0 or number + 1 == rounds

        kills += _kill_at_random(path, promises, chance)

        documents = judge(
            path,
            [],
            None,
            first=("read", "log", "backup", "verify")[number % 4],
            then="recover and commit" if last else "recover",
            stock_git=last,
        )
        state = fresh(path)
        ids = [version.id for version in state.log()][::-1]
        failures = _failures(state)
        state.close()
        promises.hold(documents, ids[: len(documents)])  # the judge may have committed one more
        assert promises.failures <= failures
        _judge_counts(documents)
        if last:
            acknowledged += len(promises.acknowledged)
            versions += len(documents)

    tally("SIGKILLs", kills)
    tally("transactions acknowledged before a SIGKILL", acknowledged)
    assert kills == rounds * KILLS_OF_ONE_ROUND
    assert (
        acknowledged > kills // 10
    )  # else nobody was at work; how many there are is up to the machine


def _kill_at_random(path: Path, promises: Promises, chance: random.Random) -> int:
    """The number of kills of a round: single ones, whose victims are replaced, then all at once."""

    def start(number: int) -> Child:
        if number == WRITERS:
            return fork(_checkpoints(path))

        def work(tell: Tell) -> None:
            for made in _increments(path, number):
                tell(made)

        return fork(work)

    def kill(number: int) -> None:
        child = children[number]
        assert child.wait() == -signal.SIGKILL, child.told()
        if number < WRITERS:
            promises.take(number, child)

    with _all_gone() as children:
        children += [start(number) for number in range(WRITERS + 1)]
        single = KILLS_OF_ONE_ROUND - len(children)
        for _ in range(single):
            # Mostly at once, so that recoveries die too; now and then there is time for a journal to grow.
            time.sleep(chance.uniform(0.001, 0.08 if chance.random() < 0.9 else 0.5))
            # The checkpointer is the one with the most to lose (PITFALLS O7).
            victim = WRITERS if chance.random() < 0.3 else chance.randrange(WRITERS)
            os.kill(children[victim].pid, signal.SIGKILL)
            kill(victim)
            children[victim] = start(victim)
            for child in children:
                child.drain()
        time.sleep(chance.uniform(0.001, 0.08))
        # All of them before the first is waited for, as when the machine's memory is short.
        order = chance.sample(range(len(children)), len(children))
        for number in order:
            os.kill(children[number].pid, signal.SIGKILL)
        for number in order:
            kill(number)
    return single + len(children)


# -- stock Git in a loop -------------------------------------------------------------------------------------------

UPKEEP = {
    "gc": ("gc", "--quiet"),
    "gc --prune=now": ("gc", "--quiet", "--prune=now"),
    "repack": ("repack", "-ad", "--quiet"),
    "repack -f": ("repack", "-adf", "--quiet"),
    "pack-refs": ("pack-refs", "--all"),
    "fsck": ("fsck", "--strict", "--no-progress", "--no-dangling"),
}
FSCK_MISSES = 2 | 4
"""What fsck may say beside writers: an object is missing, a pack is gone. It lists packs and loose objects once, and a
checkpoint beside it moves objects from these to those, as `git repack -ad` does. Never: an object is bad (1), but where
it was gone between the listing and the reading."""

_GONE = re.compile(
    rb"error: unable to mmap (.*): No such file or directory\n"
    rb"error: [0-9a-f]{40}: object corrupt or missing: \1\n"
)

MAY_STUMBLE = {"gc --prune=now": {128}}
"""It deletes what was written and is not yet named by a ref, and then looks for it (PITFALLS G2); we write it again."""

GIT_ROUNDS, LONG_GIT_ROUNDS = 5, 200
GIT_WRITERS = 4
TRANSACTIONS_OF_ONE_COMMAND = 15


@needs_git
def test_git_in_a_loop_beside_writers_and_a_checkpointer_takes_nothing(
    path: Path, tmp_path: Path, seed: str, scale: Callable[[int, int], int], tally: Tally
) -> None:
    chance = random.Random(seed)
    acknowledged: dict[str, tuple[int, int]] = {}
    failures: set[str] = set()
    clones: list[list[str]] = []
    statuses: Counter[tuple[str, int]] = Counter()

    def count(number: int) -> Callable[[Tell], None]:
        def work(tell: Tell) -> None:
            increments = _increments(path, number)
            for _ in tell.steps():
                tell([next(increments) for _ in range(TRANSACTIONS_OF_ONE_COMMAND)])

        return work

    with PipelineState(path) as state:
        git_dir = state.git_dir
    with _all_gone() as children:
        writers = [fork(count(number)) for number in range(GIT_WRITERS)]
        children.extend(writers)
        for writer in writers:
            writer.go_on()  # there must be a branch before Git can do anything
        checkpointer = fork(_checkpoints(path))
        children.append(checkpointer)
        for _ in range(scale(GIT_ROUNDS, LONG_GIT_ROUNDS)):
            for name in chance.sample([*UPKEEP, "clone"], len(UPKEEP) + 1):
                for writer in writers:
                    writer.start()
                time.sleep(chance.uniform(0, 0.03))
                if name == "clone":
                    clones.append(_cloned(git_dir, tmp_path / f"clone-{len(clones)}"))
                    statuses[name, 0] += 1
                else:
                    statuses[name, _upkeep(git_dir, name)] += 1
                steps = sum(statuses.values()) + 1
                for writer in writers:
                    writer.await_line(steps)
        for number, writer in enumerate(writers):
            for value, named in (made for batch in writer.finish() for made in batch):
                if value is None:
                    failures.add(named)
                else:
                    acknowledged[named] = number, value
        os.kill(checkpointer.pid, signal.SIGKILL)
        assert checkpointer.wait() == -signal.SIGKILL, checkpointer.told()

    for (name, status), times in statuses.items():
        if name == "fsck":
            assert not status & ~FSCK_MISSES, f"fsck: exit {status}, {times} times"
        else:
            assert status in MAY_STUMBLE.get(name, set()) | {0}, f"{name}: exit {status}"
    documents = judge(path, [], None)
    state = fresh(path)
    ids = [version.id for version in state.log()][::-1][: len(documents)]
    found = dict(zip(ids, documents, strict=True))
    tally("commands of Git beside writers", statuses.total())
    assert acknowledged.keys() == set(ids)
    assert failures == _failures(state)
    for version, (number, value) in acknowledged.items():
        assert found[version][_key(number)] == value
    _judge_counts(documents)
    for cloned in clones:
        assert cloned == ids[: len(cloned)], "a clone holds a history of its own"
    assert [len(cloned) for cloned in clones] == sorted(len(cloned) for cloned in clones)
    state.close()


@needs_git
@pytest.mark.parametrize(
    ("packs", "repacked"),
    [(1, False), (16, False), (1, True)],
    ids=["few packs", "packs to be written together", "all in a pack of Git's"],
)
def test_a_repack_at_any_file_call_of_a_checkpoint_is_no_error_and_does_no_damage(
    packs: int, repacked: bool, memory: Path, tally: Tally
) -> None:
    """Git calls a pack by what is in it, so that the same objects, packed again, have the name of one that is to go."""
    path = memory / "pipeline.json"
    state = PipelineState(path, max_backups=None)
    for number in range(packs):
        state.write({"n": number})
        state._parts.store.checkpoint(None, 0)
    state.close()
    wrong: list[str] = []

    def explore(first: int, step: int) -> int:
        number = first + 1
        while _repack_at(number, path, memory / str(number), wrong, repacked=repacked):
            number += step
        assert not wrong, f"{len(wrong)} of the calls:\n" + "\n".join(wrong)
        return number // step

    explored = in_parallel(explore)
    tally("repacks at file calls", explored)
    assert explored > 20


@needs_git
def test_a_pack_that_has_no_index_yet_outlives_a_repack(state: PipelineState) -> None:
    """What it holds may be named by nothing that the repack has seen."""
    state.write({"n": 1})
    state.write({"n": 2})
    there = []

    def repack(call: Call) -> None:
        if call.name in {"replace", "rename"} and call.file.endswith(".idx"):
            git(state, "repack", "-ad", "--quiet")
            there.append(Path(call.target).with_suffix(".pack").exists())

    with file_calls(repack):
        state.checkpoint()

    assert there == [True]


def test_no_pack_has_a_name_that_a_repack_may_have_listed(path: Path, tmp_path: Path) -> None:
    """It deletes by name what it has listed, whatever has that name by then."""
    PipelineState(path).write({"n": 1})
    names = set()
    for number in range(2):
        folder = shutil.copytree(path.parent, tmp_path / str(number) / "copy")
        state = fresh(folder / path.name)
        state.checkpoint()
        names.update(each.name for each in state.git_dir.glob("objects/pack/*.pack"))
        leave(state)

    assert len(names) == 2


def _repack_at(
    number: int, original: Path, folder: Path, wrong: list[str], *, repacked: bool
) -> bool:
    """Whether a checkpoint makes so many calls at packs; `git repack` comes just before that one."""
    folder.mkdir()
    shutil.copytree(original.parent / ".pipeline", folder / ".pipeline")
    path = shutil.copy(original, folder / original.name)
    state = fresh(path)
    state.write({"n": -1})
    repack = ("repack", "-adf" if repacked else "-ad", "--quiet")
    if repacked:
        git(state, *repack)
    reached: list[Call] = []

    def interfere(call: Call) -> None:
        if "/objects/" in call.target:
            reached.append(call)
            if len(reached) == number:
                git(state, *repack)

    try:
        with file_calls(interfere, reading=True):
            state.checkpoint()
        leave(state)
        judge(path, [], None, then="recover", stock_git=False)
    except Exception as error:
        at = reached[number - 1] if len(reached) >= number else "the end"
        wrong.append(f"{at}: {error!r}"[:500])
    leave(state)
    shutil.rmtree(folder)
    return len(reached) >= number


def _upkeep(git_dir: Path, name: str) -> int:
    command = [GIT or "git", f"--git-dir={git_dir}", *UPKEEP[name]]
    done = subprocess.run(command, capture_output=True, check=False, env=git_environment())
    if done.returncode:
        print(f"{name}: exit {done.returncode}: {(done.stdout + done.stderr).decode()[-800:]}")
    if name == "fsck" and _GONE.search(done.stderr) and b"error" not in _GONE.sub(b"", done.stderr):
        return done.returncode & ~1
    return done.returncode


def _cloned(git_dir: Path, target: Path) -> list[str]:
    """The commits of a new clone, oldest first, which is whole in Git's eyes and has no hole in its numbers."""
    git(git_dir, "clone", "--quiet", "--no-local", str(git_dir), str(target))
    copy = target / ".git"
    assert not git(copy, "fsck", "--strict", "--no-progress").strip()
    listed = git(copy, "log", "--format=%H %(trailers:key=Serial,valueonly,separator=%x20)")
    lines = [line.split() for line in listed.decode().splitlines()][::-1]
    assert [int(serial) for _, serial in lines] == list(range(1, len(lines) + 1))
    return [commit for commit, _ in lines]
