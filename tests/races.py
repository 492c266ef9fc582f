"""What somebody else does between the last look of a run and its first change."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oracle import Tell, fork

from gitstate import PipelineState
from gitstate.cli import app


def run_behind(change: Callable[[], object], *arguments: str | Path) -> Any:
    """The JSON document of a run that comes to a good end; the `change` happens just when it opens the state to change it."""

    def enter(state: PipelineState) -> PipelineState:
        change()
        return state

    def work(tell: Tell) -> None:
        PipelineState.__enter__ = enter
        sys.stdout = io.StringIO()
        status = app.run(["--json", *map(str, arguments)])
        tell([status, sys.stdout.getvalue()])

    ((status, out),) = fork(work).finish()
    assert status == 0
    return json.loads(out)
