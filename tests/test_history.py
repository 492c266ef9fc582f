"""History: versions by any of their names, restore, undo, named backups, the audit trail."""

import os
import random
import socket
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from oracle import git, needs_git
from wrecks import image

from gitstate import (
    MISSING,
    Change,
    PipelineState,
    RepairReport,
    StateError,
    StateReadError,
    StateValidationError,
    Version,
    VersionNotFoundError,
)
from gitstate.diff import to_json_patch


@pytest.fixture
def five(state: PipelineState) -> PipelineState:
    """A state with the versions 1 to 5, whose documents are {"n": 1} to {"n": 5}."""
    for number in range(1, 6):
        state.write({"n": number}, operation=f"step{number}")
    return state


@pytest.fixture(scope="module")
def unchanging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineState]:
    """As `five`, made once, for calls that must not change anything."""
    with PipelineState(tmp_path_factory.mktemp("unchanging") / "pipeline.json") as state:
        for number in range(1, 6):
            state.write({"n": number})
        yield state


@pytest.fixture
def fast_directory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: for hundreds of writes."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield Path(directory)


def serials(versions: Any) -> list[int]:
    return [version.serial for version in versions]


def numbers(state: PipelineState) -> list[int]:
    """What every version held, newest first."""
    return [version.read()["n"] for version in state.log()]


def not_found(call: Callable[[], object]) -> VersionNotFoundError:
    with pytest.raises(VersionNotFoundError) as caught:
        call()
    return caught.value


# -- naming a version --------------------------------------------------------------------------------------------------


def test_a_version_goes_by_itself_its_serial_its_hash_a_prefix_and_head(five):
    versions = {version.serial: version for version in five.log()}

    for serial, version in versions.items():
        for name in (
            version,
            serial,
            version.id,
            version.id.upper(),
            str(version),
            version.short_id,
            version.id[:12],
            f"HEAD~{5 - serial}",
        ):
            assert five.read(at=name) == {"n": serial}


@pytest.mark.parametrize(
    ("name", "number"), [("HEAD", 5), ("HEAD~0", 5), ("HEAD~", 4), ("HEAD~1", 4), ("HEAD~4", 1)]
)
def test_head_counts_back_from_the_current_version(five, name, number):
    assert five.read(at=name) == {"n": number}


def test_a_named_backup_goes_by_its_name(five):
    five.create_backup("before tea".replace(" ", "-"))
    five.write({"n": 6})

    assert five.read(at="before-tea") == {"n": 5}


def test_a_name_keeps_its_version_whatever_happens_later(five):
    five.create_backup("kept")
    five.write({"n": 6})
    five.undo()
    five.restore_backup(1)
    five.checkpoint()

    assert five.read(at="kept") == {"n": 5}
    with PipelineState(five.path) as other:
        assert other.read(at="kept") == {"n": 5}


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "HEAD ",
        "head",
        "HEAD~5",
        "HEAD~99999999999999999999999",
        "HEAD~" + "9" * 5000,
        "HEAD~-1",
        "HEAD~x",
        "HEAD^",
        "HEAD~1~1",
        "@",
        "main",
        "refs/heads/main",
        "0" * 40,
        "0000",
        "abc",
        "nothing",
        "..",
        "a..b",
        "../../etc/passwd",
        "1",
        "f" * 41,
        "\0",
        "\ud800",
        "a\nb",
        0,
        6,
        -1,
        10**30,
        True,
        False,
        1.0,
        None,
        b"HEAD",
        [],
        {},
        (1,),
    ],
    ids=lambda name: ascii(name)[:20],
)
@pytest.mark.parametrize("call", ["read", "restore_backup", "diff"])
def test_what_names_no_version_is_an_error_and_changes_nothing(unchanging, name, call):
    if name is None and call == "read":
        return  # that is the current state
    before = serials(unchanging.log())

    error = not_found(
        {
            "read": lambda: unchanging.read(at=name),
            "restore_backup": lambda: unchanging.restore_backup(name),
            "diff": lambda: unchanging.diff(name, "HEAD"),
        }[call]
    )

    assert isinstance(error, LookupError)
    assert isinstance(error, StateError)
    assert error.name == str(name)
    assert error.candidates == ()
    assert error.code == "version-not-found"
    assert unchanging.read() == {"n": 5}
    assert serials(unchanging.log()) == before


@pytest.mark.parametrize("name", ["HEAD", "HEAD~1", 1, "abcd", "nothing"])
def test_without_any_history_no_name_stands_for_anything(state, name):
    not_found(lambda: state.read(at=name))
    not_found(lambda: state.restore_backup(name))

    assert not state.path.exists()


def test_a_prefix_that_several_versions_share_lists_them(fast_directory):
    with PipelineState(fast_directory / "pipeline.json") as state:
        # Two of some hundred hashes begin with the same four digits.
        seen: dict[str, Version] = {}
        for number in range(5000):
            version = state.write({"n": number})
            if version.id[:4] in seen:
                break
            seen[version.id[:4]] = version
        twin = seen[version.id[:4]]

        error = not_found(lambda: state.read(at=version.id[:4]))

        assert set(error.candidates) == {version.id, twin.id}
        assert all(candidate in str(error) for candidate in error.candidates)
        assert error.code == "version-ambiguous"
        assert state.read(at=version.id[:20]) == version.read()
        assert state.read(at=twin.id[:20]) == twin.read()


