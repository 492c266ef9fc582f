"""Schema: wrong types and shapes are refused by place, value and expectation; missing and unknown fields are not."""

import copy
import json
import warnings
from pathlib import Path
from typing import Annotated, Any

import pydantic
import pytest

from gitstate import PipelineSchema, PipelineState, StateValidationError, codec
from gitstate.schema import summarize, validate
from gitstate.schema.pipeline import STATUSES

pytestmark = pytest.mark.usefixtures("of_any_size")

SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "sample_pipeline.json"

FULL: dict[str, Any] = {
    "pipeline_version": "3.0.0",
    "file_id": "book",
    "input_file": "book.pdf",
    "tts_profile": "calm",
    "tts_voice": "ada",
    "created_at": "2025-11-25T18:59:45+00:00",
    "last_updated": "2025-11-25T19:01:02+00:00",
    "phase1": {
        "status": "success",
        "timestamps": {"start": 1764097185.5, "end": "2025-11-25T19:01:02Z", "duration": 2},
        "metrics": {"total_files": 1, "duplicates": 0, "repaired": 0},
        "errors": [
            "text",
            {"type": "IO", "message": "m", "timestamp": 1.5, "file_id": "f", "chunk_id": 7},
            {"chunk_id": "c7"},
        ],
        "artifacts": {"any": ["thing"]},
        "hashes": ["87b4"],
        "files": {
            "book/1": {
                "status": "success",
                "timestamps": {"start": 1, "end": 2.5, "duration": 1.5},
                "metrics": {"elapsed": 1},
                "errors": [],
                "artifacts": ["a.txt"],
                "chunks": [],
                "title": "T",
                "author": "A",
                "creation_date": "2020",
                "file_type": "pdf",
                "classification": "text",
                "hash": "87b4",
                "repair_status": "validated",
                "duplicate": False,
                "artifacts_path": "out",
            }
        },
        "chunks": [1, "two", {}],
    },
    "phase2": {
        "status": "partial",
        "metrics": {"total_files": 1, "successful": 1, "failed": 0},
        "files": {
            "book": {
                "extracted_text_path": "t.txt",
                "tool_used": "pdf",
                "yield_pct": 99.5,
                "quality_score": 1,
                "language": "en",
                "lang_confidence": 0.5,
                "structure": [{"h1": "x"}],
                "cleanup_notes": ["anything"],
            }
        },
    },
    "phase3": {
        "metrics": {
            "total_files": 1,
            "successful": 1,
            "partial": 0,
            "failed": 0,
            "total_chunks": 9,
        },
        "files": {
            "book": {
                "text_path": "t.txt",
                "chunk_paths": ["c1"],
                "coherence_scores": [0.5, 1],
                "readability_scores": [60.5],
                "embeddings": [[0.1, 1], []],
                "chunk_metrics": {
                    "avg_chars": 1.5,
                    "min_chars": 1,
                    "max_chars": 2,
                    "total_chunks": 9,
                },
                "applied_profile": "p",
                "genre_confidence": 0.5,
                "suggested_voice": "ada",
                "chunk_voice_overrides": {"c1": "bob"},
                "coherence_threshold": 0.5,
                "flesch_threshold": 60,
            }
        },
    },
    "phase4": {
        "files": {
            "book": {
                "voice_id": "ada",
                "requested_engine": "x",
                "selected_engine": "y",
                "engines_used": ["x"],
                "total_chunks": 2,
                "chunks_completed": 2,
                "chunks_failed": 0,
                "audio_dir": "d",
                "chunk_audio_paths": ["a.wav"],
                "duration_seconds": 1.5,
                "avg_rt_factor": 0.5,
                "rt_p50": 0.5,
                "rt_p90": 0.5,
                "rt_p99": 0.5,
                "fallback_rate": 0.0,
                "latency_fallback_chunks": 0,
                "advisory": {"anything": 1},
                "chunks": [{"chunk_id": "c1"}],
            }
        },
        "chunks": [
            {
                "chunk_id": "c1",
                "audio_path": "a.wav",
                "status": "success",
                "engine_used": "x",
                "voice_used": "ada",
                "text_length": 10,
                "audio_seconds": 1.5,
                "rt_factor": 0.5,
                "latency_fallback_used": False,
                "validation": {"anything": 1},
                "errors": ["text"],
            },
            {"chunk_id": 2},
        ],
    },
    "phase5": {
        "metrics": {
            "successful": 1,
            "failed": 0,
            "total_duration": 1.5,
            "avg_snr_improvement": 3.5,
        },
        "chunks": [
            {
                "chunk_id": 1,
                "wav_path": "a.wav",
                "enhanced_path": "b.wav",
                "snr_pre": 1.5,
                "snr_post": 2,
                "rms_pre": -20,
                "rms_post": -18.5,
                "lufs_pre": -23,
                "lufs_post": -16,
                "status": "failed",
                "error_message": "m",
                "duration": 1.5,
                "cleanup_status": "done",
                "phrases_removed": ["anything"],
            }
        ],
    },
    "phase5_5": {
        "timestamp": "2025-11-25T19:01:02Z",
        "duration": 1.5,
        "srt_file": "a.srt",
        "vtt_file": "a.vtt",
        "error": "m",
        "metrics": {
            "coverage": 0.9,
            "wer": 0.1,
            "segments": 5,
            "average_segment_duration": 2.5,
            "max_drift_seconds": 0.2,
        },
    },
    "phase6": {"status": "running", "free": {"form": [1]}},
    "phase7": {"status": "pending", "free": "form"},
    "phases": {"phase1": "success", "phase2": "partial_success"},
    "chunks": [1, {}],
    "batch_runs": [{"anything": 1}],
}

