"""Verify: whatever is wrong with a store is said, also by a handle that has read it all before; nothing is changed."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from oracle import fresh, git, git_environment, journal_of, judge_disk, leave, needs_git
from wrecks import loose_file, unpack

from gitstate import PipelineState, StateError, StateLockError, store
from gitstate.draft import ARCHIVE, FAILURES, IMPORTED, UNVERSIONED
from gitstate.journal import read_all
from gitstate.repository import BRANCH, Repository

pytestmark = needs_git

Damage = Callable[[PipelineState], None]


def _id(state: PipelineState, name: str) -> str:
    return git(state, "rev-parse", name).decode().strip()


def _loose(state: PipelineState, name: str) -> Path:
    unpack(state)
    path = loose_file(state, name)
    path.chmod(0o600)
    return path


def _missing(name: str) -> Damage:
    return lambda state: _loose(state, name).unlink()


def _truncated(name: str) -> Damage:
    def damage(state: PipelineState) -> None:
        path = _loose(state, name)
        os.truncate(path, path.stat().st_size // 2)

    return damage


def _empty(name: str) -> Damage:
    return lambda state: os.truncate(_loose(state, name), 0)


def _swapped(state: PipelineState) -> None:
    """A loose object that is whole, and another one."""
    path = _loose(state, "HEAD~2:pipeline.json")
    path.write_bytes(_loose(state, "HEAD~1:pipeline.json").read_bytes())


def _flipped(pattern: str, place: float) -> Damage:
    def damage(state: PipelineState) -> None:
        (path,) = (state.git_dir.parent).glob(pattern)
        content = bytearray(path.read_bytes())
        content[int(len(content) * place)] ^= 0x10
        path.chmod(0o600)
        path.write_bytes(content)

    return damage


def _flipped_record(state: PipelineState) -> None:
    for number in (10, 11, 12):
        state.write({"n": number})
    leave(state)
    path = journal_of(state.path)
    content = bytearray(path.read_bytes())
    content[content.index(b"gsrec001", content.index(b"gsrec001") + 1) + 300] ^= 1
    path.write_bytes(content)


def _gone_pack(state: PipelineState) -> None:
    for path in (state.git_dir / "objects/pack").glob("*.pack"):
        path.unlink()


def _rewound(state: PipelineState) -> None:
    git(state, "update-ref", "refs/heads/main", _id(state, "HEAD~1"))


def _branch_gone(state: PipelineState) -> None:
    git(state, "update-ref", "-d", "refs/heads/main")


def _torn_ref(state: PipelineState) -> None:
    (state.git_dir / "refs/backups/keep").write_text("")


def _dangling(name: str) -> Damage:
    def damage(state: PipelineState) -> None:
        path = state.git_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1234" * 10 + "\n")

    return damage


def _not_a_commit(state: PipelineState) -> None:
    (state.git_dir / "refs/backups/keep").write_text(_id(state, "HEAD:pipeline.json") + "\n")


def _replaced(state: PipelineState) -> None:
    git(state, "replace", _id(state, "HEAD~1"), _id(state, "HEAD~2"))


def _hole(state: PipelineState) -> None:
    """Version 3 is built on version 1."""
    one, three = _id(state, "HEAD~3"), _id(state, "HEAD~1")
    _rebuilt(state, three, one)


def _rebuilt(state: PipelineState, first: str, parent: str) -> None:
    for commit in git(state, "rev-list", "--reverse", f"{first}^..HEAD").decode().split():
        raw = git(state, "cat-file", "commit", commit).decode()
        old = raw[raw.index("parent ") + 7 :][:40]
        raw = raw.replace(f"parent {old}", f"parent {parent}")
        done = subprocess.run(
            ["git", "--git-dir", state.git_dir, "hash-object", "-t", "commit", "-w", "--stdin"],
            input=raw.encode(),
            env=git_environment(),
            check=True,
            capture_output=True,
        )
        parent = done.stdout.decode().strip()
    git(state, "update-ref", "refs/heads/main", parent)
    journal_of(state.path).unlink()


def _torn(name: str) -> Damage:
    """A file of the store that a power cut, or somebody, has left empty, or has taken."""

    def damage(state: PipelineState) -> None:
        git(state, "pack-refs", "--all")
        git(state, "commit-graph", "write", "--reachable")
        git(state, "multi-pack-index", "write")
        path = state.git_dir.parent / name
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-30])

    return damage


def _gone(name: str) -> Damage:
    return lambda state: (state.git_dir.parent / name).unlink()


def _written(name: str, content: bytes) -> Damage:
    def damage(state: PipelineState) -> None:
        (state.git_dir.parent / name).write_bytes(content)

    return damage


def _shallow(state: PipelineState, content: bytes) -> None:
    (state.git_dir / "shallow").write_bytes(content)


def _edited(state: PipelineState) -> None:
    state.path.write_text('{"n": 99}')


def _deleted(state: PipelineState) -> None:
    state.path.unlink()


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a commit is missing": (_missing("HEAD~2"), "missing"),
    "the newest commit is missing": (_missing("HEAD"), "missing"),
    "a tree is missing": (_missing("HEAD~2^{tree}"), "missing"),
    "a state is missing": (_missing("HEAD~2:pipeline.json"), "missing"),
    "a commit of the audit trail is missing": (_missing("refs/audit/failures~1"), "missing"),
    "a commit is truncated": (_truncated("HEAD~2"), "damaged"),
    "a state is truncated": (_truncated("HEAD~2:pipeline.json"), "damaged"),
    "a tree is empty": (_empty("HEAD~2^{tree}"), "damaged"),
    "a state is another": (_swapped, "damaged"),
    "a byte of a pack": (_flipped("repo/objects/pack/*.pack", 0.4), "damaged"),
    "the end of a pack": (_flipped("repo/objects/pack/*.pack", 0.999), "damaged"),
    "a byte of an index": (_flipped("repo/objects/pack/*.idx", 0.9), "damaged"),
    "a pack is gone": (_gone_pack, "missing"),
    "a byte of the journal": (_flipped("journal.0*", 0.0001), "journal"),
    "a byte of a record": (_flipped_record, "journal"),
    "the branch is rewound": (_rewound, "refs/heads/main"),
    "the branch is gone": (_branch_gone, "refs/heads/main"),
    "a ref is torn": (_torn_ref, "refs/backups/keep"),
    "a ref dangles": (_dangling("refs/backups/keep"), "refs/backups/keep"),
    "another's ref dangles": (_dangling("refs/heads/other"), "refs/heads/other"),
    "a ref names another that is not there": (
        _written("repo/refs/backups/keep", b"ref: refs/heads/none\n"),
        "refs/backups/keep names refs/heads/none",
    ),
    "refs name each other": (
        lambda state: [
            (state.git_dir / f"refs/tags/{one}").write_text(f"ref: refs/tags/{other}\n")
            for one, other in ("ab", "ba")
        ],
        "refs/tags/b names refs/tags/a",
    ),
    "a backup is no version": (_not_a_commit, "refs/backups/keep"),
    "refs/replace": (_replaced, "refs/replace/"),
    "a hole in the serials": (_hole, "stands where"),
    "the format is gone": (_gone("format"), "format"),
    "the settings are gone": (_gone("settings.json"), "settings"),
    "the settings are torn": (_torn("settings.json"), "settings"),
    "HEAD is gone": (_gone("repo/HEAD"), "HEAD"),
    "HEAD names nothing": (_written("repo/HEAD", b"ref: refs/heads/maio\n"), "HEAD"),
    "the config is gone": (_gone("repo/config"), "config"),
    "the config is none": (_written("repo/config", b"[core]\n\tbare = tsue\n"), "config"),
    "the packed refs are torn": (_torn("repo/packed-refs"), "packed-refs"),
    "the commit-graph is torn": (_torn("repo/objects/info/commit-graph"), "commit-graph"),
    "the multi-pack-index is torn": (_torn("repo/objects/pack/multi-pack-index"), "multi-pack"),
    "the boundary is torn": (lambda state: _shallow(state, b"12"), "history ends"),
    "the boundary is nowhere": (lambda state: _shallow(state, b"12" * 20 + b"\n"), "history ends"),
    "the state file is edited": (_edited, "the state file"),
    "the state file is gone": (_deleted, "the state file"),
}


def _image(path: Path) -> dict[str, bytes]:
    """Every file, but for those that say who has verified."""
    found = [each for each in path.parent.rglob("*") if each.is_file() and each.suffix != ".lock"]
    return {os.fspath(each): each.read_bytes() for each in found}


@pytest.mark.parametrize("seen", [False, True], ids=["fresh", "read before"])
@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_wrong_is_said_and_left_as_it_is(name: str, seen: bool, path: Path) -> None:
    damage, word = DAMAGES[name]
    state = fresh(path, max_backups=None)
    for number in range(1, 5):
        with pytest.raises(ZeroDivisionError), state.transaction():
            _ = 1 / 0
        state.write({"n": number})
    state.create_backup("keep")
    state.close()
    state = fresh(path)
    if seen:
        assert [version.read() for version in state.log()]
        assert len(state.get_transaction_history(None)) == 8
        assert state.verify().ok
    damage(state)
    before = _image(path)

    report = (state if seen else fresh(path)).verify()

    assert not report.ok
    assert any(word in line for line in report.problems), report.problems
    assert _image(path) == before


@pytest.mark.parametrize("to", ["HEAD~1", "HEAD~3"])
@pytest.mark.parametrize("name", ["refs/backups/keep", "refs/backups/deleted", "refs/corrupt/"])
def test_a_name_that_somebody_moved_is_said_while_the_journal_knows_it(
    name: str, to: str, path: Path
) -> None:
    state = fresh(path)
    for number in range(1, 5):
        state.write({"n": number})
        if number == 2:
            state.checkpoint()
            state.create_backup("keep")
            state.create_backup("deleted")
    path.write_text("no state")
    state.restore_backup("HEAD")
    state.delete_backup("deleted")
    state.delete_backup("keep")
    state.create_backup("keep")  # elsewhere than before, by a record of its own
    assert fresh(path).verify().ok
    if name == "refs/corrupt/":
        name = git(state, "for-each-ref", "--format=%(refname)", name).decode().strip()
    was = git(state, "for-each-ref", "--format=%(objectname)", name).decode().strip()
    git(state, "update-ref", name, _id(state, to))
    at = _id(state, name)

    report = fresh(path).verify()

    line = f"{name} is at {at}, and was left at {was or 'nothing'}"
    assert line in report.problems, report
    git(state, "update-ref", "-d", name)  # which the journal makes good, or is as it was left
    assert fresh(path).read() == {"n": 4}
    assert git(state, "for-each-ref", "--format=%(objectname)", name).decode().strip() == was
    judge_disk(fresh(path))


@pytest.mark.parametrize("then", ["repair", "write", "write by the same handle"])
@pytest.mark.parametrize("name", ["HEAD", "HEAD:pipeline.json", "HEAD~2^{tree}", FAILURES, "keep"])
def test_an_object_that_the_journal_alone_has_is_said_and_put_back(
    name: str, then: str, path: Path
) -> None:
    state = fresh(path)
    for number in range(1, 5):
        state.write({"n": number})
        with pytest.raises(ZeroDivisionError), state.transaction():
            _ = 1 / 0
    state.write({"n": 5})
    state.create_backup("keep")
    made_id = _id(state, "refs/backups/keep" if name == "keep" else name)
    (state.git_dir / "objects" / made_id[:2] / made_id[2:]).unlink()
    leave(state)

    state = fresh(path)
    report = state.verify()
    if then == "repair":
        repaired = state.repair()
        assert (repaired.lost, repaired.quarantined) == ((), ())
        assert any(made_id in line for line in repaired.mended)
    else:
        (state if then == "write by the same handle" else fresh(path)).write({"n": 6})

    (line,) = report.problems
    assert made_id in line
    assert line.startswith("the journal holds records")
    judge_disk(fresh(path))


def test_what_nothing_leads_to_any_more_may_be_missing_though_the_journal_has_it(
    path: Path,
) -> None:
    state = fresh(path)
    state.write({"n": 1})
    folder = path.parent / ".pipeline/backups"
    folder.mkdir()
    (folder / f"{path.stem}_20250301_120000_000000.json.bak").write_text('{"n": 12}')
    (name,) = state.import_backups().names
    made_id = _id(state, f"refs/backups/{name}")
    state.delete_backup(name)
    leave(state)

    git(state, "prune", "--expire=now")

    assert git(state, "cat-file", "--batch-check", input=made_id.encode()).endswith(b"missing\n")
    assert fresh(path).verify().ok


def _import_and_prune(path: Path) -> PipelineState:
    """A store with something on every ref of the audit trail that is no list of failures."""
    state = fresh(path, max_backups=2)
    for number in range(1, 7):
        state.write({"n": number})
    folder = path.parent / ".pipeline/backups"
    folder.mkdir()
    (folder / f"{path.stem}_20250301_120000_000000.json.bak").write_text('{"n": "old"}')
    (folder.parent / "transactions.log").write_text(
        '{"timestamp": "2025-03-01T12:00:00", "operation": "x", "success": true}\n'
    )
    state.import_backups()
    state.close()
    return fresh(path)


@pytest.mark.parametrize("at", ["gone", "HEAD", "the other"])
@pytest.mark.parametrize("name", [IMPORTED, ARCHIVE])
def test_a_list_that_is_gone_or_another_is_said_and_repaired(
    name: str, at: str, path: Path
) -> None:
    state = _import_and_prune(path)
    was, trail = _id(state, name), state.get_transaction_history(None)
    if at == "gone":
        git(state, "update-ref", "-d", name)
    else:
        other = {IMPORTED: ARCHIVE, ARCHIVE: IMPORTED}[name]
        git(state, "update-ref", name, _id(state, other if at == "the other" else at))

    report = fresh(path).verify()
    repaired = fresh(path).repair()

    assert any(f"{name} is at" in line and was in line for line in report.problems), report
    assert repaired.lost == ()
    state = fresh(path)
    assert _id(state, name) == was
    assert state.get_transaction_history(None) == trail
    judge_disk(state)


def test_a_store_whose_journal_tells_nothing_of_the_lists_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(store, "KNOWN_REFS", (BRANCH, FAILURES, UNVERSIONED))
        leave(_import_and_prune(path))
        base, records, _ = read_all(path.parent / ".pipeline")
        assert not records
        assert {IMPORTED, ARCHIVE}.isdisjoint(base.refs)
    state = fresh(path)
    trail = state.get_transaction_history(None)

    assert state.verify().ok
    report = state.import_backups()
    assert (report.versions, report.audit) == (0, 0)
    state.write({"n": 7})
    copy = path.parent / f".pipeline/backups/{path.stem}_20250301_130000_000000.json.bak"
    copy.write_text('{"n": "another"}')
    assert state.import_backups().versions == 1
    state.prune()

    assert [version.serial for version in state.log()] == [7, 6, 5]
    assert state.get_transaction_history(None)[-len(trail) :] == trail
    judge_disk(state)
    assert {IMPORTED, ARCHIVE} <= read_all(path.parent / ".pipeline")[0].refs.keys()
    judge_disk(fresh(path))


@pytest.mark.parametrize(
    "wish",
    [
        ("config", "core.filemode", "false"),
        ("config", "extensions.worktreeConfig", "true"),
        ("config", "user.name", "somebody"),
        ("remote", "add", "origin", "/nowhere"),
        ("branch", "topic"),
        ("symbolic-ref", "HEAD", "refs/heads/topic"),
        ("symbolic-ref", "refs/remotes/origin/HEAD", "refs/heads/topic"),
    ],
    ids=lambda wish: wish[1],
)
def test_what_its_owner_tells_git_is_no_damage(wish: tuple[str, ...], path: Path):
    state = PipelineState(path)
    state.write({"n": 1})
    git(state, "branch", "topic" if wish[0] == "symbolic-ref" else "other")

    git(state, *wish)

    assert state.verify().ok, state.verify().problems


@pytest.mark.parametrize("times", [1, 2])
def test_what_is_wrong_for_a_moment_is_said_only_if_it_stays(
    times: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git's upkeep, and a checkpoint, take files away that are somewhere else by then."""
    state = fresh(path)
    state.write({"n": 1})
    line = "an object is missing"
    said = [line] * times

    def problems(_: Repository, seen: Callable[[], None]) -> Iterator[str]:
        yield from [said.pop()] if said else []

    monkeypatch.setattr(Repository, "problems", problems)

    assert fresh(path).verify().problems == ((line,) if times == 2 else ())


