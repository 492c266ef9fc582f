"""PipelineSchema: what the phases of an audiobook pipeline write.

Every field is optional, `null` passes everywhere, and unknown fields are kept: validation catches wrong types and
shapes, not missing work. Types are strict: a number in quotes is text.
"""

from __future__ import annotations

from typing import (
    Annotated,
    Any,
    Final,
    Required,  # pydantic wants this one before Python 3.12
)

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

STATUSES: Final = frozenset(
    {
        "pending",
        "running",
        "success",
        "partial",
        "partial_success",
        "failed",
        "error",
        "skipped",
        "unknown",
    }
)
"""The statuses of phases, files and chunks. Others have been seen in real files: they are reported, not refused."""

Identity = str | int
Moment = float | str
Share = Annotated[float, Field(ge=0, le=1)]
Percentage = Annotated[float, Field(ge=0, le=100)]


class Part(TypedDict, total=False):
    """Any object below the top level. Typed dicts, not models: checking them takes half the time, and a transaction
    keeps the user's own dicts anyway.
    """

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]


class Timestamps(Part, total=False):
    """When a phase or a file ran: Unix seconds or ISO 8601; the duration in seconds."""

    start: Moment | None
    end: Moment | None
    duration: float | None


class ErrorRecord(Part, total=False):
    """One error with its circumstances."""

    type: str | None
    message: str | None
    timestamp: Moment | None
    file_id: str | None
    chunk_id: Identity | None


Errors = list[str | ErrorRecord]


class Work(Part, total=False):
    """What phases, files and chunks have in common."""

    status: str | None
    timestamps: Timestamps | None
    metrics: dict[str, Any] | None
    errors: Errors | None


class FileRecord(Work, total=False):
    """One file in a phase."""

    artifacts: dict[str, Any] | list[str] | None
    chunks: list[Any] | None


class Phase(Work, total=False):
    """One phase of the pipeline."""

    artifacts: dict[str, Any] | list[str] | None
    files: dict[str, FileRecord] | None
    chunks: list[Any] | None


class ValidatedFile(FileRecord, total=False):
    """A file after phase 1, validation."""

    title: str | None
    author: str | None
    creation_date: str | None
    file_type: str | None
    classification: str | None
    hash: str | None
    repair_status: str | None
    duplicate: bool | None
    artifacts_path: str | None


class ValidationMetrics(Part, total=False):
    """The counts of phase 1."""

    total_files: float | None
    duplicates: float | None
    repaired: float | None


class ValidationPhase(Phase, total=False):
    """Phase 1: is the input what it says it is."""

    metrics: ValidationMetrics | None  # type: ignore[misc]  # narrower than any object
    files: dict[str, ValidatedFile] | None  # type: ignore[misc]  # narrower
    hashes: list[str] | None


class ExtractedFile(FileRecord, total=False):
    """A file after phase 2, extraction."""

    extracted_text_path: str | None
    tool_used: str | None
    yield_pct: Percentage | None
    quality_score: Share | None
    language: str | None
    lang_confidence: Share | None
    structure: list[Any] | None
    cleanup_notes: Any


class CountMetrics(Part, total=False):
    """How many files went well, and how many chunks they gave."""

    total_files: float | None
    successful: float | None
    partial: float | None
    failed: float | None
    total_chunks: float | None


class ExtractionPhase(Phase, total=False):
    """Phase 2: text out of documents."""

    metrics: CountMetrics | None  # type: ignore[misc]  # narrower than any object
    files: dict[str, ExtractedFile] | None  # type: ignore[misc]  # narrower


class ChunkMetrics(Part, total=False):
    """Sizes of the chunks of one file, in characters."""

    avg_chars: float | None
    min_chars: float | None
    max_chars: float | None
    total_chunks: float | None


class ChunkedFile(FileRecord, total=False):
    """A file after phase 3, chunking."""

    text_path: str | None
    chunk_paths: list[str] | None
    coherence_scores: list[float] | None
    readability_scores: list[float] | None
    embeddings: list[list[float]] | None
    chunk_metrics: ChunkMetrics | None
    applied_profile: str | None
    genre_confidence: Share | None
    suggested_voice: str | None
    chunk_voice_overrides: dict[str, Any] | None
    coherence_threshold: float | None
    flesch_threshold: float | None


