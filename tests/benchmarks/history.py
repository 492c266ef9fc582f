"""What a history costs as it grows: on disk against what stock git makes of the same commits, and in time.

    python tests/benchmarks/history.py [DATA] [--versions 100000] [--directory DIR]

A line for each figure, with what it is to be at most; of a time how much of it was the processor's own, which is all that
can be compared while the machine is busy; and stock git's for the same where it has one: the bytes after `git repack -adf`
of a clone, the time of the command that answers the same. DATA is a real history, an `.xz` file with one
JSON object a line, by default ../shared/data/fires.jsonl.xz beside the project; without it that line is left out.

Sizes, packs and their indexes, and numbers of files are exact. Times are the machine's, whose load is printed, too.
A history of 100,000 versions takes some minutes to make.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import command_line
from documents import document
from machine import as_installed, load_of_the_machine
from peak import FOLDER
from replay import DATA, load
from timing import percentile, seconds

from gitstate import PipelineState

if TYPE_CHECKING:
    from collections.abc import Iterable

GIT = shutil.which("git")
SMALL = {
    "phases": {f"phase{n}": {"status": "pending", "n": n} for n in range(20)},
    "rare": 0,
    "n": 0,
}
CALLS = {
    "list_backups(10)": ("state.list_backups(10)", 30, ("log", "-10")),
    "get_transaction_history(50)": ("state.get_transaction_history(50)", 30, ("log", "-50")),
    "read(at=<half way>)": ("state.read(at=middle)", 30, ("show", "main~{middle}:pipeline.json")),
    "read(at=<its time>)": (
        "state.read(at=moment)",
        30,
        ("log", "-1", "-p", "--before={moment}"),
    ),
    "log(pointer), the last 10,000, 5 match": (
        "assert len(list(state.log(since=recent, until=newest, pointer='/rare'))) == 5",
        1000,
        ("log", '-G"rare"', "main~10000..main"),
    ),
}
"""What a new process does first, by what it is called; the milliseconds that it may take; the same of git."""

FIRST = """
import sys, time
from datetime import datetime
from gitstate import PipelineState
state = PipelineState(sys.argv[1], schema=None)
middle = int(sys.argv[2])
moment, recent, newest = map(datetime.fromisoformat, sys.argv[3:6])
begin, own = time.perf_counter(), time.process_time()
{call}
print(time.perf_counter() - begin, time.process_time() - own)
import os
os._exit(0)
"""

WRITER = """
import json, select, sys, time
from gitstate import PipelineState
state = PipelineState(sys.argv[1], schema=None)
state.write({"n": 0})
took = []
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.002)[0]:
    begin, own = time.perf_counter(), time.thread_time()
    with state.transaction() as txn:
        txn.data["n"] += 1
    took.append((time.perf_counter() - begin, time.thread_time() - own))