def test_a_pack_that_leads_nowhere_keeps_nobody_looking(path: Path, tmp_path: Path) -> None:
    state = fresh(path)
    state.write({"n": 1})
    state.checkpoint()
    (pack,) = state.git_dir.glob("objects/pack/*.pack")
    away = pack.rename(tmp_path / pack.name)
    pack.symlink_to(tmp_path / "nowhere")

    assert not fresh(path).verify().ok
    with pytest.raises(StateError):
        fresh(path).read(at="abcd")

    pack.unlink()
    away.rename(pack)
    assert fresh(path).verify().ok


def test_notes_of_failures_of_which_the_first_are_in_place_are_nothing_wrong(path: Path) -> None:
    state = fresh(path)
    state.write({"n": 1})
    state.checkpoint()
    path.write_text('{"n": 2}')
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), state.transaction():
            _ = 1 / 0
        (problem,) = state.verify().problems
        assert "edited" in problem


@pytest.mark.parametrize("verb", ["verify", "repair"])
def test_a_lock_that_somebody_holds_is_no_damage(verb: str, path: Path) -> None:
    PipelineState(path).write({"n": 1})
    holder, other = PipelineState(path), PipelineState(path, timeout=0)
    refusals = []

    def look() -> None:
        """From another thread: who holds the lock may look."""
        try:
            getattr(other, verb)()
        except StateLockError as error:
            refusals.append(error)

    with holder.transaction(operation="long work"):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    assert [error.code for error in refusals] == ["locked"]
    assert other.verify().ok


def test_an_edit_is_told_from_damage(path: Path) -> None:
    state = fresh(path)
    state.write({"n": 1})
    path.write_text('{"n": 99}')

    report = state.verify()
    assert not report.ok
    assert report.problems == (report.edit,)
    assert report.damage == ()
    (state.git_dir / "HEAD").write_text("nonsense")
    report = fresh(path).verify()
    assert report.edit in report.problems
    assert report.damage
    assert all("edited" not in line for line in report.damage)