def test_the_hash_of_something_else_is_no_version(five, git):
    with pytest.raises(ZeroDivisionError), five.transaction() as txn:
        txn.data["n"] = 1 / 0
    five.path.write_text("damaged")
    five.restore_backup("HEAD")
    five.write({"n": 6})
    versions = {version.id for version in five.log()}

    listed = git("--git-dir", five.git_dir, "cat-file", "--batch-all-objects", "--batch-check")
    objects = [line.split()[0] for line in listed.splitlines()]
    others = [object_id for object_id in objects if object_id not in versions]

    assert len(others) > 10
    for other in others:
        not_found(lambda other=other: five.read(at=other))


def test_a_version_of_another_state_is_not_found(five, tmp_path):
    with PipelineState(tmp_path / "other.json") as other:
        theirs = other.write({"theirs": 1})

    not_found(lambda: five.restore_backup(theirs))
    assert five.read() == {"n": 5}


# -- at a time ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], datetime]:
    """Sets the time at which versions are made, in minutes after some noon."""
    noon = datetime(2030, 6, 1, 12, tzinfo=UTC)
    at = noon

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return at

    def set_minutes(minutes: int) -> datetime:
        nonlocal at
        at = noon + timedelta(minutes=minutes)
        return at

    monkeypatch.setattr("gitstate.draft.datetime", Clock)
    return set_minutes


def test_the_state_at_a_time_is_the_version_that_was_current_then(state, clock):
    times = []
    for number in range(3):
        times.append(clock(10 * number))
        state.write({"n": number})

    for number, moment in enumerate(times):
        assert state.read(at=moment) == {"n": number}
        assert state.read(at=moment + timedelta(minutes=9, seconds=59)) == {"n": number}
        assert state.read(at=moment.astimezone(timezone(timedelta(hours=-8)))) == {"n": number}
    assert state.read(at=times[-1] + timedelta(days=365)) == {"n": 2}


def test_before_the_first_version_there_was_no_state(state, clock):
    state.write({"n": 0})

    error = not_found(lambda: state.read(at=clock(0) - timedelta(microseconds=1)))

    assert "no version yet" in str(error)


def test_of_versions_made_at_the_same_time_the_last_one_counts(state, clock):
    moment = clock(0)
    for number in range(3):
        state.write({"n": number})

    assert state.read(at=moment) == {"n": 2}


def test_a_time_without_a_zone_names_no_moment(five):
    naive = datetime(2030, 1, 1)  # noqa: DTZ001  that is the point

    for call in (
        lambda: five.read(at=naive),
        lambda: five.log(since=naive),
        lambda: five.log(until=naive),
    ):
        error = not_found(call)
        assert "time zone" in str(error)
        assert error.code == "naive-datetime"


# -- the log -----------------------------------------------------------------------------------------------------------


def test_the_log_is_every_version_newest_first_the_current_one_included(five):
    assert serials(five.log()) == [5, 4, 3, 2, 1]
    assert numbers(five) == [5, 4, 3, 2, 1]
    assert all(newer.parents == (older.id,) for newer, older in pairwise(five.log()))


@pytest.mark.parametrize(
    ("limit", "expected"), [(0, []), (2, [5, 4]), (5, [5, 4, 3, 2, 1]), (99, [5, 4, 3, 2, 1])]
)
def test_the_log_gives_at_most_so_many(five, limit, expected):
    assert serials(five.log(limit)) == expected


def test_the_log_filters_by_time_and_operation(state, clock):
    times = []
    for number in range(6):
        times.append(clock(number))
        state.write({"n": number}, operation="odd" if number % 2 else "even")

    assert serials(state.log(since=times[4])) == [6, 5]
    assert serials(state.log(until=times[1])) == [2, 1]
    assert serials(state.log(since=times[1], until=times[3])) == [4, 3, 2]
    assert serials(state.log(operation="odd")) == [6, 4, 2]
    assert serials(state.log(2, operation="even")) == [5, 3]
    assert serials(state.log(1, since=times[0], until=times[3], operation="even")) == [3]
    assert serials(state.log(operation="nothing")) == []
    assert serials(state.log(since=times[5] + timedelta(seconds=1))) == []


def test_a_limit_that_makes_no_sense_is_refused_at_once(five):
    for call in (five.log, five.list_backups, five.get_transaction_history):
        for limit in (-1, 2.0, True, "2"):
            with pytest.raises(ValueError, match="limit"):
                call(limit)
        assert list(call(10**30)) == list(call(None))


def test_what_is_no_moment_and_no_pointer_is_refused_at_once(five):
    for named in ({"since": "2020"}, {"until": date(2020, 1, 1)}, {"pointer": 3}):
        with pytest.raises(TypeError):
            five.log(**named)
    with pytest.raises(VersionNotFoundError):
        five.read(at="HEAD~\u0663")


@pytest.mark.parametrize("when", [6, 5])
def test_a_log_of_a_pointer_ends_where_another_prunes_just_then(path, monkeypatch, when):
    state = PipelineState(path, max_backups=2)
    for number in range(1, 9):
        state.write({"n": number})
    read = Version.read

    def prune_and_read(version):
        if version.serial == when:
            PipelineState(path).prune()
        return read(version)

    monkeypatch.setattr(Version, "read", prune_and_read)

    assert serials(state.log(pointer="/n")) == [8, 7, 6]