FREE = {
    "/phase1/chunks",
    "/phase2/files/book/structure",
    "/phase2/files/book/cleanup_notes",
    "/phase4/files/book/advisory",
    "/phase4/chunks/0/validation",
    "/phase5/chunks/0/phrases_removed",
    "/phase1/artifacts",
    "/phase1/files/book~11/metrics",
    "/phase3/files/book/chunk_voice_overrides",
    "/phase6/free",
    "/phase7/free",
    "/chunks",
    "/batch_runs",
}
"""Places where SCHEMA leaves the inside, or everything, free."""


def check(document: dict[str, Any], schema: type[pydantic.BaseModel] = PipelineSchema) -> None:
    validate(codec.encode(document), schema)


def refusal(
    document: dict[str, Any], schema: type[pydantic.BaseModel] = PipelineSchema
) -> StateValidationError:
    with pytest.raises(StateValidationError) as caught:
        check(document, schema)
    return caught.value


def leaves(value: object, at: str = "") -> list[str]:
    """The pointers of all values in `value` whose type the schema fixes."""
    if at in FREE:
        return []
    if isinstance(value, dict) and value:
        pairs = [(key.replace("~", "~0").replace("/", "~1"), item) for key, item in value.items()]
    elif isinstance(value, list) and value:
        pairs = [(str(index), item) for index, item in enumerate(value)]
    else:
        return [at] if value not in ([], {}) else []
    return [leaf for key, item in pairs for leaf in leaves(item, f"{at}/{key}")]


def look_up(document: object, at: str) -> object:
    value: Any = document
    for part in at.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def with_value(at: str, wrong: object) -> dict[str, Any]:
    document = copy.deepcopy(FULL)
    parent: Any = look_up(document, at.rpartition("/")[0])
    last = at.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
    parent[int(last) if isinstance(parent, list) else last] = wrong
    return document


def test_the_real_file_fits():
    if not SAMPLE.exists():
        pytest.skip("../shared/data/sample_pipeline.json is not there")

    with warnings.catch_warnings(record=True) as seen:
        validate(SAMPLE.read_bytes(), PipelineSchema)

    assert seen == []


def test_a_document_with_every_field_fits():
    check(FULL)


def test_no_field_is_required_at_any_level():
    check({})
    check({name: {} for name in FULL if name.startswith("phase")})
    check({"phase2": {"files": {"book": {}}}, "phase5": {"chunks": [{}]}})


@pytest.mark.parametrize("at", leaves(FULL))
def test_every_field_refuses_a_value_of_another_type_by_its_pointer(at):
    # An object where a scalar belongs; for an error record, which may be text or an object, an array.
    wrong: object = ["wrong"] if at.endswith("/errors/0") else {"wrong": ["value"]}

    error = refusal(with_value(at, wrong))

    # Inside a value that may be of two types, the outer value is a problem too.
    assert at in [problem.pointer for problem in error.problems]
    assert at.startswith(error.pointer)
    assert at in str(error)


def test_a_later_transaction_that_puts_a_wrong_value_anywhere_is_refused_too(state):
    """A transaction looks only at what differs from a state that has passed."""
    state.write(FULL)
    with state.transaction() as txn:
        txn.data["pipeline_version"] = "3.0.1"
    before = state.read()

    for at in leaves(FULL):
        wrong: object = ["wrong"] if at.endswith("/errors/0") else {"wrong": ["value"]}
        with pytest.raises(StateValidationError) as caught, state.transaction() as txn:
            parent: Any = look_up(txn.data, at.rpartition("/")[0])
            last = at.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
            parent[int(last) if isinstance(parent, list) else last] = wrong
        assert at in [problem.pointer for problem in caught.value.problems]

    assert state.read() == before


