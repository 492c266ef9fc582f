"""Shared by the suites: a state in a folder of its own, and stock git where it is installed."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from gitstate import PipelineState

# A slow machine is no failure, and a failure found once is found by everybody.
settings.register_profile("gitstate", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("gitstate")


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
