"""Many processes at one file, which begin each turn together."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gitstate import PipelineState

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Barrier

    from gitstate.codec import Document

    Step = Callable[[PipelineState], float]
    """Does one thing with the state, and gives the seconds that it is about."""
    Plan = list[tuple[Step, float]]
    """What a process does in each turn, and for how many seconds."""


class Turn(NamedTuple):
    """What one process did in a turn: what its steps gave, and when the turn began and ended, in seconds."""

    given: list[float]
    begin: float
    end: float


def work(path: Path, plan: Plan, together: Barrier, ear: Connection) -> None:
    """Repeats a step for so many seconds in each turn; turns begin when all are done with the one before."""
    state = PipelineState(path, timeout=None, max_backups=None)
    state.read()
    done = []
    for step, seconds in plan:
        # What the turn before has left dirty is not to be paid for in this one.
        os.sync()
        together.wait()
        begin = time.time()
        given = []
        while time.time() < begin + seconds:
            given.append(step(state))
        done.append(Turn(given, begin, time.time()))
    ear.send(done)


def race(plans: list[Plan], document: Document, directory: Path | None) -> list[list[Turn]]:
    """What each of several processes, one for each plan, did in each of the turns, beginning with `document`."""
    folder = Path(tempfile.mkdtemp(prefix="gitstate-", dir=directory))
    path = folder / "pipeline.json"
    PipelineState(path, max_backups=None).write(document)
    together = multiprocessing.Barrier(len(plans))
    pipes = [multiprocessing.Pipe(duplex=False) for _ in plans]
    processes = [
        multiprocessing.Process(target=work, args=(path, plan, together, ear))
        for plan, (_, ear) in zip(plans, pipes, strict=True)
    ]
    for process in processes:
        process.start()
    sent = [mouth.recv() for mouth, _ in pipes]
    for process in processes:
        process.join()
    shutil.rmtree(folder)
    return sent


def rate(turns: list[Turn]) -> float:
    """Steps a second, of all processes in one turn, which lasts until the last of them is done."""
    steps = sum(len(one.given) for one in turns)
    return steps / (max(one.end for one in turns) - min(one.begin for one in turns))