@pytest.mark.parametrize(
    "at", [at for at in leaves(FULL) if isinstance(look_up(FULL, at), int | float)]
)
def test_a_number_in_quotes_is_no_number(at):
    if at.endswith(("timestamp", "start", "end", "chunk_id")):
        check(with_value(at, "1.5"))  # these may be text
        return

    error = refusal(with_value(at, "1.5"))

    assert error.pointer == at
    assert "'1.5'" in str(error)


@pytest.mark.parametrize(
    ("document", "at", "value", "expected"),
    [
        ({"phase1": "done"}, "/phase1", "'done' (string)", "object"),
        ({"phase1": []}, "/phase1", "[] (array)", "object"),
        ({"phase1": 3}, "/phase1", "3 (int)", "object"),
        ({"phase5_5": True}, "/phase5_5", "True (boolean)", "object"),
        ({"phase1": {"status": 3}}, "/phase1/status", "3 (int)", "string"),
        ({"phase1": {"files": ["x"]}}, "/phase1/files", "['x'] (array)", "object"),
        ({"phase1": {"files": {"a": "x"}}}, "/phase1/files/a", "'x' (string)", "object"),
        ({"phase3": {"files": {"a/b": {"status": 1}}}}, "/phase3/files/a~1b/status", "1 (int)", "string"),
        ({"phase4": {"chunks": {}}}, "/phase4/chunks", "{} (object)", "array"),
        ({"phase4": {"chunks": [{"chunk_id": 1}, "x"]}}, "/phase4/chunks/1", "'x' (string)", "object"),
        ({"phase4": {"chunks": [{"status": "success"}]}}, "/phase4/chunks/0/chunk_id", "success", "required"),
        ({"phase4": {"chunks": [{"chunk_id": 1.5}]}}, "/phase4/chunks/0/chunk_id", "1.5 (float)", "string"),
        ({"phase4": {"chunks": [{"chunk_id": 1.5}]}}, "/phase4/chunks/0/chunk_id", "1.5 (float)", "integer"),
        ({"phase1": {"errors": [1]}}, "/phase1/errors/0", "1 (int)", "string"),
        ({"phase1": {"errors": [1]}}, "/phase1/errors/0", "1 (int)", "object"),
        ({"phase1": {"hashes": ["a", 1]}}, "/phase1/hashes/1", "1 (int)", "string"),
        ({"phase1": {"artifacts": "x"}}, "/phase1/artifacts", "'x' (string)", "array"),
        ({"phase1": {"timestamps": {"start": []}}}, "/phase1/timestamps/start", "[] (array)", "number"),
        ({"chunks": "x"}, "/chunks", "'x' (string)", "object"),
        ({"phases": {"phase1": 3}}, "/phases/phase1", "3 (int)", "string"),
        ({"phase2": {"files": {"f": {"yield_pct": 101}}}}, "/phase2/files/f/yield_pct", "101 (int)", "100"),
        ({"phase2": {"files": {"f": {"yield_pct": -1}}}}, "/phase2/files/f/yield_pct", "-1 (int)", "0"),
        ({"phase2": {"files": {"f": {"quality_score": 1.1}}}}, "/phase2/files/f/quality_score", "1.1 (float)", "1"),
        ({"phase3": {"files": {"f": {"embeddings": [[1], ["x"]]}}}}, "/phase3/files/f/embeddings/1/0", "'x' (string)", "number"),
        ({"phase1": {"files": {"f": {"duplicate": "no"}}}}, "/phase1/files/f/duplicate", "'no' (string)", "boolean"),
        ({"phase1": {"files": {"f": {"duplicate": 1}}}}, "/phase1/files/f/duplicate", "1 (int)", "boolean"),
        ({"phase1": {"timestamps": {"duration": True}}}, "/phase1/timestamps/duration", "True (boolean)", "number"),
    ],
)  # fmt: skip
def test_a_refusal_says_where_what_and_what_was_expected(document, at, value, expected):
    error = refusal(document)

    assert error.code == "schema"
    assert error.pointer == at
    assert len(error.problems) == 1
    assert f"at {at}: " in str(error)
    assert value in str(error)
    assert expected in str(error).lower()
    assert "PipelineSchema" in str(error)


