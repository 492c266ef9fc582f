"""Import: what the old state manager left becomes history, once, with its own dates, and none of it is lost."""

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from oracle import (
    KILLED,
    Call,
    Tell,
    dying_before,
    file_calls,
    flushes_journal,
    fork,
    forks,
    fresh,
    git,
    judge_disk,
    leave,
    needs_git,
)
from wrecks import image

from gitstate import (
    ImportReport,
    PipelineState,
    StateConflictError,
    StateLockError,
    StateReadError,
    StateValidationError,
    VersionNotFoundError,
    importer,
)
from gitstate.draft import IMPORTED
from gitstate.journal import read_all

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
    if isinstance(content, bytes):
        made.write_bytes(content)
    else:
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


def test_a_folder_that_is_not_there_is_refused(old: Path, tmp_path: Path) -> None:
    with pytest.raises(StateReadError) as refused:
        fresh(old).import_backups(tmp_path / "none")

    assert refused.value.code == "import-unreadable"
    assert refused.value.path == tmp_path / "none"


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
    assert report.names == tuple(
        f"import/pipeline_{DAY}_{at}" for at in ("120000_000001", "130000_000000")
    )
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


# -- names ---------------------------------------------------------------------------------------------------------

STEMS = [
    "pipeline",
    "a b",
    "a~1^2:3?4*5[6\\7",
    "a..b...c",
    ".hidden",
    "..",
    "-dash",
    "x.lock",
    "a@{1}",
    "@",
    "100%",
    "zustand-ü-日本",
    "line\nbreak\x7f\x01",
    "a\u2028b\x85c",
    os.fsdecode(b"\xff\xfe"),
    "x" * 215,
    "ü." * 70,
]


@needs_git
@pytest.mark.parametrize("stem", STEMS, ids=ascii)
def test_a_backup_of_any_file_has_a_name_that_can_be_used_wherever_one_is(
    stem: str, tmp_path: Path
) -> None:
    path = tmp_path / f"{stem}.json"
    state = fresh(path)
    state.write({"n": "own"})
    for number in (1, 2):
        _backup(path, f"{DAY}_12000{number}_000000", {"n": number})

    report = state.import_backups()

    assert (report.versions, report.skipped, len(set(report.names))) == (2, (), 2)
    first, second = report.names
    git(state, "check-ref-format", os.fsencode(f"refs/backups/{first}"))
    assert state.read(at=first) == {"n": 1}
    git(state, "pack-refs", "--all")
    git(state, "gc", "-q", "--prune=now")
    assert state.restore_backup(first)
    assert state.read() == {"n": 1}
    assert {"n": 2} in [version.read() for version in state.list_backups()]
    state.delete_backup(first)
    with pytest.raises(VersionNotFoundError):
        state.read(at=first)
    assert state.read(at=second) == {"n": 2}
    git(state, "fsck", "--strict")
    assert state.verify().ok
    state.close()


def test_only_files_of_this_state_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.json"
    longer = tmp_path / f"pipeline_{DAY}_110000_000000.json"
    _backup(path, f"{DAY}_120000_000000", {"of": "pipeline"})
    _backup(longer, f"{DAY}_120000_000000", {"of": "longer"})
    _backup(tmp_path / "my_pipeline.json", f"{DAY}_120000_000000", {"of": "another"})

    for each, of in ((path, "pipeline"), (longer, "longer")):
        with PipelineState(each, schema=None) as state:
            assert state.import_backups().versions == 1
            assert [version.read() for version in state.log()] == [{"of": of}]
    assert (tmp_path / ".pipeline" / f"{longer.name}.d").is_dir()


def test_another_content_by_the_same_name_is_another_backup(path: Path, tmp_path: Path) -> None:
    made = _backup(path, f"{DAY}_120000_000000", {"n": 1})
    state = fresh(path)
    state.write({"n": "own"})
    name = state.import_backups().names[0]
    shutil.copytree(path.parent / ".pipeline" / "backups", tmp_path / "old" / "backups")
    (tmp_path / "old" / "backups" / made.name).write_text('{"n": 2}')

    report = state.import_backups(tmp_path / "old")

    assert report.names == (f"{name}-2",)
    assert [state.read(at=each) for each in (name, f"{name}-2")] == [{"n": 1}, {"n": 2}]
    assert state.import_backups(tmp_path / "old").versions == 0


