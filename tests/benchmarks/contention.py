"""Many processes at one file: how long they wait, how fairly they are served, and what they do together.

    python tests/benchmarks/contention.py [--seconds 5] [--directory DIR]

Waiting: each writer holds the lock for 2 ms, again and again; the longest wait for it, and the share of the writer that
was served least, as a part of the mean share. Throughput: transactions a second of all writers together, against one
alone in the same run.
"""

from __future__ import annotations

import multiprocessing
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import command_line

from gitstate import PipelineState

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    Step = Callable[[PipelineState], float]

HOLD_SECONDS = 0.002


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


def repeat(step: Step, path: Path, seconds: float, start: float, ear: Connection) -> None:
    """Sends what each `step` gives, of as many as begin in so many seconds."""
    state = PipelineState(path, timeout=None, max_backups=None)
    state.read()
    given = []
    time.sleep(max(0.0, start - time.time()))
    while time.time() < start + seconds:
        given.append(step(state))
    ear.send(given)


def together(step: Step, writers: int, seconds: float, directory: Path | None) -> list[list[float]]:
    """What `step` gives in each of so many processes, which all repeat it at the same time."""
    folder = Path(tempfile.mkdtemp(prefix="gitstate-", dir=directory))
    path = folder / "pipeline.json"
    PipelineState(path, max_backups=None).write({"n": 0})
    start = time.time() + 0.5 + 0.05 * writers
    pipes = [multiprocessing.Pipe(duplex=False) for _ in range(writers)]
    processes = [
        multiprocessing.Process(target=repeat, args=(step, path, seconds, start, ear))
        for _, ear in pipes
    ]
    for process in processes:
        process.start()
    sent = [mouth.recv() for mouth, _ in pipes]
    for process in processes:
        process.join()
    shutil.rmtree(folder)
    return sent


def main() -> None:
    """Prints both tables."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    seconds, directory = arguments.seconds, arguments.directory
    print(f"{'writers':>8}  {'longest wait s':>14}  {'median ms':>9}  {'least served / mean':>19}")
    for writers in (2, 8, 32):
        waits = together(wait_and_hold, writers, seconds, directory)
        every = [wait for each in waits for wait in each]
        shares = [len(each) for each in waits]
        print(
            f"{writers:>8}  {max(every):>14.3f}  {statistics.median(every) * 1e3:>9.1f}"
            f"  {min(shares) / statistics.mean(shares):>19.2f}"
        )
    print(f"\n{'writers':>8}  {'a second':>8}  {'of one alone':>12}  {'longest s':>9}")
    alone = 0.0
    for writers in (1, 2, 8, 32):
        times = together(increment, writers, seconds, directory)
        rate = sum(map(len, times)) / seconds
        alone = alone or rate
        longest = max(map(max, times))
        print(f"{writers:>8}  {rate:>8.0f}  {rate / alone:>12.2f}  {longest:>9.3f}")


if __name__ == "__main__":
    main()