class ChunkingPhase(Phase, total=False):
    """Phase 3: text into chunks."""

    metrics: CountMetrics | None  # type: ignore[misc]  # narrower than any object
    files: dict[str, ChunkedFile] | None  # type: ignore[misc]  # narrower


class SpokenChunk(Part, total=False):
    """A chunk after phase 4, speech. Its `chunk_id` says which one it is, wherever it stands in the list."""

    chunk_id: Required[Identity]
    audio_path: str | None
    status: str | None
    engine_used: str | None
    voice_used: str | None
    text_length: float | None
    audio_seconds: float | None
    rt_factor: float | None
    latency_fallback_used: bool | None
    validation: Any
    errors: Errors | None


class SpokenFile(FileRecord, total=False):
    """A file after phase 4, speech."""

    voice_id: str | None
    requested_engine: str | None
    selected_engine: str | None
    engines_used: list[str] | None
    total_chunks: float | None
    chunks_completed: float | None
    chunks_failed: float | None
    audio_dir: str | None
    chunk_audio_paths: list[str] | None
    duration_seconds: float | None
    avg_rt_factor: float | None
    rt_p50: float | None
    rt_p90: float | None
    rt_p99: float | None
    fallback_rate: Share | None
    latency_fallback_chunks: float | None
    advisory: Any
    chunks: list[SpokenChunk] | None


class SpeechPhase(Phase, total=False):
    """Phase 4: chunks into audio."""

    files: dict[str, SpokenFile] | None  # type: ignore[misc]  # narrower
    chunks: list[SpokenChunk] | None


class EnhancedChunk(Part, total=False):
    """A chunk after phase 5, enhancement; levels in dB, dBFS and LUFS, the duration in seconds."""

    chunk_id: Identity | None
    wav_path: str | None
    enhanced_path: str | None
    snr_pre: float | None
    snr_post: float | None
    rms_pre: float | None
    rms_post: float | None
    lufs_pre: float | None
    lufs_post: float | None
    status: str | None
    error_message: str | None
    duration: float | None
    cleanup_status: str | None
    phrases_removed: Any


class EnhancementMetrics(Part, total=False):
    """The counts of phase 5; durations in seconds."""

    successful: float | None
    failed: float | None
    total_duration: float | None
    avg_snr_improvement: float | None


class EnhancementPhase(Phase, total=False):
    """Phase 5: better audio."""

    metrics: EnhancementMetrics | None  # type: ignore[misc]  # narrower than any object
    chunks: list[EnhancedChunk] | None


class SubtitleMetrics(Part, total=False):
    """How well the subtitles fit; durations and drift in seconds."""

    coverage: float | None
    wer: float | None
    segments: float | None
    average_segment_duration: float | None
    max_drift_seconds: float | None


class SubtitlePhase(Phase, total=False):
    """Phase 5.5: subtitles."""

    metrics: SubtitleMetrics | None  # type: ignore[misc]  # narrower than any object
    timestamp: Moment | None
    duration: float | None
    srt_file: str | None
    vtt_file: str | None
    error: str | None


class PipelineSchema(BaseModel):
    """A whole `pipeline.json`."""

    model_config = ConfigDict(extra="allow", strict=True)

    pipeline_version: str | None = None
    file_id: str | None = None
    input_file: str | None = None
    tts_profile: str | None = None
    tts_voice: str | None = None
    created_at: str | None = None
    last_updated: str | None = None
    phase1: ValidationPhase | None = None
    phase2: ExtractionPhase | None = None
    phase3: ChunkingPhase | None = None
    phase4: SpeechPhase | None = None
    phase5: EnhancementPhase | None = None
    phase5_5: SubtitlePhase | None = None
    phase6: Phase | None = None
    phase7: Phase | None = None
    phases: dict[str, str] | None = None
    chunks: list[Any] | dict[str, Any] | None = None
    batch_runs: list[Any] | None = None