@needs_git
def test_a_tag_among_the_names_of_backups_is_in_nobodys_way(path, tmp_path):
    state = PipelineState(path)
    for number in range(1, 4):
        state.write({"n": number})
    state.create_backup("mine")
    git(state, "tag", "-a", "-m", "text", "tag", "HEAD~1")
    git(state, "update-ref", "refs/backups/theirs", "refs/tags/tag")

    assert serials(state.list_backups()) == [2, 1]
    assert len(os.listdir(state.export(tmp_path / "folder"))) == 3
    assert not state.verify().ok
    assert any("refs/recovered/backups/theirs: " in line for line in state.repair().mended)
    assert state.verify().ok
    assert git(state, "rev-parse", "refs/recovered/backups/theirs", "tag").split()[0] == (
        git(state, "rev-parse", "tag").strip()
    )
    assert state.repair() == RepairReport()


def test_the_log_of_a_moment_is_not_moved_by_later_writes(five):
    log = five.log()
    first = next(log)
    five.write({"n": 6})

    assert serials([first, *log]) == [5, 4, 3, 2, 1]


# -- backups -----------------------------------------------------------------------------------------------------------


def test_backups_are_the_earlier_versions_without_the_current_one(state):
    assert state.list_backups() == []
    state.write({"n": 1})
    assert state.list_backups() == []
    first = next(state.log())
    state.write({"n": 2})
    assert state.list_backups() == [first]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(0, []), (1, [4]), (3, [4, 3, 2]), (10, [4, 3, 2, 1]), (None, [4, 3, 2, 1])],
)
def test_backups_are_listed_newest_first_up_to_a_limit(five, limit, expected):
    assert serials(five.list_backups(limit)) == expected


def test_ten_backups_are_listed_unless_told_otherwise(state):
    for number in range(13):
        state.write({"n": number})

    assert serials(state.list_backups()) == list(range(12, 2, -1))


def test_named_backups_from_beyond_the_window_follow(path):
    with PipelineState(path, max_backups=2) as state:
        for number in range(1, 8):
            state.write({"n": number})
            if number in {1, 3, 6, 7}:
                state.create_backup(f"name{number}")
        state.create_backup("name7-again")

        assert serials(state.list_backups()) == [6, 5, 3, 1]
        assert serials(state.list_backups(limit=None)) == [6, 5, 3, 1]
        assert serials(state.list_backups(limit=3)) == [6, 5, 3]
        assert serials(state.list_backups(limit=1)) == [6]
        assert [version.read()["n"] for version in state.list_backups()] == [6, 5, 3, 1]


def test_every_listed_backup_can_be_restored(five):
    for version in five.list_backups():
        assert five.restore_backup(version) is True
        assert five.read() == version.read()


def test_creating_a_backup_of_what_is_committed_gives_the_current_version(five):
    newest = next(five.log())

    assert five.create_backup() == newest
    assert five.create_backup("named") == newest
    assert serials(five.log()) == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "v1.0",
        "before-release",
        "größe",
        "☃",
        "1.0",
        "xyz1",
        "deadbee.f",
        "a@b",
        "-a"[1:],
        "a" * 200,
        "abc",
        "g000",
    ],
)
def test_a_version_can_have_any_sensible_name(five, git, name):
    version = five.create_backup(name)
    five.write({"n": 6})

    assert five.read(at=name) == {"n": 5}
    assert git("--git-dir", five.git_dir, "rev-parse", f"refs/backups/{name}").strip() == version.id
    git("--git-dir", five.git_dir, "fsck", "--strict")
    five.checkpoint()
    with PipelineState(five.path) as other:
        assert other.read(at=name) == {"n": 5}


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a/b",
        "../a",
        "a..b",
        "..",
        ".",
        ".a",
        "-a",
        "a.",
        "a.lock",
        "a~b",
        "a^b",
        "a:b",
        "a?b",
        "a*b",
        "a[b",
        "a\\b",
        "a\x7fb",
        "a\0b",
        "a\nb",
        "a\tb",
        "@",
        "a@{b",
        "\ud800",
        "HEAD",
        "HEAD~1",
        "head",
        "HEADS",
        "1",
        "12",
        "007",
        "٣",
        "abcd",
        "ABCD",
        "0123456789abcdef",
        "f" * 40,
        "n" * 251,
        "n" * 255,
        "n" * 300,
        "é" * 130,
        5,
        b"a",
        True,
        ["a"],
    ],
    ids=lambda name: ascii(name)[:20],
)
def test_a_name_that_cannot_be_one_is_refused_and_nothing_changes(unchanging, name):
    with pytest.raises(StateValidationError) as caught:
        unchanging.create_backup(name)

    assert caught.value.code == "backup-name"
    assert not (unchanging.git_dir / "refs" / "backups").exists()
    assert serials(unchanging.log()) == [5, 4, 3, 2, 1]


def test_a_name_that_is_taken_is_refused_and_stays_where_it_is(five):
    five.create_backup("mine")
    five.write({"n": 6})
    five.path.write_text('{"n": 7}')

    with pytest.raises(StateValidationError, match="taken") as caught:
        five.create_backup("mine")

    assert caught.value.code == "backup-name"
    assert five.read(at="mine") == {"n": 5}
    assert serials(five.log()) == [6, 5, 4, 3, 2, 1]
    assert five.path.read_text() == '{"n": 7}'


# -- restore -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("serial", [1, 2, 3, 4])
def test_any_version_can_be_restored_and_is_committed_on_top(five, serial):
    before = list(five.log())

    assert five.restore_backup(serial) is True

    assert five.read() == {"n": serial}
    newest, *rest = five.log()
    assert rest == before
    assert (newest.serial, newest.operation) == (6, "restore")
    assert str(serial) in newest.message
    assert newest.changed_keys == ("n",)
    assert newest.content() == next(v for v in before if v.serial == serial).content()


