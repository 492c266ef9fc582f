"""What a transaction costs, as a multiple of the floor: a durable atomic replace of the same bytes.

    python tests/benchmarks/transactions.py [--blocks 6] [--directory DIR]

The floor and gitstate take turns in blocks of 25, each after a `sync`, so that neither pays for what the other left
dirty, and so do the documents, as every replaced file makes the next ones dearer for some minutes on ext4 without a
journal; hence few blocks, too. Medians of all single calls, and their ratio, which is the figure to quote: absolute
times are the machine's.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import command_line

from gitstate import PipelineSchema, PipelineState, codec

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 25
SCHEMAS = {"default": PipelineSchema, "none": None}


def document(kilobytes: int) -> dict[str, Any]:
    """A pipeline's state of about this size: four phases, with a record in each for every file and every chunk."""
    state: dict[str, Any] = {"pipeline_version": "1.2.0", "created_at": "2026-01-05T09:00:00+00:00"}
    for number in range(1, 5):
        state[f"phase{number}"] = {
            "status": "running",
            "timestamps": {"start": 1767603600.5},
            "metrics": {"total_files": 0, "failed": 0},
            "errors": [],
            "files": {},
        }
    while len(codec.encode(state)) < kilobytes * 960:
        add_file(state)
    return state


def add_file(state: dict[str, Any]) -> None:
    """One more file in each phase, with chunks in the last two."""
    number = len(state["phase1"]["files"])
    name = f"chapter_{number:03d}"
    chunks = [f"{name}_chunk_{chunk:04d}" for chunk in range(6)]
    common = {
        "status": "success",
        "timestamps": {
            "start": 1767603600.25 + number,
            "end": 1767603604.75 + number,
            "duration": 4.5,
        },
        "errors": [],
    }
    own: dict[str, dict[str, Any]] = {
        "phase1": {
            "title": f"Chapter {number}",
            "author": "Unknown",
            "file_type": "txt",
            "classification": "text",
            "hash": f"{number:064x}",
            "repair_status": "validated",
            "duplicate": False,
            "artifacts_path": f"artifacts/phase1/{name}.json",
        },
        "phase2": {
            "extracted_text_path": f"artifacts/phase2/extracted_text/{name}.txt",
            "tool_used": "plain",
            "yield_pct": 99.4,
            "quality_score": 0.97,
            "language": "en",
            "lang_confidence": 0.93,
            "structure": [],
        },
        "phase3": {
            "text_path": f"artifacts/phase2/extracted_text/{name}.txt",
            "chunk_paths": [f"artifacts/phase3/chunks/{chunk}.txt" for chunk in chunks],
            "coherence_scores": [round(0.8 + number * 0.013 % 0.2, 3) for _ in chunks],
            "readability_scores": [round(55.0 + number * 1.7 % 20, 2) for _ in chunks],
            "chunk_metrics": {"avg_chars": 684.5, "min_chars": 402, "max_chars": 941},
            "applied_profile": "auto",
            "suggested_voice": "neutral_narrator",
        },
        "phase4": {
            "voice_id": "neutral_narrator",
            "selected_engine": "xtts",
            "audio_dir": f"artifacts/phase4/audio/{name}",
            "chunks": [
                {
                    "chunk_id": chunk,
                    "status": "success",
                    "audio_path": f"artifacts/phase4/audio/{name}/{chunk}.wav",
                    "audio_seconds": round(11.0 + position * 0.37, 3),
                    "rt_factor": round(0.8 + position * 0.013, 4),
                    "engine_used": "xtts",
                }
                for position, chunk in enumerate(chunks)
            ],
        },
    }
    for phase, fields in own.items():
        state[phase]["files"][name] = common | fields
        state[phase]["metrics"]["total_files"] = number + 1


def change(state: dict[str, Any], number: int) -> None:
    """What a step of the last phase writes: a chunk's result."""
    files = list(state["phase4"]["files"].values())
    chunks = files[number % len(files)]["chunks"]
    chunks[number % len(chunks)]["audio_seconds"] = number + 0.125


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


class Subject:
    """One document under one schema, and the floor for the same bytes."""

    def __init__(self, kilobytes: int, directory: Path, schema: Any) -> None:
        self.state = PipelineState(directory / "pipeline.json", max_backups=None, schema=schema)
        self.times: dict[str, list[float]] = {"floor": [], "gitstate": []}
        self._contents = document(kilobytes)
        self._plain = directory / "floor.json"
        self.state.write(self._contents)
        # As in a store that is in use: Git's folders for objects come one by one with the first thousand transactions.
        for folder in range(256):
            (self.state.git_dir / "objects" / f"{folder:02x}").mkdir(exist_ok=True)

    def take_turns(self, number: int) -> None:
        """One block of each; the first one only warms up."""
        change(self._contents, number * BLOCK)
        content = codec.encode(self._contents)
        found = {
            "floor": block(lambda _: floor(self._plain, content), number * BLOCK),
            "gitstate": block(self._transaction, number * BLOCK),
        }
        for name, times in found.items():
            self.times[name] += times if number else []

    def _transaction(self, number: int) -> None:
        with self.state.transaction() as txn:
            change(txn.data, number)


def main() -> int:
    """Prints the table."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--blocks", type=int, default=6)
    arguments = parser.parse_args()
    print(f"{'document':>10}  {'schema':>8}  {'floor ms':>9}  {'gitstate ms':>11}  {'ratio':>6}")
    # Removed at the end: ext4 passes by what was deleted in the last minutes whenever it makes a file.
    with tempfile.TemporaryDirectory(prefix="gitstate-", dir=arguments.directory) as scratch:
        subjects = {
            (kilobytes, name): Subject(kilobytes, Path(tempfile.mkdtemp(dir=scratch)), schema)
            for kilobytes, (name, schema) in itertools.product((10, 43), SCHEMAS.items())
        }
        for number in range(arguments.blocks + 1):
            for subject in subjects.values():
                subject.take_turns(number)
        for (kilobytes, name), subject in subjects.items():
            subject.state.close()
            low, ours = (statistics.median(times) * 1e3 for times in subject.times.values())
            print(f"{kilobytes:>7} KB  {name:>8}  {low:>9.3f}  {ours:>11.3f}  {ours / low:>6.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
