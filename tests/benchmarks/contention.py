"""Many processes at one file: how long they wait, how fairly they are served, and what they do together.

    python tests/benchmarks/contention.py [--seconds 5] [--directory DIR]

Waiting: each writer holds the lock for 2 ms, again and again; the longest wait for it, and the share of the writer that
was served least, as a part of the mean share. Throughput: transactions a second of all writers together, and of one of
them alone, before and after that: on a filesystem that becomes slower under the load, as ext4 without a journal does
while it remembers deleted files, it does so for both.
"""

from __future__ import annotations

import multiprocessing
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import command_line

from gitstate import PipelineState

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Barrier

    Step = Callable[[PipelineState], float]

HOLD_SECONDS = 0.002


class Turn(NamedTuple):
    """What one process did in a turn: what its steps gave, and when the turn began and ended, in seconds."""

    given: list[float]
    begin: float
    end: float


def wait_and_hold(state: PipelineState) -> float:
    """How long the wait for the lock was, in seconds."""
    begin = time.time()
    with state.transaction():
        waited = time.time() - begin
        time.sleep(HOLD_SECONDS)
    return waited


def increment(state: PipelineState) -> float:
    """How long a transaction took, in seconds."""
    begin = time.time()
    with state.transaction() as txn:
        txn.data["n"] = txn.data.get("n", 0) + 1
    return time.time() - begin


def work(step: Step, path: Path, turns: list[float], together: Barrier, ear: Connection) -> None:
    """Repeats `step` for so many seconds in each of the turns, which begin when all are done with the one before."""
    state = PipelineState(path, timeout=None, max_backups=None)
    state.read()
    done = []
    for seconds in turns:
        together.wait()
        begin = time.time()
        given = []
        while time.time() < begin + seconds:
            given.append(step(state))
        done.append(Turn(given, begin, time.time()))
    ear.send(done)


def race(step: Step, turns: list[list[float]], directory: Path | None) -> list[list[Turn]]:
    """What each of several processes did in each of the turns; `turns` are their seconds, of each process in each."""
    folder = Path(tempfile.mkdtemp(prefix="gitstate-", dir=directory))
    path = folder / "pipeline.json"
    PipelineState(path, max_backups=None).write({"n": 0})
    together = multiprocessing.Barrier(len(turns))
    pipes = [multiprocessing.Pipe(duplex=False) for _ in turns]
    processes = [
        multiprocessing.Process(target=work, args=(step, path, own, together, ear))
        for own, (_, ear) in zip(turns, pipes, strict=True)
    ]
    for process in processes:
        process.start()
    sent = [mouth.recv() for mouth, _ in pipes]
    for process in processes:
        process.join()
    shutil.rmtree(folder)
    return sent


def rate(turns: list[tuple[Turn, ...]]) -> float:
    """Steps a second, of all processes; each turn lasts until the last of them is done."""
    steps = sum(len(one.given) for turn in turns for one in turn)
    return steps / sum(max(one.end for one in t) - min(one.begin for one in t) for t in turns)


def main() -> None:
    """Prints both tables."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    seconds, directory = arguments.seconds, arguments.directory
    print(f"{'writers':>8}  {'longest wait s':>14}  {'median ms':>9}  {'least served / mean':>19}")
    for writers in (2, 8, 32):
        sent = race(wait_and_hold, [[seconds]] * writers, directory)
        waits = [wait for (turn,) in sent for wait in turn.given]
        shares = [len(turn.given) for (turn,) in sent]
        print(
            f"{writers:>8}  {max(waits):>14.3f}  {statistics.median(waits) * 1e3:>9.1f}"
            f"  {min(shares) / statistics.mean(shares):>19.2f}"
        )
    print(f"\n{'writers':>8}  {'a second':>8}  {'one alone':>9}  {'ratio':>5}  {'longest s':>9}")
    for writers in (2, 8, 32):
        turns = [[seconds, seconds, seconds]] + [[0.0, seconds, 0.0]] * (writers - 1)
        before, during, after = zip(*race(increment, turns, directory), strict=True)
        together, alone = rate([during]), rate([before[:1], after[:1]])
        longest = max(taken for one in during for taken in one.given)
        print(
            f"{writers:>8}  {together:>8.0f}  {alone:>9.0f}  {together / alone:>5.2f}  {longest:>9.3f}"
        )


if __name__ == "__main__":
    main()