@pytest.mark.parametrize(
    "document",
    [
        {"phase1": {"errors": ["x", {"message": 2}]}},
        {"phase1": {"errors": [{"chunk_id": 1.5}]}},
        {"phase1": {"artifacts": [1]}},
        {"phase1": {"files": {"f": {"artifacts": ["a", {}]}}}},
        {"phase4": {"chunks": [{"chunk_id": {}}]}},
        {"phase4": {"chunks": [{"chunk_id": {"str": 1}}]}},
        {"phase1": {"timestamps": {"start": {}}}},
        {"phase1": {"timestamps": {"start": {"float": 1}}}},
    ],
)
def test_every_pointer_of_a_refusal_leads_into_the_document(document):
    for problem in refusal(document).problems:
        look_up(document, problem.pointer)


def test_all_problems_are_listed_and_the_message_shows_the_first_few():
    error = refusal({"phase1": {"hashes": list(range(20))}})

    assert [problem.pointer for problem in error.problems] == [
        f"/phase1/hashes/{n}" for n in range(20)
    ]
    assert "/phase1/hashes/4" in str(error)
    assert "15 more" in str(error)


def test_a_huge_value_is_shortened_in_the_message():
    assert len(str(refusal({"phase1": "x" * 100_000}))) < 500


def test_unknown_fields_are_kept_at_every_level(state):
    document = {
        "mine": {"a": [1, None]},
        "phase1": {"mine": 1, "files": {"f": {"mine": [], "status": "success"}}},
        "phase4": {"chunks": [{"chunk_id": 1, "mine": {"b": 2}}]},
        "phase9": "anything",
    }

    state.write(document)

    assert state.read(validate=True) == document


def test_validating_changes_nothing_in_the_document(state):
    document = {"phase1": {"timestamps": {"start": 1, "duration": 2}}, "chunks": [1]}

    state.write(document)

    assert repr(state.read(validate=True)) == repr(document)


def test_null_stands_for_a_field_that_is_not_known_yet():
    check(
        {
            "file_id": None,
            "phase1": None,
            "phase2": {"status": None, "files": {"f": {"hash": None}}},
        }
    )


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_known_statuses_pass_without_a_word(status):
    with warnings.catch_warnings(record=True) as seen:
        check(
            {
                "phase1": {"status": status, "files": {"f": {"status": status}}},
                "phases": {"p": status},
            }
        )

    assert seen == []


def test_the_known_statuses_are_these():
    assert sorted(STATUSES) == [
        "error",
        "failed",
        "partial",
        "partial_success",
        "pending",
        "running",
        "skipped",
        "success",
        "unknown",
    ]


@pytest.mark.parametrize(
    ("document", "at"),
    [
        ({"phase1": {"status": "finished"}}, "/phase1/status"),
        ({"phase2": {"files": {"a/b": {"status": "finished"}}}}, "/phase2/files/a~1b/status"),
        (
            {"phase4": {"chunks": [{"chunk_id": 1, "status": "finished"}]}},
            "/phase4/chunks/0/status",
        ),
        ({"phases": {"phase1": "finished"}}, "/phases/phase1"),
    ],
)
def test_an_unknown_status_is_a_warning_that_says_where(document, at):
    with pytest.warns(UserWarning, match="unknown status 'finished'") as seen:
        check(document)

    assert at in str(seen[0].message)
    assert "success" in str(seen[0].message)


def test_an_unknown_status_is_stored_all_the_same(state):
    with pytest.warns(UserWarning, match="unknown status 'finished'"):
        state.write({"phase1": {"status": "finished"}})

    assert state.read() == {"phase1": {"status": "finished"}}


# -- a model of the user's own -----------------------------------------------------------------------------------------


class Chunk(pydantic.BaseModel):
    chunk_id: int
    label: int | str = 0


class MyModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    name: str
    chunks: list[Chunk] = []
    share: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5

    @pydantic.field_validator("name")
    @classmethod
    def _no_spaces(cls, name: str) -> str:
        if " " in name:
            raise ValueError("a name has no spaces")
        return name

    @pydantic.model_validator(mode="after")
    def _whole(self) -> "MyModel":
        if self.name == "whole" and not self.chunks:
            raise ValueError("whole needs chunks")
        return self


@pytest.fixture
def typed(path):
    with PipelineState(path, schema=MyModel) as handle:
        yield handle


