"""The frame of the demo: its folder, the state in it, the verdict."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gitstate import StateReadError
from gitstate.demo.guarantees import demonstrate
from gitstate.demo.processes import open_state

if TYPE_CHECKING:
    from gitstate.demo.report import Report


class SourceError(Exception):
    """The file that was to be copied cannot be used."""


def play(report: Report, source: Path | None, *, keep: bool) -> Path:
    """Shows every guarantee, on a copy of the state file `source` if there is one.

    Its temporary folder is the result, which is gone by then unless it was to `keep` it.

    Raises:
        SourceError: that file cannot be used; nothing was shown.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="gitstate-demo-"))
        stack.callback(_leave, report, folder, keep=keep)
        state = stack.enter_context(open_state(folder / "pipeline.json"))
        try:
            original = None if source is None else source.read_bytes()
            if original is not None:
                state.path.write_bytes(original)
                state.read()
        except (OSError, StateReadError) as error:
            why = error.strerror if isinstance(error, OSError) else error.__cause__
            raise SourceError(f"cannot use {source}: {why or error}") from error
        report.say(f"gitstate at work in {folder}")
        demonstrate(state, report)
        if source is not None:
            report.section("The file that was copied")
            report.show(os.fspath(source))
            report.check("it is as it was", source.read_bytes() == original)
        report.say(f"\n{_verdict(report)}")
    return folder


def _leave(report: Report, folder: Path, *, keep: bool) -> None:
    if keep:
        report.say(f"kept: {folder}")
    else:
        shutil.rmtree(folder)


def _verdict(report: Report) -> str:
    if report.failures:
        return f"FAILED: {report.failures} of the guarantees above"
    return "ok: every guarantee above holds"
