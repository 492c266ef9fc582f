"""Import: what the old state manager left becomes history, once, with its own dates, and none of it is lost."""

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from oracle import Tell, fork, forks, fresh, git, judge_disk, leave, needs_git

from gitstate import PipelineState, StateLockError, StateReadError, StateValidationError

DAY = "20250301"


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone in which local time is not UTC: the old files have local times."""
    monkeypatch.setenv("TZ", "Etc/GMT-3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def _backup(path: Path, stamp: str, content: object) -> Path:
    folder = path.parent / ".pipeline" / "backups"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = folder / f"{path.stem}_{stamp}.json.bak"
    made.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return made


def _log(path: Path, *entries: object) -> None:
    (path.parent / ".pipeline").mkdir(exist_ok=True, mode=0o700)
    with (path.parent / ".pipeline" / "transactions.log").open("a", encoding="utf-8") as file:
        for entry in entries:
            file.write((entry if isinstance(entry, str) else json.dumps(entry)) + "\n")


def _entry(clock: str, operation: str = "transaction_commit", **more: Any) -> dict[str, Any]:
    at = f"2025-03-01T{clock}"
    return {"timestamp": at, "operation": operation, "success": True, "pid": 7, **more}


@pytest.fixture
def old(path: Path) -> Path:
    """A state file of the old tool, with two backups and a log of three."""
    _backup(path, f"{DAY}_120000_000001", {"n": 1})
    _backup(path, f"{DAY}_130000_500000", {"n": 2, "extra": [1]})
    _log(
        path,
        _entry("12:00:00.000002", details={"note": "first"}),
        _entry("12:30:00", "write_rollback", success=False, details={"error": "no"}),
        _entry("13:00:01"),
    )
    path.write_text('{"n": 3}')
    return path


def _history(state: PipelineState) -> list[tuple[str, bool, int, Any]]:
    return [
        (line["operation"], line["success"], line["pid"], line["details"])
        for line in state.get_transaction_history()
    ]


def test_the_backups_are_the_beginning_of_a_new_history_with_their_own_dates(old: Path) -> None:
    state = fresh(old)
    report = state.import_backups()

    assert (report.versions, report.audit, report.skipped) == (2, 3, ())
    versions = list(state.log())[::-1]
    assert [version.read() for version in versions] == [{"n": 1}, {"n": 2, "extra": [1]}, {"n": 3}]
    assert [version.serial for version in versions] == [1, 2, 3]
    assert [version.timestamp for version in versions[:2]] == [
        datetime(2025, 3, 1, 9, 0, 0, 1, tzinfo=UTC),
        datetime(2025, 3, 1, 10, 0, 0, 500000, tzinfo=UTC),
    ]
    assert [set(version.changed_keys) for version in versions] == [
        {"n"},
        {"n", "extra"},
        {"n", "extra"},
    ]
    assert [version.operation for version in versions] == ["import", "import", "external_edit"]
    assert state.read() == {"n": 3}
    assert state.read(at=datetime(2025, 3, 1, 9, 30, tzinfo=UTC)) == {"n": 1}
    assert state.restore_backup(1)
    assert state.read() == {"n": 1}
    judge_disk(state)


def test_the_log_becomes_lines_of_the_audit_trail_in_their_places(old: Path) -> None:
    state = fresh(old)
    state.import_backups()

    lines = state.get_transaction_history(None)
    assert [(line["operation"], line["success"], line["pid"]) for line in lines[1:]] == [
        ("transaction_commit", True, 7),
        ("import_commit", True, 0),
        ("write_rollback", False, 7),
        ("transaction_commit", True, 7),
        ("import_commit", True, 0),
    ]
    assert lines[3]["details"] == {"error": "no"}
    assert lines[4]["details"] == {"note": "first"}
    assert lines[4]["timestamp"] == "2025-03-01T09:00:00.000002+00:00"
    assert lines[4]["commit"] is None


def test_nothing_is_taken_in_twice_and_what_is_new_is(old: Path) -> None:
    state = fresh(old)
    state.import_backups()
    lines, head = state.get_transaction_history(None), git(state, "rev-parse", "HEAD")
    leave(state)

    state = fresh(old)
    assert state.import_backups().versions == state.import_backups().audit == 0
    assert state.get_transaction_history(None) == lines
    assert git(state, "rev-parse", "HEAD") == head

    _backup(old, f"{DAY}_123000_000000", {"n": 1.5})
    _log(old, _entry("15:00:00"), _entry("12:00:00.000002", details={"note": "first"}))
    report = state.import_backups()
    assert (report.versions, report.audit) == (1, 1)
    assert state.read(at=f"import/pipeline_{DAY}_123000_000000") == {"n": 1.5}
    assert len(state.get_transaction_history(None)) == len(lines) + 1
    assert state.import_backups().versions == 0


def test_where_there_are_commits_the_backups_are_kept_aside_by_name(path: Path) -> None:
    state = fresh(path)
    state.write({"n": "own"})
    _backup(path, f"{DAY}_120000_000001", {"n": 1})
    _backup(path, f"{DAY}_130000_000000", {"n": 2})
    _log(path, _entry("12:30:00"))

    report = state.import_backups()

    assert (report.versions, report.audit, report.skipped) == (2, 1, ())
    assert [version.read() for version in state.log()] == [{"n": "own"}]
    assert state.read() == {"n": "own"}
    named = state.list_backups()
    assert [version.read() for version in named] == [{"n": 2}, {"n": 1}]
    assert named[0].timestamp == datetime(2025, 3, 1, 10, tzinfo=UTC)
    assert state.read(at=named[1].id) == {"n": 1}
    assert state.restore_backup(f"import/pipeline_{DAY}_120000_000001")
    assert state.read() == {"n": 1}
    assert [line["operation"] for line in state.get_transaction_history()] == [
        "restore_commit",
        "write_commit",
        "transaction_commit",
    ]
    judge_disk(state)
    assert state.import_backups() == type(report)(0, 0, ())
    with pytest.raises(StateValidationError, match="import"):
        state.create_backup("import")


def test_what_cannot_be_used_is_reported_and_left_and_the_rest_is_taken_in(old: Path) -> None:
    torn = _backup(old, f"{DAY}_140000_000000", '{"n": ')
    twice = _backup(old, f"{DAY}_140000_000001", '{"n": 1, "n": 2}')
    date = _backup(old, "20251301_140000_000000", {"n": 4})
    (old.parent / ".pipeline/backups" / f"pipeline_{DAY}_140000_000003.json.bak").mkdir()
    (old.parent / ".pipeline/backups/other_20250101_000000_000000.json.bak").write_text("{}")
    (old.parent / ".pipeline/backups/notes.bak").write_text("mine")
    _log(
        old, "{", '{"operation": "x"}', "[]", '"text"', '{"timestamp": 3, "operation": "x"}', "\xff"
    )

    state = fresh(old)
    report = state.import_backups()

    assert (report.versions, report.audit) == (2, 3)
    assert len(report.skipped) == 4 + 6
    for path in (torn, twice, date):
        assert path.exists()
        assert any(line.startswith(f"{path}: ") for line in report.skipped)
    assert any("transactions.log, line 4: " in line for line in report.skipped)
    assert state.verify().ok
    torn.write_text('{"n": 5}')
    assert state.import_backups().versions == 1


@pytest.mark.parametrize("content", ['{"n": ', None], ids=["torn", "gone"])
def test_a_state_file_that_is_lost_is_brought_back_from_the_backups(
    content: str | None, old: Path
) -> None:
    old.write_text(content) if content else old.unlink()
    state = fresh(old)

    assert state.import_backups().versions == 2

    with pytest.raises(StateReadError):
        state.read()
    assert old.exists() == bool(content)
    assert state.restore_backup("HEAD")
    assert state.read() == {"n": 2, "extra": [1]}
    corrupt = git(state, "for-each-ref", "--format=%(refname)", "refs/corrupt/").split()
    assert len(corrupt) == bool(content)
    judge_disk(state)
    assert state.verify().ok


def test_where_there_is_nothing_to_import_nothing_is_made(path: Path) -> None:
    report = fresh(path).import_backups()

    assert (report.versions, report.audit, report.skipped) == (0, 0, ())
    assert os.listdir(path.parent) in ([], ["pipeline.json.lock"])


def test_another_folder_and_another_name(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    made = _backup(path, f"{DAY}_120000_000000", {"a": 1})
    (tmp_path / "old").mkdir()
    (tmp_path / ".pipeline/backups").rename(tmp_path / "old/backups")

    with PipelineState(path, schema=None) as state:
        assert state.import_backups(tmp_path / "old").versions == 1
        assert state.restore_backup("HEAD")
        assert state.read() == {"a": 1}
    assert (tmp_path / "old/backups" / made.name).exists()


@forks
def test_who_holds_the_lock_keeps_an_import_out(old: Path) -> None:
    def hold(tell: Tell) -> None:
        with fresh(old).transaction():
            tell("held")
            next(tell.steps())

    child = fork(hold)
    child.await_line()
    with pytest.raises(StateLockError):
        PipelineState(old, timeout=0).import_backups()
    child.kill()
    assert fresh(old).import_backups().versions == 2


@needs_git
def test_stock_git_reads_an_import_as_any_history(old: Path) -> None:
    state = fresh(old)
    state.import_backups()
    state.close()

    log = git(state, "log", "--reverse", "--format=%s|%aI|%(trailers:key=Imported,valueonly)")
    first = log.decode().split("\n")[0]
    assert first == (f"import: n|2025-03-01T09:00:00+00:00|pipeline_{DAY}_120000_000001.json.bak")
    git(state, "fsck", "--strict")
    git(state, "gc", "-q")
    assert fresh(old).verify().ok