def test_a_restore_gives_the_version_that_it_has_made(five, path):
    assert five.restore(2) == next(five.log())
    assert five.restore(2) is None
    assert five.restore(5, pointer="/n") == next(five.log())
    assert five.restore("HEAD", pointer="/n") is None
    path.unlink()
    assert five.restore("HEAD") is None
    assert five.read() == {"n": 5}
    path.write_text('{"n": 9}')
    assert five.restore("HEAD").parents == (five.version("HEAD~1").id,)
    assert numbers(five)[:4] == [5, 9, 5, 2]


def test_a_restore_can_itself_be_undone_and_restored(five):
    five.restore_backup(2)
    five.restore_backup(5)
    five.restore_backup("HEAD~1")

    assert numbers(five) == [2, 5, 2, 5, 4, 3, 2, 1]


def test_restoring_the_current_version_changes_nothing(five):
    content = five.path.read_bytes()

    for name in ("HEAD", 5, next(five.log())):
        assert five.restore_backup(name) is True

    assert serials(five.log()) == [5, 4, 3, 2, 1]
    assert five.path.read_bytes() == content


def test_a_restore_gives_back_the_bytes_of_an_edit(state, path):
    state.write({"n": 1})
    path.write_bytes(b'{"n":2, "x": [ ]}')
    state.write({"n": 3})

    state.restore_backup(2)

    assert path.read_bytes() == b'{"n":2, "x": [ ]}'
    assert state.read() == {"n": 2, "x": []}
    assert state.write({"n": 2, "x": [], "y": 1}).changed_keys == ("y",)


def test_a_restore_works_when_the_state_file_was_never_versioned_since(path):
    with PipelineState(path) as state:
        state.write({"n": 1})
        state.write({"n": 2})
    with PipelineState(path, backup_before_write=False) as unversioned:
        unversioned.write({"n": 3})

        unversioned.restore_backup(1)

        assert unversioned.read() == {"n": 1}
        # What the restore replaced was in no version, so it became one.
        assert [version.read()["n"] for version in unversioned.log()] == [1, 3, 2, 1]


# -- restoring a part --------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(path: Path) -> Iterator[PipelineState]:
    """Free-form documents, in three versions."""
    with PipelineState(path, schema=None) as state:
        state.write({"a": {"x": 1, "y": [1, 2]}, "b": 1})
        state.write({"a": {"x": 2, "y": [1]}, "b": 2, "c": {"d": 1}})
        state.write({"a": {"x": 3}, "b": 3})
        yield state


@pytest.mark.parametrize(
    ("version", "pointer", "after"),
    [
        (1, "/a", {"a": {"x": 1, "y": [1, 2]}, "b": 3}),
        (1, "/a/x", {"a": {"x": 1}, "b": 3}),
        (2, "/a/y", {"a": {"x": 3, "y": [1]}, "b": 3}),
        (2, "/c", {"a": {"x": 3}, "b": 3, "c": {"d": 1}}),
        (2, "", {"a": {"x": 2, "y": [1]}, "b": 2, "c": {"d": 1}}),
    ],
)
def test_a_part_of_a_version_is_put_back_and_the_rest_stays(parts, version, pointer, after):
    assert parts.restore_backup(version, pointer=pointer) is True

    assert parts.read() == after
    newest = next(parts.log())
    assert (newest.serial, newest.operation) == (4, "restore")
    assert newest.message.endswith(
        f"version {version} ({parts._parts.history.version(version).short_id})"
    )
    assert parts.undo().read() == {"a": {"x": 3}, "b": 3}


def test_a_part_that_was_not_there_is_removed(parts):
    parts.restore_backup(2)

    parts.restore_backup(1, pointer="/c")
    parts.restore_backup(3, pointer="/a/y")

    assert parts.read() == {"a": {"x": 2}, "b": 2}
    before = serials(parts.log())
    parts.restore_backup(1, pointer="/c/d/e")
    assert serials(parts.log()) == before


def test_a_part_is_put_back_on_top_of_somebody_elses_edit(parts):
    parts.path.write_text('{"a": {"x": 77}, "mine": true}')

    parts.restore_backup(1, pointer="/b")

    assert parts.read() == {"a": {"x": 77}, "mine": True, "b": 1}
    assert [version.operation for version in parts.log(2)] == ["restore", "external_edit"]


def test_a_part_that_is_as_it_was_leaves_an_edit_in_its_layout(parts):
    parts.path.write_text('{"a": {"x": 3},   "b": 1}')

    parts.restore_backup(1, pointer="/b")

    assert parts.path.read_text() == '{"a": {"x": 3},   "b": 1}'
    assert serials(parts.log()) == [3, 2, 1]


def test_a_part_of_what_is_gone_is_refused_and_nothing_is_changed(parts):
    before = parts.path.read_bytes(), serials(parts.log())

    with pytest.raises(StateValidationError, match="/c/d of version 2") as caught:
        parts.restore_backup(2, pointer="/c/d")
    assert caught.value.code == "no-such-place"
    for wrong in ("c", "c/d"):
        with pytest.raises(ValueError, match="JSON pointer"):
            parts.restore_backup(2, pointer=wrong)
    not_found(lambda: parts.restore_backup(9, pointer="/c"))

    assert (parts.path.read_bytes(), serials(parts.log())) == before


