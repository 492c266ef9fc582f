"""The demo as a program of its own, which needs nothing but the library."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gitstate.demo.frame import SourceError, play
from gitstate.demo.report import Report

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo and gives its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m gitstate.demo", description="Shows what gitstate guarantees, and checks it."
    )
    parser.add_argument("--state", type=Path, metavar="FILE", help="use a copy of this state file")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    options = parser.parse_args(arguments)
    report = Report()
    try:
        play(report, options.state, keep=options.keep)
    except SourceError as error:
        parser.error(str(error))
    return 1 if report.failures else 0


if __name__ == "__main__":
    try:
        status = main()
        sys.stdout.flush()  # a short output is written only now
        sys.exit(status)
    except BrokenPipeError:
        # Who reads it, `head` say, has seen enough; nothing is left to write to at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
