"""What the command `gitstate` costs as a whole process, from its start to its end.

    python tests/benchmarks/starts.py [--versions 10000] [--rounds 15] [--directory DIR]

A line for each figure, with what it is to be at most. The first two are against a process that only imports what the
command needs, `python -c "import click, dulwich.repo, pydantic, filelock"`; the third is `gitstate log -n 20` of a long
history against that of one with 100 versions. All take turns, with their byte code cached, as it is after an installation.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import command_line
from documents import document
from machine import load_of_the_machine
from timing import Figure, figures, ratio, seconds

from gitstate import PipelineState

IMPORTS = [sys.executable, "-c", "import click, dulwich.repo, pydantic, filelock"]
COMMAND = [sys.executable, "-m", "gitstate"]
KILOBYTES = 43
PACKAGE = Path(__file__).resolve().parents[2]


def written(path: Path, versions: int) -> Path:
    """The folder of a state with so many versions, each of which changes one field."""
    with PipelineState(path / "pipeline.json", max_backups=None) as state:
        state.write(document(KILOBYTES))
        for number in range(2, versions + 1):
            with state.transaction() as txn:
                txn.data["phase1"]["metrics"]["total_files"] = number
    return path


def in_turn(steps: dict[str, partial[object]], rounds: int) -> dict[str, Figure]:
    """The figures of processes that take turns, one of each kind at a time."""
    for step in [*steps.values()] * 2:
        step()  # writes the byte code
    took: dict[str, list[list[float]]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            took[name].append([seconds(step)])
    return figures(took)


def main() -> None:
    """Prints the table."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--versions", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.fspath(PACKAGE)

    def process(*command: str, folder: Path) -> partial[object]:
        return partial(
            subprocess.run,
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )

    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        young = written(Path(name) / "young", 100)
        old = written(Path(name) / "old", arguments.versions)
        log = (*COMMAND, "log", "-n", "20")
        steps = {
            "imports": process(*IMPORTS, folder=young),
            "help": process(*COMMAND, "--help", folder=young),
            "status": process(*COMMAND, "status", folder=young),
            "young": process(*log, folder=young),
            "old": process(*log, folder=old),
        }
        found = in_turn(steps, arguments.rounds)
    for what, one, other, most in (
        ("gitstate --help, times the imports", "help", "imports", "0.8"),
        (f"gitstate status of {KILOBYTES} KB, times the imports", "status", "imports", "1.8"),
        (f"gitstate log -n 20 of {arguments.versions:,}, times that of 100", "old", "young", "1"),
    ):
        times = ratio(found[one], found[other])
        both = f"{found[one].median:.0f} / {found[other].median:.0f} ms = {times.middle:.2f}"
        print(f"{what:58} {both:>24} {most:>8}  ({times.lowest:.2f}-{times.highest:.2f})")
    print(load_of_the_machine())


if __name__ == "__main__":
    main()