def test_a_backup_that_is_in_the_way_of_names_is_told(path: Path) -> None:
    state = fresh(path)
    state.write({"n": "own"})
    _backup(path, f"{DAY}_120000_000000", {"n": 1})
    git(state, "update-ref", "refs/backups/import", "HEAD")  # an older gitstate let it pass

    with pytest.raises(StateValidationError, match="delete_backup") as caught:
        state.import_backups()
    assert caught.value.code == "backup-name"
    state.delete_backup("import")
    assert state.import_backups().versions == 1


# -- dates ---------------------------------------------------------------------------------------------------------


@needs_git
def test_git_shows_the_dates_of_the_backups_to_the_second_and_the_trailer_to_the_microsecond(
    old: Path,
) -> None:
    state = fresh(old)
    state.import_backups()

    form = "%aI %cI %(trailers:key=Time,valueonly,separator=%x20)"
    assert git(state, "log", "--reverse", f"--format={form}").decode().splitlines()[:2] == [
        "2025-03-01T09:00:00+00:00 2025-03-01T09:00:00+00:00 2025-03-01T09:00:00.000001+00:00",
        "2025-03-01T10:00:00+00:00 2025-03-01T10:00:00+00:00 2025-03-01T10:00:00.500000+00:00",
    ]
    since = datetime(2025, 3, 1, 9, 30, tzinfo=UTC)
    assert [version.serial for version in state.log(since=since)] == [3, 2]
    assert [version.serial for version in state.log(until=since)] == [1]
    with pytest.raises(VersionNotFoundError):
        state.read(at=datetime(2025, 3, 1, 8, tzinfo=UTC))


@needs_git
def test_a_time_still_to_come_counts_as_now_and_one_that_git_cannot_hold_is_skipped(
    path: Path,
) -> None:
    before = datetime.now(UTC)
    _backup(path, "99981231_235959_999999", {"n": 3})
    _backup(path, "20990101_000000_000000", {"n": 2})
    _backup(path, f"{DAY}_120000_000000", {"n": 1})
    _backup(path, "19691231_120000_000000", {"n": 0})
    _backup(path, "00010101_000000_000000", {"n": 0})
    state = fresh(path)

    report = state.import_backups()

    assert (report.versions, len(report.skipped)) == (3, 2)
    assert all("1970" in line or "0001" in line for line in report.skipped)
    assert state.restore_backup("HEAD")
    with state.transaction() as txn:
        txn.data["n"] = 4
    versions = list(state.log())[::-1]
    assert [version.read()["n"] for version in versions] == [1, 2, 3, 4]
    times = [version.timestamp for version in versions]
    assert times == sorted(times)
    assert before < times[1] <= times[-1] <= datetime.now(UTC)
    assert state.read(at=datetime.now(UTC)) == {"n": 4}
    git(state, "fsck", "--strict")
    assert state.verify().ok


class _Backwards(datetime):
    """A clock that goes back by an hour whenever it is looked at."""

    looks = 0

    @classmethod
    def now(cls, tz: object = None) -> "_Backwards":
        cls.looks += 1
        return cls(2026, 3, 1, tzinfo=UTC) - timedelta(hours=cls.looks)


