"""How the benchmarks measure: single calls, in blocks that take turns, and the floor that all is held against."""

from __future__ import annotations

import os
import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    Step = Callable[[], float]
    """Does one thing, and gives the seconds that it took."""

BLOCK = 25
FEWEST_TURNS = 3


class Figure(NamedTuple):
    """What the calls of one kind took, all of them and by the turn, in milliseconds."""

    median: float
    p99: float
    calls: int
    turns: list[float]


class Ratio(NamedTuple):
    """How often one figure is another in single turns: the median of the turns, the lowest and the highest."""

    middle: float
    lowest: float
    highest: float


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def floor(path: Path, content: bytes) -> None:
    """A durable atomic replace, the least that a durable write costs: write, flush, rename, flush the directory."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb", buffering=0) as file:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def percentile(took: Iterable[float], percent: int) -> float:
    """What so many of a hundred do not exceed."""
    ordered = sorted(took)
    return ordered[len(ordered) * percent // 100]


def size_of_block(step: Step, block_seconds: float) -> int:
    """How many calls take `block_seconds`, 1 to `BLOCK`, by the fastest of the first few, which warm up, too."""
    first = [step()]
    while len(first) < 3 and sum(first) < block_seconds:
        first.append(step())
    return max(1, min(BLOCK, int(block_seconds / min(first))))


def in_turn(
    steps: Mapping[str, Step], turns: int, *, block_seconds: float = 0.3, most_seconds: float = 30.0
) -> dict[str, list[list[float]]]:
    """The seconds of all calls, by the name of the step and the turn.

    In each turn each step has a block, after a `sync`, so that nobody pays for what another left dirty. There are
    fewer turns than asked for, but no fewer than three, when `most_seconds` are over.
    """
    sizes = {name: size_of_block(step, block_seconds) for name, step in steps.items()}
    took: dict[str, list[list[float]]] = {name: [] for name in steps}
    end = time.perf_counter() + most_seconds
    for turn in range(turns):
        if turn >= FEWEST_TURNS and time.perf_counter() > end:
            break
        for name, step in steps.items():
            os.sync()
            took[name].append([step() for _ in range(sizes[name])])
    return took


def less(took: Mapping[str, list[list[float]]], name: str) -> dict[str, list[list[float]]]:
    """What the others took beyond the median of `name` in the same turn."""
    own = [statistics.median(block) for block in took[name]]
    return {
        other: [[each - low for each in block] for block, low in zip(blocks, own, strict=True)]
        for other, blocks in took.items()
        if other != name
    }


def figures(took: Mapping[str, list[list[float]]]) -> dict[str, Figure]:
    """What is to be told of each step."""
    found = {}
    for name, blocks in took.items():
        calls = [call * 1e3 for block in blocks for call in block]
        turns = [statistics.median(block) * 1e3 for block in blocks]
        found[name] = Figure(statistics.median(calls), percentile(calls, 99), len(calls), turns)
    return found


def ratio(figure: Figure, base: Figure) -> Ratio:
    """How often `figure` is `base`, by the medians of the blocks that took turns.

    A turn is held against itself only: where the machine becomes slower meanwhile, the medians of all calls of two steps
    are of different machines.
    """
    return spread([own / least for own, least in zip(figure.turns, base.turns, strict=True)])


def steadiness(figure: Figure) -> Ratio:
    """How often a figure is its own median, turn by turn: what the machine, not the program, adds to a spread."""
    return spread([each / figure.median for each in figure.turns])


def spread(ratios: list[float]) -> Ratio:
    """What is to be told of the ratios of single turns."""
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))
