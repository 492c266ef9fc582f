"""Repair: whatever is damaged, what could still be read is there afterwards, under the same hash, and Git is content."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from oracle import (
    KILLED,
    Call,
    Tally,
    Tell,
    damage_store,
    dying_before,
    file_calls,
    fork,
    forks,
    fresh,
    git,
    in_parallel,
    journal_of,
    leave,
    needs_git,
    places_object,
    repair_store,
)
from wrecks import (
    damage,
    flip,
    image,
    judge_repaired,
    loose_file,
    numbers,
    other_store,
    pruned,
    small,
    take_in,
    unpack,
)

from gitstate import PipelineState, RepairReport, StateError, VersionNotFoundError, swap
from gitstate.journal import read_all
from gitstate.repair.rebuild import Rebuild
from gitstate.repository import make_blob

pytestmark = needs_git

_WAYS = ("flip", "flip", "cut", "zero", "delete")
_LOCKS = {"pipeline.json.lock", "queue.lock", "maintenance.lock"}


class Whole(NamedTuple):
    """A store before it is damaged: the bytes of its versions, of its files, and where each object is in them."""

    versions: dict[str, bytes]
    files: dict[str, bytes]
    blobs: dict[str, str]
    places: dict[str, list[tuple[str, int, int, str | None]]]
    journalled: dict[str, bytes]


def build(path: Path) -> None:
    """Loose objects, packs, a journal, names within and beyond the window, pruned versions, failures, bytes kept,
    imports.
    """
    state = fresh(path, max_backups=8, schema=None)
    for number in range(1, 25):
        state.write({"n": number, "text": [f"line {n} of {number}" for n in range(number % 5 * 4)]})
        if number % 6 == 0:
            with pytest.raises(ZeroDivisionError), state.transaction():
                _ = 1 / 0
        if number in {3, 5, 20}:
            state.create_backup(f"name{number}")
        if number == 7:
            take_in(state)
        if number in {9, 18}:
            state.close()
            state = fresh(path, schema=None)
    path.write_text("no state")
    state.restore_backup("HEAD")
    with fresh(path, schema=None, backup_before_write=False).transaction() as txn:
        txn.data["unversioned"] = True
    state.prune()
    git(state, "pack-refs", "--all")
    git(state, "commit-graph", "write", "--reachable")
    git(state, "multi-pack-index", "write")
    for number in range(25, 29):
        state.write({"n": number, "text": ["few"]})
    leave(state)


def survey(path: Path) -> Whole:
    state = fresh(path, schema=None)
    store = path.parent / ".pipeline"
    versions = {v.id: v.content() for v in state.log()}
    versions |= {v.id: v.content() for v in state.list_backups(None)}
    blobs = {}
    for each in versions:
        blobs[each] = git(state, "rev-parse", f"{each}:{path.name}").decode().strip()
    places: dict[str, list[tuple[str, int, int, str | None]]] = {}
    for loose in store.glob("repo/objects/[0-9a-f][0-9a-f]/*"):
        name = str(loose.relative_to(path.parent))
        at = (name, 0, loose.stat().st_size, None)
        places.setdefault(loose.parent.name + loose.name, []).append(at)
    for pack in store.glob("repo/objects/pack/*.idx"):
        name = str(pack.with_suffix(".pack").relative_to(path.parent))
        for line in git(state, "verify-pack", "-v", str(pack)).decode().splitlines():
            words = line.split()
            if len(words) in {5, 7} and len(words[0]) == 40:
                begin, size = int(words[4]), int(words[3])
                base = words[6] if len(words) == 7 else None
                places.setdefault(words[0], []).append((name, begin, begin + size, base))
    journalled = {m.id: m.loose for r in read_all(store)[1] for m in r.objects}
    leave(state)
    kept = {
        str(f.relative_to(path.parent)): f.read_bytes() for f in store.rglob("*") if f.is_file()
    }
    kept["pipeline.json"] = path.read_bytes()
    return Whole(versions, kept, blobs, places, journalled)


class Left:
    """Which objects the damage has left."""

    def __init__(self, whole: Whole, folder: Path) -> None:
        self._whole = whole
        self._now = {
            name: (folder / name).read_bytes() for name in whole.files if (folder / name).is_file()
        }
        self._journals = [self._now[name] for name in self._now if "/journal." in name]

    def object(self, object_id: str) -> bool:
        for name, begin, end, base in self._whole.places.get(object_id, ()):
            same = self._now.get(name, b"")[begin:end] == self._whole.files[name][begin:end]
            if same and (base is None or self.object(base)):
                return True
        loose = self._whole.journalled.get(object_id)
        return loose is not None and any(loose in content for content in self._journals)

    def versions(self) -> set[str]:
        found = set()
        for commit, blob in self._whole.blobs.items():
            # The tree is made again of the name and the blob.
            in_file = self._now.get("pipeline.json") == self._whole.versions[commit]
            if self.object(commit) and (self.object(blob) or in_file):
                found.add(commit)
        return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Whole]:
    path = tmp_path_factory.mktemp("whole") / "pipeline.json"
    build(path)
    return path.parent, survey(path)


def copied(whole: tuple[Path, Whole], folder: Path) -> Path:
    shutil.copytree(whole[0], folder)
    return folder / "pipeline.json"


def harm(path: Path, name: str, how: str, chance: random.Random) -> str:
    file = path.parent / name
    file.chmod(0o600)
    content = bytearray(file.read_bytes())
    place = chance.randrange(len(content)) if content else 0
    if how == "cut" and content[:place].endswith(b"\n"):
        place -= 1  # fewer lines may be meant
    match how:
        case "flip" if content:
            content[place] ^= 1 << chance.randrange(8)
            file.write_bytes(content)
        case "cut":
            file.write_bytes(content[:place])
        case "zero" if content:
            end = min(len(content), place + 64)
            file.write_bytes(bytes(content[:place]) + bytes(end - place) + bytes(content[end:]))
        case _:
            file.unlink()
    return f"{how} {name} at {place} of {len(content)}"


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_whatever_is_damaged_what_was_left_of_it_can_be_read_under_its_hash(
    whole: tuple[Path, Whole],
    memory: Path,
    seed: str,
    at_once: int,
    scale: Callable[[int, int], int],
    tally: Tally,
) -> None:
    count = scale(20, 3000)
    kinds: dict[str, list[str]] = {}
    for name in sorted(whole[1].files):
        if Path(name).name not in _LOCKS:
            loose = re.search("objects/[0-9a-f]{2}/", name)
            kinds.setdefault("loose" if loose else name, []).append(name)

    def explore(first: int, step: int) -> int:
        for number in range(first, count, step):
            chance = random.Random(f"{seed} {at_once} {number}")
            path = copied(whole, memory / f"{at_once}-{number}")
            done = []
            for kind in chance.sample(sorted(kinds), at_once):
                # Another number as the format is that of another gitstate, and refused.
                ways = ["cut", "delete"] if kind.endswith("/format") else _WAYS
                done.append(harm(path, chance.choice(kinds[kind]), chance.choice(ways), chance))
            left = Left(whole[1], path.parent).versions()
            try:
                judge_repaired(path, {each: whole[1].versions[each] for each in left})
            except Exception as error:
                raise AssertionError(f"seed {seed}, {number}: {done}") from error
            shutil.rmtree(path.parent)
        return len(range(first, count, step))

    tally("damaged stores repaired", in_parallel(explore))


def test_a_whole_store_stays_as_it_is(path: Path):
    state = small(path)
    before = image(path)

    report = state.repair()

    assert report == RepairReport((), (), ())
    assert report.ok
    assert image(path) == before


def test_where_there_is_nothing_nothing_is_made(path: Path):
    assert PipelineState(path).repair() == RepairReport()
    assert list(path.parent.iterdir()) == []


def test_what_is_put_aside_is_there_with_all_its_bytes(path: Path):
    leave(small(path))
    damage(path)
    before = image(path)

    report = fresh(path).repair()

    assert len(report.quarantined) == 1
    (aside,) = (path.parent / ".pipeline/quarantine").iterdir()
    assert str(aside) in report.quarantined[0]
    store = os.fspath(path.parent / ".pipeline")
    for name, content in before.items():
        below = os.path.relpath(name, store)
        place = aside / "kept" / below if below.startswith("journal") else aside / below
        assert (
            below.startswith("..")
            or below == "serials"
            or place.is_file() == (below.startswith(("journal", "repo")))
        )
        assert not place.is_file() or place.read_bytes() == content
    judge_repaired(path, {})


def test_the_journal_is_lost_and_the_branch_goes_on_from_the_objects(path: Path):
    state = small(path)
    journal_of(path).unlink()
    (state.git_dir / "refs/heads/main").write_text("")

    report = fresh(path).repair()

    assert report.ok
    assert numbers(fresh(path)) == [6, 5, 4, 3, 2, 1]
    judge_repaired(path, {})


def test_a_branch_that_was_rewound_is_put_back(path: Path):
    state = small(path)
    git(state, "update-ref", "refs/heads/main", "HEAD~2")

    assert fresh(path).repair().ok

    assert numbers(fresh(path)) == [6, 5, 4, 3, 2, 1]


def test_what_somebody_committed_to_the_branch_gets_a_name(path: Path):
    state = small(path)
    theirs = (
        git(state, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "by hand").decode().strip()
    )
    git(state, "update-ref", "refs/heads/main", theirs)

    assert fresh(path).repair().ok

    assert numbers(fresh(path)) == [6, 5, 4, 3, 2, 1]
    assert git(state, "rev-parse", f"refs/recovered/{theirs[:12]}").decode().strip() == theirs
    judge_repaired(path, {})


def test_a_lost_version_is_said_and_the_older_ones_have_names(path: Path):
    state = small(path)
    versions = {version.serial: (version.id, version.content()) for version in state.log()}
    unpack(state)
    loose_file(state, "HEAD~2").unlink()

    report = fresh(path).repair()

    assert not report.ok
    assert any("version 4" in line for line in report.lost)
    state = fresh(path)
    assert numbers(state) == [6, 5]
    assert state.read(at="recovered-3") == {"n": 3}
    lines = state.get_transaction_history(None)
    assert [line["operation"] for line in lines if line["success"]] == [
        "write_commit",
        "write_commit",
        "lost_commit",
        *["write_commit"] * 3,
    ]
    judge_repaired(path, dict(versions[serial] for serial in (1, 2, 3, 5, 6)))


@pytest.mark.parametrize("place", [-1, 7])
def test_a_pack_that_is_damaged_beside_its_objects_loses_none(path: Path, place: int):
    state = small(path)
    versions = {version.id: version.content() for version in state.log()}
    leave(state)
    flip(next(state.git_dir.glob("objects/pack/*.pack")), place)

    report = fresh(path).repair()

    assert report.ok
    judge_repaired(path, versions)


def test_a_delta_can_be_read_if_what_it_is_against_is_damaged_in_its_pack_and_somewhere_else_too(
    path: Path,
):
    state = fresh(path, schema=None)
    for number in range(4):
        state.write({"n": number, "text": [hashlib.sha1(b"%d" % n).hexdigest() for n in range(99)]})
    versions = {version.id: version.content() for version in state.log()}
    state.close()
    (pack,) = state.git_dir.glob("objects/pack/*.pack")
    told = git(state, "verify-pack", "-v", str(pack)).decode().splitlines()
    ((name, _, _, _, place),) = [
        line.split()
        for line in told
        if re.fullmatch("\\S+ blob .*", line) and len(line.split()) == 5
    ]
    made = make_blob(git(state, "cat-file", "blob", name))
    flip(pack, int(place) + 40)
    loose = state.git_dir / "objects" / name[:2] / name[2:]
    loose.parent.mkdir(exist_ok=True)
    loose.write_bytes(made.loose)

    report = fresh(path).repair()

    assert report.ok
    judge_repaired(path, versions)


def test_lost_settings_prune_nothing(path: Path):
    leave(small(path))
    (path.parent / ".pipeline/settings.json").write_text("{")

    assert fresh(path).repair().ok

    assert json.loads((path.parent / ".pipeline/settings.json").read_text()) == {
        "max_backups": None
    }


def test_a_tree_is_made_again_from_what_it_holds(path: Path):
    state = small(path)
    versions = {version.id: version.content() for version in state.log()}
    unpack(state)
    loose_file(state, "HEAD~3^{tree}").unlink()

    assert fresh(path).repair().ok

    judge_repaired(path, versions)


def test_a_clone_has_what_is_lost(path: Path, tmp_path: Path):
    state = small(path)
    clone = tmp_path / "elsewhere" / "clone"
    git(state, "clone", "-q", "--no-local", str(state.git_dir), str(clone))
    shutil.rmtree(state.git_dir)
    journal_of(path).unlink()
    state.path.write_text("no state")
    (state.git_dir.parent / "journal.00000009").write_bytes(b"torn")

    report = fresh(path).repair(clone)

    assert report.lost == ()
    assert numbers(fresh(path)) == [6, 5, 4, 3, 2, 1]
    assert fresh(path).read() == {"n": 6}
    judge_repaired(path, {})


def test_a_source_that_is_no_repository_is_refused(path: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="no Git repository"):
        small(path).repair(tmp_path)


def test_what_was_imported_stays_and_what_is_lost_of_it_is_said(path: Path):
    state = small(path)
    take_in(state)
    names = {name: version.id for name, version in state._parts.history.named().items()}
    state.close()
    unpack(state)
    loose_file(state, "refs/audit/import:backups.000000001.jsonl").unlink()

    report = fresh(path).repair()

    assert report.lost == ("refs/audit/import: some of its lines",)
    state = fresh(path)
    assert {name: version.id for name, version in state._parts.history.named().items()} == names
    operations = [line["operation"] for line in state.get_transaction_history(None)]
    assert operations.count("old_commit") == 1
    judge_repaired(path, {})


def test_refs_that_nothing_names_any_more_are_found_by_what_they_named(path: Path):
    state = small(path)
    take_in(state)
    before = state.get_transaction_history(None)
    state.close()
    git(state, "pack-refs", "--all")
    (state.git_dir / "packed-refs").unlink()
    journal_of(path).unlink()

    report = fresh(path).repair()

    assert report.ok
    state = fresh(path)
    assert numbers(state) == [6, 5, 4, 3, 2, 1]
    beside = [version.read() for version in state.list_backups(None) if not version.serial]
    assert sorted(each["imported"] for each in beside) == [1, 2]
    after = state.get_transaction_history(None)
    assert [line["operation"] for line in after] == [line["operation"] for line in before]
    judge_repaired(path, {})


def test_a_lost_list_of_what_was_imported_leaves_what_was(path: Path):
    state = small(path)
    take_in(state)
    state.close()
    unpack(state)
    loose_file(state, "refs/audit/import").unlink()

    assert fresh(path).repair().ok

    assert {"imported": 2} in [version.read() for version in fresh(path).list_backups(None)]
    judge_repaired(path, {})


@pytest.mark.parametrize("content", [b"", b"torn", b"12" * 20 + b"\n"])
def test_where_history_begins_is_found_again(path: Path, content: bytes):
    state = pruned(path)
    before = state.get_transaction_history(None)
    (state.git_dir / "shallow").write_bytes(content)

    report = fresh(path).repair()

    assert report.ok
    state = fresh(path)
    assert numbers(state) == [10, 9, 8]
    assert state.read(at="first") == {"n": 1}
    assert git(state, "show", f"fourth:{path.name}") == b'{\n  "n": 4\n}\n'
    assert state.get_transaction_history(None) == before
    judge_repaired(path, {})


def test_a_lost_archive_is_made_again_as_far_as_anybody_knows(path: Path):
    state = pruned(path)
    unpack(state)
    loose_file(state, "refs/audit/archive:000000001.jsonl").unlink()

    report = fresh(path).repair()

    assert report.lost == ("refs/audit/archive: what 4 of its lines said",)
    state = fresh(path)
    assert numbers(state) == [10, 9, 8]
    lines = [line["operation"] for line in state.get_transaction_history(None)]
    left = [10, 9, 8, 4, 3, 1]
    expected = [f"{'write' if n in left else 'lost'}_commit" for n in range(10, 0, -1)]
    assert lines == expected
    judge_repaired(path, {})


def test_a_ref_to_the_archive_that_is_lost_is_found_again(path: Path):
    state = pruned(path)
    before = state.get_transaction_history(None)
    git(state, "update-ref", "-d", "refs/audit/archive")

    report = fresh(path).repair()

    assert report.ok
    assert numbers(fresh(path)) == [10, 9, 8]
    assert fresh(path).get_transaction_history(None) == before
    judge_repaired(path, {})


def test_where_nothing_of_the_window_is_left_it_goes_on_from_a_name_and_keeps_the_lines(path: Path):
    state = pruned(path)
    lines = git(state, "show", "refs/audit/archive:000000001.jsonl")
    unpack(state)
    for name in ("HEAD", "HEAD~1", "HEAD~2"):
        loose_file(state, f"{name}:{path.name}").unlink()
    path.unlink()

    report = fresh(path).repair()

    assert [line.split(" (")[0] for line in report.lost] == ["version 8", "version 9", "version 10"]
    state = fresh(path)
    assert numbers(state) == [4, 3]
    names = ("refs/audit/archive", "refs/recovered/archive")
    archive, before = (git(state, "show", f"{name}:000000001.jsonl") for name in names)
    assert archive.splitlines() == lines.splitlines()[:2]
    assert before == lines
    judge_repaired(path, {})


def test_an_edit_stays(path: Path):
    leave(small(path))
    path.write_text('{"n": 7}')
    damage(path)

    fresh(path).repair()

    assert path.read_text() == '{"n": 7}'
    state = fresh(path)
    with state.transaction() as txn:
        txn.data["n"] = 8
    assert numbers(state)[:2] == [8, 7]


@pytest.mark.parametrize("content", [None, b"", b"no state", b"[1]"])
def test_a_state_file_that_is_none_is_put_back(path: Path, content: bytes | None):
    state = small(path)
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    report = fresh(path).repair()

    assert any("state file" in line for line in report.mended)
    assert fresh(path).read() == {"n": 6}
    if content is not None:
        kept = git(state, "for-each-ref", "--format=%(refname)", "refs/corrupt/").decode().strip()
        assert git(state, "show", f"{kept}:pipeline.json") == content
    judge_repaired(path, {})


def test_refs_replace_and_what_dangles_are_put_aside(path: Path):
    state = small(path)
    git(state, "replace", "HEAD~1", "HEAD~2")
    (state.git_dir / "refs/backups/keep").write_text("12" * 20 + "\n")

    report = fresh(path).repair()

    assert any("refs/backups/keep" in line for line in report.lost)
    aside = list((state.git_dir.parent / "quarantine").glob("*/repo/refs/backups/keep"))
    assert [each.read_text() for each in aside] == ["12" * 20 + "\n"]
    judge_repaired(path, {})


def test_a_store_of_a_newer_gitstate_is_refused(path: Path):
    leave(small(path))
    (path.parent / ".pipeline/format").write_text("2\n")

    with pytest.raises(StateError) as raised:
        fresh(path).repair()

    assert raised.value.code == "format-newer"


def test_inside_a_transaction_it_is_refused(path: Path):
    state = small(path)
    (state.git_dir / "HEAD").unlink()
    with state.transaction() as txn:
        with pytest.raises(StateError) as raised:
            state.repair()
        txn.rollback()

    assert raised.value.code == "nested"


# -- whose history it is -------------------------------------------------------------------------------------------


def test_a_history_that_was_fetched_does_not_become_the_branch(path: Path, tmp_path: Path):
    state = small(path)
    before = state.get_transaction_history(None)
    state.close()
    theirs = other_store(tmp_path / "other")
    git(state, "fetch", "-q", str(theirs.git_dir), "+refs/*:refs/other/*")
    flip(journal_of(path), 100)
    (state.git_dir / "refs/audit/failures").unlink(missing_ok=True)

    assert fresh(path).repair(theirs.git_dir).ok

    assert numbers(fresh(path)) == [6, 5, 4, 3, 2, 1]
    assert fresh(path).get_transaction_history(None) == before
    assert git(state, "rev-parse", "refs/other/heads/main") == git(theirs, "rev-parse", "main")
    judge_repaired(path, {})


def test_where_the_repository_is_gone_what_the_state_file_holds_becomes_a_version(path: Path):
    state = small(path)
    state.close()
    shutil.rmtree(state.git_dir)

    report = fresh(path).repair()

    assert not report.ok
    state = fresh(path)
    assert state.verify().ok
    state.write({"n": 7})
    assert numbers(state) == [7, 6]


def test_the_newest_version_is_lost_and_its_state_is_not(path: Path):
    state = small(path)
    state.close()
    unpack(state)
    loose_file(state, "HEAD").unlink()

    report = fresh(path).repair()

    assert any(line.startswith("version 6") for line in report.lost)
    state = fresh(path)
    assert numbers(state) == [6, 5, 4, 3, 2, 1]
    assert next(state.log(1)).operation == "external_edit"
    judge_repaired(path, {})


def test_a_version_that_is_lost_is_not_called_pruned(path: Path):
    state = small(path)
    lost = state._parts.history.version(4).id
    unpack(state)
    loose_file(state, "HEAD~2:pipeline.json").unlink()
    fresh(path).repair()

    for name in (4, lost, lost[:9]):
        with pytest.raises(VersionNotFoundError) as raised:
            fresh(path).read(at=name)
        assert raised.value.code == "version-lost"


def test_of_somebodys_branch_with_a_hole_all_that_is_left_stays(path: Path):
    state = small(path)
    ids = []
    for number in range(5):
        blob = git(state, "hash-object", "-w", "--stdin", input=b"%d" % number).decode().strip()
        entry = f"100644 blob {blob}\tfile\n".encode()
        tree = git(state, "mktree", input=entry).decode().strip()
        parent = ("-p", ids[-1]) if ids else ()
        ids.append(git(state, "commit-tree", tree, *parent, "-m", "x").decode().strip())
    git(state, "branch", "topic", ids[-1])
    leave(state)
    loose_file(state, "topic~2:file").unlink()

    report = fresh(path).repair()

    state = fresh(path)
    assert git(state, "rev-list", "topic").decode().split() == ids[:2:-1]
    assert git(state, "rev-list", f"refs/recovered/{ids[1][:12]}").decode().split() == ids[1::-1]
    assert any(ids[1][:12] in line for line in report.mended)
    judge_repaired(path, {})


# -- the audit trail -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", ["archive", "import", "failures", "unversioned"])
def test_a_trail_of_which_the_newest_commit_is_gone_keeps_all_other_lines(ref: str, path: Path):
    state = pruned(path)
    take_in(state)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), state.transaction():
            _ = 1 / 0
        fresh(path, backup_before_write=False).write({"n": _})
    state = fresh(path)
    state.checkpoint()
    before = state.get_transaction_history(None)
    unpack(state)
    loose_file(state, f"refs/audit/{ref}").unlink()

    fresh(path).repair()

    after = fresh(path).get_transaction_history(None)
    # A line of these is a commit, so that its line is gone with it.
    assert len(after) == len(before) - (ref in {"failures", "unversioned"})
    assert all(line in before for line in after)
    judge_repaired(path, {})


def test_a_failure_that_waits_in_the_journal_hides_nothing(path: Path):
    state = pruned(path)
    shallow = (state.git_dir / "shallow").read_bytes()
    with pytest.raises(ZeroDivisionError), state.transaction():
        _ = 1 / 0
    leave(state)
    (state.git_dir / "shallow").unlink()

    assert fresh(path).repair().ok

    assert (state.git_dir / "shallow").read_bytes() == shallow
    assert not fresh(path).get_transaction_history(1)[0]["success"]
    judge_repaired(path, {})


# -- what is the owner's -------------------------------------------------------------------------------------------


def test_what_its_owner_has_put_into_the_repository_is_there_as_it_was(path: Path):
    state = small(path)
    git(state, "remote", "add", "origin", "/nowhere")
    git(state, "worktree", "add", "-q", "-b", "work", str(path.parent / "work"))
    (state.git_dir / "hooks").mkdir(exist_ok=True)
    (state.git_dir / "hooks/post-update").write_text("#!/bin/sh\n")
    (state.git_dir / "hooks/post-update").chmod(0o755)
    config = (state.git_dir / "config").read_bytes()
    (state.git_dir / "HEAD").unlink()

    assert fresh(path).repair().ok

    assert (state.git_dir / "config").read_bytes() == config
    assert os.access(state.git_dir / "hooks/post-update", os.X_OK)
    command = ["git", "-C", str(path.parent / "work"), "status", "--short"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b""
    judge_repaired(path, {})


def test_a_ref_that_is_torn_is_in_the_quarantine_and_in_the_report(path: Path):
    state = small(path)
    git(state, "branch", "topic", "HEAD~1")
    git(state, "pack-refs", "--all")
    torn = git(state, "rev-parse", "HEAD").decode()[:39]
    (state.git_dir / "refs/heads/topic").write_text(torn)
    (state.git_dir / "refs/tags/mine").write_text(torn)

    report = fresh(path).repair()

    assert [line.split(":")[0] for line in report.lost] == ["refs/heads/topic", "refs/tags/mine"]
    (aside,) = (path.parent / ".pipeline/quarantine").iterdir()
    assert (aside / "repo/refs/tags/mine").read_text() == torn
    judge_repaired(path, {})


def test_a_quarantine_that_leads_elsewhere_is_not_followed(path: Path, tmp_path: Path):
    state = small(path)
    (state.git_dir.parent / "quarantine").symlink_to(tmp_path)
    before = set(tmp_path.iterdir())
    (state.git_dir / "HEAD").unlink()

    assert fresh(path).repair().ok

    assert set(tmp_path.iterdir()) == before
    judge_repaired(path, {})


def test_a_work_tree_of_a_clone_is_a_source(path: Path, tmp_path: Path):
    state = small(path)
    clone, work = tmp_path / "there", tmp_path / "work"
    git(state, "clone", "-q", str(state.git_dir), str(clone))
    git(clone / ".git", "worktree", "add", "-q", "-b", "w", str(work))
    state.close()
    shutil.rmtree(state.git_dir / "objects")

    assert fresh(path).repair(work).ok

    assert numbers(fresh(path)) == [6, 5, 4, 3, 2, 1]
    judge_repaired(path, {})


# -- the system, and others at work --------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["objects/pack", "refs", "journal"])
def test_what_the_system_refuses_to_read_is_not_taken_for_damage(part: str, path: Path):
    state = small(path)
    leave(state)
    (state.git_dir / "refs/tags/torn").write_text("torn")
    before = image(path)

    def refuse(call: Call) -> None:
        reads = call.name in {"open", "listdir", "scandir"} and "repair." not in call.target
        if reads and part in call.target:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), call.target)

    with file_calls(refuse, reading=True), pytest.raises(StateError) as raised:
        fresh(path).repair()

    assert "Permission denied" in str(raised.value)
    assert image(path).items() >= before.items()
    judge_repaired(path, {})


@forks
@pytest.mark.parametrize("moment", ["while it reads", "before the swap"])
def test_what_git_does_beside_it_takes_nothing_away(
    moment: str, path: Path, monkeypatch: pytest.MonkeyPatch
):
    state = small(path)
    state.close()
    git(state, "branch", "theirs", "HEAD~1")
    leave(state)

    def work(tell: Tell) -> None:
        with dying_before(places_object):
            fresh(path).write({"n": 7})

    fork(work).wait()
    (state.git_dir / "refs/tags/torn").write_text("torn")
    seen = []

    def tidy_up() -> None:
        if not seen:
            seen.append(git(state, "gc", "-q", "--prune=now", check=False))
            git(state, "pack-refs", "--all", check=False)
            git(state, "branch", "late", "theirs", check=False)

    owner, name = (Rebuild, "publish") if moment == "while it reads" else (swap, "exchange")
    original = getattr(owner, name)

    def with_git(*arguments: object) -> object:
        tidy_up()
        return original(*arguments)

    monkeypatch.setattr(owner, name, with_git)

    fresh(path).repair()

    assert seen
    assert numbers(fresh(path)) == [7, 6, 5, 4, 3, 2, 1]
    assert git(state, "rev-parse", "theirs") == git(state, "rev-parse", "HEAD~2")
    if moment == "while it reads":
        assert git(state, "rev-parse", "late") == git(state, "rev-parse", "theirs")
    judge_repaired(path, {})


@forks
def test_a_process_that_had_the_store_open_goes_on_in_the_new_one(path: Path):
    leave(small(path))
    ready, go = os.pipe(), os.pipe()

    def work(tell: Tell) -> None:
        mine = fresh(path)
        mine.write({"n": 7})
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        mine.write({"n": 8})
        tell(numbers(mine))
        tell(mine.verify().problems)

    child = fork(work)
    os.read(ready[0], 1)
    damage(path, journal=False)
    report = fresh(path).repair()
    os.write(go[1], b"x")
    child.wait()

    assert child.told()[0][:4] == [8, 7, 6, 5], report
    assert child.told()[1] == []
    assert fresh(path).repair() == RepairReport()


@forks
@pytest.mark.parametrize("step", ["old", "journal", "repo"])
@pytest.mark.parametrize("first", ["write", "read", "repair"])
def test_whoever_comes_after_a_kill_in_the_swap_finishes_it(step: str, first: str, path: Path):
    damage_store(small(path))

    def swaps(call: Call) -> bool:
        at_it = call.name == "rename" and "/repair." in str(call.arguments)
        return at_it and call.file.startswith(step) and "quarantine" not in call.target

    def work(tell: Tell) -> None:
        with dying_before(swaps):
            fresh(path).repair()

    child = fork(work)
    assert child.wait() == KILLED

    match first:
        case "write":
            fresh(path).write({"n": 7})
        case "read":
            assert fresh(path).read() == {"n": 6}
    repair_store(path)

    assert numbers(fresh(path)) == [*([7] if first == "write" else []), 6, 5, 4, 3, 2, 1]
    judge_repaired(path, {})
