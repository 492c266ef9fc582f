"""The document that the benchmarks write, in any size, and the change that makes the next version of it."""

from __future__ import annotations

from typing import Any

from gitstate import codec

FILE_BYTES = 4500
"""A little more than what a file takes of the document, with its records in all phases."""


def document(kilobytes: int) -> dict[str, Any]:
    """A pipeline's state of about this size: four phases, with a record in each for every file and every chunk.

    The smallest, below 5 KB, has the one chunk that is to change.
    """
    state: dict[str, Any] = {"pipeline_version": "1.2.0", "created_at": "2026-01-05T09:00:00+00:00"}
    for number in range(1, 5):
        state[f"phase{number}"] = {
            "status": "running",
            "timestamps": {"start": 1767603600.5},
            "metrics": {"total_files": 0, "failed": 0},
            "errors": [],
            "files": {},
        }
    if kilobytes * 1024 < FILE_BYTES:
        state["phase4"]["files"]["chapter_000"] = {
            "status": "success",
            "chunks": [{"chunk_id": "0"}],
        }
        return state
    while (missing := kilobytes * 960 - len(codec.encode(state))) > 0:
        for _ in range(max(1, missing // FILE_BYTES)):
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
