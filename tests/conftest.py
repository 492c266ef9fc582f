"""Shared by the suites: a state in a folder of its own, and stock git where it is installed."""

import os
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from oracle import Tally
from servers import Serve

from gitstate import PipelineState, codec

# A slow machine is no failure, and a failure found once is found by everybody.
settings.register_profile("gitstate", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("gitstate")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long` for the runs of hours, `--seed` to repeat one that failed."""
    parser.addoption("--long", action="store_true", help="run the durability suites for hours")
    parser.addoption("--seed", help="the seed that a failed run has printed")


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Of two sizes of a suite the one that was asked for: as it is in CI, or by `--long`."""
    long = request.config.getoption("--long")
    return lambda short, hours: hours if long else short


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """What chance is made from; printed, so that a run that failed can be repeated."""
    chosen = request.config.getoption("--seed") or str(random.SystemRandom().randrange(2**32))
    print(f"seed {chosen}")
    return chosen


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Counts what a suite has tried; the sums are printed where the run ends."""

    def count(what: str, number: int) -> None:
        request.node.user_properties.append((f"tried {what}", number))

    return count


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says how often the suites that passed have tried what."""
    tried: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", ()):
        for name, number in report.user_properties:
            if name.startswith("tried "):
                tried[name.removeprefix("tried ")] += number
    for what, number in sorted(tried.items()):
        terminalreporter.write_line(f"tried: {number:,} {what}")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is some: for suites that say themselves what a disk would keep."""
    fast = "/dev/shm"
    if not os.access(fast, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="gitstate-", dir=fast) as folder:
        yield Path(folder)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a state file would be; nothing is there yet."""
    return tmp_path / "pipeline.json"


@pytest.fixture
def state(path: Path) -> Iterator[PipelineState]:
    """A handle on a state that nobody has written yet."""
    with PipelineState(path) as handle:
        yield handle


@pytest.fixture(scope="session")
def git() -> Callable[..., str]:
    """Stock git, as a function from arguments to what it prints; it reads nobody's own configuration."""
    program = shutil.which("git")
    if program is None:
        pytest.skip("git is not installed")
    environment = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }

    def run(*arguments: str | os.PathLike[str], stdin: bytes = b"") -> str:
        done = subprocess.run(
            [program, *map(os.fspath, arguments)],
            input=stdin,
            capture_output=True,
            env=environment,
            check=True,
        )
        return done.stdout.decode()

    return run


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers, and stops them when the test ends: `serve(Ssh)`, `serve(Bad, "silent")`."""
    with ExitStack() as stack:
        yield Serve(tmp_path / "servers", stack)


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of somebody who has configured nothing: no keys, no passwords, no proxies."""
    folder = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.upper().startswith(("GIT_", "SSH_", "GITSTATE_", "XDG_", "NETRC")) or (
            name.lower().endswith("_proxy")
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", f"{folder}")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return folder


@pytest.fixture(params=["small", "large"])
def of_any_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a module: every document counts as a large one, too, of which nothing is kept in memory and less is parsed."""
    if request.param == "large":
        monkeypatch.setattr(codec, "MAX_REMEMBERED", 0)