def test_a_model_of_the_users_own_decides_instead_of_the_default(typed):
    typed.write({"name": "a", "chunks": [{"chunk_id": 1}]})

    assert typed.read(validate=True) == {"name": "a", "chunks": [{"chunk_id": 1}]}
    with pytest.raises(StateValidationError, match="MyModel"):
        typed.write({"phase1": {"status": "success"}})


@pytest.mark.parametrize(
    ("document", "at", "words"),
    [
        ({}, "/name", "required"),
        ({"name": 1}, "/name", "string"),
        ({"name": "a b"}, "/name", "a name has no spaces"),
        ({"name": "whole"}, "", "whole needs chunks"),
        ({"name": "a", "extra": 1}, "/extra", "permitted"),
        ({"name": "a", "chunks": [{"chunk_id": 1}, {}]}, "/chunks/1/chunk_id", "required"),
        ({"name": "a", "chunks": [{"chunk_id": 1, "label": {}}]}, "/chunks/0/label", "string"),
        ({"name": "a", "share": 2}, "/share", "less than or equal to 1"),
    ],
)
def test_a_refusal_by_the_users_model_says_where_and_why(document, at, words):
    error = refusal(document, MyModel)

    assert error.pointer == at
    assert words in str(error)


def test_a_refusal_by_the_users_model_changes_nothing(typed, path):
    typed.write({"name": "a"})
    before = path.read_bytes()

    with pytest.raises(StateValidationError):
        typed.write({"name": 1})

    assert path.read_bytes() == before
    assert [version.serial for version in typed.log()] == [1]
    assert typed.get_transaction_history(1)[0]["details"]["reason"] == "validation"


def test_defaults_of_the_model_are_not_written_into_the_document(typed):
    typed.write({"name": "a"})

    assert typed.read() == {"name": "a"}


def test_a_validator_that_trips_over_its_input_is_a_refusal_too():
    class Clumsy(pydantic.BaseModel):
        x: Any

        @pydantic.field_validator("x")
        @classmethod
        def _length(cls, x: Any) -> Any:
            return len(x)

    assert "Clumsy" in str(refusal({"x": 1}, Clumsy))


def test_without_a_schema_any_object_passes_and_only_json_is_looked_at(path):
    state = PipelineState(path, schema=None)

    state.write({"phase1": "done"})

    assert state.read(validate=True) == {"phase1": "done"}
    with pytest.raises(StateValidationError, match="/a"):
        state.write({"a": {1}})
    state.close()


@pytest.mark.parametrize("schema", [dict, "PipelineSchema", MyModel(name="a"), 1])
def test_what_is_no_model_class_is_refused_at_once(path, schema):
    with pytest.raises(TypeError, match="schema"):
        PipelineState(path, schema=schema)


# -- the summary -------------------------------------------------------------------------------------------------------


def test_the_summary_lists_the_phases_in_their_order():
    document = {
        "phase10": {},
        "phase5_5": {"duration": 1.5},
        "phase2": {"status": "failed", "errors": ["a", "b"], "timestamps": {"duration": 2.5}},
        "phase5": {"status": "running"},
        "phase1": {"status": "success"},
        "created_at": "2025",
        "other": {"status": "success"},
    }

    summary = summarize(document)

    assert list(summary["phases"]) == ["phase1", "phase2", "phase5", "phase5_5", "phase10"]
    assert summary["phases"]["phase2"] == {"status": "failed", "duration": 2.5, "errors": 2}
    assert summary["phases"]["phase5_5"] == {"status": "unknown", "duration": 1.5, "errors": 0}
    assert summary["created_at"] == "2025"


def test_the_map_of_phases_counts_for_phases_without_an_object():
    summary = summarize(
        {"phases": {"phase1": "success", "phase2": "failed"}, "phase2": {"status": "running"}}
    )

    assert {name: phase["status"] for name, phase in summary["phases"].items()} == {
        "phase1": "success",
        "phase2": "running",
    }


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"phase1": "done"},
        {"phase1": None},
        {"phase1": {"status": 3, "timestamps": "x", "errors": "y"}},
        {"phases": ["phase1"]},
        {"phases": None},
        {"phases": {"strange name": "x", "phase1": None}},
    ],
    ids=json.dumps,
)
def test_a_summary_can_be_made_of_any_document(document):
    assert isinstance(summarize(document)["phases"], dict)


def test_the_status_summary_of_a_state_is_the_summary_of_what_it_holds(state):
    assert state.get_status_summary()["phases"] == {}
    state.write({"phase1": {"status": "success"}})

    assert state.get_status_summary() == summarize({"phase1": {"status": "success"}})
    assert state.get_status_summary()["phases"]["phase1"]["status"] == "success"
