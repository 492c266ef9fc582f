"""Joins: two machines share a history, and each has noted what the other does not know of."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from oracle import fresh, git, journal_of, leave, needs_git
from wrecks import judge_repaired, loose_file, take_in, unpack

from gitstate import PipelineState, StateReadError
from gitstate.draft import FAILURES, IMPORTED, UNVERSIONED
from gitstate.imports import Imports, join_imports

pytestmark = needs_git

ERRORS = (ZeroDivisionError, KeyError, IndexError, TypeError, ValueError)


def note(state: PipelineState, *names: str) -> None:
    """Notes failures, each by a name of its own."""
    for name in names:
        with pytest.raises(RuntimeError), state.transaction():
            raise RuntimeError(name)


def told(state: PipelineState) -> list[str]:
    """The names of the failures, newest first."""
    lines = state.get_transaction_history(None)
    errors = [line["details"]["error"] for line in lines if not line["success"]]
    return [error.removeprefix("RuntimeError: ") for error in errors]


def at(state: PipelineState, ref: str) -> str:
    return git(state, "rev-parse", ref).decode().strip()


def parents(state: PipelineState, name: str) -> list[str]:
    return git(state, "show", "-s", "--format=%P", name).decode().split()


def twin(state: PipelineState, name: str = "other") -> PipelineState:
    """The same state on another machine."""
    state.checkpoint()
    folder = state.path.parent.parent / name
    shutil.copytree(state.path.parent, folder)
    return fresh(folder / state.path.name)


def join(state: PipelineState, other: PipelineState, ref: str = FAILURES) -> str:
    """Has `state` take over what `other` has on a ref; gives where that is then."""
    for each in (state, other):
        each.checkpoint()
    git(state, "fetch", "-q", "--no-write-fetch-head", str(other.git_dir), ref)
    store = state._parts.store
    with store.writing("join", 10):
        draft = store.draft("somebody <somebody@example.org>")
        theirs = at(other, ref)
        if ref == IMPORTED:
            join_imports(draft, store.repository, theirs, store.chain.descends)
        else:
            draft.join(ref, theirs, store.chain.descends)
        if not draft.empty:
            store.commit(draft, store.file.find(), None)
    store.checkpoint(10)
    return at(state, ref)


def judge(state: PipelineState) -> None:
    """Nothing is wrong, as we see it and as Git does."""
    state = fresh(state.path)
    assert state.verify().problems == ()
    assert git(state, "fsck", "--strict", "--no-progress", "--no-dangling") == b""


@pytest.fixture
def ours(tmp_path: Path) -> PipelineState:
    """A state with two versions, and a failure before each and behind them."""
    (tmp_path / "ours").mkdir()
    state = fresh(tmp_path / "ours/pipeline.json")
    state.write({"n": 1})
    note(state, "first")
    state.write({"n": 2})
    note(state, "second")
    return state


@pytest.fixture
def theirs(ours: PipelineState) -> PipelineState:
    """The same on another machine; each has noted two more failures, in turns."""
    other = twin(ours)
    note(ours, "ours 1")
    note(other, "theirs 1")
    note(ours, "ours 2")
    note(other, "theirs 2")
    return other


NEWEST_FIRST = ["theirs 2", "ours 2", "theirs 1", "ours 1", "second", "first"]


def test_what_two_machines_have_noted_is_one_trail_with_each_line_once(
    ours: PipelineState, theirs: PipelineState
):
    ours.checkpoint()
    theirs.checkpoint()
    tips = [at(ours, FAILURES), at(theirs, FAILURES)]

    tip = join(ours, theirs)

    assert told(ours) == NEWEST_FIRST
    assert [line["details"]["error"][14:] for line in ours.get_transaction_history(2)] == [
        "theirs 2",
        "ours 2",
    ]
    assert parents(ours, tip) == tips
    assert git(ours, "show", "-s", "--format=%(trailers:key=Operation,valueonly)", tip).strip() == (
        b"join"
    )
    assert git(ours, "ls-tree", tip) == b""
    judge(ours)
    # For the other machine that is a step forward.
    git(ours, "push", "-q", str(theirs.git_dir), f"{tip}:{FAILURES}")


def test_versions_and_lines_stand_in_their_order(ours: PipelineState, theirs: PipelineState):
    join(ours, theirs)
    ours.write({"n": 3})
    note(ours, "last")

    operations = [line["operation"] for line in ours.get_transaction_history(None)]

    assert operations == [
        "transaction_rollback",
        "write_commit",
        *["transaction_rollback"] * 5,
        "write_commit",
        "transaction_rollback",
        "write_commit",
    ]
    assert told(ours) == ["last", *NEWEST_FIRST]
    judge(ours)


def test_who_has_all_of_the_others_changes_nothing(ours: PipelineState):
    other = twin(ours)
    note(ours, "more")
    ours.checkpoint()
    before = at(ours, FAILURES)

    assert join(ours, other) == before
    assert join(other, ours) == before
    assert join(ours, ours) == before
    assert told(ours) == told(other) == ["more", "second", "first"]
    judge(other)


def test_who_has_noted_nothing_takes_what_is_there(ours: PipelineState, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    other = fresh(tmp_path / "empty/pipeline.json")
    other.write({"n": 1})

    assert join(other, ours) == at(ours, FAILURES)
    judge(other)


def test_once_joined_nothing_more_is_joined(ours: PipelineState, theirs: PipelineState):
    tip = join(ours, theirs)

    assert join(theirs, ours) == tip
    assert join(ours, theirs) == tip
    assert told(theirs) == NEWEST_FIRST


def test_who_joins_looks_no_further_back_than_lines_of_the_version_before(tmp_path: Path):
    (tmp_path / "ours").mkdir()
    ours = fresh(tmp_path / "ours/pipeline.json")
    ours.write({"n": 1})
    note(ours, "first", "second")
    ours.write({"n": 2})
    other = twin(ours)
    for state in (ours, other):
        note(state, state.path.parent.name)
    ours.checkpoint()
    lost = at(ours, f"{FAILURES}~2")
    ours.close()
    unpack(ours)
    loose_file(ours, lost).rename(tmp_path / "kept")
    ours = fresh(ours.path)

    join(ours, other)

    assert len(ours.get_transaction_history(2)) == 2
    (tmp_path / "kept").rename(ours.git_dir / "objects" / lost[:2] / lost[2:])
    assert told(ours) == ["other", "ours", "second", "first"]
    judge(ours)


def test_both_may_join_at_once_and_again(ours: PipelineState, theirs: PipelineState):
    third = twin(ours, "third")
    for number in range(4):
        join(ours, theirs)
        note(ours, f"ours +{number}")
        join(theirs, third)
        note(theirs, f"theirs +{number}")
        join(third, ours)
        note(third, f"third +{number}")
    join(theirs, third)
    join(ours, theirs)

    more = [
        f"{who} +{number}" for number in range(3, -1, -1) for who in ("third", "theirs", "ours")
    ]
    assert told(ours) == [*more, *NEWEST_FIRST]
    judge(ours)


def test_a_line_called_join_is_a_line(ours: PipelineState, theirs: PipelineState):
    with pytest.raises(ZeroDivisionError), ours.transaction(operation="join"):
        _ = 1 / 0
    join(ours, theirs)

    assert len(told(ours)) == 7
    assert ours.get_transaction_history(1)[0]["operation"] == "join_rollback"


def test_changes_without_versions_are_joined_too(tmp_path: Path):
    (tmp_path / "ours").mkdir()
    path = tmp_path / "ours/pipeline.json"
    fresh(path).write({"n": 1})
    state = fresh(path, backup_before_write=False)
    state.write({"n": 2})
    other = fresh(twin(state).path, backup_before_write=False)
    for each in (state, other):
        each.write({"n": each.path.parent.name, each.path.parent.name: 1})

    join(state, other, UNVERSIONED)

    keys = [line["details"]["changed_keys"] for line in state.get_transaction_history(None)]
    assert [sorted(each) for each in keys] == [["n", "other"], ["n", "ours"], ["n"], ["n"]]
    judge(state)


def test_a_clock_that_is_wrong_on_one_machine_loses_no_line_and_tells_none_twice(
    ours: PipelineState, monkeypatch: pytest.MonkeyPatch
):
    """One that goes backwards, so that a line is older than what it was put behind."""
    other = twin(ours)
    start = datetime.now(UTC)

    class Clock(datetime):
        looks = 0

        @classmethod
        def now(cls, tz: object = None) -> datetime:
            cls.looks += 1
            return start + timedelta(hours=30 - cls.looks)

    note(other, "theirs 1")
    monkeypatch.setattr("gitstate.draft.datetime", Clock)
    note(ours, "ours 1", "ours 2", "ours 3")
    join(ours, other)
    third = twin(ours, "third")
    note(ours, "ours 4")
    note(third, "third 1")
    join(ours, third)

    assert sorted(told(ours)) == sorted(
        ["first", "second", "theirs 1", "ours 1", "ours 2", "ours 3", "ours 4", "third 1"]
    )
    judge(ours)


@pytest.mark.parametrize("name", ["^1", "^2", "^2~1", "~1", ""])
def test_verify_finds_what_is_missing_on_either_side(
    name: str, ours: PipelineState, theirs: PipelineState
):
    join(ours, theirs)
    ours.close()
    unpack(ours)
    lost = at(ours, FAILURES + name)
    loose_file(ours, lost).unlink()

    assert any(lost in problem for problem in fresh(ours.path).verify().problems)


def test_verify_finds_a_line_that_is_no_commit_of_ours(ours: PipelineState, theirs: PipelineState):
    tree = git(ours, "mktree", input=b"").decode().strip()
    environment = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    made = git(ours, *environment, "commit-tree", tree, "-m", "foreign").decode().strip()
    git(theirs, "fetch", "-q", str(ours.git_dir))
    tip = join(ours, theirs)
    foreign = git(
        ours,
        *environment,
        "commit-tree",
        tree,
        "-p",
        tip,
        "-p",
        made,
        "-F",
        "-",
        input=message(ours),
    )
    ours.close()
    git(ours, "update-ref", FAILURES, foreign.decode().strip())
    journal_of(ours.path).unlink()

    assert any("not a commit of gitstate" in line for line in fresh(ours.path).verify().problems)


def message(state: PipelineState) -> bytes:
    return git(state, "show", "-s", "--format=%B", FAILURES)


def test_git_s_upkeep_and_a_prune_keep_all_lines(ours: PipelineState, theirs: PipelineState):
    join(ours, theirs)
    for number in range(3, 9):
        ours.write({"n": number})
    ours = fresh(ours.path, max_backups=1)

    git(ours, "gc", "-q", "--prune=now")
    ours.prune()
    git(ours, "repack", "-adq")
    git(ours, "prune", "--expire=now")

    assert len(list(ours.log())) == 2
    assert told(fresh(ours.path)) == NEWEST_FIRST
    judge(ours)


def test_a_bundle_holds_all_lines(ours: PipelineState, theirs: PipelineState, tmp_path: Path):
    tip = join(ours, theirs)

    ours.export_bundle(tmp_path / "all.bundle")

    git(ours, "bundle", "verify", "-q", str(tmp_path / "all.bundle"))
    copy = tmp_path / "copy.git"
    git(ours, "clone", "-q", "--mirror", str(tmp_path / "all.bundle"), str(copy))
    assert git(copy, "rev-list", "--count", FAILURES).strip() == b"7"
    assert git(copy, "rev-parse", FAILURES).decode().strip() == tip


# -- repair ----------------------------------------------------------------------------------------------------------


def test_a_joined_trail_that_is_whole_is_left_as_it_is(ours: PipelineState, theirs: PipelineState):
    tip = join(ours, theirs)
    ours.close()
    unpack(ours)
    loose_file(ours, "HEAD~1:pipeline.json").unlink()

    report = fresh(ours.path).repair()

    assert not any(FAILURES in line for line in report.lost)
    assert at(ours, FAILURES) == tip
    assert told(fresh(ours.path)) == NEWEST_FIRST
    judge_repaired(ours.path, {})


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("", set()),
        ("^1", {"ours 2"}),
        ("^2", {"theirs 2"}),
        ("^2~1", {"theirs 1"}),
        ("~2", {"ours 1"}),
        ("~3", {"second"}),
        ("~4", {"first"}),
    ],
)
@pytest.mark.parametrize("more", [False, True])
def test_of_a_damaged_one_all_that_is_left_stays_of_both_sides(
    more: bool, name: str, lost: set[str], ours: PipelineState, theirs: PipelineState
):
    damaged = at(ours, join(ours, theirs) + name)
    expected = [each for each in NEWEST_FIRST if each not in lost]
    if more:
        note(ours, "on top")
        expected.insert(0, "on top")
    ours.close()
    unpack(ours)
    loose_file(ours, damaged).write_bytes(b"")

    report = fresh(ours.path).repair()

    assert [line for line in report.lost if FAILURES in line] == [f"{FAILURES}: some of its lines"]
    assert told(fresh(ours.path)) == expected
    assert git(ours, "rev-list", "--merges", FAILURES) == b""
    judge_repaired(ours.path, {})


def test_lines_that_somebody_has_a_name_for_are_ours_still(
    ours: PipelineState, theirs: PipelineState
):
    join(ours, theirs)
    ours.close()
    unpack(ours)
    git(ours, "update-ref", "refs/tags/theirs", f"{FAILURES}^2")
    loose_file(ours, f"{FAILURES}~1").unlink()

    fresh(ours.path).repair()

    assert told(fresh(ours.path)) == [each for each in NEWEST_FIRST if each != "ours 2"]


def test_another_repository_gives_the_other_side_back(
    ours: PipelineState, theirs: PipelineState, tmp_path: Path
):
    tip = join(ours, theirs)
    ours.close()
    unpack(ours)
    loose_file(ours, f"{FAILURES}^2").unlink()

    report = fresh(ours.path).repair(theirs.git_dir)

    assert report.ok
    assert at(ours, FAILURES) == tip
    judge_repaired(ours.path, {})


def test_a_trail_and_what_a_repair_made_of_it_are_joined_to_each_line_once(
    ours: PipelineState, theirs: PipelineState
):
    """The ids of the lines behind the hole are others from then on."""
    join(ours, theirs)
    join(theirs, ours)
    ours.close()
    unpack(ours)
    loose_file(ours, f"{FAILURES}~3").unlink()
    fresh(ours.path).repair()
    ours = fresh(ours.path)
    note(ours, "behind the repair")

    join(ours, theirs)

    assert told(ours) == ["behind the repair", *NEWEST_FIRST]
    judge(ours)


# -- imports ---------------------------------------------------------------------------------------------------------


def leave_more(state: PipelineState, *numbers: int) -> None:
    """What another state manager has left: a copy for each number, and a line of its log."""
    folder = state.path.parent / ".pipeline/backups"
    folder.mkdir(mode=0o700)
    with (folder.parent / "transactions.log").open("w") as log:
        for number in numbers:
            copy = folder / f"pipeline_20250301_1200{number:02}_000000.json.bak"
            copy.write_text(json.dumps({"imported": number}))
            line = {"timestamp": f"2025-03-01T12:00:{number:02}", "operation": f"old-{number}"}
            log.write(json.dumps({**line, "success": True, "pid": 7}) + "\n")


def imported(state: PipelineState) -> tuple[list[str], list[str]]:
    """What is on the list, oldest first: which copies, and which lines."""
    names = git(state, "ls-tree", "--name-only", IMPORTED).decode().split()
    files = {name: git(state, "show", f"{IMPORTED}:{name}").splitlines() for name in names}
    rows = {name: list(map(json.loads, lines)) for name, lines in files.items()}
    copies = [row["file"][22:24] for name in names if "backups" in name for row in rows[name]]
    lines = [row["operation"] for name in names if "lines" in name for row in rows[name]]
    return copies, [each.removesuffix("_commit") for each in lines]


def old_lines(state: PipelineState) -> list[str]:
    lines = state.get_transaction_history(None)
    operations = [line["operation"].removesuffix("_commit") for line in lines]
    return [each for each in operations if each.startswith("old")]


def take(state: PipelineState, *numbers: int) -> None:
    leave_more(state, *numbers)
    state.import_backups()
    shutil.rmtree(state.path.parent / ".pipeline/backups")
    (state.path.parent / ".pipeline/transactions.log").unlink()


def test_what_is_imported_later_is_a_step_forward(ours: PipelineState):
    take_in(ours)
    ours.checkpoint()
    before = at(ours, IMPORTED)
    other = twin(ours)

    take(ours, 30)
    ours.checkpoint()

    git(ours, "merge-base", "--is-ancestor", before, IMPORTED)
    git(ours, "push", "-q", str(other.git_dir), f"{IMPORTED}:{IMPORTED}")
    judge(ours)
    ours = fresh(ours.path, max_backups=1)
    ours.prune()
    git(ours, "gc", "-q", "--prune=now")
    ours.write({"n": "more"})
    judge(ours)
    ours.close()
    judge_repaired(ours.path, {})
    git(ours, "merge-base", "--is-ancestor", before, IMPORTED)


@pytest.mark.parametrize("older", [False, True])
def test_what_two_machines_have_imported_is_joined(older: bool, ours: PipelineState):
    take(ours, 10)
    if older:
        forget_parents(ours)
    other = twin(ours)
    take(ours, 11, 13)
    take(other, 12, 13, 9)
    if older:
        forget_parents(ours)
        forget_parents(other)
    ours.checkpoint()
    other.checkpoint()
    tips = [at(ours, IMPORTED), at(other, IMPORTED)]

    tip = join(ours, other, IMPORTED)

    assert parents(ours, tip) == tips
    copies, lines = imported(ours)
    assert sorted(copies) == ["09", "10", "11", "12", "13"]
    assert sorted(lines) == ["old-10", "old-11", "old-12", "old-13", "old-9"]
    assert old_lines(ours) == ["old-13", "old-12", "old-11", "old-10", "old-9"]
    judge(ours)
    assert join(other, ours, IMPORTED) == tip
    assert join(ours, other, IMPORTED) == tip
    take(ours, 9, 10, 11, 12, 13)
    assert at(ours, IMPORTED) == tip
    take(ours, 14)
    assert old_lines(ours) == ["old-14", "old-13", "old-12", "old-11", "old-10", "old-9"]
    judge(ours)
    ours.close()
    judge_repaired(ours.path, {})


def forget_parents(state: PipelineState) -> None:
    """Has what is imported be a commit without a parent, as it was once."""
    state.close()
    made = git(state, "cat-file", "commit", IMPORTED)
    lines = [line for line in made.split(b"\n") if not line.startswith(b"parent ")]
    alone = git(state, "hash-object", "-t", "commit", "-w", "--stdin", input=b"\n".join(lines))
    git(state, "update-ref", IMPORTED, alone.decode().strip())
    journal_of(state.path).unlink()
    leave(state)


def test_an_import_that_is_under_way_on_one_machine_stays_so(ours: PipelineState):
    take(ours, 10)
    other = twin(ours)
    for state, number in ((ours, 11), (other, 12)):
        store = state._parts.store
        with store.writing("import", 10):
            draft = store.draft("x <x@example.org>")
            row = {"file": f"{number}", "blob": "1" * 40, "commit": None, "name": None}
            imports = Imports(store.repository, store.ref(IMPORTED))
            imports.extend(draft, backups=[row], unfinished=state is other)
            store.commit(draft, store.file.find(), None)

    tip = join(ours, other, IMPORTED)

    assert Imports(ours._parts.store.repository, tip).unfinished


@pytest.mark.parametrize(
    "row",
    [
        {"imported": "x", "serial": 1, "timestamp": "never"},
        {"imported": "x", "serial": 1, "timestamp": "2026-03-01T00:00:00"},
        {"imported": ["x"], "serial": "1", "timestamp": "2026-03-01T00:00:00+00:00"},
        {"file": {}, "blob": []},
    ],
)
def test_a_list_that_makes_no_sense_is_refused(row: dict[str, object], ours: PipelineState):
    take(ours, 10)
    other = twin(ours)
    take(ours, 11)
    take(other, 12)
    other.checkpoint()
    kind = "backups" if "file" in row else "lines.0003"
    blob = git(other, "hash-object", "-w", "--stdin", input=json.dumps(row).encode())
    listed = git(other, "ls-tree", IMPORTED)
    listed += b"100644 blob %s\t%s.999999999.jsonl\n" % (blob.strip(), kind.encode())
    tree = git(other, "mktree", input=listed).decode().strip()
    lines = git(other, "cat-file", "commit", IMPORTED).split(b"\n")
    made = b"\n".join([b"tree " + tree.encode(), *lines[1:]])
    bad = git(other, "hash-object", "-t", "commit", "-w", "--stdin", input=made)
    git(other, "update-ref", IMPORTED, bad.decode().strip())
    leave(other)
    ours.checkpoint()
    before = at(ours, IMPORTED)
    git(ours, "fetch", "-q", "--no-write-fetch-head", str(other.git_dir), IMPORTED)
    store = ours._parts.store

    with store.writing("join", 10):
        draft = store.draft("x <x@example.org>")
        with pytest.raises(StateReadError):
            join_imports(draft, store.repository, bad.decode().strip(), store.chain.descends)

    assert draft.empty
    assert at(ours, IMPORTED) == before


def test_who_has_imported_nothing_takes_what_is_there(ours: PipelineState):
    other = twin(ours)
    take(ours, 10, 11)

    assert join(other, ours, IMPORTED) == at(ours, IMPORTED)
    assert old_lines(other) == ["old-11", "old-10"]
    judge(other)


@pytest.mark.parametrize(
    ("name", "sure"),
    [
        ("", True),
        ("^2", True),
        ("~2", True),
        ("^{tree}", False),
        (":backups.000000001.jsonl", False),
        (":lines.0002.000000001.jsonl", False),
    ],
)
def test_of_a_damaged_list_all_stays_that_older_ones_have(
    name: str, sure: bool, ours: PipelineState
):
    take(ours, 10)
    other = twin(ours)
    take(ours, 11, 13)
    take(other, 12, 13)
    join(ours, other, IMPORTED)
    expected = [sorted(each) for each in imported(ours)]
    ours.close()
    unpack(ours)
    loose_file(ours, IMPORTED + name).unlink()

    report = fresh(ours.path).repair()

    ours = fresh(ours.path)
    assert [sorted(each) for each in imported(ours)] == expected
    assert old_lines(ours) == ["old-13", "old-12", "old-11", "old-10"]
    assert list(report.lost) == ([] if sure else [f"{IMPORTED}: some of its lines"])
    judge_repaired(ours.path, {})
