"""Repair: which history it is that goes on, and what is kept of all that does not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from oracle import fresh, git, journal_of, leave, needs_git
from wrecks import (
    flip,
    judge_repaired,
    loose_file,
    numbers,
    other_store,
    pruned,
    small,
    take_in,
    unpack,
)

from gitstate import (
    PipelineState,
    RepairReport,
    StateReadError,
    StateWriteError,
    VersionPrunedError,
)

pytestmark = needs_git


def operations(state: PipelineState) -> list[str]:
    return [line["operation"] for line in state.get_transaction_history(None)]


def forget_where_it_was(path: Path) -> None:
    """Takes away all that says where the branch was, but its ref."""
    journal_of(path).unlink()
    (path.parent / ".pipeline/serials").unlink(missing_ok=True)


@pytest.mark.parametrize("edited", [False, True])
def test_where_only_the_ref_is_left_it_is_believed(edited: bool, path: Path):
    state = pruned(path)
    before = operations(state)
    state.close()
    forget_where_it_was(path)
    if edited:
        path.write_text('{"n": "edited"}')

    report = fresh(path).repair()

    assert report.ok
    assert numbers(fresh(path))[-3:] == [10, 9, 8]
    assert operations(fresh(path))[-len(before) :] == before
    judge_repaired(path, {})


def test_a_journal_that_is_older_than_the_refs_takes_nothing_back(path: Path, tmp_path: Path):
    """As in a copy that was made beside a writer."""
    state = small(path)
    older = journal_of(path).read_bytes()
    for number in (7, 8):
        state.write({"n": number})
    with pytest.raises(ZeroDivisionError), state.transaction():
        _ = 1 / 0
    state.write({"n": 9})
    before = operations(state)
    leave(state)
    journal_of(path).write_bytes(older)

    report = fresh(path).repair()

    assert report.ok
    assert numbers(fresh(path)) == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert operations(fresh(path)) == before
    judge_repaired(path, {})


def test_a_branch_put_back_to_a_pruned_version_is_not_believed(path: Path):
    """A tag held on to that version, so that it can still be read."""
    state = pruned(path)
    before = operations(state)
    state.close()
    forget_where_it_was(path)
    git(state, "update-ref", "refs/heads/main", "refs/tags/fourth")
    unpack(state)
    loose_file(state, "refs/tags/fourth~1:pipeline.json").write_bytes(b"")

    report = fresh(path).repair()

    assert report.ok
    assert numbers(fresh(path))[-3:] == [10, 9, 8]
    assert operations(fresh(path))[-len(before) :] == before
    judge_repaired(path, {})


def lose_all_states(path: Path, state: PipelineState) -> None:
    unpack(state)
    for version in state.log():
        loose_file(state, f"{version.id}:{path.name}").unlink(missing_ok=True)
    journal_of(path).unlink()


def test_where_no_state_is_left_the_state_file_is_one_behind_them_and_the_lines_stay(path: Path):
    state = fresh(path, max_backups=2)
    for number in range(1, 11):
        state.write({"n": number})
    state.prune()
    before = operations(state)
    lose_all_states(path, state)
    path.write_text('{"n": "left"}')

    report = fresh(path).repair()

    assert [line.split(" (")[0] for line in report.lost] == [
        "version 8",
        "version 9",
        "version 10",
    ]
    state = fresh(path)
    assert [version.serial for version in state.log()] == [11]
    assert state.read(at="HEAD") == {"n": "left"}
    assert operations(state) == ["repair_commit", *before]
    for number in range(3):
        state.write({"n": number})
    leave(state)
    # What is damaged later is mended without a look back.
    (state.git_dir / "HEAD").unlink()
    judge_repaired(path, {})
    assert operations(fresh(path))[-len(before) :] == before


def test_lines_of_versions_whose_states_are_lost_behind_the_newest_stay(path: Path):
    state = small(path)
    before = operations(state)
    state.close()
    unpack(state)
    for name in ("HEAD", "HEAD~1"):
        loose_file(state, f"{name}:{path.name}").unlink()
    path.write_text('{"n": "edited"}')

    fresh(path).repair()

    state = fresh(path)
    assert numbers(state) == ["edited", 4, 3, 2, 1]
    assert sorted(operations(state)) == sorted(["external_edit_commit", *before])
    judge_repaired(path, {})


def test_what_is_whole_in_a_damaged_record_is_taken_out_of_it(path: Path):
    """Such a record by itself is as one that was torn, and the state file has what it brought."""
    state = small(path)
    state.write({"n": 7, "text": "x" * 100})
    before = [version.id for version in state.log()]
    unpack(state)
    for name in (f"HEAD~5:{path.name}", f"HEAD:{path.name}", "HEAD"):
        loose_file(state, name).unlink()
    journal = journal_of(path)
    leave(state)
    # In the name of a ref, so that the record's sum is wrong and its objects are right.
    flip(journal, journal.read_bytes().rindex(b"refs/heads/main"))

    report = fresh(path).repair()

    assert [line.split(" (")[0] for line in report.lost] == ["version 2"]
    assert [version.id for version in fresh(path).log()] == before[:5]
    judge_repaired(path, {})


def test_somebody_elses_archive_is_not_taken_for_a_lost_one(path: Path, tmp_path: Path):
    state = pruned(path)
    before = state.get_transaction_history(None)
    state.close()
    other = other_store(tmp_path / "other", 14)
    fresh(other.path, schema=None, max_backups=1).prune()
    git(state, "fetch", "-q", str(other.git_dir), "refs/audit/archive")
    (state.git_dir / "FETCH_HEAD").unlink()
    git(state, "update-ref", "-d", "refs/audit/archive")
    forget_where_it_was(path)

    fresh(path).repair()

    assert fresh(path).get_transaction_history(None) == before
    assert numbers(fresh(path)) == [10, 9, 8]
    judge_repaired(path, {})


def test_failures_that_were_put_behind_a_hole_are_not_told_twice(path: Path, tmp_path: Path):
    state = fresh(path)
    for number in range(1, 5):
        state.write({"n": number})
        with pytest.raises(ZeroDivisionError), state.transaction():
            _ = 1 / 0
    state.close()
    unpack(state)
    copy = tmp_path / "copy"
    loose_file(state, "refs/audit/failures~2").unlink()
    shutil.copytree(state.git_dir, copy)
    forget_where_it_was(path)
    fresh(path).repair()
    joined = operations(fresh(path))
    assert joined.count("transaction_rollback") == 3
    unpack(state)
    loose_file(state, "refs/audit/failures~1").unlink()

    fresh(path).repair(copy)

    assert operations(fresh(path)) == joined
    judge_repaired(path, {})


@pytest.mark.parametrize("store", ["gone", "empty", "whole but for the repository"])
def test_another_repository_is_enough(store: str, path: Path, tmp_path: Path):
    state = pruned(path)
    take_in(state)
    before = operations(state)
    state.close()
    names = {name: version.id for name, version in state._parts.history.named().items()}
    mirror = tmp_path / "mirror"
    shutil.copytree(state.git_dir, mirror)
    if store == "whole but for the repository":
        shutil.rmtree(state.git_dir)
        journal_of(path).unlink()
    else:
        shutil.rmtree(state.git_dir.parent)
        if store == "empty":
            state.git_dir.parent.mkdir(mode=0o700)

    report = fresh(path).repair(mirror)

    assert report.ok, report
    state = fresh(path)
    assert numbers(state) == [10, 9, 8]
    assert operations(state) == before
    assert {name: state._parts.history.named()[name].id for name in names} == names
    judge_repaired(path, {})


def test_an_archive_that_no_ref_names_is_ours_only_if_it_has_our_versions(
    path: Path, tmp_path: Path
):
    state = small(path)
    before = operations(state)
    state.close()
    theirs = pruned_other(tmp_path / "other")
    git(state, "fetch", "-q", str(theirs.git_dir), "refs/audit/archive")
    journal_of(path).unlink()

    report = fresh(path).repair()

    assert report.ok
    assert numbers(fresh(path)) == [6, 5, 4, 3, 2, 1]
    assert operations(fresh(path)) == before
    judge_repaired(path, {})


def pruned_other(folder: Path) -> PipelineState:
    state = other_store(folder)
    fresh(state.path, max_backups=2, schema=None).close()
    state = PipelineState(state.path, max_backups=2, schema=None)
    state.prune()
    return state


def test_a_pruned_version_does_not_come_back(path: Path):
    state = fresh(path, max_backups=6)
    for number in range(1, 9):
        state.write({"n": number})
    state.close()
    for number in range(9, 20):
        state.write({"n": number})
        state.close()
        # An end of an earlier window stays until space is given back.
        if len((state.git_dir / "shallow").read_text().split()) > 1:
            break
    else:
        pytest.fail("no end of an earlier window is left")
    (state.git_dir / "HEAD").unlink()

    report = fresh(path).repair()

    assert report.ok
    assert not fresh(path)._parts.history.named()
    judge_repaired(path, {})


def store_with_garbage(path: Path) -> tuple[PipelineState, dict[str, str]]:
    """Two names, of versions that nothing else keeps; the objects of pruned ones lie around; and the ids of the names."""
    state = fresh(path, max_backups=2)
    for number in range(1, 11):
        state.write({"n": number})
        if number in {1, 5}:
            state.create_backup(f"name{number}")
    everything = git(state, "pack-objects", "-q", "--revs", "--all", "--stdout", input=b"")
    state.close()
    state.prune()
    git(state, "unpack-objects", "-q", input=everything)
    assert (state.git_dir / "shallow").read_text().count("\n") == 2  # version 1 is an end by itself
    return state, named(path)


def named(path: Path) -> dict[str, str]:
    return {name: each.id for name, each in fresh(path)._parts.history.named().items()}


def put(state: PipelineState, name: str, at: str, *, packed: bool) -> None:
    """Writes an id to where that of a name stands."""
    if packed:
        git(state, "pack-refs", "--all")
        file = state.git_dir / "packed-refs"
        rows = file.read_text().splitlines(keepends=True)
        file.write_text("".join(f"{at} {name}\n" if name in row else row for row in rows))
    else:
        (state.git_dir / name).write_text(f"{at}\n")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("digits", [1, 3])
def test_a_name_with_a_damaged_digit_is_at_its_version_again(digits: int, packed: bool, path: Path):
    state, before = store_with_garbage(path)
    leave(state)
    at = before["name5"]
    damaged = "".join(f"{int(digit, 16) ^ 15:x}" for digit in at[:digits]) + at[digits:]
    put(state, "refs/backups/name5", damaged, packed=packed)

    report = fresh(path).repair()

    assert report.ok, report
    (told,) = (line for line in report.mended if line.startswith("refs/backups/name5: "))
    assert damaged in told
    assert at in told
    assert named(path) == before
    assert fresh(path).read(at="name5") == {"n": 5}
    with pytest.raises(VersionPrunedError):
        fresh(path).read(at=4)
    judge_repaired(path, {at: b'{\n  "n": 5\n}\n'})


def test_a_name_of_what_was_imported_is_mended_too(path: Path):
    state = small(path)
    take_in(state)
    state.close()
    before = named(path)
    name, at = next((name, at) for name, at in before.items() if name.startswith("import/"))
    put(state, f"refs/backups/{name}", at[:-1] + f"{int(at[-1], 16) ^ 1:x}", packed=True)

    report = fresh(path).repair()

    assert report.ok, report
    assert named(path) == before
    judge_repaired(path, {})


def test_what_a_name_kept_whose_id_is_lost_gets_another_name(path: Path):
    state, before = store_with_garbage(path)
    leave(state)
    put(state, "refs/backups/name5", "12" * 20, packed=True)

    report = fresh(path).repair()

    assert [line.split(":")[0] for line in report.lost] == ["refs/backups/name5"]
    assert named(path) == {"name1": before["name1"], "recovered-5": before["name5"]}
    judge_repaired(path, {before["name5"]: b'{\n  "n": 5\n}\n'})


def test_a_lost_version_that_had_a_name_brings_no_pruned_one_back(path: Path):
    """Its id is known, so that no name is in doubt: one that was deleted stays deleted, though nobody collected it yet."""
    state, before = store_with_garbage(path)
    state.delete_backup("name1")
    unpack(state)
    loose_file(state, before["name5"]).unlink()
    leave(state)

    report = fresh(path).repair()

    assert [line.split(":")[0] for line in report.lost] == ["refs/backups/name5"]
    assert before["name5"] in report.lost[0]
    assert named(path) == {}
    judge_repaired(path, {})


def test_a_hole_in_the_numbers_is_as_long_as_they_say(path: Path):
    state = small(path)
    state.close()
    commit = git(state, "cat-file", "commit", "HEAD").decode()
    made = git(
        state,
        *("hash-object", "-t", "commit", "-w", "--stdin"),
        input=commit.replace("Serial: 6", "Serial: 20")
        .replace(
            git(state, "rev-parse", "HEAD~1").decode().strip(),
            git(state, "rev-parse", "HEAD").decode().strip(),
        )
        .encode(),
    )
    git(state, "update-ref", "refs/heads/main", made.decode().strip())
    forget_where_it_was(path)

    report = fresh(path).repair()

    assert "versions 7 to 19: all of it is gone" in report.lost
    assert [version.serial for version in fresh(path).log()] == [20]
    judge_repaired(path, {})


def test_a_line_that_was_put_behind_another_one_is_one_line(path: Path):
    state = small(path)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), state.transaction():
            _ = 1 / 0
    state.write({"n": 7})
    state.close()
    for _ in range(2):
        unpack(state)
        loose_file(state, "refs/audit/failures").unlink()
        fresh(path).repair()
    lines = [
        line["timestamp"] for line in fresh(path).get_transaction_history() if not line["success"]
    ]

    assert len(lines) == len(set(lines)) == 2
    judge_repaired(path, {})


# -- what is somebody else's ---------------------------------------------------------------------------------------


def commit(state: PipelineState, *parents: str) -> str:
    """A commit that is none of gitstate's."""
    arguments = [each for parent in parents for each in ("-p", parent)]
    tree = git(state, "rev-parse", "HEAD^{tree}").decode().strip()
    made = git(state, "commit-tree", tree, *arguments, "-m", f"on {len(parents)}")
    return made.decode().strip()


