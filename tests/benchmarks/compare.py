"""What gitstate costs, against the floor and against what one could use instead, and what it is to reach.

    python tests/benchmarks/compare.py [--directory DIR] [--blocks 6] [--sizes 1,10,43,500,5000,50000]
                                       [--seconds 2] [--json FILE] [--chart FILE]

The floor is a durable atomic replace of the same bytes: write, flush, rename, flush of the directory. `peers.py` says how
each of the others is set. One that is not installed is left out and named: `pip install 'gitstate[bench]'`.

All take turns. In a turn each has a block of up to 25 calls, as many as take 0.3 s by the fastest of its first three; one
call where that takes longer. Before each block is a `sync`, so that nobody pays for what another left dirty. There are
`--blocks` turns; fewer, but at least three, for documents of which those take more than half a minute. Medians and 99th
percentiles are of single calls. A ratio is that of the medians of two blocks of the same turn: the median of all turns, and
as the spread the lowest and the highest. The spread of a section's base is that of its own blocks around their median:
where it is wide, the machine was busy, and the figures are to be measured again.

Writers are processes that race for `--seconds`, in up to three turns, each after one in which the first of them is alone
and one of the floor; the ratios are the medians of the turns. New processes are timed from start to end, less one that
does nothing. Memory is the peak of a new process that makes one transaction on the largest document, less the peak of one
that does the same on 1 KB, against the bytes of the file: the median of `--blocks` such processes in a row, the lowest
and the highest; the target is held against the highest.

Sizes are in KB. The ratios are the figures to quote: absolute times are the machine's. Nothing is asserted of them.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chart
import command_line
from machine import facts, load_of_the_machine
from peers import GIT_ENVIRONMENT
from sections import (
    COLD_KILOBYTES,
    DEPENDENCIES,
    FLOOR,
    PLAIN,
    WRITERS_KILOBYTES,
    cold_start,
    memory,
    reads,
    transactions,
    writers,
)
from targets import LARGE_KILOBYTES, Results, named, targets
from timing import Figure, Ratio, ratio, steadiness

if TYPE_CHECKING:
    from argparse import Namespace

SIZES = "1,10,43,500,5000,50000"
WIDTHS = (11, 10, 10, 16)
READS_KILOBYTES = 500
"""Up to here reads are measured, in a history of 50 versions."""


def say(*cells: str) -> None:
    """A line of the table: what, and up to four figures, the last one a spread."""
    what, *rest = cells
    line = "".join(f"{cell:>{width}}" for cell, width in zip(rest, WIDTHS, strict=False))
    print(f"{what:<42}{line}".rstrip(), flush=True)


def say_title(*cells: str) -> None:
    """The first line of a section."""
    print()
    say(*cells)


def between(found: Ratio) -> str:
    """The spread, as text."""
    return f"{found.lowest:.2f}-{found.highest:.2f}"


def say_figures(title: str, unit: str, figures: dict[str, Figure], base: str) -> None:
    """A section of times, all held against `base`."""
    say_title(title, "median ms", "p99 ms", unit, "spread")
    for name, figure in figures.items():
        found = ratio(figure, figures[base])
        spread = steadiness(figure) if name == base else found
        times = (f"{figure.median:.3f}", f"{figure.p99:.3f}")
        say(f"  {name}", *times, f"{found.middle:.2f}", between(spread))


def measure(arguments: Namespace, directory: Path, left_out: dict[str, str]) -> Results:
    """Measures and prints section by section."""
    sizes, turns = arguments.sizes, arguments.blocks
    results = Results({}, {}, {}, {}, {})

    def all_peers(size: int, folder: Path) -> None:
        results.transactions[size] = transactions(size, turns, folder, left_out)
        title = f"Transactions, {named(size)}"
        say_figures(title, "x floor", results.transactions[size], FLOOR)

    # Removed at the end, as ext4 passes by what was deleted in the last minutes whenever it makes a file. Only what large
    # documents leave, gigabytes in few files, goes at once, after all the others.
    for size in (each for each in sizes if each < LARGE_KILOBYTES):
        all_peers(size, directory)
    say_title(f"Writers, {WRITERS_KILOBYTES} KB", "a second", "p99 ms", "x alone", "spread")
    for count in (1, 2, 8, 32):
        found = results.writers[count] = writers(count, min(turns, 3), arguments.seconds, directory)
        alone, floor = found.alone, found.floor
        cells = (f"{found.a_second:.0f}", f"{found.p99:.1f}", f"{alone.middle:.2f}", between(alone))
        say(f"  {count}", *cells)
        say("    times the floor each", "", "", f"{floor.middle:.2f}", between(floor))
    for size in (each for each in sizes if each <= READS_KILOBYTES):
        results.reads[size] = reads(size, turns, directory)
        say_figures(f"Reads, {named(size)}", "x plain", results.reads[size], PLAIN)
    results.cold_start.update(cold_start(turns, directory))
    title = f"New processes, {COLD_KILOBYTES} KB, less `pass`"
    say_figures(title, "x imports", results.cold_start, DEPENDENCIES)
    for size in (each for each in sizes if each >= LARGE_KILOBYTES):
        with tempfile.TemporaryDirectory(dir=directory) as folder:
            all_peers(size, Path(folder))
    title = f"Memory, {named(sizes[-1])} against 1 KB"
    say_title(title, "peak MB", "1 KB, MB", "x file", "spread")
    for schema in ("default", "none"):
        with tempfile.TemporaryDirectory(dir=directory) as folder:
            used = results.memory[schema] = memory(schema, sizes[-1], turns, Path(folder))
        cells = (f"{used.peak:.0f}", f"{used.without:.0f}", f"{used.ratio.middle:.2f}")
        say(f"  a transaction, schema {schema}", *cells, between(used.ratio))
    return results


def say_targets(results: Results) -> None:
    """The last section."""
    print(f"\n{'What it is to reach':<55}{'found':>8}{'spread':>13}{'to be':>8}{'holds':>7}  goal")
    for row in targets(results):
        found = "-" if row.found is None else f"{row.found.middle:.2f}"
        spread = "" if row.found is None else between(row.found)
        limit = f"{'<=' if row.most else '>='} {row.limit:g}"
        holds = {None: "-", True: "yes", False: "no"}[row.holds]
        print(f"  {row.what:<53}{found:>8}{spread:>13}{limit:>8}{holds:>7}  {row.goal}".rstrip())


def as_json(results: Results) -> dict[str, Any]:
    """All figures, as the JSON file has them."""

    def rows(figures: dict[str, Figure], base: str) -> dict[str, Any]:
        return {
            name: {**figure._asdict(), "ratio": ratio(figure, figures[base])._asdict()}
            for name, figure in figures.items()
        }

    return {
        "transactions": {size: rows(each, FLOOR) for size, each in results.transactions.items()},
        "writers": {
            count: {
                **each._asdict(),
                "alone": each.alone._asdict(),
                "floor": each.floor._asdict(),
            }
            for count, each in results.writers.items()
        },
        "reads": {size: rows(each, PLAIN) for size, each in results.reads.items()},
        "cold_start": rows(results.cold_start, DEPENDENCIES),
        "memory": {
            schema: {**each._asdict(), "ratio": each.ratio._asdict()}
            for schema, each in results.memory.items()
        },
        "targets": [
            {**row._asdict(), "found": row.found and row.found._asdict(), "holds": row.holds}
            for row in targets(results)
        ],
    }


def sizes_of(text: str) -> list[int]:
    """The sizes of a list with commas, smallest first."""
    return sorted({int(each) for each in text.split(",")})


def main() -> None:
    """Prints the table, and writes the files that were asked for."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--blocks", type=int, default=6, help="how many turns")
    parser.add_argument("--sizes", type=sizes_of, default=SIZES, help="of documents, in KB")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long writers race")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--chart", type=Path, help="where to draw the chart, as SVG")
    arguments = parser.parse_args()
    if arguments.blocks < 1 or arguments.sizes[0] < 1:
        parser.error("--blocks and --sizes must be 1 or more")
    os.environ.update(GIT_ENVIRONMENT)
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="gitstate-", dir=arguments.directory) as name:
        machine = facts(Path(name))
        print(f"Python {machine['python']}, {machine['filesystem']}, {load_of_the_machine()}")
        results = measure(arguments, Path(name), left_out)
    say_targets(results)
    for peer, reason in left_out.items():
        print(f"left out: {peer}: {reason}")
    told = {"machine": machine, "blocks": arguments.blocks, "left_out": left_out}
    # As when the file is read: keys are strings, and figures have no more digits than mean something.
    found = json.loads(
        json.dumps({**told, **as_json(results)}), parse_float=lambda text: round(float(text), 4)
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if arguments.chart:
        try:
            chart.draw(found, arguments.chart)
        except ImportError:
            print("left out: the chart: it needs matplotlib")
    print(load_of_the_machine())


if __name__ == "__main__":
    main()