def test_a_part_that_is_against_the_schema_now_is_refused(path):
    with PipelineState(path, schema=None) as loose:
        loose.write({"phase1": "done"})
        loose.write({})

    with PipelineState(path) as strict:
        with pytest.raises(StateValidationError, match="/phase1"):
            strict.restore_backup(1, pointer="/phase1")
        assert strict.read() == {}
        assert strict.get_transaction_history(1)[0]["details"]["reason"] == "validation"


def test_a_part_is_put_back_without_a_version_where_none_are_made(parts):
    with PipelineState(parts.path, schema=None, backup_before_write=False) as unversioned:
        unversioned.restore_backup(1, pointer="/b")

        assert unversioned.read() == {"a": {"x": 3}, "b": 1}
        assert serials(unversioned.log()) == [3, 2, 1]


# -- log of a part -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("", [6, 5, 4, 3, 2, 1]),
        ("/a", [5, 4, 2, 1]),
        ("/a/x", [5, 2, 1]),
        ("/a/x/0", [5, 2]),
        ("/a/y", [5, 4]),
        ("/b", [6, 3]),
        ("/nothing", []),
        ("/nothing/at/all", []),
    ],
)
def test_a_log_of_a_pointer_has_the_versions_that_changed_the_value_there(path, pointer, found):
    with PipelineState(path, schema=None) as state:
        state.write({"a": {"x": 1}})
        state.write({"a": {"x": [1]}})
        state.write({"a": {"x": [1]}, "b": True})
        state.write({"a": {"x": [1], "y": None}, "b": True})
        state.write({"b": True})
        state.write({"b": 1})

        assert serials(state.log(pointer=pointer)) == found
        assert serials(state.log(2, pointer=pointer)) == found[:2]
        assert serials(state.log(pointer=pointer, operation="undo")) == []


def test_a_log_of_a_pointer_has_no_version_that_changed_only_the_order_of_keys(path):
    with PipelineState(path, schema=None) as state:
        state.write({"a": {"x": 1, "y": {"z": 2}}})
        state.write({"a": {"y": {"z": 2}, "x": 1}})
        state.write({"a": {"y": {"z": 3}, "x": 1}})

        assert serials(state.log(pointer="/a")) == [3, 1]
        assert serials(state.log(pointer="/a/y")) == [3, 1]
        assert serials(state.log(pointer="/a/x")) == [1]


@pytest.mark.parametrize(
    ("pointer", "found"),
    [("/a", [6, 5, 4]), ("/a/x", [6, 5, 4]), ("/a/y", [4]), ("/a/never/was", []), ("/b", [])],
)
def test_a_log_of_a_pointer_begins_with_the_oldest_version_if_that_has_a_value_there(
    path, pointer, found
):
    with PipelineState(path, schema=None, max_backups=2) as state:
        for number in range(1, 7):
            state.write({"a": {"x": number, "y": 1}, "b": 1})
        state.prune()

        assert serials(state.log(pointer=pointer)) == found


def test_a_log_of_a_pointer_tells_a_number_from_the_same_one_with_a_point(path):
    with PipelineState(path, schema=None) as state:
        for value in (1, 1.0, True, None):
            state.write({"a": {"x": value}})

        assert serials(state.log(pointer="/a/x")) == [4, 3, 2, 1]


def test_a_log_of_a_pointer_reads_no_state_where_other_keys_changed_and_each_other_once(
    path, monkeypatch
):
    with PipelineState(path, schema=None) as state:
        for number in range(10):
            state.write({"a": {"x": 1}, "b": {"x": number}})
        read = []
        real = Version.read
        monkeypatch.setattr(Version, "read", lambda self: read.append(self.serial) or real(self))

        assert serials(state.log(pointer="/a/x")) == [1]
        assert read == [1]
        read.clear()
        assert serials(state.log(pointer="/b")) == list(range(10, 0, -1)) == read


def test_a_pointer_without_a_slash_is_refused_at_once(five):
    with pytest.raises(ValueError, match="JSON pointer"):
        five.log(pointer="n")


# -- undo --------------------------------------------------------------------------------------------------------------


def test_undo_goes_back_one_version_by_going_forward(five):
    version = five.undo()

    assert isinstance(version, Version)
    assert (version.serial, version.operation) == (6, "undo")
    assert version == next(five.log())
    assert five.read() == version.read() == {"n": 4}
    assert numbers(five) == [4, 5, 4, 3, 2, 1]


def test_a_second_undo_goes_one_further_down_to_the_first_version(five):
    for expected in (4, 3, 2, 1):
        assert five.undo().read() == {"n": expected}
    before = serials(five.log())

    error = not_found(five.undo)

    assert "nothing left to undo" in str(error)
    assert five.read() == {"n": 1}
    assert serials(five.log()) == before


def test_after_a_new_change_undo_takes_back_that_change_first(five):
    five.undo()
    five.undo()
    five.write({"n": 33})

    assert five.undo().read() == {"n": 3}
    assert five.undo().read() == {"n": 2}
    assert five.undo().read() == {"n": 1}
    not_found(five.undo)


def test_undo_takes_back_a_restore(five):
    five.restore_backup(1)

    assert five.undo().read() == {"n": 5}
    assert five.undo().read() == {"n": 4}


