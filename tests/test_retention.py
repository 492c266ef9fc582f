"""Retention: versions beyond the window are forgotten on purpose, their lines of the audit trail never."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from oracle import (
    GIT,
    KILLED,
    Call,
    Tell,
    counted,
    dying_before,
    file_calls,
    files_of_store,
    fork,
    forks,
    fresh,
    git,
    git_environment,
    judge_disk,
    leave,
    moves_branch,
    needs_git,
)

from gitstate import (
    PipelineState,
    PruneReport,
    StateConflictError,
    StateLockError,
    StateReadError,
    VersionNotFoundError,
    VersionPrunedError,
    audit,
)
from gitstate.draft import ARCHIVE
from gitstate.journal import read_all
from gitstate.repository import Repository


@pytest.fixture
def keeping(path: Path) -> Callable[..., PipelineState]:
    """A state that keeps `window` versions before the current one, with so many versions."""

    def made(window: int | None, versions: int) -> PipelineState:
        state = PipelineState(path, max_backups=window)
        for number in range(1, versions + 1):
            state.write({"n": number})
        return state

    return made


def serials(state: PipelineState) -> list[int]:
    return [version.serial for version in state.log()]


def image(path: Path) -> dict[str, bytes]:
    """Every file of the store, but for the locks."""
    found = (each for each in files_of_store(path) if each.is_file() and each.suffix != ".lock")
    return {str(each): each.read_bytes() for each in found}


# -- what is kept ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "left"), [(0, [9]), (1, [9, 8]), (3, [9, 8, 7, 6])])
def test_the_current_version_and_the_window_before_it_are_kept(keeping, window, left):
    state = keeping(window, 9)

    report = state.prune()

    assert report.versions == range(1, 9 - window)
    assert serials(state) == left
    assert [version.read()["n"] for version in state.log()] == left
    assert [version.serial for version in state.list_backups()] == left[1:]
    judge_disk(state)


@pytest.mark.parametrize("window", [None, 9, 8])
def test_nothing_goes_that_is_in_the_window(keeping, window):
    state = keeping(window, 9)

    assert state.prune() == PruneReport(range(1, 1) if window else range(0), ())

    assert serials(state) == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    judge_disk(state)


def test_a_state_that_nobody_wrote_yet_has_nothing_to_forget(state, path):
    assert not state.prune().versions
    assert not state.prune(dry_run=True).versions
    assert os.listdir(path.parent) == []


def test_closing_prunes_what_was_written(keeping, path):
    with keeping(2, 9):
        pass

    assert serials(fresh(path)) == [9, 8, 7]


def test_who_only_looks_prunes_nothing(keeping, path):
    leave(keeping(None, 9))
    with PipelineState(path, max_backups=2) as looks:
        looks.read()
        assert [version.serial for version in looks.list_backups()] == [8, 7]

    assert serials(fresh(path)) == [9, 8, 7, 6, 5, 4, 3, 2, 1]


def test_who_only_looks_leaves_the_pruning_to_those_who_write(keeping, path):
    leave(keeping(2, 9))
    with PipelineState(path) as looks:
        assert looks.read() == {"n": 9}

    assert serials(fresh(path)) == [9, 8, 7, 6, 5, 4, 3, 2, 1]


def test_who_only_looks_prunes_nothing_though_another_handle_has_written(path):
    writes = PipelineState(path, max_backups=None)
    for number in range(1, 10):
        writes.write({"n": number})
    looks = PipelineState(path, max_backups=2)
    looks.read()
    looks.close()

    assert serials(fresh(path)) == [9, 8, 7, 6, 5, 4, 3, 2, 1]


@forks
def test_who_finishes_what_a_killed_writer_has_begun_prunes_nothing(path):
    def write_and_die(tell: Tell) -> None:
        state = PipelineState(path, max_backups=None)
        for number in range(1, 10):
            state.write({"n": number})
        with dying_before(moves_branch):
            state.write({"n": 10})

    assert fork(write_and_die).wait() == KILLED
    with PipelineState(path, max_backups=2) as looks:
        assert looks.read() == {"n": 10}

    assert len(serials(fresh(path))) == 10


def test_whose_only_transaction_failed_prunes_nothing(keeping, path):
    leave(keeping(None, 9))
    with (
        PipelineState(path, max_backups=2) as fails,
        pytest.raises(ZeroDivisionError),
        fails.transaction(),
    ):
        _ = 1 / 0

    assert len(serials(fresh(path))) == 9


def test_a_transaction_that_failed_leaves_the_window_as_it_is(keeping, path):
    leave(keeping(None, 9))
    with pytest.raises(ZeroDivisionError), PipelineState(path, max_backups=2).transaction():
        _ = 1 / 0
    with fresh(path) as unnamed:
        unnamed.write({"n": 10})

    assert len(serials(fresh(path))) == 10


def test_closing_prunes_though_a_checkpoint_came_just_before(keeping, path):
    with keeping(2, 9) as state:
        state.checkpoint()

    assert serials(fresh(path)) == [9, 8, 7]


def test_the_disk_is_given_back_by_closing_alone(path):
    for number in range(60):
        with PipelineState(path, max_backups=5) as state:
            state.write({"n": number, "noise": os.urandom(4000).hex()})

    assert serials(fresh(path)) == [*range(60, 54, -1)]
    sizes = [len(content) for name, content in image(path).items() if "/repo/" in name]
    assert sum(sizes) < 20 * 8000
    judge_disk(fresh(path))


def test_the_history_goes_on_where_it_was_pruned(keeping):
    state = keeping(2, 5)
    for number in range(6, 15):
        state.prune()
        assert state.write({"n": number}).serial == number
        assert serials(state) == [number, number - 1, number - 2, number - 3]
    judge_disk(state)


def test_a_window_that_becomes_larger_brings_nothing_back_and_keeps_what_comes(keeping, path):
    keeping(1, 5).close()
    with PipelineState(path, max_backups=10) as wider:
        for number in range(6, 10):
            wider.write({"n": number})

    assert serials(fresh(path)) == [9, 8, 7, 6, 5, 4]


def test_a_dry_run_says_what_would_go_and_changes_nothing(keeping, path):
    state = keeping(2, 9)
    state.create_backup("now")
    state.checkpoint()
    before = image(path)

    report = state.prune(dry_run=True)

    assert image(path) == before
    assert report == PruneReport(range(1, 7), ())
    assert state.prune().versions == report.versions


def test_the_space_is_given_back(path):
    with PipelineState(path, max_backups=1) as state:
        for _ in range(8):
            state.write({"noise": os.urandom(20_000).hex()})
        state.checkpoint()
        before = sum(map(len, image(path).values()))

        report = state.prune()

        after = sum(map(len, image(path).values()))
    assert report.freed > 100_000
    assert before - after > 100_000
    assert len(list((path.parent / ".pipeline/repo/objects/pack").glob("*.pack"))) == 1


def test_a_prune_forgets_no_more_than_was_planned(keeping):
    state = keeping(5, 20)
    planned = state.prune(dry_run=True)
    state.write({"n": 21})

    assert state.prune(dry_run=True).versions.stop == planned.versions.stop + 1
    assert state.prune(planned=planned, dry_run=True) == planned
    assert state.prune(planned=planned).versions == planned.versions
    assert min(version.serial for version in state.log()) == planned.versions.stop


def test_a_dry_run_says_nothing_of_a_version_that_has_lost_its_name_and_the_prune_gives_it_back(
    path,
):
    with PipelineState(path, max_backups=1) as state:
        state.write({"noise": os.urandom(20_000).hex()})
        state.create_backup("keep")
        for number in range(4):
            state.write({"n": number})
        state.prune()
        state.delete_backup("keep")

        assert state.prune(dry_run=True) == PruneReport(range(4, 4), ())

        report = state.prune()
        assert not report.versions
        assert report.freed > 10_000


# -- named backups -----------------------------------------------------------------------------------------------------


def test_a_named_version_stays_until_its_name_is_taken_away(keeping):
    state = keeping(1, 3)
    state.create_backup("keep")
    for number in range(4, 9):
        state.write({"n": number})
    named = state.list_backups(None)[-1]

    report = state.prune()

    assert report.kept == ("keep",)
    assert serials(state) == [8, 7]
    assert [version.serial for version in state.list_backups(None)] == [7, 3]
    for name in ("keep", 3, named.id, named.short_id, named, "HEAD~5"):
        assert state.read(at=name) == {"n": 3}
    judge_disk(state)
    assert state.restore_backup("keep")

    state.delete_backup("keep")
    state.prune()

    for name in (3, named.id, named):
        with pytest.raises(VersionPrunedError):
            state.read(at=name)
    with pytest.raises(VersionNotFoundError):
        state.read(at="keep")
    judge_disk(state)


@needs_git
def test_a_named_version_stands_alone(keeping):
    state = keeping(1, 5)
    state.create_backup("keep")
    for number in range(6, 10):
        state.write({"n": number})

    state.prune()

    assert git(state, "rev-list", "--count", "refs/backups/keep").strip() == b"1"
    assert git(state, "rev-list", "--count", "--all", "--not", "--glob=refs/audit").strip() == b"3"


def test_a_name_that_is_taken_away_leaves_a_version_of_the_window(keeping):
    state = keeping(5, 2)
    state.create_backup("keep")

    state.delete_backup("keep")

    assert serials(state) == [2, 1]
    assert state.create_backup("keep").serial == 2
    assert state.read(at="keep") == {"n": 2}


@pytest.mark.parametrize("packed", [False, True])
def test_a_name_goes_wherever_git_keeps_it(keeping, packed):
    state = keeping(5, 2)
    for name in ("one", "two", "three"):
        state.create_backup(name)
    if packed and GIT:
        git(state, "pack-refs", "--all")

    state.delete_backup("two")

    with pytest.raises(VersionNotFoundError):
        state.read(at="two")
    assert state.read(at="one") == state.read(at="three") == {"n": 2}
    assert not (state.git_dir / "packed-refs.lock").exists()
    judge_disk(state)


@pytest.mark.parametrize("name", ["nothing", "", "a/b", "../heads/main", "HEAD", 1, None])
def test_a_name_that_is_none_cannot_be_taken_away(keeping, path, name):
    state = keeping(5, 2)
    state.create_backup("keep")
    before = image(path)

    with pytest.raises(VersionNotFoundError):
        state.delete_backup(name)

    assert image(path) == before


def test_a_name_is_taken_away_though_the_state_file_is_broken(keeping, path):
    state = keeping(5, 2)
    state.create_backup("keep")
    path.write_text("{")

    state.delete_backup("keep")

    assert path.read_text() == "{"
    with pytest.raises(VersionNotFoundError):
        state.read(at="keep")


# -- the audit trail ---------------------------------------------------------------------------------------------------


@pytest.fixture
def short_files(monkeypatch):
    """Archives of three lines a file, of which two are written at once."""
    monkeypatch.setattr(audit, "LINES_OF_A_FILE", 3)
    monkeypatch.setattr("gitstate.retention._VERSIONS_AT_ONCE", 3)


@pytest.mark.usefixtures("short_files")
@pytest.mark.parametrize("steps", [[20], [2, 3, 4, 11], [7, 13]])
def test_not_a_line_of_the_audit_trail_is_lost(keeping, steps):
    state = keeping(1, 0)
    for number in range(1, sum(steps) + 1):
        state.write({"n": number}, message=f"line {number}\n\nand more")
        if number % 4 == 0:
            with pytest.raises(ZeroDivisionError), state.transaction():
                _ = 1 / 0
        if number in {sum(steps[:n]) for n in range(1, len(steps) + 1)}:
            before = state.get_transaction_history(None)
            state.prune()
            assert state.get_transaction_history(None) == before
            assert state.get_transaction_history(7) == before[:7]
    assert serials(state) == [sum(steps), sum(steps) - 1]
    judge_disk(state)


def test_long_lines_make_small_files(path, monkeypatch):
    monkeypatch.setattr(audit, "BYTES_OF_A_FILE", 3000)
    monkeypatch.setattr(audit, "_BYTES_AT_ONCE", 10_000)
    with PipelineState(path, max_backups=0, schema=None) as state:
        for number in range(30):
            state.write({f"key {number} {each}": number for each in range(20)})
        before = state.get_transaction_history(None)
        state.prune()

        assert state.get_transaction_history(None) == before
        assert serials(state) == [30]
        judge_disk(state)


@needs_git
def test_damage_to_the_trail_of_failures_is_not_taken_for_a_prune(keeping):
    state = keeping(1, 0)
    for number in range(1, 9):
        state.write({"n": number})
        with pytest.raises(ZeroDivisionError), state.transaction():
            _ = 1 / 0
    state.prune()
    git(state, "unpack-objects", "-q", input=_packed(state))
    for pack in (state.git_dir / "objects/pack").glob("pack-*"):
        pack.unlink()
    third = git(state, "rev-parse", "refs/audit/failures~5").decode().strip()
    (state.git_dir / "objects" / third[:2] / third[2:]).unlink()

    with pytest.raises(StateReadError, match="is missing"):
        fresh(state.path).get_transaction_history(None)
    assert not fresh(state.path).verify().ok


def _packed(state: PipelineState) -> bytes:
    (pack,) = (state.git_dir / "objects/pack").glob("pack-*.pack")
    content = pack.read_bytes()
    pack.with_suffix(".idx").rename(pack.with_suffix(".aside"))
    pack.rename(pack.with_suffix(".other"))
    return content


@needs_git
@pytest.mark.usefixtures("short_files")
def test_stock_git_shows_the_archive_as_json_lines(keeping):
    state = keeping(1, 8)
    made = list(state.log())[::-1]
    trail = state.get_transaction_history(None)[::-1]
    state.prune()

    names = git(state, "ls-tree", "--name-only", "refs/audit/archive").decode().split()
    assert names == ["000000001.jsonl", "000000004.jsonl"]
    shown = b"".join(git(state, "show", f"refs/audit/archive:{name}") for name in names)
    lines = [json.loads(line) for line in shown.splitlines()]

    assert [line["serial"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line, version, expected in zip(lines, made, trail, strict=False):
        assert line == {
            **expected,
            "serial": version.serial,
            "author": version.author,
            "message": version.message,
        }


@pytest.mark.parametrize("damage", [b"", b"{}\n", b"[1]\n", b'{"serial": "1"}\n', b"\xff"])
@pytest.mark.usefixtures("short_files")
def test_a_damaged_archive_is_a_typed_error_and_verify_says_so(keeping, damage):
    state = keeping(1, 5)
    state.prune()
    blob = git(state, "hash-object", "-w", "--stdin", input=damage).decode().strip()
    listed = f"100644 blob {blob}\t000000001.jsonl\n".encode()
    tree = git(state, "mktree", input=listed).decode().strip()
    note = git(state, "log", "-1", "--format=%B", "refs/audit/archive")
    made = git(state, "commit-tree", tree, input=note).decode().strip()
    git(state, "update-ref", "refs/audit/archive", made)

    with pytest.raises(
        StateReadError, match=r"refs/audit/archive: 000000001\.jsonl cannot be used"
    ):
        state.get_transaction_history(None)
    assert not state.verify().ok


# -- what is pruned ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["serial", "hash", "prefix", "HEAD", "time", "version"])
def test_reading_a_pruned_version_names_the_nearest_that_is_kept(keeping, how):
    state = keeping(2, 9)
    version = next(v for v in state.log() if v.serial == 4)
    state.prune()
    name = {
        "serial": 4,
        "hash": version.id,
        "prefix": version.id[:10],
        "HEAD": "HEAD~5",
        "time": version.timestamp,
        "version": version,
    }[how]

    with pytest.raises(VersionPrunedError) as caught:
        state.read(at=name)

    assert caught.value.code == "version-pruned"
    assert caught.value.nearest == 7
    assert "The nearest that is kept is 7" in str(caught.value)
    if how != "time":
        with pytest.raises(VersionPrunedError):
            state.restore_backup(name)
        assert state.read() == {"n": 9}


def test_the_nearest_is_the_oldest_where_nothing_has_a_name(keeping):
    state = keeping(2, 20)
    state.prune()

    with pytest.raises(VersionPrunedError) as caught:
        state.read(at=2)

    assert caught.value.nearest == 18


def test_a_version_that_is_cut_cannot_be_read_though_it_is_still_there(keeping, path):
    state = keeping(40, 50)
    version = next(v for v in state.log() if v.serial == 9)
    state.close()
    state.write({"n": 51})
    version = next(v for v in state.log() if v.serial == 10)
    state.close()

    with pytest.raises(VersionPrunedError):
        version.read()
    with pytest.raises(VersionPrunedError):
        fresh(path).read(at=version.id)


def test_a_version_in_somebodys_hand_says_that_it_was_pruned(keeping):
    state = keeping(2, 9)
    version = next(v for v in state.log() if v.serial == 4)
    state.prune()

    with pytest.raises(VersionPrunedError, match="version 4 has been pruned"):
        version.read()


def test_before_the_first_version_there_was_none_pruned_or_not(keeping):
    state = keeping(2, 9)
    first = list(state.log())[-1].timestamp
    state.prune()

    with pytest.raises(VersionNotFoundError) as caught:
        state.read(at=first - timedelta(seconds=1))

    assert not isinstance(caught.value, VersionPrunedError)


def test_an_undo_ends_where_the_history_was_pruned(keeping):
    state = keeping(2, 9)
    state.prune()
    assert [state.undo().read()["n"] for _ in range(2)] == [8, 7]
    before = state.read()

    with pytest.raises(VersionPrunedError):
        state.undo()

    assert state.read() == before
    assert [state.redo().read()["n"] for _ in range(2)] == [8, 9]


def test_what_the_oldest_version_changed_is_known_by_its_message(path):
    with PipelineState(path, max_backups=1, schema=None) as state:
        for number in range(1, 5):
            state.write({"a": {"b": number}, "c": number // 3})
        state.prune()

        assert [version.serial for version in state.log(pointer="/a/b")] == [4, 3]
        assert [version.serial for version in state.log(pointer="/c")] == [3]


# -- stock git ---------------------------------------------------------------------------------------------------------


@needs_git
@pytest.mark.parametrize(
    "upkeep",
    [
        ["commit-graph", "write", "--reachable"],
        ["multi-pack-index", "write"],
        ["gc", "--prune=now"],
        ["repack", "-ad"],
        ["pack-refs", "--all"],
    ],
    ids=" ".join,
)
def test_stock_git_is_content_after_a_prune(keeping, tmp_path, upkeep):
    state = keeping(2, 9)
    state.create_backup("keep")
    for number in range(10, 15):
        state.write({"n": number})
    state.checkpoint()
    git(state, *upkeep)

    state.prune()

    for command in (
        ["fsck", "--strict", "--no-progress"],
        ["fsck", "--unreachable", "--no-reflogs", "--no-progress"],
    ):
        assert git(state, *command).strip() == b""
    assert git(state, "rev-list", "--count", "main").strip() == b"3"
    assert git(state, "show", "refs/backups/keep:pipeline.json") == b'{\n  "n": 9\n}\n'
    git(state, "gc", "--prune=now", "-q")
    clone = tmp_path / "clone"
    subprocess.run(
        [GIT, "clone", "-q", "--no-local", state.git_dir, clone],
        check=True,
        env=git_environment(),
        capture_output=True,
    )
    assert json.loads((clone / "pipeline.json").read_bytes()) == {"n": 14}
    assert state.write({"n": 15}).serial == 15
    judge_disk(state)


@needs_git
def test_what_somebody_has_tagged_stays_with_all_that_it_leads_to(keeping):
    state = keeping(1, 9)
    git(state, "tag", "mine", "main~4")

    state.prune()

    assert serials(state) == [9, 8]
    shown = git(state, "log", "--format=%s", "mine").decode().split("\n")
    assert len(shown) - 1 == 5
    judge_disk(state)


@needs_git
def test_a_boundary_that_is_somebody_elses_stays(keeping):
    state = keeping(1, 9)
    foreign = "\n".join(("tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904", f"parent {'1' * 40}"))
    who = "author a <b> 1 +0000\ncommitter a <b> 1 +0000\n\nforeign\n"
    content = f"{foreign}\n{who}".encode()
    git(state, "hash-object", "-t", "tree", "-w", "--stdin", input=b"")
    made = git(state, "hash-object", "-t", "commit", "-w", "--stdin", input=content)
    (state.git_dir / "shallow").write_bytes(made)
    git(state, "update-ref", "refs/heads/theirs", made.decode().strip())

    state.prune()

    assert made.decode().strip() in (state.git_dir / "shallow").read_text()
    assert serials(state) == [9, 8]
    assert git(state, "fsck", "--strict", "--no-progress").strip() == b""


@needs_git
def test_a_submodule_in_somebody_elses_branch_is_not_looked_for(keeping):
    state = keeping(1, 9)
    entry = f"160000 commit {'1' * 40}\tsub\n".encode()
    tree = git(state, "mktree", "--missing", input=entry).decode().strip()
    theirs = git(state, "commit-tree", "-m", "x", tree).decode().strip()
    git(state, "update-ref", "refs/heads/theirs", theirs)

    state.prune()

    assert serials(state) == [9, 8]
    assert git(state, "rev-parse", "theirs^{tree}").decode().strip() == tree
    assert git(state, "fsck", "--strict", "--no-progress").strip() == b""


@needs_git
def test_a_boundary_in_the_middle_of_what_is_kept_goes(keeping):
    state = keeping(9, 3)
    (state.git_dir / "shallow").write_text(f"{list(state.log())[1].id}\n")
    assert git(state, "rev-list", "--count", "main").strip() == b"2"

    state.prune()

    assert not (state.git_dir / "shallow").exists()
    judge_disk(state)


@needs_git
@pytest.mark.parametrize("received", [3, 6, 9])
def test_what_a_remote_has_not_received_is_kept(keeping, received):
    state = keeping(1, 9)
    git(state, "update-ref", "refs/remotes/origin/main", f"main~{9 - received}")

    report = state.prune()

    oldest = min(received, 8)
    assert serials(state) == [*range(9, oldest - 1, -1)]
    assert report.held == (("origin",) if oldest < 8 else ())
    judge_disk(state)


@needs_git
@pytest.mark.parametrize(
    "add", [("add",), ("add", "--mirror=push"), ("add", "--mirror=fetch")], ids=lambda add: add[-1]
)
@pytest.mark.parametrize("ends", ["pushed", "removed", "by hand"])
def test_a_remote_of_which_git_notes_nothing_has_received_nothing(
    keeping, add: tuple[str, ...], ends: str, path: Path, tmp_path: Path
) -> None:
    keeping(1, 9).close()
    state = fresh(path, max_backups=None)
    for number in range(10, 15):
        state.write({"n": number})
    remote = tmp_path / "remote.git"
    git(state, "clone", "-q", "--mirror", f"file://{state.git_dir}", str(remote))
    git(state, "remote", *add, "archive.2/a", str(remote))
    state = fresh(path, max_backups=1)

    for _ in range(2):
        assert state.prune(dry_run=True).held == ("archive.2/a",)
        assert state.prune().held == ("archive.2/a",)
        state.write({"n": "closed"})
        state.close()
        assert serials(fresh(path))[-1] == 8
    if ends == "removed":
        git(state, "remote", "remove", "archive.2/a")
    elif ends == "by hand":
        git(state, "update-ref", "refs/remotes/archive.2/a/main", "main")
    elif "add" in add[-1]:
        git(state, "push", "-q", "archive.2/a", "main")
    else:
        git(state, "push", "-q", str(remote), "main")  # of which Git notes nothing
    report = state.prune()

    newest = serials(state)[0]
    known = ends != "pushed" or add == ("add",)
    assert report.held == (() if known else ("archive.2/a",))
    assert serials(state)[-1] == (newest - 1 if known else 8)
    judge_disk(state)


@needs_git
def test_who_includes_a_config_with_remotes_in_the_repositorys_own_is_not_followed(
    keeping, tmp_path: Path
) -> None:
    state = keeping(1, 9)
    other = tmp_path / "other"
    other.write_text('[remote "elsewhere"]\n\turl = /nowhere\n')
    git(state, "config", "include.path", str(other))
    git(state, "config", "remote.pushDefault", "nobody")

    assert state.prune().held == ()

    assert serials(state) == [9, 8]


@pytest.mark.parametrize("damage", ["gone", "torn", "refused"])
def test_nothing_is_pruned_where_nobody_knows_which_remotes_there_are(
    keeping, damage: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = keeping(1, 9)
    state.checkpoint()
    config = state.git_dir / "config"
    content = config.read_bytes()
    if damage == "gone":
        config.unlink()
    elif damage == "torn":
        config.write_bytes(content + b'[remote "x')

    def refuse(call: Call) -> None:
        if damage == "refused" and call.target == str(config):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with file_calls(refuse, reading=True):
        for dry_run in (True, False):
            with pytest.raises(StateReadError) as caught:
                state.prune(dry_run=dry_run)
            assert caught.value.code == (
                "store-unreadable" if damage == "refused" else "config-damaged"
            )
            assert str(config) in str(caught.value)
        state.close()

    assert "could not be pruned" in caplog.text
    assert serials(fresh(path)) == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    config.write_bytes(content)
    assert fresh(path).prune().versions == range(1, 8)


@needs_git
def test_a_remote_that_has_something_else_has_received_nothing(keeping):
    state = keeping(1, 4)
    git(state, "update-ref", "refs/remotes/origin/main", "main~2")
    for number in range(5, 10):
        state.write({"n": number})
    tree = git(state, "rev-parse", "main^{tree}").decode().strip()
    theirs = git(state, "commit-tree", "-p", "main~6", "-m", "x", tree).decode().strip()
    git(state, "update-ref", "refs/remotes/origin/main", theirs)

    assert state.prune().held == ("origin",)

    assert serials(state) == [*range(9, 0, -1)]


@needs_git
@pytest.mark.parametrize(
    ("where", "left"),
    # What a remote has is where our history may begin.
    [("refs/tags/mine", 3), ("refs/heads/mine", 3), ("refs/remotes/origin/main", 1)],
)
def test_a_ref_between_an_older_end_of_the_history_and_the_next_stays_whole(keeping, where, left):
    state = keeping(3, 6)
    state.prune()
    git(state, "update-ref", where, "main~1")
    for number in range(7, 13):
        state.write({"n": number})

    state.prune()
    state.prune()

    kept = git(state, "log", "--format=%s", where).decode().splitlines()
    assert len(kept) == left
    git(state, "gc", "--prune=now", "-q")
    judge_disk(state)


@needs_git
def test_a_version_that_waits_to_be_given_back_can_still_be_tagged(keeping):
    state = keeping(40, 60)
    state.close()
    last = git(state, "rev-list", "--max-parents=0", "main").decode().strip()
    state.write({"n": 61})
    state.close()
    assert last not in git(state, "rev-list", "main").decode()

    git(state, "tag", "late", last)
    state.write({"n": 62})
    state.prune()

    assert len(git(state, "log", "--format=%s", "late").splitlines()) == 1
    git(state, "gc", "--prune=now", "-q")
    judge_disk(state)


@needs_git
def test_what_a_checkout_names_stays(keeping, path, tmp_path):
    state = keeping(1, 3)
    git(state, f"--work-tree={path.parent}", "checkout", "main~1", "--", "pipeline.json")
    git(state, "worktree", "add", "--detach", str(tmp_path / "tree"), "main~2")
    for number in range(4, 9):
        state.write({"n": number})

    state.prune()

    assert serials(state) == [9, 8]  # the checkout was an edit
    for command in (["gc", "--prune=now", "-q"], ["repack", "-adq"], ["fsck", "--strict"]):
        git(state, *command)
    assert json.loads((tmp_path / "tree/pipeline.json").read_bytes()) == {"n": 1}


@needs_git
def test_the_sides_of_a_conflict_in_a_checkout_stay(keeping, path):
    state = keeping(1, 3)
    blobs = [git(state, "rev-parse", f"main~{n}:pipeline.json").decode().strip() for n in (1, 2)]
    stages = f"100644 {blobs[0]} 1\tpipeline.json\n100644 {blobs[1]} 2\tpipeline.json\n"
    work = f"--work-tree={path.parent}"
    git(state, work, "update-index", "--index-info", input=stages.encode())
    for number in range(4, 9):
        state.write({"n": number})

    state.prune()

    assert [git(state, "cat-file", "-p", blob) for blob in blobs] == [
        b'{\n  "n": 2\n}\n',
        b'{\n  "n": 1\n}\n',
    ]
    git(state, "gc", "--prune=now", "-q")


@needs_git
def test_a_name_that_git_holds_goes_at_the_next_use(keeping, path, caplog):
    state = keeping(5, 3)
    state.create_backup("keep")
    lock = state.git_dir / "packed-refs.lock"
    lock.touch()

    state.delete_backup("keep")

    assert "the Git history follows at the next use" in caplog.text
    with pytest.raises(VersionNotFoundError):
        state.read(at="keep")
    lock.unlink()
    state.write({"n": 4})
    assert git(state, "for-each-ref", "refs/backups").strip() == b""
    judge_disk(state)


def test_an_index_that_cannot_be_read_keeps_everything(keeping):
    state = keeping(1, 9)
    (state.git_dir / "index").write_bytes(b"no index at all")

    with pytest.raises(StateReadError, match="the index of a work tree cannot be read"):
        state.prune()

    assert serials(state) == [9, 8]
    (state.git_dir / "index").unlink()
    state.prune()
    judge_disk(state)


def test_space_is_given_back_though_somebody_commits_meanwhile(keeping, monkeypatch):
    state = keeping(1, 9)
    rewrite = Repository.rewrite

    def committing(self: Repository, *arguments: Any) -> Any:
        state.write({"n": 10})
        return rewrite(self, *arguments)

    monkeypatch.setattr(Repository, "rewrite", committing)

    assert state.prune().freed > 0
    assert counted(version.read() for version in state.log()) == [10, 9, 8]
    judge_disk(state)


@needs_git
@forks
def test_what_somebody_names_while_a_prune_is_at_work_stays(keeping, monkeypatch):
    state = keeping(1, 9)
    state.checkpoint()
    third = git(state, "rev-parse", "main~6").decode().strip()
    rewrite = Repository.rewrite

    def naming(self: Repository, *arguments: Any) -> Any:
        git(state, "tag", "mine", third)
        fork(lambda tell: tell(bool(fresh(state.path).write({"n": 10})))).finish()
        return rewrite(self, *arguments)

    monkeypatch.setattr(Repository, "rewrite", naming)
    assert state.prune().freed == 0
    monkeypatch.undo()
    assert read_all(state.git_dir.parent)[1] == []  # what came meanwhile was packed

    assert state.prune().versions == range(8, 9)
    assert len(git(state, "log", "--format=%s", "mine").splitlines()) == 3
    judge_disk(state)


def test_a_disk_that_is_full_behind_a_prune_does_not_take_back_what_the_prune_says(
    keeping, monkeypatch, caplog
):
    state = keeping(1, 9)
    collect, done = Repository.collect, []

    def collecting(self: Repository, *arguments: Any) -> None:
        collect(self, *arguments)
        done.append(True)

    def refuse(call: Call) -> None:
        if done and call.name == "mkdir":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Repository, "collect", collecting)
    with file_calls(refuse):
        report = state.prune()

    assert report.versions == range(1, 8)
    assert report.freed > 0
    assert "the journal could not be packed" in caplog.text
    judge_disk(state)


@needs_git
@pytest.mark.parametrize("versions", [3, 9])
def test_a_boundary_that_makes_no_sense_is_made_anew(keeping, versions):
    state = keeping(7, versions)
    (state.git_dir / "shallow").write_bytes(b"garbage")
    assert not state.verify().ok

    state.prune()

    judge_disk(state)


@needs_git
def test_an_object_that_nothing_names_goes_when_it_is_old(keeping):
    state = keeping(1, 9)
    ids = [
        git(state, "hash-object", "-w", "--stdin", input=content).decode().strip()
        for content in (b"old", b"young")
    ]
    old, young = (state.git_dir / "objects" / each[:2] / each[2:] for each in ids)
    os.utime(old, (0, 0))

    state.prune()

    assert not old.exists()
    assert young.exists()


@needs_git
def test_a_split_commit_graph_goes_before_what_it_names(keeping):
    state = keeping(2, 9)
    state.checkpoint()
    git(state, "commit-graph", "write", "--reachable", "--split")

    state.prune()

    assert git(state, "fsck", "--strict", "--no-progress").strip() == b""
    judge_disk(state)


@needs_git
def test_a_ref_that_names_another_is_no_hindrance(keeping):
    state = keeping(1, 9)
    git(state, "update-ref", "refs/remotes/origin/main", "main")
    git(state, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")

    assert [version.serial for version in state.list_backups()] == [8]
    state.prune()

    assert serials(state) == [9, 8]
    judge_disk(state)


@needs_git
def test_the_end_of_another_history_is_not_taken_for_ours(keeping, tmp_path):
    with PipelineState(tmp_path / "other" / "pipeline.json", max_backups=None) as other:
        for number in range(20):
            other.write({"theirs": number})
        other.checkpoint()
    state = keeping(None, 9)
    state.checkpoint()
    remote = f"file://{other.git_dir}"
    git(state, "fetch", "-q", "--depth", "3", remote, "main:refs/heads/theirs")

    assert [state.read(at=serial) for serial in (5, "HEAD~3")] == [{"n": 5}, {"n": 6}]
    with pytest.raises(VersionNotFoundError):
        state.read(at=18)
    assert PipelineState(state.path, max_backups=1).prune().versions == range(1, 8)

    assert serials(state) == [9, 8]
    assert len(git(state, "log", "--format=%s", "theirs").splitlines()) == 3
    judge_disk(state)


@needs_git
@pytest.mark.parametrize("content", [None, b"", b"garbage\n"])
def test_versions_are_found_without_the_file_by_which_git_knows_where_history_begins(
    keeping, content
):
    state = keeping(1, 3)
    state.create_backup("keep")
    for number in range(4, 10):
        state.write({"n": number})
    state.prune()
    shallow = state.git_dir / "shallow"
    shallow.unlink()
    if content is not None:
        shallow.write_bytes(content)

    again = fresh(state.path)
    assert serials(again) == [9, 8]
    assert again.read(at=8) == {"n": 8}
    assert again.read(at=3) == {"n": 3}
    assert len(again.get_transaction_history(None)) == 9
    assert not again.verify().ok
    shallow.unlink(missing_ok=True)
    again.prune()

    judge_disk(again)


@needs_git
def test_a_name_does_not_come_back_by_a_git_that_was_just_packing_refs(keeping, path):
    state = keeping(1, 3)
    state.create_backup("gold")
    state.checkpoint()
    packed = state.git_dir / "packed-refs"
    lock = state.git_dir / "packed-refs.lock"
    at = git(state, "rev-parse", "refs/backups/gold").decode().strip()
    lock.write_text("")  # as `git pack-refs` holds it while it reads the loose ones

    def publish() -> None:
        lock.write_text(f"# pack-refs with: peeled fully-peeled sorted\n{at} refs/backups/gold\n")
        lock.rename(packed)

    timer = threading.Timer(0.05, publish)
    timer.start()
    state.delete_backup("gold")
    timer.join()

    with pytest.raises(VersionNotFoundError):
        state.read(at="gold")
    assert git(state, "for-each-ref", "refs/backups").strip() == b""


@needs_git
def test_a_fetch_that_tells_git_that_history_ends_within_the_window_costs_nothing(
    keeping, tmp_path
):
    state = keeping(5, 9)
    state.checkpoint()
    remote = tmp_path / "remote.git"
    git(state, "clone", "-q", "--mirror", str(state.git_dir), str(remote))
    git(state, "fetch", "-q", "--depth", "2", f"file://{remote}", "main:refs/heads/theirs")
    assert any("Git believes that history ends" in line for line in state.verify().problems)

    state.write({"n": 10})
    state.prune()

    assert serials(state) == [10, 9, 8, 7, 6, 5]
    assert [version.read()["n"] for version in state.log()] == [10, 9, 8, 7, 6, 5]
    assert len(state.get_transaction_history(None)) == 10
    judge_disk(state)


@needs_git
@pytest.mark.parametrize("where", ["refs/audit/failures~2", "refs/tags/mine~2"])
def test_damage_is_not_taken_for_the_end_of_history(keeping, where):
    state = keeping(2, 0)
    for number in range(1, 10):
        state.write({"n": number})
        with pytest.raises(ZeroDivisionError), state.transaction():
            _ = 1 / 0
    git(state, "tag", "mine", "main~4")
    state.checkpoint()
    lost = git(state, "rev-parse", where).decode().strip()
    git(state, "unpack-objects", "-q", input=_packed(state))
    (state.git_dir / "objects" / lost[:2] / lost[2:]).unlink()
    for each in (state.git_dir / "objects/pack").glob("*"):
        each.unlink()
    there = ("cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    before = set(git(state, *there).split())

    again = fresh(state.path, max_backups=2)
    with pytest.raises(StateReadError, match=lost):
        again.prune()

    assert before <= set(git(state, *there).split())
    assert any(lost in line for line in again.verify().problems)


@needs_git
@pytest.mark.parametrize("what", ["log", "ref"])
def test_what_only_a_work_tree_remembers_stays(keeping, tmp_path, what):
    state = keeping(1, 3)
    tree = tmp_path / "tree"
    git(state, "worktree", "add", "--detach", str(tree), "main~1")
    inside = Path((tree / ".git").read_text().partition(": ")[2].strip())
    old = git(state, "rev-parse", "main~1").decode().strip()
    if what == "ref":
        (inside / "refs/bisect").mkdir(parents=True, exist_ok=True)
        (inside / "refs/bisect/bad").write_text(old + "\n")
    for number in range(4, 9):
        state.write({"n": number})
    # Its HEAD is at the newest one from here on, and keeps nothing else.
    checkout = [GIT, "checkout", "-q", "--detach", "main"]
    subprocess.run(checkout, cwd=tree, check=True, env=git_environment())

    state.prune()

    assert git(state, "cat-file", "-t", old).strip() == b"commit"
    git(state, "gc", "--prune=now", "-q")


# -- others at it ------------------------------------------------------------------------------------------------------


@forks
def test_a_handle_that_looked_before_sees_what_another_process_has_pruned(keeping, path):
    state = keeping(None, 9)
    assert serials(state) == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    walking = state.log()
    assert next(walking).serial == 9

    def prune(tell: Tell) -> None:
        PipelineState(path, max_backups=2).prune()

    fork(prune).finish()

    assert [version.serial for version in walking][:2] == [8, 7]  # as it was when that began
    assert serials(state) == [9, 8, 7]
    with pytest.raises(VersionPrunedError):
        state.read(at=3)
    with pytest.raises(VersionPrunedError):
        state.restore_backup(3)
    assert state.write({"n": 10}).serial == 10
    judge_disk(state)


@forks
def test_writers_beside_prunes_lose_nothing(path):
    with PipelineState(path, max_backups=3, schema=None) as first:
        first.write({"n": 0})
    writers, each = 3, 40

    def write(tell: Tell) -> None:
        state = PipelineState(path, schema=None)
        for _ in range(each):
            with state.transaction() as txn:
                txn.data["n"] += 1
            tell(txn.version.id)

    def prune(tell: Tell) -> None:
        state = PipelineState(path, schema=None)
        tell("ready")
        for _ in range(25):
            state.prune()

    children = [fork(write) for _ in range(writers)] + [fork(prune) for _ in range(2)]
    told = [child.finish() for child in children]

    state = fresh(path)
    assert state.read() == {"n": writers * each}
    promised = {made for each in told[:writers] for made in each}
    trail = [line["commit"] for line in state.get_transaction_history(None)]
    assert promised <= set(trail)
    assert len(trail) == len(set(trail)) == writers * each + 1
    state.prune()
    assert counted(version.read() for version in state.log()) == [120, 119, 118, 117]
    judge_disk(state)


@pytest.fixture
def upkeep(path: Path) -> Callable[[], AbstractContextManager[None]]:
    """Another process that is at the upkeep of the store for a block."""
    program = (
        "import sys, filelock\n"
        "with filelock.FileLock(sys.argv[1]):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )

    @contextmanager
    def held() -> Iterator[None]:
        lock = path.parent / ".pipeline/maintenance.lock"
        with subprocess.Popen(
            [sys.executable, "-c", program, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            assert other.stdin is not None
            assert other.stdout.readline() == b"held\n"
            yield
            other.stdin.close()

    return held


def test_a_prune_waits_for_others_at_the_upkeep_and_says_so_when_it_gives_up(keeping, path, upkeep):
    state = keeping(1, 9)
    state.checkpoint()
    for timeout in (0.05, 0):
        with upkeep(), pytest.raises(StateLockError):
            PipelineState(path, timeout=timeout).prune()

    assert serials(state) == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert state.prune().versions == range(1, 8)


def test_closing_waits_for_nobody_at_the_upkeep(keeping, path, upkeep):
    state = keeping(1, 9)
    state.checkpoint()
    with upkeep():
        state.close()

    assert serials(fresh(path)) == [9, 8, 7, 6, 5, 4, 3, 2, 1]


def test_the_list_of_the_window_does_not_wait_for_a_prune(keeping):
    state = keeping(2, 9)

    assert [version.serial for version in state.list_backups()] == [8, 7]


@needs_git
def test_a_branch_that_somebody_moved_is_not_pruned(keeping):
    state = keeping(1, 5)
    state.checkpoint()
    tree = git(state, "rev-parse", "main^{tree}").decode().strip()
    theirs = git(state, "commit-tree", "-p", "main", "-m", "x", tree).decode().strip()
    git(state, "update-ref", "refs/heads/main", theirs)
    count = git(state, "rev-list", "--count", "main")

    with pytest.raises((StateConflictError, StateReadError)):
        fresh(state.path).prune()

    assert git(state, "rev-list", "--count", "main") == count


@needs_git
def test_an_archive_that_somebody_moved_is_not_gone_on_with(keeping):
    path = keeping(12, 14).path
    fresh(path).prune()
    older = git(fresh(path), "rev-parse", ARCHIVE).decode().strip()
    with fresh(path) as state:
        state.write({"n": 15})
    newer = git(state, "rev-parse", ARCHIVE).decode().strip()
    assert newer != older
    git(state, "update-ref", ARCHIVE, older)

    with fresh(path) as state:
        state.write({"n": 16})
        with pytest.raises(StateConflictError) as caught:
            state.prune()

    assert caught.value.code == "ref-moved"
    assert git(state, "rev-parse", ARCHIVE).decode().strip() == older
    with fresh(path) as state:
        state.write({"n": 17})
        git(state, "update-ref", ARCHIVE, newer)
    assert serials(fresh(path)) == list(range(17, 4, -1))
    judge_disk(fresh(path))
