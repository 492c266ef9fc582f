"""The sections of `compare.py`: what is measured, and how; each gives its figures."""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from documents import change, document
from machine import as_installed
from peak import FOLDER
from peers import PEERS, MissingPeerError, Steps
from pydantic_core import from_json
from race import race, rate
from timing import Ratio, figures, floor, in_turn, less, percentile, seconds, spread

from gitstate import PipelineState, codec

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers import Peer
    from timing import Figure

FLOOR = "the floor"
STEPS = "parse, encode, SHA-1, floor"
PLAIN = "open, read, from_json"
DEPENDENCIES = "import dulwich.repo, pydantic, filelock"
NOTHING = "pass"

WRITERS_KILOBYTES = 10
COLD_KILOBYTES = 43
COLD = {
    NOTHING: "pass",
    DEPENDENCIES: DEPENDENCIES,
    "import gitstate": "import gitstate",
    "import, first read": "import sys, gitstate; gitstate.PipelineState(sys.argv[1]).read()",
    "import, first transaction": """
import os, sys, gitstate
with gitstate.PipelineState(sys.argv[1]).transaction() as txn:
    txn.data["n"] = os.getpid()
""",
}
"""What new processes do: a whole process each."""

MEMORY = """
import sys
from documents import change
from peak import peak_kilobytes
from gitstate import PipelineSchema, PipelineState
schema = {"default": PipelineSchema, "none": None}[sys.argv[2]]
with PipelineState(sys.argv[1], schema=schema).transaction() as txn:
    change(txn.data, int(sys.argv[3]))
print(peak_kilobytes())
"""


class Subject:
    """One peer with a document and a folder of its own."""

    def __init__(self, make: Callable[[Path], Peer], directory: Path, content: bytes) -> None:
        self._peer = make(directory)
        self._document = codec.decode(content)
        self._number = 0
        self._peer.write(self._document)

    def step(self) -> float:
        """The seconds of a write; the change before it is not counted."""
        change(self._document, self._number)
        self._number += 1
        return seconds(partial(self._peer.write, self._document))

    def close(self) -> None:
        """Closes the peer.

        Raises:
            RuntimeError: it does not give back what it was given, so that its figures mean nothing.
        """
        same = self._peer.read() == self._document
        self._peer.close()
        if not same:
            raise RuntimeError(f"{type(self._peer).__name__} did not keep the document")


def transactions(
    kilobytes: int, turns: int, directory: Path, left_out: dict[str, str]
) -> dict[str, Figure]:
    """What a version costs with each peer; the names of those not installed go to `left_out`, with the reason."""
    content = codec.encode(document(kilobytes))
    subjects = {}
    for name, make in {STEPS: Steps, **PEERS}.items():
        try:
            subjects[name] = Subject(make, Path(tempfile.mkdtemp(dir=directory)), content)
        except MissingPeerError as error:
            left_out[name] = str(error)
    plain = partial(seconds, partial(floor, directory / "floor.json", content))
    # A document for each peer is more than a user has: nobody's garbage collection is to walk those of the others.
    gc.collect()
    gc.freeze()
    steps = {FLOOR: plain, **{name: subject.step for name, subject in subjects.items()}}
    took = in_turn(steps, turns)
    gc.unfreeze()
    for subject in subjects.values():
        subject.close()
    return figures(took)


class Together(NamedTuple):
    """What writers did together.

    `alone` is their transactions a second in times of what one of them did in the turn before; `floor` the time for
    each of their transactions in times of the floor, measured in the turn before that. `p99` is of single transactions,
    the wait for the lock included, in milliseconds.
    """

    a_second: float
    p99: float
    alone: Ratio
    floor: Ratio


def plain_replace(state: PipelineState) -> float:
    """The seconds of the floor for the state's bytes."""
    content = state.path.read_bytes()
    return seconds(partial(floor, state.path.with_name("floor.json"), content))


