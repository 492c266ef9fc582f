"""What it costs to push and to clone, beside stock git's own, and what automatic pushing costs a transaction.

    python tests/benchmarks/remotes.py [--versions 10000] [--rounds 9] [--directory DIR]

A line for each figure, with what it is to be at most. `push` is one more version over http, by `state.push()` in a process
that has pushed before, against the command `git push` of the same to another repository of the same server; `clone` is
`PipelineState.clone` of all versions from a folder, each version checked, against `git clone --bare --no-local`; the last
is the median of transactions whose remote, which gets every version by itself, is dead, against those without a remote.
It takes git and lighttpd.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import command_line
from documents import document
from machine import load_of_the_machine
from timing import figures, in_turn, ratio, seconds

sys.path.insert(0, os.fspath(Path(__file__).resolve().parents[1]))
from servers import Http

from gitstate import PipelineState

KILOBYTES = 43
DEAD = "http://127.0.0.1:9/nobody.git"


def git(*arguments: str | Path) -> None:
    """Runs stock git, which is to say nothing."""
    subprocess.run(["git", *map(str, arguments)], check=True, capture_output=True)


def written(path: Path, versions: int) -> PipelineState:
    """A state with so many versions, each of which changes one field."""
    state = PipelineState(path, max_backups=None, schema=None)
    state.write(document(KILOBYTES))
    for number in range(2, versions + 1):
        change(state, number)
    state.checkpoint()
    return state


def change(state: PipelineState, number: int) -> None:
    """One more version."""
    with state.transaction() as txn:
        txn.data["phase1"]["metrics"]["total_files"] = number


def line(name: str, figure: str, most: str) -> None:
    """Prints a line of the table."""
    print(f"{name:58} {figure:>24} {most:>8}", flush=True)


def pushes(state: PipelineState, folder: Path, rounds: int) -> None:
    """One more version over http."""
    with Http(folder / "ours") as ours, Http(folder / "theirs") as theirs:
        for server in (ours, theirs):
            git("--git-dir", state.git_dir, "push", server.repository, "main")
        state.remotes.add("web", ours.url)
        state.push("web")
        took: dict[str, list[float]] = {"gitstate": [], "git": []}
        for number in range(rounds):
            change(state, -number)
            took["gitstate"].append(seconds(partial(state.push, "web")))
            by_git = partial(git, "--git-dir", state.git_dir, "push", theirs.url, "main")
            took["git"].append(seconds(by_git))
        state.remotes.remove("web")
    middle = {name: statistics.median(each) * 1e3 for name, each in took.items()}
    times = statistics.median(a / b for a, b in zip(took["gitstate"], took["git"], strict=True))
    figure = f"{middle['gitstate']:.0f} / {middle['git']:.0f} ms = {times:.2f}"
    line("push of one version over http, times git push", figure, "3")


def clones(state: PipelineState, folder: Path, rounds: int) -> None:
    """All versions, from a folder."""
    remote = folder / "clone.git"
    git("clone", "--bare", "--no-local", state.git_dir, remote)
    git("--git-dir", remote, "repack", "-adfq")
    took: dict[str, list[float]] = {"gitstate": [], "git": []}
    for number in range(max(3, rounds // 3)):
        place = folder / f"clone{number}"
        ours = partial(PipelineState.clone, remote, place / "pipeline.json", schema=None)
        took["gitstate"].append(seconds(ours))
        theirs = partial(git, "clone", "--bare", "--no-local", remote, place / "git")
        took["git"].append(seconds(theirs))
        shutil.rmtree(place)
    times = statistics.median(a / b for a, b in zip(took["gitstate"], took["git"], strict=True))
    ours_s, theirs_s = (statistics.median(took[name]) for name in ("gitstate", "git"))
    line(
        "clone of all versions, checked, times git clone",
        f"{ours_s:.1f} / {theirs_s:.1f} s = {times:.2f}",
        "8",
    )


def transactions(folder: Path, rounds: int) -> None:
    """With a dead remote that is to get every version, and without."""
    states = {}
    for name in ("alone", "dead remote"):
        states[name] = PipelineState(folder / name.replace(" ", "-") / "pipeline.json", schema=None)
        states[name].write(document(KILOBYTES))
    states["dead remote"].remotes.add("origin", DEAD, push="auto")
    counter = iter(range(10_000_000))
    steps = {
        name: partial(lambda state: seconds(partial(change, state, next(counter))), state)
        for name, state in states.items()
    }
    found = figures(in_turn(steps, 4 * rounds))
    times = ratio(found["dead remote"], found["alone"])
    figure = f"{times.middle:.3f} ({times.lowest:.2f}-{times.highest:.2f})"
    line("transaction with a dead automatic remote, times without", figure, "1.05")


def main() -> None:
    """Prints the table."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--versions", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        folder = Path(name)
        transactions(folder, arguments.rounds)
        state = written(folder / "state" / "pipeline.json", arguments.versions)
        pushes(state, folder, arguments.rounds)
        clones(state, folder, arguments.rounds)
    print(load_of_the_machine())


if __name__ == "__main__":
    main()