def test_undo_takes_back_an_edit_of_somebody_else(five):
    five.path.write_text('{"n": 77}')

    assert five.undo().read() == {"n": 5}
    assert numbers(five) == [5, 77, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("content", ["broken", '{"n": 6', None])
def test_undo_takes_back_first_that_the_file_is_damaged_or_gone(five, content):
    if content is None:
        five.path.unlink()
    else:
        five.path.write_text(content)

    newest = next(five.log())
    assert five.undo(dry_run=True) == newest
    assert five.undo() == newest
    assert five.read() == {"n": 5}
    assert numbers(five) == [5, 4, 3, 2, 1]
    kept = list((five.git_dir / "refs" / "corrupt").glob("*"))
    assert len(kept) == (content is not None)
    assert five.undo().read() == {"n": 4}


def test_undo_takes_back_a_change_that_made_no_version(five):
    with PipelineState(five.path, backup_before_write=False) as unversioned:
        unversioned.write({"n": 6})
        unversioned.undo()

        assert unversioned.read() == {"n": 5}


def test_an_undo_can_be_taken_back_by_a_restore(five):
    undone = five.undo()
    five.restore_backup(undone.parents[0])

    assert five.read() == {"n": 5}


def test_without_a_change_there_is_nothing_to_undo(state):
    not_found(state.undo)
    assert not state.path.exists()

    state.write({"n": 1})
    not_found(state.undo)
    assert state.read() == {"n": 1}


def test_undo_works_from_another_handle_after_a_checkpoint(five):
    five.undo()
    five.close()

    with PipelineState(five.path) as other:
        assert other.undo().read() == {"n": 3}


# -- redo --------------------------------------------------------------------------------------------------------------


def test_redo_goes_forward_as_many_steps_as_were_undone(five):
    for _ in range(4):
        five.undo()

    versions = [five.redo() for _ in range(4)]

    assert [version.read()["n"] for version in versions] == [2, 3, 4, 5]
    assert {version.operation for version in versions} == {"redo"}
    assert versions[-1] == next(five.log())
    assert versions[-1].serial == 13
    error = not_found(five.redo)
    assert "nothing left to redo" in str(error)
    assert five.read() == {"n": 5}


def test_undo_and_redo_may_take_turns(five):
    steps = "uururuuurruru"
    found = [(five.undo if step == "u" else five.redo)().read()["n"] for step in steps]

    assert found == [4, 3, 4, 3, 4, 3, 2, 1, 2, 3, 2, 3, 2]


def test_after_any_other_change_there_is_nothing_to_redo(five):
    for change in (
        lambda: five.write({"n": 33}),
        lambda: five.restore_backup(1),
        lambda: five.path.write_text('{"n": 77}'),
    ):
        five.undo()
        change()
        before = five.read(), serials(five.log())
        not_found(five.redo)
        assert (five.read(), serials(five.log())) == before
    with PipelineState(five.path, backup_before_write=False) as unversioned:
        five.undo()
        unversioned.write({"n": 6})
        not_found(five.redo)


def test_redo_puts_back_what_was_there_byte_by_byte_over_a_broken_file(five):
    five.path.write_text('{"n":   77}')
    five.create_backup()
    five.undo()
    five.path.write_text("{broken")

    five.redo()

    assert five.path.read_text() == '{"n":   77}'


def test_without_an_undo_there_is_nothing_to_redo(state):
    not_found(state.redo)
    assert not state.path.exists()

    state.write({"n": 1})
    not_found(state.redo)


def test_redo_works_from_another_handle_after_a_checkpoint(five):
    five.undo()
    five.undo()
    five.close()

    with PipelineState(five.path) as other:
        assert other.redo().read() == {"n": 4}
    with PipelineState(five.path) as other:
        assert other.redo().read() == {"n": 5}


def told_before(state: PipelineState, what: str) -> bytes | None:
    """What an undo or redo has shown, which its dry run has told before; None where nothing was left."""
    call = getattr(state, what)
    before = image(state.path)
    try:
        told = call(dry_run=True)
    except VersionNotFoundError:
        assert image(state.path) == before
        not_found(call)
        return None
    assert image(state.path) == before
    assert call().content() == told.content() == state.path.read_bytes()
    return told.content()


@pytest.mark.parametrize(
    "steps",
    [
        "u",
        "r",
        "uuuuu",
        "uurruruuurrr",
        "uwur",
        "eur",
        "uer",
        "bur",
        "ubr",
        "ubu",
        "gu",
        "ugr",
        "vur",
    ],
)
def test_a_dry_run_of_undo_and_redo_tells_what_would_be_shown_and_changes_nothing(five, steps):
    unversioned = PipelineState(five.path, backup_before_write=False)
    for number, step in enumerate(steps):
        if step in "ur":
            told_before(five, {"u": "undo", "r": "redo"}[step])
        elif step == "w":
            five.write({"n": f"written {number}"})
        elif step == "v":
            unversioned.write({"n": "in no version"})
        elif step == "e":
            five.path.write_text('{"n": "edited"}')
        elif step == "b":
            five.path.write_text("broken")
        else:
            five.path.unlink()


def test_a_dry_run_tells_what_an_undo_does_where_older_versions_are_pruned(five):
    five.undo()
    five.undo()
    window = PipelineState(five.path, max_backups=2)
    window.prune()

    assert [told_before(window, what) for what in ("redo", "redo", "undo", "undo")] != [None] * 4
    assert told_before(window, "undo") is None


def test_a_dry_run_waits_for_nobody(five):
    five.undo()

    with PipelineState(five.path).transaction() as txn:
        assert five.undo(dry_run=True).serial == 3
        assert five.redo(dry_run=True).serial == 5
        txn.rollback()


def test_without_a_history_a_dry_run_makes_none(state, path):
    for call in (state.undo, state.redo):
        with pytest.raises(VersionNotFoundError):
            call(dry_run=True)
    assert not list(path.parent.iterdir())
    path.write_text("{}")
    with pytest.raises(VersionNotFoundError):
        state.undo(dry_run=True)
    assert list(path.parent.iterdir()) == [path]


# -- a version by its name ---------------------------------------------------------------------------------------------


def test_a_version_is_given_by_any_of_its_names(unchanging):
    versions = list(unchanging.log())

    for names in ((5, "HEAD", versions[0]), (3, "HEAD~2", versions[2].id, versions[2].id[:12])):
        assert len({unchanging.version(name) for name in names}) == 1
    assert unchanging.version(3) == versions[2]
    assert unchanging.version(3).read() == {"n": 3}


@pytest.mark.parametrize("name", [0, 6, -1, True, "HEAD~5", "no such name", "ffff"])
def test_a_name_that_none_goes_by_gives_no_version(unchanging, name):
    not_found(lambda: unchanging.version(name))


# -- undo and redo beside a prune --------------------------------------------------------------------------------------


def test_who_undoes_every_change_can_go_on_for_ever(path):
    with PipelineState(path, max_backups=3) as state:
        state.write({"n": 0})
    for number in range(1, 8):
        with PipelineState(path) as state:
            state.write({"n": number})
        with PipelineState(path) as state:
            assert state.undo().read() == {"n": 0}
        with PipelineState(path) as state:
            assert state.redo().read() == {"n": number}
        with PipelineState(path) as state:
            assert state.undo().read() == {"n": 0}


def test_what_was_undone_comes_back_though_the_versions_that_made_it_are_pruned(path):
    with PipelineState(path, max_backups=4) as state:
        for number in range(1, 8):
            state.write({"n": number})
        for _ in range(4):
            state.undo()
        state.prune()
        assert numbers(state) == [3, 4, 5, 6, 7]

        assert [state.redo().read()["n"] for _ in range(4)] == [4, 5, 6, 7]
        assert [state.undo().read()["n"] for _ in range(2)] == [6, 5]


@pytest.mark.parametrize("window", [2, 4, 7])
def test_undo_and_redo_find_their_state_if_any_version_that_is_kept_shows_it(
    fast_directory, window
):
    # What was done stands before the place, what was undone behind it.
    done, undone = [0], []
    chance, found = random.Random(window), {True: 0, False: 0}
    with PipelineState(fast_directory / "pipeline.json", schema=None, max_backups=window) as state:
        state.write({"n": 0})
        for number in range(1, 400):
            step = chance.choice(("write", "undo", "undo", "redo", "prune"))
            if step == "write":
                state.write({"n": number})
                done, undone = [*done, number], []
                continue
            if step == "prune":
                state.prune()
                continue
            known = set(numbers(state))
            way = done[:-1] if step == "undo" else undone
            wanted = way[-1] if way else None
            try:
                version = state.undo() if step == "undo" else state.redo()
            except VersionNotFoundError:
                assert wanted not in known
                found[False] += 1
                continue
            assert version.read() == state.read() == {"n": wanted}
            found[True] += 1
            if step == "undo":
                undone.append(done.pop())
            else:
                done.append(undone.pop())
    assert min(found.values()) > 10


# -- diff --------------------------------------------------------------------------------------------------------------


def test_a_diff_is_of_the_last_change_unless_told_otherwise(state):
    state.write({"a": 1, "b": {"c": [1]}})
    state.write({"b": {"c": [1, 2]}, "d": None})

    assert state.diff() == [
        Change("remove", "/a", 1, MISSING),
        Change("add", "/b/c/1", MISSING, 2),
        Change("add", "/d", MISSING, None),
    ]
    assert to_json_patch(state.diff()) == [
        {"op": "remove", "path": "/a"},
        {"op": "add", "path": "/b/c/1", "value": 2},
        {"op": "add", "path": "/d", "value": None},
    ]


def test_a_diff_takes_any_names_in_any_order(five):
    five.create_backup("named")

    assert five.diff(1, "named") == [Change("replace", "/n", 1, 5)]
    assert five.diff("HEAD", "HEAD~4") == [Change("replace", "/n", 5, 1)]
    assert five.diff(3, 3) == []


def test_a_diff_with_the_version_before_the_first_is_not_found(state):
    state.write({"a": 1})

    not_found(state.diff)


# -- the audit trail ---------------------------------------------------------------------------------------------------


def test_a_line_of_the_history_has_this_shape(state):
    version = state.write({"a": 1, "b": 2}, operation="step")

    (line,) = state.get_transaction_history()

    assert line == {
        "timestamp": version.timestamp.isoformat(timespec="microseconds"),
        "operation": "step_commit",
        "success": True,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "commit": version.id,
        "details": {"changed_keys": ["a", "b"]},
    }
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)


