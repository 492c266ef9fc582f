"""What a history costs as it grows: on disk against what stock git makes of the same commits, and in time.

    python tests/benchmarks/history.py [--versions 100000] [--directory DIR]

Printed are the bytes that a version takes of which one field is new, beside those after `git repack -adf` of a clone; the
slowest of 10,000 transactions in a row, checkpoints included; and, with so many versions, what a transaction costs against
one in turn with it on a store of 100, what the first calls of a new process cost, the files, and the memory. Sizes are
exact; times are the machine's, so look at the ratios. Without git the sizes stand alone.
"""

from __future__ import annotations

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
from transactions import document

from gitstate import PipelineState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SMALL = {
    "phases": {f"phase{n}": {"status": "pending", "n": n} for n in range(20)},
    "rare": 0,
    "n": 0,
}
CALLS = {
    "list_backups(10)": "state.list_backups(10)",
    "get_transaction_history(50)": "state.get_transaction_history(50)",
    "read(at=<half way>)": "state.read(at=middle)",
    "read(at=<its time>)": "state.read(at=moment)",
    "log(pointer), last 10,000": "list(state.log(since=recent, pointer='/rare'))",
    "a transaction": "state.write({'n': -1})",
}
"""What a new process does first, by what it is called."""

PROGRAM = """
import sys, time
from datetime import datetime
from gitstate import PipelineState
state = PipelineState(sys.argv[1], schema=None)
middle = int(sys.argv[2])
moment, recent = map(datetime.fromisoformat, sys.argv[3:5])
begin = time.perf_counter()
{call}
print(time.perf_counter() - begin)
import os
os._exit(0)
"""


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def say(what: str, figure: str) -> None:
    """A line of the table."""
    print(f"{what:<58}{figure:>20}", flush=True)


def new(folder: Path) -> PipelineState:
    """A state in a new folder that keeps all versions."""
    folder.mkdir()
    return PipelineState(folder / "pipeline.json", schema=None, max_backups=None)


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def repacked(state: PipelineState, folder: Path) -> int | None:
    """The bytes of what `git repack -adf` makes of a clone; None without git."""
    git = shutil.which("git")
    if git is None:
        return None
    subprocess.run(
        [git, "clone", "-q", "--mirror", "--no-local", state.git_dir, folder], check=True
    )
    subprocess.run([git, f"--git-dir={folder}", "repack", "-adfq"], check=True)
    return size_of(folder / "objects" / "pack")


def against(ours: int, theirs: int | None) -> str:
    """Our bytes, theirs, and how many times as many ours are."""
    return f"{ours:,}" if theirs is None else f"{ours:,} / {theirs:,} = {ours / theirs:.2f}"


def times(took: Iterable[float]) -> tuple[float, float, float]:
    """Median, 99th percentile and longest, in milliseconds."""
    ordered = sorted(took)
    return (
        statistics.median(ordered) * 1e3,
        ordered[len(ordered) * 99 // 100] * 1e3,
        ordered[-1] * 1e3,
    )


def one_field(folder: Path, count: int) -> None:
    """Versions of a document of 43 KB of which one field is new."""
    state = new(folder)
    content = document(43)
    state.write(content)
    for number in range(count):
        with state.transaction() as txn:
            txn.data["phase1"]["metrics"]["total_files"] = number
    state.close()
    packs = size_of(state.git_dir / "objects")
    theirs = repacked(state, folder / "clone")
    say(f"{count:,} versions, one field of 43 KB: bytes / git's", against(packs, theirs))
    say("  bytes a version, everything below .pipeline", f"{packs / count:.0f}")


def in_a_row(folder: Path, count: int) -> None:
    """The slowest of many transactions on a document of 10 KB."""
    state = new(folder)
    state.write(document(10))
    chance = random.Random(1)

    def change() -> None:
        with state.transaction() as txn:
            txn.data["phase2"]["metrics"]["failed"] = chance.random()

    middle, slow, slowest = times(seconds(change) for _ in range(count))
    say(f"{count:,} transactions of 10 KB in a row: median, p99 ms", f"{middle:.1f}, {slow:.1f}")
    say("  the slowest, ms", f"{slowest:.1f}")
    state.close()


def long_history(folder: Path, count: int) -> None:
    """What is asked of, and added to, a long history."""
    state, young = new(folder), new(folder / "young")
    moments: list[str] = []
    for number in range(count):
        rare = {"rare": number} if number % 2000 == 7 else {}
        with state.transaction() as txn:
            txn.data.update({**(SMALL if number == 0 else {}), **rare, "n": number})
        if txn.version is not None and number + 1 in {count // 2, count - 10_000}:
            moments.append(txn.version.timestamp.isoformat())
    for number in range(100):
        young.write({**SMALL, "n": number})
    took: dict[PipelineState, list[float]] = {state: [], young: []}
    for number in range(1000):
        content = {**SMALL, "n": -number}
        for each in (state, young):
            took[each].append(seconds(partial(each.write, content)))
    (ours, ours_slow, _), (theirs, theirs_slow, _) = times(took[state]), times(took[young])
    say(f"a transaction at {count:,} against one at 100: median", f"{ours / theirs:.2f}")
    say("  p99", f"{ours_slow / theirs_slow:.2f}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say("  memory of this process, MB", f"{memory:.0f}")
    say("  close(), s", f"{seconds(state.close):.2f}")
    store = state.git_dir.parent
    say("  files below .pipeline", f"{sum(path.is_file() for path in store.rglob('*'))}")
    ours_bytes = size_of(state.git_dir / "objects")
    say("  bytes of the repository / git's", against(ours_bytes, repacked(state, folder / "clone")))
    arguments = [state.path, count // 2, *sorted(moments)]
    for name, call in CALLS.items():
        say(f"  a new process: {name}, ms", f"{_first(call, arguments) * 1e3:.1f}")
    # Whoever comes next finds a journal that is just short of a checkpoint.
    for number in range(60):
        state.write({**SMALL, "n": -number})
    call = CALLS["a transaction"]
    say("  the same beside a journal of 60 records, ms", f"{_first(call, arguments) * 1e3:.1f}")


def _first(call: str, arguments: list[object]) -> float:
    command = [sys.executable, "-c", PROGRAM.format(call=call), *map(str, arguments)]
    return statistics.median(
        float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(5)
    )


def main() -> None:
    """Prints the table."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--versions", type=int, default=100_000, help="of the long history")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gitstate-", dir=arguments.directory) as name:
        os.sync()
        one_field(Path(name) / "one-field", 1000)
        in_a_row(Path(name) / "row", 10_000)
        long_history(Path(name) / "long", arguments.versions)


if __name__ == "__main__":
    main()
