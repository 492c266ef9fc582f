"""Many processes at one file: how long they wait, and how fairly they are served.

    python tests/benchmarks/contention.py [--seconds 5] [--directory DIR]

Each writer holds the lock for 2 ms, again and again; the longest wait for it, and the share of the writer that was served
least, as a part of the mean share. What writers do together, in transactions a second, is in `compare.py`.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import command_line
from race import race

if TYPE_CHECKING:
    from gitstate import PipelineState

HOLD_SECONDS = 0.002


def wait_and_hold(state: PipelineState) -> float:
    """How long the wait for the lock was, in seconds."""
    begin = time.time()
    with state.transaction():
        waited = time.time() - begin
        time.sleep(HOLD_SECONDS)
    return waited


def main() -> None:
    """Prints the table."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    print(f"{'writers':>8}  {'longest wait s':>14}  {'median ms':>9}  {'least served / mean':>19}")
    for writers in (2, 8, 32):
        plans = [[(wait_and_hold, arguments.seconds)] for _ in range(writers)]
        sent = race(plans, {"n": 0}, arguments.directory)
        waits = [wait for (turn,) in sent for wait in turn.given]
        shares = [len(turn.given) for (turn,) in sent]
        print(
            f"{writers:>8}  {max(waits):>14.3f}  {statistics.median(waits) * 1e3:>9.1f}"
            f"  {min(shares) / statistics.mean(shares):>19.2f}"
        )


if __name__ == "__main__":
    main()