@pytest.mark.parametrize("lost", ["the newest", "the ref", "one between"])
def test_what_is_left_of_somebodys_branch_is_kept(lost: str, path: Path):
    state = small(path)
    state.close()
    oldest = commit(state)
    older = commit(state, oldest)
    newer = commit(state, older)
    newest = commit(state, newer)
    git(state, "update-ref", "refs/heads/theirs", newest)
    if lost == "the ref":
        (state.git_dir / "refs/heads/theirs").write_text("torn")
    else:
        loose_file(state, newest if lost == "the newest" else newer).unlink()

    report = fresh(path).repair()

    assert any("heads/theirs" in line or "history ends there" in line for line in report.lost)
    fresh(path).prune()
    git(state, "gc", "-q", "--prune=now")
    for each in (oldest, older):
        assert git(state, "cat-file", "-t", each).decode().strip() == "commit"
    judge_repaired(path, {})


def test_a_name_for_the_branch_stays_while_the_journal_alone_knows_where_that_is(path: Path):
    state = small(path)
    git(state, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    at = git(state, "rev-parse", "HEAD")
    leave(state)
    (state.git_dir / "refs/heads/main").unlink()
    flip(next(state.git_dir.glob("objects/pack/*.idx")), 1100)

    assert fresh(path).repair().ok

    assert git(state, "rev-parse", "refs/heads/alias") == at
    judge_repaired(path, {})


def test_names_that_lead_to_each_other_are_put_aside_at_once(path: Path):
    state = small(path)
    state.close()
    for one, other in ("ab", "ba"):
        (state.git_dir / f"refs/heads/{one}").write_text(f"ref: refs/heads/{other}\n")

    report = fresh(path).repair()

    assert sorted(line.split(":")[0] for line in report.lost) == ["refs/heads/a", "refs/heads/b"]
    judge_repaired(path, {})


@pytest.mark.parametrize("lost", ["what it is at", "what that is built on"])
def test_a_work_tree_that_is_at_something_lost_is_put_aside(lost: str, path: Path, tmp_path: Path):
    state = small(path)
    state.close()
    base = commit(state)
    at = commit(state, base)
    git(state, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"), at)
    loose_file(state, at if lost == "what it is at" else base).unlink()
    assert not fresh(path).verify().ok

    report = fresh(path).repair()

    assert not report.ok
    assert (state.git_dir / "worktrees/tree").exists() == (lost != "what it is at")
    fresh(path).prune()
    judge_repaired(path, {})


# -- beside others -------------------------------------------------------------------------------------------------


def test_while_git_writes_the_packed_refs_it_is_refused_and_what_git_leaves_is_not_taken(
    path: Path,
):
    state = small(path)
    state.close()
    git(state, "pack-refs", "--all")
    (state.git_dir / "HEAD").unlink()
    beside = state.git_dir / "packed-refs.new"
    beside.write_bytes(b"")
    lock = state.git_dir / "packed-refs.lock"
    lock.write_bytes(b"")

    with pytest.raises(StateWriteError) as raised:
        fresh(path).repair()

    assert raised.value.code == "ref-locked"
    assert not list(state.git_dir.parent.glob("repair.*"))
    lock.unlink()
    assert fresh(path).repair().ok
    assert not beside.exists()
    judge_repaired(path, {})


def test_of_two_repairs_one_repairs(path: Path, monkeypatch: pytest.MonkeyPatch):
    state = small(path)
    state.close()
    (state.git_dir / "HEAD").unlink()
    other: list[RepairReport] = []
    maintaining = "gitstate.repair.mending.maintaining"
    from gitstate.checkpoint import maintaining as real

    def first(*arguments: object) -> object:
        if not other:
            other.append(RepairReport())
            other.append(fresh(path).repair())
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(maintaining, first)

    assert fresh(path).repair() == RepairReport()
    assert other[1].ok
    assert other[1].mended


def test_a_link_is_not_taken_for_a_repair_that_was_interrupted(path: Path, tmp_path: Path):
    state = small(path)
    state.close()
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "old").mkdir(parents=True)
    state.git_dir.rename(elsewhere / "repo")
    (state.git_dir.parent / f"repair.{'0' * 16}").symlink_to(elsewhere)

    with pytest.raises(StateReadError):
        fresh(path).write({"n": 7})

    assert (elsewhere / "repo").is_dir()


@pytest.mark.parametrize("name", ["serials", "format", "settings.json"])
def test_a_folder_in_the_place_of_a_file_is_put_aside(name: str, path: Path):
    state = small(path)
    state.close()
    place = state.git_dir.parent / name
    place.unlink(missing_ok=True)
    place.mkdir()
    (place / "mine").write_text("kept")
    (state.git_dir / "HEAD").unlink()

    report = fresh(path).repair()

    assert report.ok
    (kept,) = state.git_dir.parent.glob(f"quarantine/*/kept/{name}/mine")
    assert kept.read_text() == "kept"
    judge_repaired(path, {})


def test_one_that_is_refused_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch):
    state = small(path)
    state.close()
    (state.git_dir / "HEAD").unlink()
    rename: Callable[..., None] = os.rename

    def refuse(source: object, target: object) -> None:
        if str(target).endswith("/old"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(StateWriteError):
        fresh(path).repair()
    monkeypatch.undo()

    assert not list(state.git_dir.parent.glob("repair.*"))
    judge_repaired(path, {})
