"""The command line: `gitstate`, which does what a `PipelineState` does, and nothing beside it.

Data is on the standard output, everything else on the other one. It ends with one of these, in `STATUSES` of refusal.py
for each error code::

    0  done                       13  conflict, or --expect names another version than the newest
    1  failed                     14  against the schema
    2  wrong usage                15  the state or its store is damaged
    3  differences (--exit-code)  16  a remote
    10  no state here            130  interrupted, by Ctrl-C
    11  somebody has the lock    141  nobody reads what is written, as behind `| head`
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec


def main() -> None:
    """Runs the command with the arguments of this process, and ends it."""
    try:
        _open_what_is_closed()
        missing = [name for name in ("click", "rich") if find_spec(name) is None]
        if missing:
            sys.stderr.write(
                f"gitstate: the command line needs {' and '.join(missing)}: pip install"
                f" {' '.join(missing)}, or gitstate with its extra [cli]\n"
            )
            sys.exit(1)
        from gitstate.cli.app import run  # noqa: PLC0415  which imports them

        status = run(sys.argv[1:])
    except KeyboardInterrupt:  # while it starts, or ends
        status = 130
    sys.exit(status)


def _open_what_is_closed() -> None:
    """Opens nothing in the place of a standard stream that is closed, as behind `>&-`.

    Else the next file, a journal say, would get its number, and what a program that we start writes would go there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(descriptor, True)
            setattr(sys, name, open(descriptor, mode, encoding="utf-8"))  # noqa: SIM115  to the end