def transact(state: PipelineState) -> float:
    """The seconds of a transaction."""

    def count_and_change() -> None:
        with state.transaction() as txn:
            number = txn.data.get("n", 0) + 1
            txn.data["n"] = number
            change(txn.data, number)

    return seconds(count_and_change)


def writers(count: int, turns: int, longest: float, directory: Path) -> Together:
    """What so many processes do for `longest` seconds, in turn with one of them alone, and with the floor."""
    first = [(plain_replace, longest / 4), (transact, longest / 2), (transact, longest)] * turns
    others = [(plain_replace, 0.0), (transact, 0.0), (transact, longest)] * turns
    plans = [first] + [others] * (count - 1)
    done = list(zip(*race(plans, document(WRITERS_KILOBYTES), directory), strict=True))
    floors = [statistics.median(turn[0].given) for turn in done[0::3]]
    alone = [rate([turn[0]]) for turn in done[1::3]]
    together = [rate(list(turn)) for turn in done[2::3]]
    taken = [each for turn in done[2::3] for one in turn for each in one.given]
    return Together(
        a_second=statistics.median(together),
        p99=percentile(taken, 99) * 1e3,
        alone=spread([all_of / one for all_of, one in zip(together, alone, strict=True)]),
        floor=spread([1 / all_of / low for all_of, low in zip(together, floors, strict=True)]),
    )


def reads(kilobytes: int, turns: int, directory: Path) -> dict[str, Figure]:
    """What a read costs of the state, and of a version half way back, against a plain read of the file."""
    folder = Path(tempfile.mkdtemp(dir=directory))
    content, versions = document(kilobytes), 50
    with PipelineState(folder / "pipeline.json", max_backups=None) as state:
        for number in range(versions):
            change(content, number)
            state.write(content)
    return figures(
        in_turn(
            {
                PLAIN: partial(seconds, lambda: from_json(_content_of(state.path))),
                "read()": partial(seconds, state.read),
                "read(at=<half way>)": partial(seconds, lambda: state.read(at=versions // 2)),
            },
            turns,
        )
    )


def _content_of(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def cold_start(turns: int, directory: Path) -> dict[str, Figure]:
    """What a new process costs from its start to its end, less one that does nothing."""
    path = Path(tempfile.mkdtemp(dir=directory)) / "pipeline.json"
    with PipelineState(path) as state:
        state.write(document(COLD_KILOBYTES))
    run = partial(subprocess.run, check=True, env=as_installed())
    steps = {
        name: partial(seconds, partial(run, [sys.executable, "-c", code, path]))
        for name, code in COLD.items()
    }
    return figures(less(in_turn(steps, turns, block_seconds=1.0, most_seconds=45.0), NOTHING))


class Memory(NamedTuple):
    """The peak of a process that makes one transaction on a document, and of one on a document of 1 KB, in MB.

    `ratio` is what lies between them, in times of the larger document's bytes in the file.
    """

    kilobytes: int
    peak: float
    without: float
    ratio: Ratio


def memory(schema: str, kilobytes: int, turns: int, directory: Path) -> Memory:
    """What a transaction takes on a document of this size, by processes that differ in nothing but the document."""
    peaks: dict[int, list[float]] = {}
    size = 0
    for each in (1, kilobytes):
        path = Path(tempfile.mkdtemp(dir=directory)) / "pipeline.json"
        with PipelineState(path, schema=None) as state:
            state.write(document(each))
        size = path.stat().st_size
        command = [sys.executable, "-c", MEMORY, path, schema]
        peaks[each] = [
            int(subprocess.check_output([*command, str(number)], cwd=FOLDER)) / 1024
            for number in range(turns)
        ]
    without, most = (statistics.median(peaks[each]) for each in (1, kilobytes))
    megabytes = size / 2**20
    ratios = [(peak - without) / megabytes for peak in peaks[kilobytes]]
    return Memory(kilobytes, most, without, spread(ratios))
