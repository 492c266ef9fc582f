"""The frame of the demo: its command line, its folder, its exit status."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gitstate import StateReadError
from gitstate.demo.guarantees import demonstrate
from gitstate.demo.processes import open_state
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
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="gitstate-demo-"))
        stack.callback(_leave, folder, keep=options.keep)
        state = stack.enter_context(open_state(folder / "pipeline.json"))
        try:
            original = options.state and options.state.read_bytes()
            if original is not None:
                state.path.write_bytes(original)
                state.read()
        except (OSError, StateReadError) as error:
            why = error.strerror if isinstance(error, OSError) else error.__cause__
            parser.error(f"cannot use {options.state}: {why or error}")
        report = Report()
        print(f"gitstate at work in {folder}")
        demonstrate(state, report)
        if original is not None:
            report.section("The file that was copied")
            report.show(os.fspath(options.state))
            report.check("it is as it was", options.state.read_bytes() == original)
        print(f"\n{_verdict(report)}")
        return 1 if report.failures else 0


def _leave(folder: Path, *, keep: bool) -> None:
    if keep:
        print(f"kept: {folder}")
    else:
        shutil.rmtree(folder)


def _verdict(report: Report) -> str:
    if report.failures:
        return f"FAILED: {report.failures} of the guarantees above"
    return "ok: every guarantee above holds"


if __name__ == "__main__":
    try:
        status = main()
        sys.stdout.flush()  # a short output is written only now
        sys.exit(status)
    except BrokenPipeError:
        # Who reads it, `head` say, has seen enough; nothing is left to write to at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