def test_no_version_is_older_than_its_parent_whatever_the_clock_says(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        _backup(path, f"2099010{number + 1}_000000_000000", {"n": number})
    monkeypatch.setattr(importer, "datetime", _Backwards)
    state = fresh(path)
    state.import_backups()

    versions = list(state.log())[::-1]
    assert [version.read()["n"] for version in versions] == [0, 1, 2]
    times = [version.timestamp for version in versions]
    assert times == sorted(times)


def test_the_hour_that_comes_twice_is_the_first_of_the_two_and_order_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    for number, clock in enumerate(("015959", "023000", "025959", "030000"), 1):
        _backup(path, f"20251026_{clock}_000000", {"n": number})
    state = fresh(path)
    state.import_backups()

    versions = list(state.log())[::-1]
    assert [version.read()["n"] for version in versions] == [1, 2, 3, 4]
    assert [f"{version.timestamp:%H:%M}" for version in versions] == [
        "23:59",
        "00:30",
        "00:59",
        "02:00",
    ]


# -- order ---------------------------------------------------------------------------------------------------------


def _orders(state: PipelineState) -> list[tuple[str, str]]:
    return [
        (line["timestamp"][11:19], line["operation"])
        for line in state.get_transaction_history(None)
    ]


def test_what_the_log_says_of_later_and_of_earlier_times_finds_its_place(old: Path) -> None:
    state = fresh(old)
    state.import_backups()
    _log(old, _entry("12:10:00", "late"), _entry("11:00:00", "first"), _entry("13:30:00", "last"))

    assert state.import_backups().audit == 3

    assert _orders(state)[1:] == [
        ("10:30:00", "last_commit"),
        ("10:00:01", "transaction_commit"),
        ("10:00:00", "import_commit"),
        ("09:30:00", "write_rollback"),
        ("09:10:00", "late_commit"),
        ("09:00:00", "transaction_commit"),
        ("09:00:00", "import_commit"),
        ("08:00:00", "first_commit"),
    ]


def test_the_trail_is_the_same_once_the_versions_are_pruned_and_nothing_comes_back(
    old: Path,
) -> None:
    state = fresh(old, max_backups=0)
    state.import_backups()
    trail = state.get_transaction_history(None)

    state.prune()

    assert state.get_transaction_history(None) == trail
    assert [version.serial for version in state.log()] == [3]
    assert state.import_backups() == type(state.import_backups())(0, 0, ())
    _log(old, _entry("12:40:00", "between"))
    assert state.import_backups().audit == 1
    places = [operation for _, operation in _orders(state)]
    assert places[2:5] == ["import_commit", "between_commit", "write_rollback"]
    judge_disk(state)


def test_a_line_is_given_as_it_was_whatever_it_says(path: Path) -> None:
    details = {"text": "ü\u2028", "list": [1, {"a": None}], "big": 2**70}
    _log(
        path,
        _entry("12:00:00", "a", details=details, host="h", user="me"),
        _entry("12:00:01", "b", details="text", pid="7"),
        '{"timestamp": "2025-03-01T12:00:02+01:00", "operation": "c", "details": {"x": NaN}}',
        '{"timestamp": "1960-01-01T00:00:00Z", "operation": "d_rollback"}',
    )
    state = fresh(path)

    assert state.import_backups().audit == 4

    lines = {line["operation"]: line for line in state.get_transaction_history(None)}
    assert lines["a_commit"]["details"] == details
    assert lines["a_commit"]["host"] == "h"
    assert lines["b_commit"]["details"] == {"details": "text"}
    assert lines["b_commit"]["pid"] == 0
    assert lines["c_commit"]["timestamp"] == "2025-03-01T11:00:02.000000+00:00"
    assert lines["c_commit"]["details"] == {"x": "NaN"}
    assert lines["d_rollback"]["success"] is False
    kept = git(state, "show", "refs/audit/import:lines.0001.000000001.jsonl")
    assert [json.loads(line).get("more") for line in kept.splitlines()] == [
        None,
        {"user": "me"},
        {"pid": "7"},
        None,
    ]
    assert list(state.log()) == []
    assert state.verify().ok


# -- content -------------------------------------------------------------------------------------------------------


@needs_git
def test_a_version_holds_the_bytes_of_its_file(path: Path) -> None:
    content = b'{ "n":1.50,"\\u00fc" : [ ]}\r\n'
    _backup(path, f"{DAY}_120000_000000", content)
    state = fresh(path)
    state.import_backups()

    assert git(state, "show", "HEAD:pipeline.json") == content
    assert state.restore_backup(1)
    assert path.read_bytes() == content
    with state.transaction() as txn:
        txn.data["n"] = 2
    assert next(state.log()).changed_keys == ("n",)


BAD = {
    "nothing": b"",
    "a byte order mark": b'\xef\xbb\xbf{"n": 1}',
    "a list": b"[]",
    "NaN": b'{"n": NaN}',
    "a key twice": b'{"n": 1, "n": 2}',
    "half of it": b'{"n": ',
    "no text": b"\xff\x00",
    "too deep": b'{"n": ' + b"[" * 5000 + b"]" * 5000 + b"}",
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_state_is_reported_and_stays(kind: str, old: Path) -> None:
    made = _backup(old, f"{DAY}_125000_000000", BAD[kind])
    state = fresh(old)

    report = state.import_backups()

    assert (report.versions, len(report.skipped)) == (2, 1)
    assert report.skipped[0].startswith(f"{made}: ")
    assert made.read_bytes() == BAD[kind]
    made.write_bytes(b'{"n": "mended"}')
    assert state.read(at=state.import_backups().names[0]) == {"n": "mended"}


def test_what_is_no_file_or_cannot_be_read_is_reported_and_the_rest_is_taken_in(old: Path) -> None:
    folder = old.parent / ".pipeline" / "backups"
    names = [f"pipeline_{DAY}_1250{number:02}_000000.json.bak" for number in range(4)]
    (folder / names[0]).mkdir()
    (folder / names[1]).symlink_to(folder / f"pipeline_{DAY}_120000_000001.json.bak")
    os.mkfifo(folder / names[2])
    (folder / names[3]).write_text("{}")

    def refuse(call: Call) -> None:
        if call.name == "open" and call.file == names[3]:
            raise PermissionError(errno.EACCES, "Permission denied", call.target)

    state = fresh(old)
    with file_calls(refuse, reading=True):
        report = state.import_backups()

    assert (report.versions, report.audit) == (2, 3)
    assert [line.partition(": ")[0] for line in report.skipped] == [f"{folder / n}" for n in names]
    assert state.import_backups().versions == 1  # it can be read by now


def test_trouble_with_the_disk_is_an_error_and_the_rest_follows(old: Path) -> None:
    def fail(call: Call) -> None:
        if call.name == "open" and call.file == "transactions.log":
            raise OSError(errno.EIO, "Input/output error", call.target)

    state = fresh(old)
    with file_calls(fail, reading=True), pytest.raises(StateReadError) as caught:
        state.import_backups()

    assert caught.value.code == "import-unreadable"
    assert len(list(state.log())) == 3
    assert state.import_backups() == type(state.import_backups())(0, 3, ())


def test_what_is_the_same_as_before_is_no_version_of_its_own(path: Path) -> None:
    for number, n in enumerate((1, 1, 2, 2, 1)):
        _backup(path, f"{DAY}_12000{number}_000000", {"n": n})
    path.write_text(json.dumps({"n": 1}))
    state = fresh(path)

    report = state.import_backups()

    assert (report.versions, report.unchanged) == (3, 2)
    assert [version.read()["n"] for version in state.log()] == [1, 2, 1]
    assert state.verify().ok  # the file is the newest version's
    assert state.import_backups() == type(report)(0, 0, ())
    assert [state.undo().read()["n"] for _ in range(2)] == [2, 1]


# -- a dry run -----------------------------------------------------------------------------------------------------


def _taken_in(state: PipelineState) -> ImportReport:
    """The report of an import, which a dry run has told before and changed nothing."""
    before = image(state.path)
    told = state.import_backups(dry_run=True)
    assert image(state.path) == before
    report = state.import_backups()
    assert report == told
    return report


def test_a_dry_run_tells_what_becomes_the_beginning_of_a_history_and_then_nothing(
    old: Path,
) -> None:
    _backup(old, f"{DAY}_130000_500001", {"n": 2, "extra": [1]})
    _backup(old, f"{DAY}_140000_000000", '{"n": ')
    _log(old, "{")
    state = fresh(old)

    report = _taken_in(state)

    assert (report.versions, report.unchanged, report.audit) == (2, 1, 3)
    assert len(report.skipped) == 2
    assert _taken_in(state).versions == 0
    state.close()


def test_a_dry_run_tells_the_names_of_what_would_be_kept_aside(old: Path) -> None:
    state = fresh(old)
    state.write({"n": "own"})
    assert len(_taken_in(state).names) == 2
    _backup(old, f"{DAY}_120000_000001", {"n": "another"})
    assert _taken_in(state).names == (f"import/pipeline_{DAY}_120000_000001-2",)


def test_a_dry_run_refuses_what_would_be_refused(old: Path, tmp_path: Path) -> None:
    state = fresh(old)
    version = state.write({"n": 1})
    (state.git_dir / "refs/backups").mkdir()
    (state.git_dir / "refs/backups/import").write_text(f"{version}\n")

    with pytest.raises(StateValidationError):
        state.import_backups(dry_run=True)
    with pytest.raises(StateReadError):
        state.import_backups(tmp_path / "nowhere", dry_run=True)


def test_a_dry_run_needs_no_store_and_waits_for_nobody(old: Path) -> None:
    listed = sorted(os.listdir(old.parent)), sorted(os.listdir(old.parent / ".pipeline"))
    assert PipelineState(old).import_backups(dry_run=True).versions == 2
    assert listed == (sorted(os.listdir(old.parent)), sorted(os.listdir(old.parent / ".pipeline")))

    with PipelineState(old).transaction() as txn:
        assert PipelineState(old, timeout=0).import_backups(dry_run=True).versions == 2
        txn.rollback()


# -- once ----------------------------------------------------------------------------------------------------------


def test_a_name_that_was_deleted_does_not_come_back(path: Path) -> None:
    state = fresh(path)
    state.write({"n": "own"})
    _backup(path, f"{DAY}_120000_000000", {"n": 1})
    name = state.import_backups().names[0]
    version = state.list_backups()[0]
    state.delete_backup(name)

    state.prune()

    assert state.import_backups().versions == 0
    state.prune()
    with pytest.raises(StateReadError):
        version.read()
    assert state.verify().ok


@needs_git
@needs_git
@pytest.mark.parametrize("left", ["copies", "the log"])
@pytest.mark.parametrize("at", ["gone", "HEAD"])
def test_nothing_is_taken_in_again_where_somebody_has_moved_the_list(
    at: str, left: str, old: Path
) -> None:
    state = fresh(old)
    state.import_backups()
    state.close()
    for each in (old.parent / ".pipeline/backups").iterdir():
        if left == "the log":
            each.unlink()
    was = git(state, "rev-parse", IMPORTED).decode().strip()
    git(state, "update-ref", *(["-d", IMPORTED] if at == "gone" else [IMPORTED, "HEAD"]))
    before = git(state, "for-each-ref")

    with pytest.raises(StateConflictError) as caught:
        fresh(old).import_backups()

    assert caught.value.code == "ref-moved"
    assert IMPORTED in str(caught.value)
    assert git(state, "for-each-ref") == before
    git(state, "update-ref", IMPORTED, was)
    report = fresh(old).import_backups()
    assert (report.versions, report.audit) == (0, 0)
    judge_disk(fresh(old))


def test_imported_backups_stay_when_versions_are_pruned(path: Path) -> None:
    state = fresh(path, max_backups=2)
    for number in range(6):
        state.write({"n": number})
    _backup(path, f"{DAY}_120000_000000", {"old": 1})
    name = state.import_backups().names[0]

    report = state.prune()

    assert (report.versions, report.kept) == (range(1, 4), ())
    git(state, "gc", "-q", "--prune=now")
    git(state, "fsck", "--strict")
    assert state.read(at=name) == {"old": 1}
    shallow = (state.git_dir / "shallow").read_text().split()
    assert len(shallow) == 1
    judge_disk(state)
    state.close()
    assert fresh(path).read(at=name) == {"old": 1}


@forks
def test_several_processes_at_once_take_everything_in_once(old: Path) -> None:
    def run(tell: Tell) -> None:
        next(tell.steps())
        report = PipelineState(old, timeout=60).import_backups()
        tell([report.versions, report.audit])

    children = [fork(run) for _ in range(4)]
    for child in children:
        child.start()
    told = [child.finish()[-1] for child in children]

    assert [sum(each) for each in zip(*told, strict=True)] == [2, 3]
    state = fresh(old)
    assert [version.serial for version in state.log()] == [3, 2, 1]
    assert len(state.get_transaction_history(None)) == 6


# -- much of it ----------------------------------------------------------------------------------------------------


def test_long_lines_of_the_log_come_in_several_records(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "_BYTES_OF_A_RECORD", 2_000)
    _log(path, *(_entry(f"12:00:{n:02}", details="y" * 1_000) for n in range(10)))

    with PipelineState(path) as state:
        assert state.import_backups().audit == 10
        records = read_all(path.parent / ".pipeline")[1]
        assert len(state.get_transaction_history(None)) == 10

    assert sum(any("import" in change.name for change in each.refs) for each in records) == 5


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record holds two backups, or two lines."""
    monkeypatch.setattr(importer, "_BACKUPS_OF_A_RECORD", 2)
    monkeypatch.setattr(importer, "_LINES_OF_A_RECORD", 2)


def _seven(path: Path) -> None:
    for number in range(7):
        _backup(path, f"{DAY}_12000{number}_000000", {"n": number})
    _log(path, *(_entry(f"12:00:0{6 - number}.5", f"line{6 - number}") for number in range(7)))
    path.write_text(json.dumps({"n": 7}))


def _judge_seven(state: PipelineState) -> None:
    assert [version.read()["n"] for version in state.log()] == [*range(7, -1, -1)]
    lines = [line["operation"] for line in state.get_transaction_history(None)][1:]
    assert lines[::2] == [f"line{number}_commit" for number in range(6, -1, -1)]
    assert lines[1::2] == ["import_commit"] * 7
    judge_disk(state)


def test_what_is_taken_in_by_several_records_is_as_if_by_one(path: Path, small: None) -> None:
    _seven(path)
    state = fresh(path)

    report = _taken_in(state)

    assert (report.versions, report.audit) == (7, 7)
    _judge_seven(state)


def test_a_record_goes_on_with_what_the_one_before_holds(path: Path, small: None) -> None:
    for number, n in enumerate((1, 2, 2, 3, 3)):
        _backup(path, f"{DAY}_12000{number}_000000", {"n": n})

    report = _taken_in(fresh(path))

    assert (report.versions, report.unchanged) == (3, 2)


@forks
@pytest.mark.parametrize("record", range(1, 9))
def test_an_import_that_was_killed_is_gone_on_with(record: int, path: Path, small: None) -> None:
    _seven(path)

    def run(tell: Tell) -> None:
        seen = 0

        def nth(call: Call) -> bool:
            nonlocal seen
            seen += flushes_journal(call)
            return seen == record

        with dying_before(nth):
            PipelineState(path).import_backups()

    assert fork(run).wait() == KILLED
    state = fresh(path)
    state.read()  # which recovers
    _taken_in(state)
    _judge_seven(state)
    assert state.import_backups() == type(state.import_backups())(0, 0, ())


def test_a_transaction_in_the_midst_of_an_import_has_the_rest_kept_aside(
    path: Path, small: None
) -> None:
    _seven(path)
    state, other = fresh(path), PipelineState(path)
    seen = 0

    def interrupt(call: Call) -> None:
        nonlocal seen
        seen += flushes_journal(call)
        if seen == 3:
            raise KeyboardInterrupt

    with file_calls(interrupt), pytest.raises(KeyboardInterrupt):
        state.import_backups()
    state = fresh(path)
    begun = len(list(state.log()))
    other.write({"n": "new"})
    _backup(path, "20990101_000000_000000", {"n": 99})

    names = _taken_in(state).names

    assert 0 < begun < 7
    assert [state.read(at=name)["n"] for name in names] == [*range(begun, 7), 99]
    documents = [version.read()["n"] for version in state.log()]
    assert documents == ["new", 7, *range(begun - 1, -1, -1)]
    judge_disk(state)


def test_thousands_of_lines_are_read_back_in_order(path: Path) -> None:
    start = datetime(2025, 3, 1, tzinfo=UTC)
    _log(
        path,
        *(
            {"timestamp": (start + timedelta(seconds=n)).isoformat(), "operation": f"{n}"}
            for n in range(2500)
        ),
    )
    state = fresh(path)
    assert state.import_backups().audit == 2500
    _log(path, _entry("23:00:00+00:00", "one more"))
    assert state.import_backups().audit == 1

    lines = [line["operation"] for line in state.get_transaction_history(None)]
    assert lines == ["one more_commit", *(f"{n}_commit" for n in range(2499, -1, -1))]
    files = git(state, "ls-tree", "--name-only", "refs/audit/import").decode().split()
    assert len(files) == 3