print(json.dumps(took))
"""

PRUNER = """
import json, resource, sys, time
from peak import peak_kilobytes
from gitstate import PipelineState
state = PipelineState(sys.argv[1], schema=None, max_backups=50)
begin = time.perf_counter()
report = state.prune()
took, usage = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([took, usage.ru_utime + usage.ru_stime, len(report.versions), peak_kilobytes()]))
"""


def say(what: str, figure: str, most: str = "", own: str = "", git: str = "") -> None:
    """A line of the table."""
    print(f"{what:<62}{figure:>10}{most:>10}{own:>12}{git:>10}", flush=True)


def new(folder: Path) -> PipelineState:
    """A state in a new folder that keeps all versions."""
    folder.mkdir()
    return PipelineState(folder / "pipeline.json", schema=None, max_backups=None)


def packed(git_dir: Path) -> int:
    """The bytes of all packs, of their indexes, and of what is loose."""
    found = [path for path in (git_dir / "objects").rglob("*") if path.is_file()]
    return sum(each.stat().st_size for each in found if each.suffix in {"", ".pack", ".idx"})


def files_of(state: PipelineState) -> int:
    """How many files the store has."""
    return sum(path.is_file() for path in state.git_dir.parent.rglob("*"))


def git(git_dir: Path, *arguments: str) -> float | None:
    """The seconds that a git command takes; None without git."""
    if GIT is None:
        return None
    command = [GIT, f"--git-dir={git_dir}", *arguments]
    return seconds(partial(subprocess.run, command, check=True, capture_output=True))


def cloned(state: PipelineState, folder: Path) -> Path | None:
    """A clone, as `git repack -adf` packs it; None without git."""
    if GIT is None:
        return None
    command = [GIT, "clone", "-q", "--mirror", "--no-local", state.git_dir, folder]
    subprocess.run(command, check=True)
    git(folder, "repack", "-adfq")
    return folder


def sizes(state: PipelineState, what: str, most: str, clone: Path | None) -> None:
    """A line of how much the objects take, in times of what git makes of them."""
    ours = packed(state.git_dir)
    if clone is None:
        say(f"{what}, bytes", f"{ours:,}")
        return
    theirs = packed(clone)
    say(f"{what}, times of git's {theirs:,} bytes", f"{ours / theirs:.2f}", most, git="1.00")


def times(took: Iterable[float]) -> tuple[float, float, float]:
    """Median, 99th percentile and longest, in milliseconds."""
    calls = list(took)
    return statistics.median(calls) * 1e3, percentile(calls, 99) * 1e3, max(calls) * 1e3


def milliseconds(took: float | None) -> str:
    """As text; nothing for None."""
    return "" if took is None else f"{took * 1e3:.1f}"


def real_history(folder: Path, data: Path) -> None:
    """What all versions of a real document take."""
    state = new(folder)
    count = 0
    for content in load(data, None):
        state.write(content)
        count += 1
    state.close()
    sizes(state, f"{count:,} versions of {data.stem}", "1.3", cloned(state, folder / "clone"))


def one_field(folder: Path, count: int) -> None:
    """Versions of a document of 43 KB of which one field is new."""
    state = new(folder)
    content = document(43)
    state.write(content)
    for number in range(count):
        with state.transaction() as txn:
            txn.data["phase1"]["metrics"]["total_files"] = number
    state.close()
    clone = cloned(state, folder / "clone")
    theirs = f"{packed(clone) / count:.0f}" if clone else ""
    ours = f"{packed(state.git_dir) / count:.0f}"
    say(f"{count:,} versions, one field of 43 KB: bytes each", ours, "450", git=theirs)


def in_a_row(folder: Path, count: int) -> None:
    """The slowest of many transactions on a document of 10 KB."""
    state = new(folder)
    state.write(document(10))
    chance = random.Random(1)

    own: list[float] = []

    def change() -> None:
        begin = time.thread_time()
        with state.transaction() as txn:
            txn.data["phase2"]["metrics"]["failed"] = chance.random()
        own.append(time.thread_time() - begin)

    middle, slow, slowest = times([seconds(change) for _ in range(count)])
    own_middle, own_slow, own_slowest = (f"{each:.1f}" for each in times(own))
    say(f"{count:,} transactions of 10 KB in a row: median, ms", f"{middle:.1f}", own=own_middle)
    say("  99th percentile, ms", f"{slow:.1f}", own=own_slow)
    say("  the slowest, checkpoints included, ms", f"{slowest:.1f}", "60", own_slowest)
    state.close()


def many_closes(folder: Path, count: int) -> None:
    """The most files beside a window, when every version is of another handle."""
    folder.mkdir()
    most = 0
    for number in range(count):
        with PipelineState(folder / "pipeline.json", schema=None) as state:
            state.write({**SMALL, "n": number})
        most = max(most, files_of(state))
    say(f"{count} times a version and close(), a window of 50: files", str(most), "60")


class LongHistory:
    """A history of `count` versions, and what is asked of it and added to it."""

    def __init__(self, folder: Path, count: int) -> None:
        self._count = count
        self._folder = folder
        self._state = new(folder)
        marks = (count // 2, count - 10_000, count)
        moments: dict[int, str] = {}
        for number in range(1, count + 1):
            rare = {"rare": number} if number % 2000 == 7 else {}
            with self._state.transaction() as txn:
                txn.data.update({**(SMALL if number == 1 else {}), **rare, "n": number})
            if txn.version is not None and number in marks:
                moments[number] = txn.version.timestamp.isoformat()
        self._arguments = [self._state.path, marks[0], *(moments[each] for each in marks)]

    def measure(self) -> None:
        """Prints the lines."""
        say(f"{self._count:,} versions", "")
        self._close()
        clone = cloned(self._state, self._folder / "clone")
        sizes(self._state, "  the objects", "", clone)
        for name, (call, most, theirs) in CALLS.items():
            words = {"middle": str(self._arguments[1]), "moment": str(self._arguments[2])}
            took = git(clone, *(each.format(**words) for each in theirs)) if clone else None
            ours, own = map(milliseconds, self._first(call))
            say(f"  a new process: {name}, ms", ours, str(most), own, milliseconds(took))
        self._against_a_young_one()
        self._beside_a_journal()
        self._prune(clone)

    def _close(self) -> None:
        say("  close(), s", f"{seconds(self._state.close):.2f}")
        say("  files below .pipeline", str(files_of(self._state)), "60")
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        say("  memory of the process that made them all, MB", f"{memory:.0f}", "150")

    def _first(self, call: str) -> tuple[float, float]:
        """The seconds that a call takes as the first of a new process, and the processor's own; medians of five."""
        command = [sys.executable, "-c", FIRST.format(call=call), *map(str, self._arguments)]
        run = partial(subprocess.run, check=True, capture_output=True, env=as_installed())
        told = [run(command).stdout for _ in range(5)]
        took, own = zip(*(map(float, each.split()) for each in told), strict=True)
        return statistics.median(took), statistics.median(own)

    def _against_a_young_one(self) -> None:
        young = new(self._folder / "young")
        for number in range(100):
            young.write({**SMALL, "n": number})
        took: dict[PipelineState, list[float]] = {self._state: [], young: []}
        for number in range(2000):
            for each in (self._state, young):
                took[each].append(seconds(partial(each.write, {**SMALL, "n": -number})))
        (ours, ours_slow, _), (theirs, theirs_slow, _) = map(times, took.values())
        say("  a transaction against one at 100 versions: median", f"{ours / theirs:.2f}", "1.1")
        say("    99th percentile", f"{ours_slow / theirs_slow:.2f}", "1.5")
        young.close()

    def _beside_a_journal(self) -> None:
        # Whoever comes next finds a journal that is just short of a checkpoint.
        self._state.checkpoint()
        for number in range(60):
            self._state.write({**SMALL, "n": number})
        took, own = map(milliseconds, self._first("state.write({'n': -1})"))
        say("  a new process: a transaction beside a full journal, ms", took, "150", own)
        self._state.close()

    def _prune(self, clone: Path | None) -> None:
        path = os.fspath(self._state.path)
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            if writer.stdout is not None:
                writer.stdout.readline()
            command = [sys.executable, "-c", PRUNER, path]
            told = subprocess.run(command, check=True, capture_output=True, cwd=FOLDER).stdout
            out, _ = writer.communicate("enough\n")
        took, own, versions, memory = json.loads(told)
        (middle, _, longest), (_, _, of_it) = map(times, zip(*json.loads(out), strict=True))
        theirs = None
        if clone is not None:
            kept = subprocess.run(
                [str(GIT), f"--git-dir={clone}", "rev-parse", "main~50"],
                check=True,
                capture_output=True,
            )
            (clone / "shallow").write_bytes(kept.stdout)
            theirs = git(clone, "gc", "-q", "--prune=now")
        seconds_of_git = "" if theirs is None else f"{theirs:.1f}"
        say(
            f"  prune() of {versions:,} versions, s",
            f"{took:.1f}",
            "10",
            f"{own:.1f}",
            seconds_of_git,
        )
        say("    its memory, MB", f"{memory / 1024:.0f}", "150")
        beside = f"    a writer beside it, median {middle:.1f} ms: longest, ms"
        say(beside, f"{longest:.1f}", "100", f"{of_it:.1f}")
        with PipelineState(path, schema=None) as state:
            state.write({**SMALL, "n": -1})
        say("    files below .pipeline, after close()", str(files_of(self._state)), "60")


def main() -> None:
    """Prints the table."""
    parser = command_line.parser(__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=DATA, metavar="DATA")
    parser.add_argument("--versions", type=int, default=100_000, help="of the long history")
    arguments = parser.parse_args()
    if arguments.versions < 20_000:
        parser.error("--versions must be 20,000 or more")
    with tempfile.TemporaryDirectory(prefix="gitstate-", dir=arguments.directory) as name:
        os.sync()
        say(load_of_the_machine(), "measured", "at most", "its CPU", "git")
        # First, as the memory of this process is one of its figures.
        LongHistory(Path(name) / "long", arguments.versions).measure()
        one_field(Path(name) / "one-field", 1000)
        in_a_row(Path(name) / "row", 10_000)
        many_closes(Path(name) / "closes", 300)
        if arguments.data.is_file():
            real_history(Path(name) / "real", arguments.data)
        print(load_of_the_machine())


if __name__ == "__main__":
    main()
