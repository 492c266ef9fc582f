"""What a transaction costs, as a multiple of the floor: a durable atomic replace of the same bytes.

    python tests/benchmarks/transactions.py [--blocks 12] [--directory DIR]

The floor and gitstate take turns in blocks of 25, each after a `sync`, so that neither pays for what the other left
dirty. Medians of all single calls, and their ratio, which is the figure to quote: absolute times are the machine's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitstate import PipelineSchema, PipelineState, codec

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 25


def document(kilobytes: int) -> dict[str, Any]:
    """A pipeline's state of about this size."""
    chunks: list[dict[str, Any]] = []
    state = {"phase4": {"status": "running", "chunks": chunks}}
    while len(codec.encode(state)) < kilobytes * 1024:
        number = len(chunks)
        chunks.append(
            {
                "chunk_id": number,
                "status": "success",
                "audio_path": f"audio/chunk_{number:05d}.wav",
                "audio_seconds": round(11.0 + number * 0.37 % 9, 3),
                "rt_factor": round(0.8 + number * 0.013 % 0.7, 4),
                "engine_used": "xtts",
            }
        )
    return state


def floor(path: Path, content: bytes) -> None:
    """Write, flush, rename, flush the directory."""
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(descriptor, content)
    os.fsync(descriptor)
    os.close(descriptor)
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def block(call: Callable[[int], None], first: int) -> list[float]:
    """The seconds of each of `BLOCK` calls."""
    os.sync()
    times = []
    for number in range(first, first + BLOCK):
        begin = time.perf_counter()
        call(number)
        times.append(time.perf_counter() - begin)
    return times


def measure(kilobytes: int, blocks: int, directory: Path, schema: Any) -> tuple[float, float]:
    """Median seconds of the floor and of a transaction."""
    state = PipelineState(directory / "pipeline.json", max_backups=None, schema=schema)
    contents = document(kilobytes)
    state.write(contents)
    plain = directory / "floor.json"

    def transaction(number: int) -> None:
        with state.transaction() as txn:
            chunks = txn.data["phase4"]["chunks"]
            chunks[number % len(chunks)]["audio_seconds"] = float(number)

    def durable_replace(number: int) -> None:
        chunks = contents["phase4"]["chunks"]
        chunks[number % len(chunks)]["audio_seconds"] = float(number)
        content[0] = codec.encode(contents) if number % BLOCK == 0 else content[0]
        floor(plain, content[0])

    content = [codec.encode(contents)]
    times: dict[str, list[float]] = {"floor": [], "gitstate": []}
    for number in range(blocks + 1):
        warm = number > 0
        for name, call in (("floor", durable_replace), ("gitstate", transaction)):
            found = block(call, number * BLOCK)
            times[name] += found if warm else []
    state.close()
    return statistics.median(times["floor"]), statistics.median(times["gitstate"])


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--directory", type=Path, help="where to write: the filesystem to measure")
    arguments = parser.parse_args()
    print(f"{'document':>10}  {'schema':>8}  {'floor ms':>9}  {'gitstate ms':>11}  {'ratio':>6}")
    for kilobytes in (10, 43):
        for schema in (PipelineSchema, None):
            directory = Path(tempfile.mkdtemp(prefix="gitstate-", dir=arguments.directory))
            try:
                low, ours = measure(kilobytes, arguments.blocks, directory, schema)
            finally:
                shutil.rmtree(directory)
            name = "default" if schema else "none"
            print(
                f"{kilobytes:>7} KB  {name:>8}  {low * 1e3:>9.3f}  {ours * 1e3:>11.3f}  {ours / low:>6.2f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
