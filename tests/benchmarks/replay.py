"""Replays a real history of a JSON document, version by version, and judges the store it leaves.

    python tests/benchmarks/replay.py [DATA] [--versions N] [--directory DIR]

DATA is an `.xz` file with one JSON object a line, by default ../shared/data/fires.jsonl.xz beside the project. Printed are
the number of versions, what stock git says of the repository, whether the newest and 50 older versions read back equal,
and the size of the store; the same again after close() and from a new handle. Exit status: 1 when one of these does not
hold, 2 without DATA.

The times are for looking at, they decide nothing: transactions early and late in the history, each in turn with the
floor (a durable atomic replace of the same bytes) and with a transaction of the same document on a store that begins at
the window's first version, so that what a long history costs shows beside what a large document costs.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import command_line
from timing import floor, seconds

from gitstate import PipelineState, codec

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "fires.jsonl.xz"
EARLY = range(50, 151)
LATE = range(2421, 2522)
SAMPLES = 50


def load(path: Path, limit: int | None) -> Iterator[dict[str, Any]]:
    """The documents, oldest first; versions that change nothing are left out, as they make no commit."""
    before = None
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if limit == 0:
                return
            document: dict[str, Any] = json.loads(line)
            if line != before:
                yield document
                limit = None if limit is None else limit - 1
            before = line


def digest(document: dict[str, Any]) -> str:
    """The same for equal documents only, types and the order of keys included."""
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


class Window:
    """Transactions of one stretch of the history, in turn with the floor and with a store that is young."""

    def __init__(self, numbers: range, directory: Path) -> None:
        self.numbers = numbers
        self._directory = directory / f"window-{numbers.start}"
        self._directory.mkdir()
        self._young = PipelineState(
            self._directory / "pipeline.json", max_backups=None, schema=None
        )
        self._rows: list[tuple[int, float, float, float]] = []

    def measure(self, document: dict[str, Any], ours: float) -> None:
        """Adds a transaction that took `ours` seconds."""
        content = codec.encode(document)
        plain = seconds(lambda: floor(self._directory / "floor.json", content))
        young = seconds(lambda: self._young.write(document))
        self._rows.append((len(content), ours, young, plain))

    def row(self) -> str:
        """The line of the table; the first transaction is left out, it makes the young store."""
        self._young.close()
        sizes, ours, young, plain = zip(*self._rows[1:], strict=True)
        size, middle = statistics.median(sizes) / 1024, statistics.median(ours)
        times = [
            middle * 1e3,
            max(ours) * 1e3,
            middle * 1e3 / size,
            middle / statistics.median(plain),
            middle / statistics.median(young),
        ]
        first, last = self.numbers.start, self.numbers.stop - 1
        figures = "".join(f"{figure:>12.3f}" for figure in times)
        return f"{f'{first}-{last}':>12}{size:>12.1f}{figures}"


def replay(
    documents: Iterator[dict[str, Any]], state: PipelineState, directory: Path
) -> tuple[list[str], list[str]]:
    """Writes all documents, and gives their digests and the lines of the table of times."""
    windows = [Window(numbers, directory) for numbers in (EARLY, LATE)]
    os.sync()
    digests, took = [], []
    for number, document in enumerate(documents, 1):
        digests.append(digest(document))
        took.append(seconds(lambda document=document: state.write(document)))
        for window in windows:
            if number in window.numbers:
                window.measure(document, took[-1])
    titles = ("transactions", "median KB", "median ms", "slowest ms", "ms/KB", "x floor", "x young")
    table = ["".join(f"{title:>12}" for title in titles)]
    table += [window.row() for window in windows if len(digests) >= window.numbers.stop]
    table.append(f"all {len(took)}: {sum(took):.1f} s, slowest {max(took) * 1e3:.0f} ms")
    return digests, table


def judge(digests: list[str], state: PipelineState) -> Iterator[tuple[bool, str]]:
    """What holds of the store, and how it is said."""
    versions = len(list(state.log()))
    yield versions == len(digests), f"{versions} versions of {len(digests)}"
    yield digest(state.read()) == digests[-1], "the newest version reads back equal"
    chosen = random.Random(1).sample(range(len(digests)), min(SAMPLES, len(digests)))
    equal = sum(digest(state.read(at=number + 1)) == digests[number] for number in chosen)
    yield equal == len(chosen), f"{equal} of {len(chosen)} sampled versions read back equal"
    report = state.verify()
    yield report.ok, f"verify(): {'; '.join(report.problems) or 'nothing wrong'}"
    git = shutil.which("git")
    if git is None:
        yield True, "git is not installed: not judged by it"
        return
    command = [git, f"--git-dir={state.git_dir}"]
    count = subprocess.run(
        [*command, "rev-list", "--count", "HEAD"], capture_output=True, text=True, check=False
    )
    yield (
        count.stdout.strip() == str(len(digests)),
        f"git rev-list --count HEAD: {count.stdout.strip() or count.stderr.strip()}",
    )
    check = subprocess.run(
        [*command, "fsck", "--strict", "--no-progress"], capture_output=True, text=True, check=False
    )
    found = (check.stdout + check.stderr).strip()
    yield (
        check.returncode == 0 and not found,
        f"git fsck --strict: status {check.returncode}, {found or 'nothing wrong'}",
    )


def size(state: PipelineState) -> str:
    """What the store takes, as text."""
    files = [path for path in state.git_dir.parent.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    journal = sum(path.stat().st_size for path in files if path.name.startswith("journal."))
    packs = sum(path.suffix == ".pack" for path in files)
    loose = sum(len(path.name) == 38 for path in files)
    return (
        f"store {total / 1e6:.1f} MB, of it journal {journal / 1e6:.1f} MB;"
        f" {packs} packs, {loose} loose objects"
    )


def main() -> int:
    """Prints what was found, and gives the exit status."""
    parser = command_line.parser(__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=DATA, metavar="DATA")
    parser.add_argument("--versions", type=int, help="only the first so many")
    arguments = parser.parse_args()
    if not arguments.data.is_file():
        parser.error(f"no such file: {arguments.data}")
    holds = True
    with tempfile.TemporaryDirectory(prefix="gitstate-", dir=arguments.directory) as name:
        state = PipelineState(Path(name) / "pipeline.json", max_backups=None, schema=None)
        documents = load(arguments.data, arguments.versions)
        digests, table = replay(documents, state, Path(name))
        print("\n".join(table))
        for title in ("before close()", "after close(), a new handle"):
            print(f"\n{title}")
            for good, said in judge(digests, state):
                print(f"  {'ok' if good else 'FAILED':<8}{said}")
                holds &= good
            print(f"          {size(state)}")
            state.close()
            state = PipelineState(state.path, schema=None)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