def test_a_failure_has_the_error_and_the_reason_instead(state):
    state.write({"a": 1})
    with pytest.raises(ValueError, match="no"), state.transaction(operation="step") as txn:
        txn.data["a"] = 2
        raise ValueError("no\n\nSerial: 9 \x00 ü")

    line, _ = state.get_transaction_history()

    assert line["operation"] == "step_rollback"
    assert line["success"] is False
    assert line["commit"] is None
    assert line["pid"] == os.getpid()
    assert line["details"] == {"error": "ValueError: no Serial: 9 ü", "reason": "exception"}


def fail_by_exception(state: PipelineState) -> None:
    with state.transaction():
        raise ZeroDivisionError


def fail_by_value(state: PipelineState) -> None:
    state.write({"a": {1}})


def fail_by_schema(state: PipelineState) -> None:
    state.write({"phase1": 1})


def fail_by_edit(state: PipelineState) -> None:
    with state.transaction() as txn:
        txn.data["x"] = 1
        state.path.write_text('{"edit": 1}')


def give_up(state: PipelineState) -> None:
    with state.transaction() as txn:
        txn.rollback()
    raise LookupError


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        (fail_by_exception, "exception"),
        (fail_by_value, "validation"),
        (fail_by_schema, "validation"),
        (fail_by_edit, "conflict"),
        (give_up, "rollback"),
    ],
)
def test_the_history_says_why_a_transaction_failed(state, fail, reason):
    state.write({"a": 1})

    with pytest.raises((ZeroDivisionError, StateError, LookupError)):
        fail(state)

    assert state.get_transaction_history(1)[0]["details"]["reason"] == reason
    assert state.get_transaction_history(1)[0]["success"] is False


def test_the_history_is_in_the_order_of_events_newest_first(state):
    state.write({"n": 1})
    for number in range(2):
        with pytest.raises(ZeroDivisionError), state.transaction(operation=f"fail{number}"):
            raise ZeroDivisionError
    state.write({"n": 2})
    with state.transaction(operation="given-up") as txn:
        txn.rollback()
    state.path.write_text('{"n": 9}')
    state.restore_backup(1)
    state.undo()

    expected = [
        ("undo_commit", True),
        ("restore_commit", True),
        ("external_edit_commit", True),
        ("given-up_rollback", False),
        ("write_commit", True),
        ("fail1_rollback", False),
        ("fail0_rollback", False),
        ("write_commit", True),
    ]
    for handle in (state, PipelineState(state.path)):
        lines = handle.get_transaction_history()
        assert [(line["operation"], line["success"]) for line in lines] == expected
        times = [line["timestamp"] for line in lines]
        assert times == sorted(times, reverse=True)


def test_the_history_survives_a_checkpoint_and_another_handle(state):
    with pytest.raises(ZeroDivisionError), state.transaction():
        raise ZeroDivisionError
    state.write({"n": 1})
    with pytest.raises(ZeroDivisionError), state.transaction():
        raise ZeroDivisionError
    before = state.get_transaction_history()
    state.checkpoint()
    assert state.get_transaction_history() == before
    state.close()

    with PipelineState(state.path) as other:
        assert other.get_transaction_history() == before
        assert [line["success"] for line in before] == [False, True, False]


def test_the_history_gives_at_most_so_many_and_fifty_unless_told_otherwise(state):
    for number in range(55):
        state.write({"n": number})

    assert len(state.get_transaction_history()) == 50
    assert len(state.get_transaction_history(3)) == 3
    assert len(state.get_transaction_history(limit=None)) == 55
    assert state.get_transaction_history(0) == []


def test_mixed_handles_make_one_history(path):
    versioned = PipelineState(path)
    unversioned = PipelineState(path, backup_before_write=False)
    versioned.write({"n": 1})
    unversioned.write({"n": 2})
    with pytest.raises(ZeroDivisionError), unversioned.transaction(operation="fails"):
        raise ZeroDivisionError
    unversioned.write({"n": 3})
    version = versioned.write({"n": 4})

    lines = versioned.get_transaction_history()

    assert [line["operation"] for line in lines] == [
        "write_commit",
        "write_commit",
        "fails_rollback",
        "write_commit",
        "write_commit",
    ]
    assert [line["commit"] is None for line in lines] == [False, True, True, True, False]
    assert lines[0]["commit"] == version.id
    versioned.close()


def test_a_damaged_history_is_a_typed_error_and_the_state_can_still_be_read(five):
    five.close()
    branch = five.git_dir / "refs" / "heads" / "main"
    commit = branch.read_text().strip()
    for pack in (five.git_dir / "objects" / "pack").glob("pack-*"):
        pack.unlink()

    with PipelineState(five.path) as other:
        assert other.read() == {"n": 5}
        for attempt in (
            lambda: list(other.log()),
            lambda: other.read(at=1),
            other.list_backups,
            other.get_transaction_history,
            lambda: other.restore_backup("HEAD~1"),
        ):
            with pytest.raises(StateReadError):
                attempt()
        report = other.verify()
        assert not report.ok
        assert commit in " ".join(report.problems)
    assert five.read() == {"n": 5}


def test_a_file_deeper_than_any_that_is_written_is_put_back_as_a_damaged_one_is(path):
    state = PipelineState(path, schema=None)
    state.write({"n": 1})
    state.write({"n": 2})
    for put_back in (state.undo, lambda: state.restore_backup("HEAD")):
        deep = '{"a":' * 201 + "1" + "}" * 201
        path.write_text(deep)
        put_back()
        assert state.read() == {"n": 2}
        assert state.verify().ok


def test_a_part_that_is_restored_without_a_version_gives_none(path):
    state = PipelineState(path)
    state.write({"a": 1})
    state.write({"a": 2})
    plain = PipelineState(path, backup_before_write=False)
    path.write_text('{"a": 7}')

    assert plain.restore(1, pointer="/a") is None
    assert plain.read() == {"a": 1}
